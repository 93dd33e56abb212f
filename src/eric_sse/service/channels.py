"""Channels as the use cases see them. Blocking: the service runs these in threads."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from eric_sse.engine import Engine
from eric_sse.exception import ChannelExists, ChannelNotFound
from eric_sse.log import Head, MessageLog, Retention, View
from eric_sse.message import Position
from eric_sse.prefabs import SSEChannel
from eric_sse.repository import TransactionalKvStorage, transaction

_CREATED_WITHIN_S, _LOOK_AGAIN_S = 1.0, 0.02


class ChannelInfo(NamedTuple):
    """A channel as it stands.

    Attributes:
        id: Its id.
        retry_ms: How long its clients are told to wait before they come back, in milliseconds.
        retention: How long it keeps messages.
        epoch: The mark of its log.
        last_id: The id of the last message; what a client that has seen everything has seen.
        streams: How many streams are open in this process.
    """

    id: str
    retry_ms: int
    retention: Retention
    epoch: str
    last_id: str
    streams: int


class ChannelDetails(NamedTuple):
    """A channel as it stands, and what takes a closer look.

    Attributes:
        channel: The channel.
        oldest_id: The id of the oldest message kept; None where none is.
        listeners: How many named listeners it has.
    """

    channel: ChannelInfo
    oldest_id: str | None
    listeners: int


class Channels:
    """The durable channels of an engine.

    Args:
        engine: Where they are kept.
        count_streams: How many streams of a channel are open in this process. Called from any thread.
    """

    def __init__(self, engine: Engine, count_streams: Callable[[str], int]) -> None:
        self._engine = engine
        self._count_streams = count_streams

    def create(self, channel_id: str, retry_ms: int, retention: Retention) -> ChannelInfo:
        """Create a channel.

        Raises:
            InvalidChannelException: The id cannot be one.
            ChannelExists: It is there already.
        """
        channels, log = self._engine.channels, self._engine.log
        channel = channels.create({"channel_id": channel_id, "retry_timeout_milliseconds": retry_ms})
        with transaction(self._engine.storage):
            if log.create(channel_id, retention):
                # Without transactions, a process that died while it deleted the channel may have left some.
                channels.connections.delete_all(channel_id)
            elif comes_to_be(self._engine, lambda: channels.settings(channel_id) is not None):
                raise ChannelExists(channel_id)
            channels.persist(channel)
        return self._info(channel, require_head(log, channel_id))

    def page(self, after: str, limit: int) -> Sequence[ChannelInfo]:
        """The first ``limit`` channels that come after ``after``; fewer only where there are no more."""
        found: list[ChannelInfo] = []
        while missing := limit - len(found):
            channels = self._engine.channels.page(after, missing)
            heads = self._engine.log.heads([channel.id for channel in channels])
            # A channel without a log is being deleted just now.
            found += [self._info(channel, heads[channel.id]) for channel in channels if channel.id in heads]
            if len(channels) < missing:
                break
            after = channels[-1].id
        return found

    def show(self, channel_id: str) -> ChannelDetails:
        """A channel as it stands.

        Raises:
            ChannelNotFound: There is none.
        """
        page = self._engine.log.read(channel_id, 0, View.EVERYTHING, limit=1)
        oldest = str(Position(page.head.epoch, page.entries[0].offset)) if page.entries else None
        info = self._info(require_settings(self._engine, channel_id), page.head)
        return ChannelDetails(info, oldest, len(self._engine.channels.connections.ids(channel_id)))

    def delete(self, channel_id: str) -> None:
        """Remove a channel, its log and its listeners. Nothing happens where there is none."""
        self._engine.channels.delete(channel_id)
        self._engine.notifier.wake([channel_id])

    def _info(self, channel: SSEChannel, head: Head) -> ChannelInfo:
        last_id = str(Position(head.epoch, head.last))
        streams = self._count_streams(channel.id)
        return ChannelInfo(channel.id, channel.retry_timeout_milliseconds, head.retention, head.epoch, last_id, streams)


def comes_to_be(engine: Engine, is_there: Callable[[], bool]) -> bool:
    """Whether something is there that whoever made its log or cursor was to store next.

    In a store without transactions that may be another process which has just got so far: it is waited for. Where it
    does not come, that process has died: what it left is for the caller to complete.
    """
    deadline = time.monotonic() + (0 if isinstance(engine.storage, TransactionalKvStorage) else _CREATED_WITHIN_S)
    while not (there := is_there()) and time.monotonic() < deadline:
        time.sleep(_LOOK_AGAIN_S)
    return there


def require_head(log: MessageLog, channel_id: str) -> Head:
    """Where a channel's log stands.

    Raises:
        ChannelNotFound: There is none.
    """
    head = log.heads([channel_id]).get(channel_id)
    if head is None:
        raise ChannelNotFound(channel_id)
    return head


def require_settings(engine: Engine, channel_id: str) -> SSEChannel:
    """A channel without its connections.

    Raises:
        ChannelNotFound: There is none.
    """
    channel = engine.channels.settings(channel_id)
    if channel is None:
        raise ChannelNotFound(channel_id)
    return channel
