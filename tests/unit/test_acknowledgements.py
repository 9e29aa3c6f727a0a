"""How long clients have stood still: by what their kernels have acknowledged, and who gives way."""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapless.servers.acknowledgements import Standing, acknowledged, longest, seen
from support.wire import PATIENCE_S


def test_only_more_is_progress() -> None:
    """One that has acknowledged as much as before, or seems to have less, stands where it stood."""
    first = seen(None, 10, now=1.0)
    assert first == Standing(10, 1.0)
    assert seen(first, 10, now=5.0) == Standing(10, 1.0)
    assert seen(first, 8, now=5.0) == Standing(8, 1.0)
    assert seen(Standing(8, 1.0), 9, now=6.0) == Standing(9, 6.0)


@given(
    standing=st.dictionaries(
        st.text(max_size=3), st.builds(Standing, st.integers(0, 9), st.floats(0, 100))
    ),
    least=st.floats(0, 100),
)
def test_the_one_that_has_stood_longest_is_first(
    standing: dict[str, Standing], least: float
) -> None:
    """And only where it has stood for long enough."""
    found = longest(standing, 100.0, least)
    ages = {name: 100.0 - one.since for name, one in standing.items()}
    if found is None:
        assert all(age < least for age in ages.values())
    else:
        assert ages[found] == max(ages.values()) >= least


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
async def test_what_a_client_acknowledges_is_counted_in_bytes() -> None:
    """Exactly as many as it was sent and has taken."""
    served: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.put_nowait((reader, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        back, forth = await served.get()
        # uvloop's transports are not asyncio's.
        transport = cast("asyncio.Transport", forth.transport)
        try:
            before = acknowledged(transport)
            forth.write(b"x" * 30_000)
            async with asyncio.timeout(PATIENCE_S):
                await reader.readexactly(30_000)
                # What comes back acknowledges all that came before it.
                writer.write(b"!")
                await back.readexactly(1)
            assert acknowledged(transport) == before + 30_000
        finally:
            transport.abort()
            writer.transport.abort()
