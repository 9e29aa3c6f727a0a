"""gapless: a data provider hub that answers from what it holds and fetches only the gaps."""

__version__ = "0.1.0"
