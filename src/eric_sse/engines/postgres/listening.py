"""The connection that listens: what it hears, what it sends, and whether it is alive."""

import secrets
import select
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import sql

from eric_sse.engines.postgres.text import is_storable

_HEARTBEAT_S = 5.0
_DEAF_S = 10.0
MAX_NEWS = 1000
"""With more channels to tell of than these, everybody is told that it may be any."""
# A notification holds just under 8,000 bytes; no id of a channel that a repository takes is as long.
_MAX_ID = 1000
NOTIFY = "SELECT pg_catalog.pg_notify($1, id) FROM unnest($2::text[]) id"
"""Tells of news. Parameters: the topic, and `notifications`."""


def notifications(channels: Iterable[str | None]) -> list[str]:
    """What to send for these channels: their ids, or the empty text, which stands for any."""
    texts = [channel or "" for channel in dict.fromkeys(channels)]
    return texts if len(texts) <= MAX_NEWS and all(map(_fits, texts)) else [""]


def _fits(text: str) -> bool:
    return 0 < len(text) <= _MAX_ID and is_storable(text)


class Listening:
    """A connection that listens. One thread uses it; others may call `interrupt` and `cut_off`.

    It also tells itself something, on a topic of its own, now and then: that it can talk does not mean that it hears,
    where a pooler is in between.

    Args:
        connection: In autocommit; closed at the end.
        topic: The server's name for what is listened to.

    Raises:
        psycopg.Error: The connection failed; here and at all methods.
    """

    def __init__(self, connection: psycopg.Connection[Any], topic: str) -> None:
        self._connection = connection
        self._topic = topic
        self._pid = connection.info.backend_pid
        self._interrupted, self._interrupt = socket.socketpair()
        self._interrupt.settimeout(0)
        # In its own copy, which stays valid in other threads.
        self._socket = socket.socket(fileno=socket.dup(connection.pgconn.socket))
        self._own_topic = f"eric_sse_{secrets.token_hex(8)}"
        self._heard = float("-inf")
        self._news: list[str | None] = []
        try:
            for name in (topic, self._own_topic):
                connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(name)))
            self._tell_itself()
        except BaseException:
            self.close()
            raise

    @property
    def healthy(self) -> bool:
        """Whether it heard itself lately."""
        return time.monotonic() - self._heard < _DEAF_S

    def send(self, channels: Iterable[str | None]) -> None:
        """Tell everybody else, with one statement."""
        psycopg.RawCursor(self._connection).execute(NOTIFY, (self._topic, notifications(channels)))

    def wait(self) -> list[str | None]:
        """Wait until others tell of news, or for an interrupt, for some seconds at most; give the channels told of."""
        # psycopg keeps aside what it reads while a statement runs, as in `send`: the socket does not tell of it again.
        self._drain()
        poll = select.poll()
        poll.register(self._connection.pgconn.socket, select.POLLIN)
        poll.register(self._interrupted, select.POLLIN)
        pause_s = 0.0 if self._news else max(0.0, self._told_itself + _HEARTBEAT_S - time.monotonic())
        ready = [fd for fd, _ in poll.poll(pause_s * 1000)]
        if self._interrupted.fileno() in ready:
            self._interrupted.recv(4096)
        if time.monotonic() >= self._told_itself + _HEARTBEAT_S:
            self._tell_itself()
        self._drain()
        news, self._news = self._news, []
        return news

    def interrupt(self) -> None:
        """Have `wait` return."""
        # Full, it has been interrupted; closed, there is nobody who waits.
        with suppress(OSError):
            self._interrupt.send(b"x")

    def cut_off(self) -> None:
        """Break the connection, on which the thread that uses it waits in vain."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        for one in (self._connection, self._socket, self._interrupted, self._interrupt):
            one.close()

    def _tell_itself(self) -> None:
        self._told_itself = time.monotonic()
        self._connection.execute("SELECT pg_catalog.pg_notify(%s, '')", (self._own_topic,))
        self._drain()

    def _drain(self) -> None:
        for notify in self._connection.notifies(timeout=0):
            if notify.channel == self._own_topic:
                self._heard = time.monotonic()
            elif notify.pid != self._pid:
                self._news.append(notify.payload or None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
