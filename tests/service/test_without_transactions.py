"""Engines without transactions: a process may have died, or be, between two writes of one use case."""

import asyncio

import pytest

from eric_sse.engine import Engine
from eric_sse.engines import open_engine
from eric_sse.exception import ChannelExists, ChannelNotFound, ListenerExists
from eric_sse.listener import MessageQueueListener
from eric_sse.log import Retention
from eric_sse.repository import BatchKvStorage
from eric_sse.service import Outgoing, channels
from support.watched_log import WatchedLog


class PlainStorage(BatchKvStorage):
    """Another storage, without its transactions."""

    def __init__(self, storage):
        self._storage = storage

    def fetch_by_prefix(self, prefix):
        return self._storage.fetch_by_prefix(prefix)

    def fetch_many(self, keys):
        return self._storage.fetch_many(keys)

    def upsert_many(self, items):
        self._storage.upsert_many(items)

    def delete_many(self, keys):
        self._storage.delete_many(keys)

    def fetch_page(self, prefix, after, limit):
        return self._storage.fetch_page(prefix, after, limit)


@pytest.fixture
def engine():
    """A memory engine that shows no transactions, and whose log is watched."""
    with open_engine("memory://") as inner:
        yield Engine(PlainStorage(inner.storage), WatchedLog(inner.log), inner.cursors, inner.notifier)


async def test_a_creation_under_way_wins(service, engine):
    """Who finds the log of a channel that is just being created waits for the rest of it, and is refused."""
    engine.log.create("d", Retention())
    creation = asyncio.create_task(service.create_channel("d"))
    await asyncio.to_thread(engine.channels.persist, engine.channels.create({"channel_id": "d"}))
    with pytest.raises(ChannelExists):
        await creation


async def test_a_creation_that_died_is_completed(service, engine, monkeypatch):
    """A log whose channel does not come is taken over."""
    monkeypatch.setattr(channels, "_CREATED_WITHIN_S", 0.01)
    engine.log.create("d", Retention(7, None))
    assert (await service.create_channel("d")).retention == Retention(7, None)
    assert (await service.show_channel("d")).listeners == 0


async def test_a_deletion_that_died_leaves_nothing(service, engine):
    """A channel without its log is none, and its listeners are not those of the one that is created anew."""
    engine.log.drop("c")
    with pytest.raises(ChannelNotFound):
        await service.publish("c", [Outgoing(1)])
    assert [info.id for info in await service.list_channels()] == []
    await service.create_channel("c")
    assert (await service.show_channel("c")).listeners == 0


async def test_a_deletion_spares_what_was_made_anew(service, engine, log, monkeypatch):
    """Whoever creates the channel again before its rows are deleted keeps its own."""
    monkeypatch.setattr(log, "drop", lambda _: None)  # dropped, and created anew at once
    await service.delete_channel("c")
    assert (await service.show_channel("c")).listeners == 1


async def test_an_addition_under_way_wins(service, engine):
    """Who finds the cursor of a listener that is just being added waits for the rest of it, and is refused."""
    engine.cursors.create("c", ["new"])
    addition = asyncio.create_task(service.add_listener("c", "new"))
    await asyncio.to_thread(_persist_listener, engine, "new")
    with pytest.raises(ListenerExists):
        await addition


async def test_an_addition_that_died_is_completed(service, engine, monkeypatch):
    """A cursor whose listener does not come is taken over."""
    monkeypatch.setattr(channels, "_CREATED_WITHIN_S", 0.01)
    engine.cursors.create("c", ["new"])
    assert (await service.add_listener("c", "new")).id == "new"
    assert [info.id for info in await service.list_listeners("c")] == ["l", "new"]


def _persist_listener(engine, listener_id):
    connection = engine.log_queues.for_channel("c").create(MessageQueueListener(listener_id))
    engine.channels.connections.persist("c", connection)
