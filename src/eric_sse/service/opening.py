"""How a stream begins: where in the log, and what if the store is away just then."""

import asyncio
from typing import NamedTuple

from eric_sse._util import get_logger
from eric_sse.engine import Engine
from eric_sse.exception import ChannelNotFound, EricError, ListenerNotFound
from eric_sse.log import ACK_AUTO, CursorKey, Gap, Head, resume
from eric_sse.message import Position
from eric_sse.service.channels import require_head, require_settings
from eric_sse.service.hub import Hub
from eric_sse.service.listeners import Listeners
from eric_sse.service.stream import EventStream, Start
from eric_sse.service.tail import ChannelTail, ReadLog
from eric_sse.service.threads import StoreThreads

logger = get_logger()

_FIRST_ANSWER_WITHIN_S = 2.0
_AGAIN_S = (0.5, 1.0, 2.0)


class Request(NamedTuple):
    """What a client asks for.

    Attributes:
        channel_id: Of which channel.
        listener_id: Whose stream; None: an anonymous one, which holds broadcasts only.
        last_event_id: What the client has seen; goes before ``start_from``.
        start_from: ``earliest`` or ``latest``. By default an anonymous stream starts at the latest, and a listener's
            at its cursor.
    """

    channel_id: str
    listener_id: str | None = None
    last_event_id: str | None = None
    start_from: str | None = None


class Located(NamedTuple):
    """Where a stream is to start.

    Attributes:
        head: Where the log stands.
        offset: What the stream holds follows this.
        gap: Told first, where something is missing.
        retry_ms: How long a client is to wait before it comes back, in milliseconds.
        acks: Whether what it delivers moves the listener's cursor.
        seen: What the client has shown to have received.
    """

    head: Head
    offset: int
    gap: Gap | None
    retry_ms: int
    acks: bool
    seen: Position | None


def locate(engine: Engine, request: Request) -> Located:
    """Where the stream that is asked for starts. Blocking.

    Raises:
        ChannelNotFound: There is no such channel.
        ListenerNotFound: The channel has no such listener.
    """
    channel_id, listener_id = request.channel_id, request.listener_id
    cursor, acks = None, False
    if listener_id is not None:
        listeners = Listeners(engine)
        cursor = listeners.require_cursors(channel_id, [listener_id])[CursorKey(channel_id, listener_id)]
        acks = listeners.ack_mode(channel_id, listener_id) == ACK_AUTO
    # After the cursor, which may move on meanwhile: it is never ahead of a head that is read later.
    head = require_head(engine.log, channel_id)
    retry_ms = require_settings(engine, channel_id).retry_timeout_milliseconds
    if request.last_event_id:
        offset, gap = resume(head, request.last_event_id)
        seen = Position(head.epoch, offset) if gap is None else None
        return Located(head, offset, gap, retry_ms, acks, seen)
    if request.start_from is None and cursor is not None:
        offset, gap = resume(head, str(cursor))
        return Located(head, offset, gap, retry_ms, acks, None)
    offset = head.trimmed if request.start_from == "earliest" else head.last
    return Located(head, offset, None, retry_ms, acks, None)


def locate_on(tail: ChannelTail, request: Request) -> Start | None:
    """Where the anonymous stream that is asked for starts, where the channel's tail knows it; else None."""
    if request.listener_id is not None or request.start_from == "earliest":
        return None
    if not request.last_event_id:
        return Start(tail, tail.window.through, None, tail.retry_ms)
    seen = Position.parse(request.last_event_id)
    if seen is None or seen.epoch != tail.epoch or seen.offset > tail.window.through:
        return None
    # What was trimmed since then, the stream finds out when it reads on.
    return Start(tail, seen.offset, None, tail.retry_ms)


class Opener:
    """Opens streams. Belongs to one event loop.

    Args:
        engine: Where their messages are.
        hub: Takes them in.
        threads: Where the store is asked.
        read: Reads a log.
        retry_ms: What a client is told to wait, in milliseconds, while nothing better is known.
    """

    def __init__(self, engine: Engine, hub: Hub, threads: StoreThreads, read: ReadLog, retry_ms: int) -> None:
        self._engine = engine
        self._hub = hub
        self._threads = threads
        self._read = read
        self._retry_ms = retry_ms
        self._waiting: dict[EventStream, asyncio.Task[None]] = {}

    async def open(self, request: Request) -> EventStream:
        """A stream: started, or, while the store is away, one that starts when the store is back.

        Raises:
            ChannelNotFound: There is no such channel.
            ListenerNotFound: The channel has no such listener.
        """
        stream = EventStream(request.channel_id, request.listener_id, self._read, self._let_go, self._retry_ms)
        self._hub.add(stream)
        tail = self._hub.following(request.channel_id)
        start = None if tail is None else locate_on(tail, request)
        if start is not None:
            # The store has nothing to add: thousands that return at once cost it nothing.
            stream.started(start)
            return stream
        try:
            async with asyncio.timeout(_FIRST_ANSWER_WITHIN_S):
                await self._start(stream, request)
        except (ChannelNotFound, ListenerNotFound):
            stream.release()
            raise
        except (EricError, TimeoutError) as error:
            logger.warning("channel %r: a stream waits for the store: %s", request.channel_id, error)
            self._waiting[stream] = asyncio.create_task(self._start_later(stream, request))
        except BaseException:
            stream.release()
            raise
        return stream

    async def close(self) -> None:
        """Let go of the streams that wait for the store."""
        tasks = list(self._waiting.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _let_go(self, stream: EventStream) -> None:
        self._hub.remove(stream)
        task = self._waiting.pop(stream, None)
        if task is not None:
            task.cancel()

    async def _start(self, stream: EventStream, request: Request) -> None:
        while True:
            located = await self._threads.read(locate, self._engine, request)
            tail = self._hub.tail(request.channel_id, located.head, located.retry_ms)
            if tail is not None:
                break
            # The tail of the log that is gone finds out.
            await asyncio.sleep(0)
        if request.listener_id is not None and located.acks:
            key = CursorKey(request.channel_id, request.listener_id)
            stream.delivered = lambda position: self._engine.acks.note(key, position)
            if located.seen is not None:
                stream.delivered(located.seen)
        stream.started(Start(tail, located.offset, located.gap, located.retry_ms))

    async def _start_later(self, stream: EventStream, request: Request) -> None:
        failures = 0
        while not stream.has_ended:
            await asyncio.sleep(_AGAIN_S[min(failures, len(_AGAIN_S) - 1)])
            failures += 1
            try:
                await self._start(stream, request)
                return
            except ChannelNotFound:
                stream.close_removed("channel")
            except ListenerNotFound:
                stream.close_removed("listener")
            except EricError as error:
                logger.debug("channel %r: a stream still waits for the store: %s", request.channel_id, error)
            except Exception:
                logger.exception("channel %r: a stream cannot start", request.channel_id)
                stream.close()
