"""Named listeners as the use cases see them. Blocking: the service runs these in threads."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from eric_sse.engine import Engine
from eric_sse.exception import InvalidPosition, ItemNotFound, ListenerExists, ListenerNotFound
from eric_sse.listener import MessageQueueListener
from eric_sse.log import ACK_AUTO, CursorKey, LogQueue, connection_id
from eric_sse.message import Position
from eric_sse.repository import transaction
from eric_sse.service.channels import comes_to_be, require_head

LAG_CAP = 1_000
"""How far lag is counted."""


class ListenerInfo(NamedTuple):
    """A named listener as it stands.

    Attributes:
        id: Its id.
        ack: ``auto`` or ``explicit``.
        cursor: The id through which it has acknowledged.
        lag: How many messages wait for it, counted up to `LAG_CAP`.
    """

    id: str
    ack: str
    cursor: str
    lag: int


class Listeners:
    """The named listeners of an engine's channels.

    Args:
        engine: Where they are kept.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, channel_id: str, listener: MessageQueueListener, ack: str) -> ListenerInfo:
        """Subscribe a listener, from now on.

        Raises:
            ChannelNotFound: There is no such channel.
            ListenerExists: It is there already.
        """
        engine = self._engine
        connection = engine.log_queues.for_channel(channel_id).create(listener, ack)
        key = CursorKey(channel_id, listener.id)
        with transaction(engine.storage):
            created = engine.cursors.create(channel_id, [listener.id])
            if not created and comes_to_be(
                engine, lambda: engine.channels.connections.contains(channel_id, connection.id)
            ):
                raise ListenerExists(*key)
            engine.channels.connections.persist(channel_id, connection)
        return self._info(key, ack, self.require_cursors(channel_id, [listener.id])[key])

    def page(self, channel_id: str, after: str, limit: int) -> Sequence[ListenerInfo]:
        """The first ``limit`` listeners whose ids come after ``after``; fewer only where there are no more.

        Raises:
            ChannelNotFound: There is no such channel.
        """
        require_head(self._engine.log, channel_id)
        modes = self._modes(channel_id)
        keys = [CursorKey(channel_id, id_) for id_ in sorted(modes) if id_ > after]
        found: list[ListenerInfo] = []
        while keys and (missing := limit - len(found)):
            page, keys = keys[:missing], keys[missing:]
            # A listener without a cursor is being removed just now.
            cursors = self._engine.cursors.get(page)
            found += [self._info(key, modes[key.listener_id], cursors[key]) for key in page if key in cursors]
        return found

    def remove(self, channel_id: str, listener_id: str) -> None:
        """Remove a listener. Nothing happens where there is none."""
        self._engine.channels.connections.delete(channel_id, connection_id(channel_id, listener_id))
        self._engine.notifier.wake([channel_id])

    def acknowledge(self, key: CursorKey, last_id: str) -> None:
        """Move a listener's cursor to ``last_id``; never back.

        Raises:
            ChannelNotFound: There is no such channel.
            ListenerNotFound: The channel has no such listener.
            InvalidPosition: The id was never given by this channel's log.
        """
        self.require_cursors(key.channel_id, [key.listener_id])
        head = require_head(self._engine.log, key.channel_id)
        position = Position.parse(last_id)
        if position is None or position.epoch != head.epoch or position.offset > head.last:
            raise InvalidPosition(key.channel_id, last_id)
        self._engine.cursors.advance({key: position})

    def require_cursors(self, channel_id: str, listener_ids: Collection[str]) -> Mapping[CursorKey, Position]:
        """The cursors of a channel's listeners.

        Raises:
            ChannelNotFound: There is no such channel.
            ListenerNotFound: The channel does not have one of them.
        """
        keys = [CursorKey(channel_id, listener_id) for listener_id in listener_ids]
        found = self._engine.cursors.get(keys)
        for key in keys:
            if key not in found:
                require_head(self._engine.log, channel_id)
                raise ListenerNotFound(*key)
        return found

    def ack_mode(self, channel_id: str, listener_id: str) -> str:
        """What moves a listener's cursor: ``auto`` or ``explicit``.

        Raises:
            ListenerNotFound: The channel has no such listener.
        """
        queues = self._engine.channels.connections.queues_repository
        try:
            queue = queues.load(connection_id(channel_id, listener_id))
        except ItemNotFound:
            raise ListenerNotFound(channel_id, listener_id) from None
        return queue.acks_by if isinstance(queue, LogQueue) else ACK_AUTO

    def _modes(self, channel_id: str) -> dict[str, str]:
        connections = self._engine.channels.connections.load_all(channel_id)
        return {c.listener.id: c.queue.acks_by for c in connections if isinstance(c.queue, LogQueue)}

    def _info(self, key: CursorKey, ack: str, cursor: Position) -> ListenerInfo:
        lag = self._engine.log.count(key.channel_id, cursor.offset, key.listener_id, LAG_CAP)
        return ListenerInfo(key.listener_id, ack, str(cursor), lag)
