"""Recorded answers of Yahoo's, served over a socket as they came."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from gapless.config import YahooSettings
from gapless.domain.intervals import Interval
from gapless.providers.base import Fetched
from gapless.providers.yahoo import YahooProvider


class Recording:
    """One recorded answer: status and body as sent, and the range it was asked for."""

    def __init__(self, folder: Path, number: str) -> None:
        (path,) = folder.glob(f"{number}_*.json")
        whole = json.loads(path.read_text())
        self.status, self.body, self.asked = 200, whole, None
        if "request" in whole:
            response = whole["response"]
            self.status = response["status"]
            self.body = response.get("bodyJson") or json.loads(response["body"])
            bounds = re.findall(r"period[12]=(-?\d+)", whole["request"]["url"])
            self.asked = Interval(int(bounds[0]) * 1000, int(bounds[1]) * 1000)

    @property
    def rows(self) -> dict[int, tuple[Any, ...]]:
        """The answer's own rows by their stamp in Unix seconds."""
        result = self.body["chart"]["result"][0]
        quote = result["indicators"]["quote"][0]
        columns = [quote[name] for name in ("open", "high", "low", "close", "volume")]
        return dict(zip(result["timestamp"], zip(*columns, strict=True), strict=True))

    async def replay(
        self, ticker: str, interval: str, asked: Interval | None, now_ms: int
    ) -> Fetched:
        """Serve it to the provider for the range it was recorded for, or for `asked`."""
        asked = asked or self.asked
        assert asked is not None
        payload = json.dumps(self.body).encode()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            head = f"HTTP/1.1 {self.status} Recorded\r\nContent-Length: {len(payload)}\r\n"
            writer.write(
                f"{head}Content-Type: application/json\r\nConnection: close\r\n\r\n".encode()
            )
            writer.write(payload)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        provider = YahooProvider(
            YahooSettings(base_url=f"http://127.0.0.1:{port}", fallback_url=None)
        )
        try:
            return await provider.fetch(
                provider.key(ticker, {"interval": interval}), asked, now_ms, {}
            )
        finally:
            await provider.aclose()
            server.close()
            await server.wait_closed()
