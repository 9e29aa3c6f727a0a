"""The store behind a running hub, for what no door of the hub offers."""

from __future__ import annotations

from gapless.hub.hub import Hub
from gapless.store.base import Store


def store_of(hub: Hub) -> Store:
    """Return the store of a hub, past the one door that the hub itself has to it."""
    return hub.holdings._store
