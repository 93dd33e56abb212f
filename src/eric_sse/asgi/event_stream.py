"""The event-stream response: sends chunks as they come, and notices when the peer is gone. Runs on any ASGI server."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from eric_sse._util import get_logger
from eric_sse.asgi.body_transport import PEER_IS_GONE, BodyTransport
from eric_sse.codec import encode_json
from eric_sse.entities import MESSAGE_TYPE_ERROR
from eric_sse.exception import EricError, InvalidMessageFormat
from eric_sse.service import EventStream
from eric_sse.service.fan_out import chunked, unframed
from eric_sse.service.protocol import EventStreamProtocol
from eric_sse.wire.sse import encode_comment, encode_event

logger = get_logger()

_HEADERS = {
    b"content-type": b"text/event-stream",  # and no charset: it is UTF-8 always
    # Every proxy, cache and browser on the way is to pass each byte on at once, and to keep none.
    b"cache-control": b"no-store",
    b"x-accel-buffering": b"no",
}

HAND_OVER = "eric_sse.hand_over"
"""The ASGI extension by which our own server offers a connection: a callable that takes the protocol which is to have
it from now on, once the response has begun; it returns whether it was handed over. Elsewhere streams are sent as ASGI
has it."""


class FieldsStream:
    """The events of an async iterator of fields, such as ``SSEChannel.message_stream(listener)``.

    Each item is a mapping of ``event``, ``data`` (any JSON value), and perhaps ``id`` and ``retry``. One that cannot
    be sent is replaced by an event of type ``error``. The iterator is closed with the stream.

    Args:
        events: Where they come from.
        heartbeat_s: How long the stream may be silent before a comment is sent, in seconds.
        send_timeout_s: How long the peer may take nothing of what is sent to it, in seconds.
    """

    def __init__(
        self, events: AsyncIterator[Mapping[str, Any]], heartbeat_s: float = 15.0, send_timeout_s: float = 60.0
    ) -> None:
        self._aborted: list[Callable[[], object]] = []
        self._events = events
        self._heartbeat_s = heartbeat_s
        self._send_timeout_s = send_timeout_s
        self._next: asyncio.Task[Mapping[str, Any]] | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._closed = False

    def on_abort(self, call: Callable[[], object]) -> None:
        """Have ``call`` called when the peer takes nothing."""
        self._aborted.append(call)

    async def next_chunk(self) -> bytes | None:
        """The next event, or a heartbeat; None when the iterator has ended or the stream is closed."""
        self._stop_timing()
        if self._closed:
            return None
        if self._next is None:
            self._next = asyncio.create_task(_anext(self._events))
        await asyncio.wait([self._next], timeout=self._heartbeat_s)
        if self._closed:
            return None
        chunk = self._take() if self._next.done() else encode_comment()
        self._stalled = asyncio.get_running_loop().call_later(self._send_timeout_s, self._give_up)
        return chunk

    def close(self) -> None:
        """End the stream."""
        self._closed = True
        if self._next is not None:
            self._next.cancel()

    def abort(self) -> None:
        """Give the stream up."""
        self.close()
        for call in self._aborted:
            call()

    def release(self) -> None:
        """Let go of the iterator."""
        self._stop_timing()
        self.close()
        closing = asyncio.ensure_future(_aclose(self._events, self._next))
        _closing.add(closing)
        closing.add_done_callback(_closing.discard)

    def _take(self) -> bytes | None:
        task, self._next = self._next, None
        try:
            return _encode(task.result()) if task is not None else None
        except StopAsyncIteration:
            return None
        except EricError as error:  # a durable channel was deleted, or its store is damaged
            logger.warning("an event stream ends: %s", error)
            return None

    def _give_up(self) -> None:
        logger.info("an event stream's peer takes nothing for %g s: closed", self._send_timeout_s)
        self.abort()

    def _stop_timing(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()


# The event loop keeps weak references to tasks only.
_closing: set["asyncio.Future[None]"] = set()


async def _anext(events: AsyncIterator[Mapping[str, Any]]) -> Mapping[str, Any]:
    return await anext(events)


async def _aclose(events: AsyncIterator[Any], pending: "asyncio.Task[Any] | None") -> None:
    if pending is not None:
        await asyncio.gather(pending, return_exceptions=True)
    aclose = getattr(events, "aclose", None)
    if aclose is not None:
        await aclose()


def _encode(fields: Mapping[str, Any]) -> bytes:
    try:
        return encode_fields(fields)
    except (InvalidMessageFormat, ValueError):
        logger.exception("an event cannot be sent: %r", fields)
        return encode_event("null", event=MESSAGE_TYPE_ERROR)


def encode_fields(fields: Mapping[str, Any]) -> bytes:
    """One event from its fields; ``data`` becomes JSON on one line.

    Raises:
        InvalidMessageFormat: The data is nothing JSON can hold.
        ValueError: The event's type or id would break its line.
    """
    return encode_event(
        encode_json(fields.get("data")).decode(),
        event=fields.get("event"),
        event_id=fields.get("id"),
        retry_ms=fields.get("retry"),
    )


class EventStreamResponse(Response):
    """Answers with an event stream.

    Args:
        source: An `EventStream` of a service; or an async iterator of fields, such as
            ``channel.message_stream(listener)``; or a `FieldsStream`, for other times than its defaults.
        headers: More headers.

    Example:
        >>> async def updates(request):
        ...     seen = request.headers.get("last-event-id")
        ...     return EventStreamResponse(await service.open_stream("news", last_event_id=seen))
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        source: EventStream | FieldsStream | AsyncIterator[Mapping[str, Any]],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(headers=headers)
        self.source = FieldsStream(source) if isinstance(source, AsyncIterator) else source

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """Set the headers; no length is among them."""
        own = {name.lower().encode("latin-1"): value.encode("latin-1") for name, value in (headers or {}).items()}
        self.raw_headers = list((_HEADERS | own).items())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream, or, for HEAD, what it would begin with."""
        hand_over = self._hand_over(scope)
        handed_over = False
        try:
            # A connection that is given away serves no other request: clients are not to keep it.
            headers = [*self.raw_headers, (b"connection", b"close")] if hand_over is not None else self.raw_headers
            await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b""})
            elif isinstance(self.source, FieldsStream):
                await self._send_fields(self.source, receive, send)
            elif hand_over is not None and hand_over(EventStreamProtocol(self.source, chunked)):
                handed_over = True
            else:
                transport = BodyTransport(EventStreamProtocol(self.source, unframed), send)
                await _run(asyncio.create_task(transport.carry()), receive, transport.disconnect)
        finally:
            if not handed_over:
                self.source.release()

    def _hand_over(self, scope: Scope) -> Callable[[asyncio.Protocol], bool] | None:
        """What takes the connection from the server, where it offers that and there is a stream to send."""
        if scope["method"] == "HEAD" or not isinstance(self.source, EventStream):
            return None
        hand_over: Callable[[asyncio.Protocol], bool] | None = scope.get("extensions", {}).get(HAND_OVER)
        return hand_over

    async def _send_fields(self, fields: FieldsStream, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(_send_chunks(fields, send))
        fields.on_abort(sending.cancel)
        await _run(sending, receive, fields.close)


async def _send_chunks(fields: FieldsStream, send: Send) -> None:
    more = True
    while more:
        chunk = await fields.next_chunk()
        more = chunk is not None
        try:
            await send({"type": "http.response.body", "body": chunk or b"", "more_body": more})
        except PEER_IS_GONE as error:
            logger.debug("an event stream's peer is gone: %s", error)
            return


async def _run(sending: asyncio.Task[None], receive: Receive, gone: Callable[[], object]) -> None:
    """Return when a body is sent, or given up: then the response stays incomplete, and the server cuts the connection.

    It is sent in a task of its own, because this one is deep in the application's middleware: waking it costs more than
    all that is done for an event.
    """
    watching = asyncio.create_task(_tell_when_gone(receive, gone))
    try:
        await asyncio.wait([sending])
        if not sending.cancelled():
            sending.result()
    finally:
        sending.cancel()
        watching.cancel()


async def _tell_when_gone(receive: Receive, gone: Callable[[], object]) -> None:
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    except HTTPException:
        pass  # a body where none belongs, and too large
    finally:
        gone()
