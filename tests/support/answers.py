"""Answers of a hub as a client has them, from plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gapless.client.results import EntityBox, Found, Result


def result_of(
    data: object, stitch: Mapping[str, Any] | None = None, tags: Sequence[str] = (), **entity: str
) -> Result:
    """Return a result that holds records, or whatever else, as JSON."""
    box = EntityBox(
        entity.pop("id", "sample:AAPL"),
        tags=msgspec.Raw(msgspec.json.encode(tags)),
        data=msgspec.Raw(msgspec.json.encode(data)),
        **entity,
    )
    return Result(Found(box, b"null" if stitch is None else msgspec.json.encode(stitch)))
