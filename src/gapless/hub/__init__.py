"""The hub: looks up, plans, fetches the gaps, stores and answers."""
