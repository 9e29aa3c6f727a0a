"""The messages of the wire, requests and answers, under one roof.

The definitions live in private modules by direction, each with the list of what of it is public.
"""

from __future__ import annotations

from gapless.protocol import _answers, _envelope, _queries
from gapless.protocol._answers import *  # noqa: F403 - what its __all__ has
from gapless.protocol._envelope import *  # noqa: F403
from gapless.protocol._queries import *  # noqa: F403
from gapless.protocol.fresh import FRESH_WORDS, Fresh

__all__ = ["FRESH_WORDS", "Fresh"]
__all__ += _answers.__all__
__all__ += _envelope.__all__
__all__ += _queries.__all__
