"""The words for how fresh a range search wants its answer (stitching rule 10).

Apart, because the command line offers them and needs nothing else of the protocol.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

Fresh: TypeAlias = Literal["held", "check", "now"]

FRESH_WORDS: Final[tuple[Fresh, ...]] = get_args(Fresh)
