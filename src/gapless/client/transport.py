"""The steps of conversations, taken with sockets that block."""

from __future__ import annotations

import os
import ssl
import time

from gapless.client.connection import (
    Connection,
    Pool,
    WebConnection,
    connected,
    open_socket,
    telling_of_tls,
)
from gapless.client.conversations import Conversations
from gapless.client.identity import meeting
from gapless.client.steps import Ask, Conversation, Fetch, Pause, Reply, Step, T
from gapless.client.web import WebAddress, WebReply
from gapless.errors import GaplessError

# Connections that are kept open, of each kind.
_MOST_CONNECTIONS = 16


class Transport:
    """Holds the connections to a hub, for any number of threads; opens them when needed."""

    def __init__(self, conversations: Conversations, tls: ssl.SSLContext | None) -> None:
        self._conversations = conversations
        self._tls = tls
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lines: Pool[Connection] = Pool(_MOST_CONNECTIONS)
        self._webs: Pool[WebConnection] = Pool(_MOST_CONNECTIONS)

    def close(self) -> None:
        """Close all connections; later steps open new ones."""
        self._lines.close()
        self._webs.close()

    def run(self, conversation: Conversation[T]) -> T:
        """Take a conversation's steps until it is over."""
        if os.getpid() != self._process:
            # After a fork the connections are the parent's, too: answers would get mixed up.
            self._begin()
        try:
            step = next(conversation)
            while True:
                try:
                    came = self._take(step)
                except GaplessError as error:
                    step = conversation.throw(error)
                else:
                    step = conversation.send(came)
        except StopIteration as end:
            found: T = end.value
            return found
        finally:
            conversation.close()

    def _take(self, step: Step) -> Reply | WebReply | None:
        match step:
            case Ask():
                return self._ask(step)
            case Fetch():
                return self._fetch(step)
            case Pause(seconds):
                time.sleep(seconds)
                return None

    def _ask(self, step: Ask) -> Reply:
        connection = self._lines.take()
        usable = False
        try:
            if connection is None:
                with telling_of_tls(self._conversations.endpoint):
                    connection = self._open()
                    reply = connection.ask(step)._replace(opened=True)
            else:
                reply = connection.ask(step)
            usable = True
            return reply
        finally:
            if connection is not None and usable:
                self._lines.give(connection)
            elif connection is not None:
                connection.close()

    def _fetch(self, step: Fetch) -> WebReply:
        connection = self._webs.take()
        while connection is not None and connection.door != step.door:
            # It leads to the hub as it was before.
            connection.close()
            connection = self._webs.take()
        usable = False
        try:
            if connection is None:
                connection = self._open_web(step)
            reply = connection.fetch(step)
            usable = connection.reusable
            return reply
        finally:
            if connection is not None and usable:
                self._webs.give(connection)
            elif connection is not None:
                connection.close()

    def _open(self) -> Connection:
        where = self._conversations.endpoint
        timeout = self._conversations.patience.connect_timeout
        sock = open_socket(where.host, where.port, timeout, self._trust(where.tls))
        return Connection(sock, where.name, self._conversations.patience.timeout)

    def _open_web(self, step: Fetch) -> WebConnection:
        address = WebAddress.of(step.door.base)
        timeout = min(self._conversations.patience.connect_timeout, step.timeout)
        trust = self._trust(address.tls)
        with meeting(timeout):
            sock = connected(address.host, address.port, timeout, trust)
            connection = WebConnection(sock, step.door)
            try:
                connection.meet(timeout)
            except BaseException:
                connection.close()
                raise
        return connection

    def _trust(self, encrypted: bool) -> ssl.SSLContext | None:
        if not encrypted:
            return None
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls
