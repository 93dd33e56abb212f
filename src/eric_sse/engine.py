"""An engine: one storage technology, serving a storage, a log, cursors and a notifier."""

import os
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

from eric_sse.entities import AbstractChannel
from eric_sse.exception import ChannelNotFound, EpochMismatch, ItemNotFound
from eric_sse.log import AckBuffer, Cursors, LogQueue, LogQueues, MessageLog, Notifier, Retention
from eric_sse.prefabs import SSEChannel, SSEChannelRepository
from eric_sse.repository import (
    BatchKvStorage,
    ConnectionRepository,
    ListenerRepository,
    QueueRepository,
    after_commit,
    storage_key,
    transaction,
)


class EngineChannelRepository(SSEChannelRepository):
    """Channels on an engine: persisting one creates its log and cursors, deleting it removes them."""

    def __init__(self, storage: BatchKvStorage, log_queues: LogQueues) -> None:
        self.connections = ConnectionRepository(
            storage=storage,
            listeners_repository=ListenerRepository(storage),
            queues_repository=QueueRepository(storage, log_queues),
        )
        super().__init__(storage=storage, connections_repository=self.connections, connections_factory=log_queues)
        self._pages = storage
        self._log = log_queues.log

    def load_all(self) -> Iterator[AbstractChannel]:
        """Loads all channels, one after the other as they are asked for; those that are being deleted are left out."""
        for value in list(self._storage.fetch_by_prefix(storage_key(self._kind))):
            try:
                channel = self._build(value)
            except ChannelNotFound:
                continue  # without transactions a crash may have left its row, which the log's loss has made nobody's
            yield channel

    def load_one(self, channel_id: str) -> AbstractChannel:
        """Loads a channel given its id.

        Raises:
            ItemNotFound: There is none, or it is being deleted.
        """
        try:
            return super().load_one(channel_id)
        except ChannelNotFound:
            raise ItemNotFound(storage_key(self._kind, channel_id)) from None

    def persist(self, channel: AbstractChannel) -> None:
        """Persists a channel. Its log is created, with the default retention, unless it is there.

        Raises:
            ChannelNotFound: It was persisted or loaded before, and deleted elsewhere since: it is not brought back.
            EpochMismatch: It was deleted and created anew since.
        """
        factory = channel.connections_factory
        with transaction(self._storage):
            if not isinstance(factory, LogQueues) or factory.epoch is None:
                self._log.create(channel.id, Retention())
            epoch = self._epoch(channel)
            super().persist(channel)
        if isinstance(factory, LogQueues):
            after_commit(self._storage, partial(setattr, factory, "epoch", epoch))

    def delete(self, channel_id: str) -> None:
        """Deletes a channel, its connections, its log and its cursors. Idempotent."""
        with transaction(self._storage):
            # The log first: it is what makes a channel one. Without transactions, a crash leaves rows that nobody
            # can load; and whoever has created the channel anew meanwhile has done away with them.
            self._log.drop(channel_id)
            if not self._log.heads([channel_id]):
                super().delete(channel_id)
        # Whoever deleted a channel here may persist it here again, in the same transaction as well as after it.
        self._forget_epoch(channel_id)
        after_commit(self._storage, partial(self._forget_epoch, channel_id))

    def _forget_epoch(self, channel_id: str) -> None:
        for channel in list(self._held):
            if channel.id == channel_id and isinstance(channel.connections_factory, LogQueues):
                channel.connections_factory.epoch = None

    def _build(self, value: Any) -> AbstractChannel:
        channel = super()._build(value)
        factory = channel.connections_factory
        if isinstance(factory, LogQueues):
            factory.epoch = self._epoch(channel)
            for connection in channel.get_connections():
                if isinstance(connection.queue, LogQueue):
                    connection.queue.rebind(factory)
        return channel

    def _epoch(self, channel: AbstractChannel) -> str:
        """The epoch of the channel's log, which must be the one that it had when it was loaded or persisted here."""
        head = self._log.heads([channel.id]).get(channel.id)
        if head is None:
            raise ChannelNotFound(channel.id)
        factory = channel.connections_factory
        if isinstance(factory, LogQueues) and factory.epoch not in {None, head.epoch}:
            raise EpochMismatch(channel.id, str(factory.epoch), head.epoch)
        return head.epoch

    def settings(self, channel_id: str) -> SSEChannel | None:
        """A channel without its connections, of which there may be many; None where there is none."""
        try:
            return self.create(self._channel_data(self._storage.fetch_one(storage_key(self._kind, channel_id))))
        except ItemNotFound:
            return None

    def page(self, after: str, limit: int) -> Sequence[SSEChannel]:
        """The first ``limit`` channels that come after the id ``after``, without their connections.

        Their order is some order that stays the same. ``after=""`` starts at the beginning.
        """
        first = storage_key(self._kind, after) if after else ""
        rows = self._pages.fetch_page(storage_key(self._kind), first, limit)
        return [self.create(self._channel_data(value)) for _, value in rows]


class Engine:
    """What one storage technology serves. Use it as a context manager, or close it.

    An engine closes what it opened itself, never a client that was handed in.

    Args:
        storage: Channels, listeners and queues.
        log: What channels sent.
        cursors: How far listeners have acknowledged.
        notifier: Wake-ups.
        returns_at_once: Whether its calls wait for nothing, so that a service may make them on its event loop.

    Attributes:
        acks: Gathers automatic acknowledgements.
        log_queues: Makes the connections of channels whose queues are views of the log.
    """

    def __init__(
        self,
        storage: BatchKvStorage,
        log: MessageLog,
        cursors: Cursors,
        notifier: Notifier,
        *,
        returns_at_once: bool = False,
    ) -> None:
        self.storage = storage
        self.log = log
        self.cursors = cursors
        self.notifier = notifier
        self.returns_at_once = returns_at_once
        self.acks = AckBuffer(cursors)
        self.log_queues = LogQueues(log, cursors, notifier, self.acks)
        _open_engines.add(self)

    @cached_property
    def channels(self) -> EngineChannelRepository:
        """The repository of durable channels on this engine."""
        return EngineChannelRepository(self.storage, self.log_queues)

    def close(self) -> None:
        """Move the cursors for the last time, and let go of the store. Idempotent.

        A subclass closes what it opened in a ``finally`` after calling this.

        Raises:
            RepositoryError: The cursors could not be moved; those listeners receive again what they had.
        """
        try:
            self.acks.close()
        finally:
            _open_engines.discard(self)

    def after_fork(self) -> None:
        """Called in a forked child while the engine is open: acknowledgements that the parent gathered are its own.

        A subclass lets go of what else belongs to the parent after calling this.
        """
        self.acks.abandon()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


_open_engines: WeakSet[Engine] = WeakSet()


def _after_fork() -> None:
    for engine in list(_open_engines):
        engine.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
