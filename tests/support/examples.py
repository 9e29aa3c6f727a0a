"""The example providers as whoever copies them has them: files that are part of no package.

And a server of JSON on loopback for those that ask one.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

from support.wire import PATIENCE_S

FOLDER = Path(__file__).parents[2] / "examples" / "providers"


def example(name: str) -> ModuleType:
    """Return an example as a fresh module, under a name that nothing else has."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


@dataclass(slots=True)
class Api:
    """What the server answers, whatever it is asked, and what it was asked.

    While `answering` is not set it keeps everybody waiting.
    """

    url: str = ""
    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    paths: list[str] = field(default_factory=list)
    asked_with: list[dict[str, str]] = field(default_factory=list)
    answering: threading.Event = field(default_factory=threading.Event)

    def answers(self, value: Any) -> None:
        """Answer with this from now on."""
        self.body = json.dumps(value).encode()


@contextmanager
def serving() -> Iterator[Api]:
    """Run a server on loopback for the length of the block."""
    api = Api()
    api.answering.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            api.paths.append(self.path)
            api.asked_with.append({name.lower(): value for name, value in self.headers.items()})
            api.answering.wait(PATIENCE_S)
            try:
                self.send_response(api.status)
                for name, value in api.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(api.body)))
                self.end_headers()
                self.wfile.write(api.body)
            except ConnectionError:
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    api.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield api
    finally:
        api.answering.set()
        server.shutdown()
        thread.join()
        server.server_close()
