"""The repository interfaces: a user may implement each from scratch, and the channel repository uses them."""

import pytest

from eric_sse import interfaces
from eric_sse.connection import Connection, InMemoryConnectionsFactory
from eric_sse.exception import ItemNotFound
from eric_sse.interfaces import ConnectionRepositoryInterface
from eric_sse.listener import MessageQueueListener
from eric_sse.prefabs import SSEChannelRepository
from eric_sse.queues import InMemoryQueue
from eric_sse.repository import InMemoryStorage


@pytest.mark.parametrize(
    "name",
    [
        "QueueRepositoryInterface",
        "ListenerRepositoryInterface",
        "ConnectionRepositoryInterface",
        "ChannelRepositoryInterface",
    ],
)
def test_an_interface_cannot_be_instantiated(name):
    """All its methods are for its implementations to write."""
    with pytest.raises(TypeError, match="abstract"):
        getattr(interfaces, name)()


class Connections(ConnectionRepositoryInterface):
    """A user's own way to keep connections: the objects themselves, in a dictionary."""

    queues_repository = listeners_repository = None

    def __init__(self):
        self.rows = {}

    def load_all(self, channel_id):
        """All of a channel."""
        return [connection for (channel, _), connection in self.rows.items() if channel == channel_id]

    def load_one(self, channel_id, connection_id):
        """One."""
        try:
            return self.rows[channel_id, connection_id]
        except KeyError:
            raise ItemNotFound(connection_id) from None

    def persist(self, channel_id, connection):
        """Keep one."""
        self.rows[channel_id, connection.id] = connection

    def delete(self, channel_id, connection_id):
        """Forget one."""
        self.rows.pop((channel_id, connection_id), None)


def test_a_channel_repository_works_over_a_connection_repository_of_a_users_own():
    """It needs the interface's methods and no more: persist, load, remove, delete."""
    storage, connections = InMemoryStorage(), Connections()
    repository = SSEChannelRepository(storage, connections, InMemoryConnectionsFactory())
    channel = repository.create({"channel_id": "c"})
    for listener_id in ("one", "two"):
        channel.register_connection(Connection(MessageQueueListener(listener_id), InMemoryQueue(), listener_id))
    repository.persist(channel)
    loaded = repository.load_one("c")
    loaded.remove_listener("one")
    repository.persist(loaded)
    assert list(connections.rows) == [("c", "two")]
    for _ in range(2):
        repository.delete("c")
    assert (storage.items, connections.rows) == ({}, {})
