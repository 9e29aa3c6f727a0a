"""What is known of a ticker beside its bars and actions (stitching rule 21). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_SESSION: Final = ("open", "close")
_PLAIN: Final = ("zone", "currency", "kind", "exchange", "name", "first_trade")


def known_facts(before: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a ticker after an answer: what it does not tell stays as it was."""
    silent = [name for name, fact in told.items() if _nothing(fact) and name in before]
    return {**before, **told, **{name: before[name] for name in silent}}


def every_fact(known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts as they are told: each of them, null where it is not known.

    `zone` (of the tz database), `currency`, `kind`, `exchange`, `name`, `first_trade` (Unix
    seconds), and `session` with `open` and `close` as clocks there show them.
    """
    session = known.get("session") or {}
    return {
        **{name: known.get(name) for name in _PLAIN},
        "session": {name: session.get(name) for name in _SESSION},
    }


def _nothing(fact: object) -> bool:
    if isinstance(fact, Mapping):
        return all(_nothing(one) for one in fact.values())
    return fact is None
