"""Logs: one shape for our lines and the libraries', on stderr, with nothing secret in them.

Apart because every floor logs, while how a line looks is decided once, by the command line.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog
from structlog.types import Processor

from gapless.texts import MASK, masked, printable

SECRET_KEYS = frozenset(
    {
        "access_token",
        "authorization",
        "password",
        "refresh_token",
        "secret",
        "setup_key",
        "token",
    }
)


def configure_logging(level: str, format: str, stream: TextIO | None = None) -> None:
    """Send structlog's lines and the standard library's to `stream` (stderr) in one format.

    `level` is `debug`, `info`, `warning` or `error`; `format` is `text` or `json`. Colour only
    on a terminal, and not where `NO_COLOR` is set. To be called once, by the command line.
    """
    stream = sys.stderr if stream is None else stream
    threshold = logging.getLevelNamesMapping()[level.upper()]
    before: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_secrets,
    ]
    last: list[Processor]
    if format == "json":
        last = [
            # Without local variables, which may be secrets; what is left is masked once more.
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            _MaskedJson(),
        ]
    else:
        colors = stream.isatty() and "NO_COLOR" not in os.environ
        # Plain tracebacks: the decorated ones show local variables, and with them secrets.
        renderer = structlog.dev.ConsoleRenderer(
            colors=colors, exception_formatter=_masked_traceback
        )
        last = [_printable_values, renderer]

    structlog.configure(
        processors=[*before, *last],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )

    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *before],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *last,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries tell their daily business at info; ours is what the level is about.
    root.setLevel(max(threshold, logging.WARNING) if threshold > logging.DEBUG else logging.INFO)


def _masked_traceback(stream: TextIO, about: Any) -> None:
    """Write a traceback without what looks like a secret."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, about)
    stream.write(masked(text.getvalue()))


class _MaskedJson:
    """Renders an event as JSON, and masks what looks like a secret wherever it stands in it."""

    def __init__(self) -> None:
        self._render = structlog.processors.JSONRenderer()

    def __call__(self, logger: Any, name: str, event: MutableMapping[str, Any]) -> str:
        """Return the line."""
        return masked(str(self._render(logger, name, event)))


def _without_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Mask values by their key, and passwords inside URLs wherever they stand."""
    for key, value in event.items():
        if key in SECRET_KEYS:
            event[key] = MASK
        elif isinstance(value, str):
            event[key] = masked(value)
    return event


def _printable_values(_: Any, __: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Spell out control characters; JSON does so by itself."""
    for key, value in event.items():
        if isinstance(value, str) and key != "exception":
            event[key] = printable(value)
    return event
