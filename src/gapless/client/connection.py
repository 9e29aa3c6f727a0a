"""A blocking line-JSON connection to a hub: one request, one answer, errors as exceptions."""

from __future__ import annotations

import itertools
import socket
import ssl
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import msgspec

from gapless.errors import GaplessError, InvalidQuery, ProviderError

CHUNK_BYTES = 1 << 18


class Unreachable(GaplessError):
    """No hub answers at the address, or it stopped answering."""


class UnexpectedAnswer(GaplessError):
    """What answers at the address does not speak the hub's protocol."""


def connect(
    host: str, port: int, timeout: float = 60.0, tls: ssl.SSLContext | None = None
) -> Connection:
    """Connect to a hub; raise `Unreachable`.

    `timeout` is in seconds, for connecting and for the longest silence while an answer is
    awaited: a large answer that keeps coming is not cut off. `tls`: by whom the hub must be
    vouched for; without it nothing is encrypted.
    """
    try:
        sock = socket.create_connection((host, port), timeout)
        if tls is not None:
            sock = tls.wrap_socket(sock, server_hostname=host)
    except TimeoutError as error:
        raise Unreachable(f"no answer from {host}:{port} within {timeout:g} s") from error
    except ssl.SSLCertVerificationError as error:
        raise Unreachable(
            f"{host}:{port} is not who it says it is: {error.verify_message}; a certificate of "
            "your own is trusted by SSL_CERT_FILE=FILE"
        ) from error
    except ssl.SSLError as error:
        raise Unreachable(f"{host}:{port} does not speak TLS: leave out tls://") from error
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise Unreachable(
            f"no hub can be reached at {host}:{port} ({why}); start one with: gapless serve"
        ) from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Connection(sock, f"{host}:{port}", timeout)


class Connection:
    """An open connection, for one thread at a time; closes as a context manager."""

    def __init__(self, sock: socket.socket, name: str, timeout: float) -> None:
        """Take over a connected socket; `name` is the address as errors tell it."""
        self._sock = sock
        self._name = name
        self._timeout = timeout
        self._ids = itertools.count(1)
        self._received = bytearray()

    def request(
        self, query: dict[str, Any], token: str | None = None, **envelope: Any
    ) -> dict[str, Any]:
        """Send `query` and return the hub's whole answer, which is `ok`.

        `envelope` has further keys of the request, such as `data_as="array"`. Raises the error
        of the tree that stands for an answer that is not `ok`, `Unreachable` if none comes, and
        `UnexpectedAnswer` if what comes is none.
        """
        request_id = next(self._ids)
        message = {**envelope, "request_id": request_id, "query": query}
        if token is not None:
            message["token"] = token
        try:
            line = msgspec.json.encode(message) + b"\n"
        except UnicodeEncodeError as error:
            raise InvalidQuery("the request holds characters that are no valid UTF-8") from error
        answer = self._exchange(line)
        if not isinstance(answer.get("ok"), bool):
            raise UnexpectedAnswer(f"what answers at {self._name} is no gapless hub")
        if not answer["ok"]:
            raise error_of(answer.get("error"))
        if answer.get("request_id") != request_id:
            raise UnexpectedAnswer(
                f"{self._name} answered request {answer.get('request_id')!r} "
                f"where {request_id} was asked"
            )
        return answer

    def close(self) -> None:
        """Close the connection; may be called again."""
        self._sock.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    def _exchange(self, line: bytes) -> dict[str, Any]:
        try:
            self._sock.sendall(line)
            received = self._read_line()
        except TimeoutError as error:
            self.close()  # A late answer would be taken for that of the next request.
            raise Unreachable(
                f"{self._name} was silent for {self._timeout:g} s; the request was given up"
            ) from error
        except OSError as error:
            self.close()
            raise Unreachable(f"the connection to {self._name} broke: {error}") from error
        try:
            answer = msgspec.json.decode(received)
        except (msgspec.DecodeError, UnicodeDecodeError):
            answer = None
        if not isinstance(answer, dict):
            self.close()
            if received.startswith(b"HTTP/"):
                raise UnexpectedAnswer(
                    f"{self._name} speaks HTTP; the hub's ready line says where it speaks TCP"
                )
            raise UnexpectedAnswer(f"what answers at {self._name} is no gapless hub")
        return answer

    def _read_line(self) -> bytearray:
        """Return the bytes up to the next line feed."""
        searched = 0
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            chunk = self._sock.recv(CHUNK_BYTES)
            if not chunk:
                raise ConnectionResetError("it was closed before the answer was complete")
            self._received += chunk
        line = self._received[:end]
        del self._received[: end + 1]
        return line


def error_of(error: object) -> GaplessError:
    """Return the error of the tree for an answer's `error` object: by reason, or by code."""
    fields = error if isinstance(error, dict) else {}
    code, reason = fields.get("code"), fields.get("reason")
    message = str(fields.get("message") or "the hub gave no reason")
    retry = fields.get("retry_after_s")
    kind: type[GaplessError] = GaplessError
    for candidate in _descendants(GaplessError):
        if candidate.code != code or code == GaplessError.code:
            continue
        if kind is GaplessError:
            kind = candidate
        if issubclass(candidate, ProviderError) and candidate.default_reason == reason:
            kind = candidate
    if kind is GaplessError and code not in (None, GaplessError.code):
        message = f"{message} ({code})"
    return kind(
        message,
        reason=reason if isinstance(reason, str) else None,
        retry_after_s=retry if isinstance(retry, int | float) else None,
    )


def _descendants(kind: type[GaplessError]) -> Iterator[type[GaplessError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _descendants(child)
