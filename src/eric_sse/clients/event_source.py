"""Durable readers of an event stream over HTTP: a blocking iterator and one for asyncio.

All that they decide is decided by :class:`~eric_sse.clients.session.StreamSession`; here is only the I/O. httpx2 is
imported when a reader is made, so that this module can be imported without it.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from eric_sse.clients.session import StreamState
from eric_sse.clients.source import FIRST_ERROR, MAX_ERROR_BYTES, Source
from eric_sse.wire.sse import Event

if TYPE_CHECKING:
    import httpx2


class EventSource(Source["httpx2.Client"], Iterator[Event]):
    """Read an event stream, reconnecting by itself: a blocking iterator of events.

    A lost connection is opened again after the server's ``retry:``, with exponential back-off and full jitter, and
    with ``Last-Event-ID``, so that nothing is missed or repeated where the server keeps a log. Where it kept less than
    was missed, an ``eric.gap`` event says so: see :class:`~eric_sse.clients.Gap`. Iteration ends with the server's
    204, after its ``eric.closed`` event, or when the reader is closed.

    One thread iterates. Interrupted while it waits, it gives up the connection, and resumes when asked for more.

    Example::

        with EventSource("http://127.0.0.1:8000/channels/quakes/events") as events:
            for event in events:
                print(event.type, event.data, event.id)

    Args:
        url: The stream to read. Redirects are followed.
        last_event_id: Where to resume, as an event's ``id`` gave it; by default the server decides.
        headers: Sent with every request, beside or instead of the reader's own.
        client: An httpx2 client to use, for TLS, proxies or authentication. It stays yours and is never closed here.
            By default the reader makes one and closes it.
        reconnect: Whether a lost stream is opened again. If not, iteration ends where the server ends the stream, and
            a failure raises.
        max_failures: How many attempts in a row may fail, with no event in between, before ``StreamLost`` is raised;
            None never gives up.
        max_retry_s: The longest back-off, in seconds. The server's ``Retry-After`` is waited for beyond it.
        read_timeout_s: How long the stream may be silent, in seconds, before it is taken for dead and opened again.
            The server's heartbeats come every 15 s. None waits for ever.
        max_event_bytes: The largest event that is accepted, in bytes.
        on_retry: Called before each wait with the reason and the seconds until the next attempt.

    Raises:
        ConfigurationError: httpx2 is not installed; while iterating: the URL or a header cannot be sent.
        ValueError: ``last_event_id`` cannot be an id.
        StreamRefused: While iterating: the server will not stream, whether asked again or not: 404, 401, a page of
            HTML. 408, 425, 429 and 5xx are tried again.
        StreamLost: While iterating: it failed more than ``max_failures`` times in a row.
        EventTooLarge: While iterating: an event exceeds ``max_event_bytes``.
    """

    def _set_up(self) -> None:
        self._chunks: Iterator[bytes] = iter(())
        self._closed = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __next__(self) -> Event:
        while (event := self._session.next_event()) is None:
            if self._session.state is StreamState.CLOSED:
                self.close()
                raise StopIteration
            with self._lock:
                self._step()
        return event

    def close(self) -> None:
        """End the iteration and close the connection.

        Any thread may, at any time: a wait for data or for the next attempt ends at once, an attempt to connect within
        its timeout.
        """
        self._closed.set()
        self._session.close()
        # Not a blocking acquire: whoever is mid-step may be this very thread, in a signal handler or in on_retry. A
        # step that finds itself closed cleans up after itself.
        if self._lock.acquire(blocking=False):
            try:
                self._drop()
                if self._owns_client and self._client is not None:
                    self._client.close()
            finally:
                self._lock.release()
        elif (response := self._response) is not None:
            _shut_down(response)

    def _step(self) -> None:
        try:
            self._advance()
        except BaseException:
            self._session.interrupted()
            self._drop()
            raise
        if self._closed.is_set():  # while this step was opening a stream, perhaps
            self._session.close()
        if self._session.state is not StreamState.OPEN:
            self._drop()

    def _advance(self) -> None:
        if self._session.state is StreamState.WAITING:
            self._closed.wait(self._session.delay_s)
            self._session.reconnect()
        elif self._session.state is StreamState.CONNECTING:
            with self._failures_reported():
                self._connect()
        else:
            with self._failures_reported():
                self._read()

    def _connect(self) -> None:
        if self._client is None:
            self._client = self._httpx.Client()
        response = self._client.send(self._request(self._client), stream=True, follow_redirects=True)
        self._response = response
        self._chunks = chunks = response.iter_bytes()
        body = b""
        if response.status_code >= FIRST_ERROR:
            with contextlib.suppress(self._httpx.RequestError):
                while len(body) < MAX_ERROR_BYTES and (chunk := next(chunks, b"")):
                    body += chunk
        self._session.responded(response.status_code, response.headers, body)

    def _read(self) -> None:
        chunk = next(self._chunks, None)
        if chunk is None:
            self._session.lost("the server ended the stream")
        else:
            self._session.received(chunk)

    def _drop(self) -> None:
        response, self._response, self._chunks = self._response, None, iter(())
        if response is not None:
            response.close()


class AsyncEventSource(Source["httpx2.AsyncClient"], AsyncIterator[Event]):
    """Read an event stream, reconnecting by itself: an asynchronous iterator of events, for asyncio.

    As :class:`EventSource` in everything else: arguments, errors, and what ends it. A cancelled wait closes the
    connection at once, and the next one resumes.

    Example::

        async with AsyncEventSource("http://127.0.0.1:8000/channels/quakes/events") as events:
            async for event in events:
                print(event.type, event.data, event.id)
    """

    def _set_up(self) -> None:
        self._chunks: AsyncGenerator[bytes, None] | None = None
        self._scope: asyncio.Timeout | None = None
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    async def __anext__(self) -> Event:
        while (event := self._session.next_event()) is None:
            if self._session.state is StreamState.CLOSED:
                await self.aclose()
                raise StopAsyncIteration
            await self._step()
        return event

    async def aclose(self) -> None:
        """End the iteration and close the connection, at once also where another task waits for an event."""
        self._session.close()
        scope, self._scope = self._scope, None  # once: one that is expiring cannot be told again
        if scope is not None:
            scope.reschedule(0)
        async with self._lock:
            await self._drop()
            if self._owns_client and self._client is not None:
                await self._client.aclose()

    async def _step(self) -> None:
        try:
            # A timeout without a time is what asyncio has for a block that another task may end.
            async with self._lock, asyncio.timeout(None) as scope:
                self._scope = scope
                try:
                    await self._advance()
                except BaseException:
                    self._session.interrupted()
                    await self._drop()
                    raise
                finally:
                    self._scope = None
                if self._session.state is not StreamState.OPEN:
                    await self._drop()
        except TimeoutError:
            if self._session.state is not StreamState.CLOSED:
                raise

    async def _advance(self) -> None:
        if self._session.state is StreamState.WAITING:
            await asyncio.sleep(self._session.delay_s)
            self._session.reconnect()
        elif self._session.state is StreamState.CONNECTING:
            with self._failures_reported():
                await self._connect()
        elif self._chunks is not None:
            with self._failures_reported():
                await self._read(self._chunks)

    async def _connect(self) -> None:
        if self._client is None:
            self._client = self._httpx.AsyncClient()
        response = await self._client.send(self._request(self._client), stream=True, follow_redirects=True)
        self._response = response
        self._chunks = chunks = response.aiter_bytes()
        body = b""
        if response.status_code >= FIRST_ERROR:
            with contextlib.suppress(self._httpx.RequestError):
                while len(body) < MAX_ERROR_BYTES and (chunk := await anext(chunks, b"")):
                    body += chunk
        self._session.responded(response.status_code, response.headers, body)

    async def _read(self, chunks: AsyncGenerator[bytes, None]) -> None:
        chunk = await anext(chunks, None)
        if chunk is None:
            self._session.lost("the server ended the stream")
        else:
            self._session.received(chunk)

    async def _drop(self) -> None:
        response, self._response = self._response, None
        chunks, self._chunks = self._chunks, None
        if chunks is not None:
            await chunks.aclose()
        if response is not None:
            await response.aclose()


def _shut_down(response: "httpx2.Response") -> None:
    """Make a read of ``response`` in another thread return: closing its socket would not."""
    stream = response.extensions.get("network_stream")
    connection = stream.get_extra_info("socket") if stream is not None else None
    if isinstance(connection, socket.socket):
        with contextlib.suppress(OSError):
            # Not connection.shutdown(): of a TLS socket, that takes away the state which the reader is using.
            socket.socket.shutdown(connection, socket.SHUT_RDWR)
