"""Connections: a listener, its queue, an id; and the factory of those in memory."""

from eric_sse.connection import Connection, ConnectionsFactory, InMemoryConnectionsFactory
from eric_sse.listener import MessageQueueListener
from eric_sse.queues import InMemoryQueue


def test_a_connection_holds_a_listener_and_its_queue():
    """It has an id of its own unless one is given."""
    listener, queue = MessageQueueListener(), InMemoryQueue()
    connection = Connection(listener=listener, queue=queue, connection_id="c")
    assert (connection.listener, connection.queue, connection.id) == (listener, queue, "c")
    assert Connection(listener, queue).id != Connection(listener, queue).id


def test_the_factory_makes_a_queue_for_the_given_listener_or_for_a_new_one():
    """Each connection has a queue of its own."""
    factory, listener = InMemoryConnectionsFactory(), MessageQueueListener()
    first, second = factory.create(listener=listener), factory.create()
    assert first.listener is listener
    assert type(second.listener) is MessageQueueListener
    assert first.queue is not second.queue


def test_a_factory_of_a_users_own_needs_create_alone_and_serves_any_channel():
    """Being bound to a channel is for those who need to know it."""

    class Factory(ConnectionsFactory):
        def create(self, listener=None):
            return Connection(listener or MessageQueueListener(), InMemoryQueue())

    factory = Factory()
    assert factory.for_channel("c") is factory
