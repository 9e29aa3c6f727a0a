"""Whether a client asks its hub over HTTP, at which address, and if not, why not."""

from __future__ import annotations

from urllib.parse import urlsplit

from gapless.client.addresses import Endpoint, web_base
from gapless.client.failures import HttpUnusable, HttpUnusedWarning
from gapless.client.identity import Door, Identity, NotThisHub
from gapless.errors import Forbidden, GaplessError, MissingToken, NotFound, Unauthorized

REFUSALS: tuple[type[GaplessError], ...] = (MissingToken, Unauthorized, Forbidden, NotFound)
"""What an HTTP door may say to a request that TCP answers."""
_REMEDY = 'say where it speaks HTTP by http="http://HOST:PORT"'


class WebUse:
    """What a client knows of its hub's HTTP door.

    `override`: the base address where it is not the one that the hub names; empty: HTTP is not
    used. Whatever the address, the hub must be the one that is asked over TCP.
    """

    def __init__(self, endpoint: Endpoint, override: str | None) -> None:
        self._endpoint = endpoint
        self._override = override
        self._told: str | None = None
        # It told of an address, though it may not be reached from here.
        self._has_door = True
        self._identity = Identity(None, "")
        # Why it is not used, though it could be; and whether that was told.
        self._lost: str | None = None
        self._noticed = False
        self._notice: HttpUnusedWarning | None = None

    @property
    def base(self) -> str | None:
        """The base address as it is reached from here, if it is known."""
        return self._told if self._override is None else self._override or None

    @property
    def usable(self) -> bool:
        """Whether HTTP is known and was not given up."""
        return self.base is not None and self._lost is None

    def learn(self, told: str | None, identity: Identity) -> None:
        """Take note of what the hub tells of its HTTP, and of which hub it is."""
        base = web_base(told, self._endpoint)
        if (base, identity) != (self._told, self._identity):
            self.try_again()
        self._told, self._identity, self._has_door = base, identity, told is not None

    def try_again(self) -> None:
        """Use HTTP again: it may be another hub by now, or the same with its door open."""
        self._lost = None

    def door(self) -> Door | None:
        """Return where to ask, and whom; `None`: no address is known.

        Raises `NotThisHub` where nothing could tell who answers there: an older hub is only asked
        at the very host that was connected to.
        """
        base, identity = self.base, self._identity
        if base is None:
            return None
        if identity.instance is None:
            host = urlsplit(base).hostname or ""
            if not identity.version or host.lower() != self._endpoint.host.lower():
                raise NotThisHub("nobody can tell which hub answers, for this one is an older one")
        return Door(base, identity)

    def give_up(self, why: str) -> None:
        """Ask by TCP alone from now on; `why` says what is at the address of HTTP instead."""
        self._lost = why
        if not self._noticed:
            self._noticed = True
            fact = f"{self._fact(why)}; all comes over TCP, large answers in pieces"
            self._notice = HttpUnusedWarning(f"{fact}; {_REMEDY}, or http=False", fact=fact)

    def notice(self) -> HttpUnusedWarning | None:
        """Return once that HTTP is not used, and why; else `None`."""
        notice, self._notice = self._notice, None
        return notice

    def unusable(self, why: str) -> HttpUnusable:
        """Return the error of a request that only HTTP takes."""
        fact = self._fact(why)
        return HttpUnusable(f"{fact}; {_REMEDY}", fact=fact)

    def nowhere(self) -> HttpUnusable:
        """Return the same error for where no address is known."""
        if self._override == "":
            return HttpUnusable(
                "this takes HTTP, and http=False was given; make a client without that"
            )
        if not self._has_door:
            return HttpUnusable(
                f"this takes HTTP, and the hub at {self._endpoint.name} runs without it; start it "
                "with --http HOST:PORT"
            )
        fact = f"the hub at {self._endpoint.name} has no HTTP address that is reached from here"
        return HttpUnusable(f"{fact}; {_REMEDY}", fact=fact)

    def _fact(self, why: str) -> str:
        return f"the hub at {self._endpoint.name} is not asked over HTTP: at {self.base} {why}"


def refusal(error: GaplessError) -> str:
    """Return in words what one of `REFUSALS` says, where TCP does answer."""
    match error:
        case Forbidden():
            return f"it is forbidden (403): {error.message}"
        case NotFound():
            return "the route is missing (404)"
    return "the token is refused (401)"
