"""The steps of conversations, taken in an event loop.

Lines go on one connection, any number at a time: each is told by its id, and none waits for
another one's answer. HTTP goes on a few, one request at a time on each.
"""

from __future__ import annotations

import asyncio
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple, cast

from gapless.client.connection import asked_plainly, may_be_tls, speaks_tls, unreachable
from gapless.client.conversations import Conversations
from gapless.client.failures import ConnectionLost, TimedOut, UnexpectedAnswer, Unreachable
from gapless.client.identity import Door, meeting
from gapless.client.lines import LineExchange
from gapless.client.steps import Ask, Conversation, Fetch, Pause, Reply, Step, T
from gapless.client.web import WebAddress, WebExchange, WebReply
from gapless.errors import GaplessError, LineTooLong

# HTTP connections in use at once.
_MOST_WEBS = 8


class AsyncTransport:
    """Holds the connections to a hub, for one event loop; opens them when needed."""

    def __init__(self, conversations: Conversations, tls: ssl.SSLContext | None) -> None:
        self._conversations = conversations
        self._tls = tls
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening = asyncio.Lock()
        self._lines: _LineProtocol | None = None
        self._places = asyncio.Semaphore(_MOST_WEBS)
        # Those of `_webs` are idle.
        self._webs: list[_WebProtocol] = []
        # All there are, in use or not, and those that are coming about.
        self._connections: list[_Heard] = []
        self._closings = 0

    async def run(self, conversation: Conversation[T]) -> T:
        """Take a conversation's steps until it is over."""
        self._check_loop()
        closings = self._closings
        try:
            step = next(conversation)
            while True:
                try:
                    self._check_open(closings)
                    came = await self._take(step)
                except GaplessError as error:
                    # Asking again would open what was just closed.
                    self._check_open(closings)
                    step = conversation.throw(error)
                else:
                    step = conversation.send(came)
        except StopIteration as end:
            found: T = end.value
            return found
        finally:
            conversation.close()

    async def close(self) -> None:
        """Close all connections; later steps open new ones."""
        if self._connections:
            self._check_loop()
        self._closings += 1
        self._webs.clear()
        self._lines = None
        closing, self._connections = self._connections, []
        for connection in closing:
            connection.close()
        for connection in closing:
            if connection.made:
                await connection.gone.wait()

    def _check_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise GaplessError(
                "this AsyncClient was used in another event loop; make one for each loop"
            )

    def _check_open(self, closings: int) -> None:
        if self._closings != closings:
            raise ConnectionLost("the client was closed before the answer came")

    async def _take(self, step: Step) -> Reply | WebReply | None:
        match step:
            case Ask():
                return await self._ask(step)
            case Fetch():
                return await self._fetch(step)
            case Pause(seconds):
                await asyncio.sleep(seconds)
                return None

    async def _ask(self, step: Ask) -> Reply:
        if self._lines is not None and self._lines.usable:
            return await self._lines.ask(step)
        where = self._conversations.endpoint
        try:
            lines, opened = await self._open()
            return (await lines.ask(step))._replace(opened=opened)
        except Unreachable as error:
            if not may_be_tls(where, error) or not await asyncio.to_thread(speaks_tls, where):
                raise
            raise asked_plainly(where) from error

    async def _open(self) -> tuple[_LineProtocol, bool]:
        """Return a connection, and whether it was opened here and now."""
        async with self._opening:
            lines = self._lines
            if lines is not None and lines.usable:
                # Somebody else was quicker.
                return lines, False
            where = self._conversations.endpoint
            lines = _LineProtocol(where.name)
            timeout = self._conversations.patience.connect_timeout
            at = (where.host, where.port)
            try:
                await self._connect(lines, at, timeout, self._trust(where.tls))
            except (OSError, UnicodeError) as error:
                raise unreachable(error, *at, timeout) from error
            self._lines = lines
            return lines, True

    async def _fetch(self, step: Fetch) -> WebReply:
        async with self._places:
            web: _WebProtocol | None = None
            while self._webs and web is None:
                web = self._webs.pop()
                # One to another door leads to the hub as it was before.
                if web.gone.is_set() or web.door != step.door:
                    web.close()
                    web = None
            if web is None:
                web = await self._open_web(step)
            reply = await web.fetch(step)
            if web.reusable:
                self._webs.append(web)
            else:
                web.close()
            return reply

    async def _open_web(self, step: Fetch) -> _WebProtocol:
        address = WebAddress.of(step.door.base)
        timeout = min(self._conversations.patience.connect_timeout, step.timeout)
        trust = self._trust(address.tls)
        web = _WebProtocol(step.door)
        with meeting(timeout):
            await self._connect(web, (address.host, address.port), timeout, trust)
            await web.meet(timeout)
        return web

    def _trust(self, encrypted: bool) -> ssl.SSLContext | None:
        if not encrypted:
            return None
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    async def _connect(
        self, protocol: _Heard, at: tuple[str, int], timeout: float, tls: ssl.SSLContext | None
    ) -> None:
        """Connect; raise the `OSError` or `UnicodeError` of a connection that does not come about.

        Whatever becomes of it, `close` knows the connection.
        """
        loop = asyncio.get_running_loop()
        self._connections = [one for one in self._connections if not one.gone.is_set()]
        self._connections.append(protocol)
        try:
            async with asyncio.timeout(timeout):
                await loop.create_connection(lambda: protocol, *at, ssl=tls)
        except BaseException:
            protocol.close()
            protocol.gone.set()
            raise


