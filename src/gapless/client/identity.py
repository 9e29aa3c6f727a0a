"""Which hub is meant, and whether what answers over HTTP is that one; decided without any I/O.

The address at which a hub speaks HTTP comes from the hub, and behind a tunnel or in a container
somebody else may be there. Tokens are for the one hub alone, and so are its answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ssl import SSLCertVerificationError, SSLError
from typing import TYPE_CHECKING, Final, NamedTuple

from gapless.client.failures import ConnectionLost, TimedOut, UnexpectedAnswer
from gapless.errors import GaplessError

if TYPE_CHECKING:
    from gapless.client.web import WebReply

GREETING: Final = "/healthz"
"""What is asked first on every connection, without a token; it is open on every hub."""
_INSTANCE: Final = "gapless-instance"
_ANOTHER: Final = "another hub answers"
_NO_HUB: Final = "no hub answers that says which one it is (HTTP {})"


class NotThisHub(GaplessError):
    """At the address of the hub's HTTP is not that hub; the message says what is there instead."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a hub tells of itself over TCP; `instance` `None`: an older one, which tells less."""

    instance: str | None
    version: str

    def greeted(self, reply: WebReply) -> None:
        """Raise `NotThisHub` unless the answer to `GREETING` is this hub's.

        That of an older hub is known by its version, if by nothing else.
        """
        self.check(reply)
        if self.instance is None and _version(reply) != self.version:
            raise NotThisHub(_ANOTHER if _version(reply) else _NO_HUB.format(reply.status))

    def check(self, reply: WebReply) -> None:
        """Raise `NotThisHub` unless an answer over HTTP is this hub's."""
        if not self.made(reply):
            raise NotThisHub(
                _ANOTHER if _INSTANCE in reply.headers else _NO_HUB.format(reply.status)
            )

    def made(self, reply: WebReply) -> bool:
        """Whether an answer over HTTP is this hub's."""
        return reply.headers.get(_INSTANCE) == self.instance


class Door(NamedTuple):
    """Where a hub speaks HTTP, and which hub it must be."""

    base: str
    identity: Identity


@contextmanager
def meeting(timeout: float) -> Iterator[None]:
    """Say of whatever goes wrong until the hub is known that this hub is not there."""
    try:
        yield
    except TimedOut as error:
        raise NotThisHub("what answers says nothing") from error
    except ConnectionLost as error:
        raise NotThisHub("what answers hangs up") from error
    except UnexpectedAnswer as error:
        raise NotThisHub("what answers does not speak HTTP") from error
    except TimeoutError as error:
        raise NotThisHub(f"nothing answers within {timeout:g} s") from error
    except SSLCertVerificationError as error:
        raise NotThisHub(f"the certificate is not trusted: {error.verify_message}") from error
    except SSLError as error:
        raise NotThisHub("what answers does not speak TLS") from error
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise NotThisHub(f"nothing answers ({why})") from error


def _version(reply: WebReply) -> str | None:
    try:
        told = reply.json()
    except GaplessError:
        return None
    version = told.get("version") if isinstance(told, dict) else None
    return version if isinstance(version, str) else None
