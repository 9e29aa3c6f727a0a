"""Runs of records as columns: which columns all of them have, and the frame that they are.

The kinds are learnt from the records themselves, all of them. A run that fits what is known so
far is only checked against it, at the speed of the decoder; one that does not is looked at value
by value, and what is known grows. Everything here blocks and is for a worker thread; it goes run
by run, so that no single call into C keeps the event loop waiting for longer than a run takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gapless.domain.blocks import Run
from gapless.protocol.columns import (
    NOTHING_KNOWN,
    Schema,
    Shape,
    frame_of_text,
    framed,
    looked_at,
    merge,
)

if TYPE_CHECKING:
    import polars as pl


def schema_of(runs: Iterable[Run], known: Schema = NOTHING_KNOWN) -> Schema:
    """Return the schema of all records; `known` has what is known of it without looking at them.

    It does not depend on how the records are cut into runs: the schemas of runs, merged in
    their order, are the schema of all of them.
    """
    schema = known
    shape: Shape | None = None
    for run in runs:
        if not len(run) or (shape is not None and shape.fits(run.text)):
            continue
        # A few records are enough for most runs; whether they were is checked against all. Columns
        # come from the first alone: one that a later record begins has its place by that record.
        few = looked_at(b",".join(run.record(i) for i in (0, len(run) // 2, len(run) - 1)))
        if few.names == tuple(run.row(0)):
            shape = Shape(merge(schema, few))
            if shape.fits(run.text):
                schema = shape.schema
                continue
        schema = merge(schema, looked_at(run.text))
        shape = Shape(schema)
    return schema


def frame_of(
    runs: Iterable[Run], schema: Schema, columns: Sequence[str] | None = None
) -> pl.DataFrame:
    """Return the records as a frame; see `framed`.

    `schema` is that of these records or of more; `columns` chooses among its columns. Raises
    `InvalidQuery` as `Schema.select` does.
    """
    return framed([run.text for run in runs], Shape(schema.select(columns)))


def whole_frame(
    runs: Sequence[Run], known: Schema = NOTHING_KNOWN, columns: Sequence[str] | None = None
) -> pl.DataFrame:
    """Return all records as the frame that `frame_of` gives with their own schema, decoded once.

    For so few that one call into C over all of them does not take long.
    """
    runs = [run for run in runs if len(run)]
    few = [runs[0].record(0), *(run.record(len(run) - 1) for run in runs)] if runs else []
    return frame_of_text(b",".join(run.text for run in runs), few, known, columns)