class _Heard(asyncio.Protocol, ABC):
    """A connection that knows when it last heard of its peer, and whether that is still there."""

    def __init__(self, name: str) -> None:
        self.gone = asyncio.Event()
        self._name = name
        self._transport: asyncio.Transport | None = None
        self._closed = False
        # When an answer was last on its way, to whomever: who waits for another one waits longer.
        self._coming = 0.0

    @property
    def made(self) -> bool:
        """Whether the connection has come about."""
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        # uvloop's transports are of no class that tells.
        self._transport = cast("asyncio.Transport", transport)
        if self._closed:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell those who wait."""
        self.gone.set()
        self._fail(
            ConnectionLost(f"the connection to {self._name} broke: {exc or 'it was closed'}")
        )

    def close(self) -> None:
        """Close the connection, or the one that is coming about."""
        self._closed = True
        if self._transport is not None:
            self._transport.abort()

    @abstractmethod
    def _fail(self, error: GaplessError) -> None:
        """End what waits for an answer with an error."""

    async def _wait(self, answer: asyncio.Future[T], timeout: float) -> T:
        """Wait for an answer as long as the hub is not silent for the timeout."""
        loop = asyncio.get_running_loop()
        asked = loop.time()
        try:
            while (left := max(asked, self._coming) + timeout - loop.time()) > 0:
                await asyncio.wait([answer], timeout=left)
                if answer.done():
                    return answer.result()
        finally:
            # What comes of it after a cancellation is nobody's business, and no fault.
            if not answer.cancel() and not answer.cancelled():
                answer.exception()
        raise TimedOut(f"{self._name} was silent for {timeout:g} s; the request was given up")


class _Waiting(NamedTuple):
    """Who waits for an answer, and how many bytes the request had."""

    answer: asyncio.Future[Reply]
    size: int


class _LineProtocol(_Heard):
    """The connection on which lines go, any number of requests at a time."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._exchange = LineExchange(name)
        self._waiting: dict[int, _Waiting] = {}
        # What the hub said of the connection as a whole, before it ended that.
        self._refusal: Reply | None = None
        self._heard = 0.0
        # Nothing at all was heard for as long as somebody was ready to wait.
        self._silent = False

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return not (self._closed or self._silent or self.gone.is_set())

    async def ask(self, step: Ask) -> Reply:
        """Send a query and return the answer to it, whatever it says."""
        if self._refusal is not None:
            return self._refusal
        if self._closed or self.gone.is_set() or self._transport is None:
            raise ConnectionLost(f"the connection to {self._name} is closed")
        loop = asyncio.get_running_loop()
        request_id, line = self._exchange.request(
            step.query, step.token, {**step.envelope, "ordered": False}
        )
        answer: asyncio.Future[Reply] = loop.create_future()
        self._waiting[request_id] = _Waiting(answer, len(line))
        asked = loop.time()
        try:
            self._transport.write(line)
            return await self._wait(answer, step.timeout)
        except TimedOut:
            self._silent = self._silent or self._heard < asked
            raise
        finally:
            # What comes for it later is passed over.
            self._waiting.pop(request_id, None)
            if self._silent and not self._waiting:
                self.close()

    def data_received(self, data: bytes) -> None:
        """Hand answers to those who asked."""
        self._heard = asyncio.get_running_loop().time()
        try:
            for line in self._exchange.feed(data):
                self._hand_over(Reply(self._exchange.answer(line), line))
        except UnexpectedAnswer as error:
            self._fail(error)
            self.close()
        if self._exchange.amid:
            self._coming = self._heard

    def _hand_over(self, reply: Reply) -> None:
        answer = reply.answer
        waiting = self._waiting.get(answer.request_id)  # type: ignore[arg-type]
        if waiting is not None:
            if not waiting.answer.done():
                waiting.answer.set_result(reply)
        elif answer.request_id is None and not answer.ok:
            self._refuse(reply)
        elif not self._exchange.asked(answer.request_id):
            raise self._exchange.misdirected(answer)

    def _refuse(self, reply: Reply) -> None:
        """Tell those who wait what the hub said of the connection as a whole."""
        self._refusal = reply
        concerned = list(self._waiting.values())
        if concerned and isinstance(reply.answer.failure(), LineTooLong):
            # Only one line was; the others are asked again.
            concerned = [max(concerned, key=lambda one: one.size)]
        for one in concerned:
            if not one.answer.done():
                one.answer.set_result(reply)
        self.close()

    def _fail(self, error: GaplessError) -> None:
        for one in self._waiting.values():
            if not one.answer.done():
                one.answer.set_exception(error.again())


class _WebProtocol(_Heard):
    """A connection on which HTTP goes, one request at a time; to the hub of its door alone."""

    def __init__(self, door: Door) -> None:
        address = WebAddress.of(door.base)
        super().__init__(f"{address.host}:{address.port}")
        self.door = door
        self._exchange = WebExchange(door)
        self._waiting: asyncio.Future[WebReply] | None = None

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent."""
        return self._exchange.reusable and not self.gone.is_set()

    async def meet(self, timeout: float) -> None:
        """See whether the hub is there; raise `NotThisHub`, or as `fetch` does."""
        reply = await self._exchanged(self._exchange.greeting, timeout)
        try:
            self._exchange.greeted(reply)
        except BaseException:
            self.close()
            raise

    async def fetch(self, step: Fetch) -> WebReply:
        """Send a request and return the answer to it, whatever it says."""

        def request() -> bytes:
            return self._exchange.request(
                step.method, step.target, step.token, step.accept, step.body
            )

        return await self._exchanged(request, step.timeout)

    async def _exchanged(self, written: Callable[[], bytes], timeout: float) -> WebReply:
        assert self._transport is not None
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            request = written()
            if self.gone.is_set():
                raise ConnectionLost(f"the connection to {self._name} is closed")
            self._transport.write(request)
            return await self._wait(self._waiting, timeout)
        except BaseException:
            # What is half-read cannot go on.
            self.close()
            raise
        finally:
            self._waiting = None

    def data_received(self, data: bytes) -> None:
        """Hand the answer over once it is complete."""
        self._coming = asyncio.get_running_loop().time()
        try:
            reply = self._exchange.feed(data)
        except UnexpectedAnswer as error:
            self._fail(error)
            self.close()
            return
        if reply is not None and self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(reply)

    def _fail(self, error: GaplessError) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)
