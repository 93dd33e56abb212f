"""Storages and repositories: what users' own storages have to do, and what the repositories promise over them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eric_sse.connection import Connection, InMemoryConnectionsFactory
from eric_sse.engines import open_engine
from eric_sse.exception import (
    InvalidListenerException,
    InvalidMessageFormat,
    ItemNotFound,
    RepositoryError,
)
from eric_sse.listener import MessageQueueListener
from eric_sse.log import CursorKey
from eric_sse.message import Message, SignedMessage
from eric_sse.prefabs import SSEChannelRepository
from eric_sse.queues import InMemoryQueue, Queue
from eric_sse.repository import (
    ConnectionRepository,
    InMemoryStorage,
    ListenerRepository,
    QueueRepository,
    storage_key,
)
from eric_sse.testing.storage import undone
from support.storages import NASTY_IDS, ColonAppendingStorage, CountingBatchStorage, JsonOnlyStorage


def layer(channels, connections=None, listeners=None, queues=None):
    """A persistence layer over one storage, or over four."""
    return SSEChannelRepository(
        channels,
        ConnectionRepository(
            connections or channels,
            listeners_repository=ListenerRepository(listeners or channels),
            queues_repository=QueueRepository(queues or channels),
        ),
        InMemoryConnectionsFactory(),
    )


def rows(storages):
    """All values that the storages hold."""
    return [value for storage in storages for value in storage.fetch_all()]


STORAGES = {
    "one in memory": lambda: [InMemoryStorage()],
    "four in memory": lambda: [InMemoryStorage() for _ in range(4)],
    "one that takes JSON only": lambda: [JsonOnlyStorage()],
    "four that take JSON only": lambda: [JsonOnlyStorage() for _ in range(4)],
    "one that appends a colon": lambda: [ColonAppendingStorage()],
    "one that takes many keys": lambda: [CountingBatchStorage()],
}


@pytest.fixture(params=STORAGES)
def storages(request):
    """Storages as users write them."""
    return STORAGES[request.param]()


@pytest.fixture
def repository(storages):
    """The persistence layer over them."""
    return layer(*storages)


def channel_with(repository, channel_id, *listener_ids):
    """A channel with listeners, persisted."""
    channel = repository.create({"channel_id": channel_id})
    for listener_id in listener_ids:
        channel.register_listener(MessageQueueListener(listener_id))
    repository.persist(channel)
    return channel


def listener_ids(channel):
    """Sorted."""
    return sorted(connection.listener.id for connection in channel.get_connections())


# Keys


def test_keys_of_different_components_differ_and_none_is_a_prefix_of_another():
    """Not even where a storage appends a colon before it looks."""
    keys = {storage_key("kind", id_) for id_ in NASTY_IDS}
    assert len(keys) == len(NASTY_IDS) == len(set(NASTY_IDS))
    assert not [(a, b) for a in keys for b in keys if a != b and (b.startswith((a, f"{a}:")))]


@given(st.lists(st.text(), min_size=1, max_size=3), st.lists(st.text(), min_size=1, max_size=3))
def test_a_key_is_a_prefix_of_another_exactly_where_its_components_are(one, other):
    """For any components at all."""
    expected = other[: len(one)] == one
    assert storage_key(*other).startswith(storage_key(*one)) is expected
    assert f"{storage_key(*other)}:".startswith(f"{storage_key(*one)}:") is expected


def test_keys_hold_only_characters_that_mean_nothing_in_patterns():
    """A user's storage may be one that looks keys up by pattern."""
    assert not set("".join(storage_key(id_) for id_ in NASTY_IDS)) & set("*?[]\\{}'\" ")


# InMemoryStorage


def test_the_in_memory_storage_works_on_the_dictionary_it_is_given():
    """By reference, values and all."""
    items, value = {}, object()
    storage = InMemoryStorage(items)
    storage.upsert("a", value)
    assert items == {"a": value}
    assert storage.fetch_one("a") is value
    with pytest.raises(ItemNotFound, match="'b'"):
        storage.fetch_one("b")


def test_a_prefix_is_taken_to_the_letter():
    """Case counts, pattern characters mean nothing, and the empty prefix means all."""
    keys = ["a", "ab", "A", "a*", "a%", "a_", "é", "[a]", "b"]
    storage = InMemoryStorage({key: key for key in keys})
    assert sorted(storage.fetch_by_prefix("a")) == ["a", "a%", "a*", "a_", "ab"]
    assert list(storage.fetch_by_prefix("a*")) == ["a*"]
    assert sorted(storage.fetch_by_prefix("")) == sorted(storage.fetch_all()) == sorted(keys)


def test_deleting_while_iterating_is_safe():
    """Over all, and over a prefix; deleting again is fine."""
    for fetch in (lambda s: s.fetch_all(), lambda s: s.fetch_by_prefix("k")):
        storage = InMemoryStorage({f"k{number}": f"k{number}" for number in range(10)})
        for key in fetch(storage):
            storage.delete(key)
            storage.delete(key)
        assert storage.items == {}


# A whole persistence layer over five methods


def test_a_channel_is_loaded_as_it_was_persisted(repository):
    """Settings, listeners, and the messages that wait, in order and of their classes."""
    channel = repository.create({"channel_id": "c", "retry_timeout_milliseconds": 7, "stream_delay_seconds": 0.5})
    channel.register_listener(MessageQueueListener("l"))
    channel.broadcast(Message("a", {"b": [1]}))
    channel.dispatch("l", SignedMessage("s", "c"))
    repository.persist(channel)
    loaded = repository.load_one("c")
    assert (loaded.retry_timeout_milliseconds, loaded.stream_delay_seconds) == (7, 0.5)
    loaded.get_listener("l").start()
    messages = [loaded.deliver_next("l") for _ in range(2)]
    assert [(type(m), m.type, m.payload) for m in messages] == [(Message, "a", {"b": [1]}), (SignedMessage, "c", None)]


def test_ids_that_resemble_each_other_stay_apart(repository, storages):
    """Each channel has its own listeners and no other's; deleting one leaves the others."""
    for channel_id in NASTY_IDS:
        channel_with(repository, channel_id, channel_id, f"{channel_id[:200]}!")
    assert sorted(channel.id for channel in repository.load_all()) == sorted(NASTY_IDS)
    for number, channel_id in enumerate(NASTY_IDS):
        assert listener_ids(repository.load_one(channel_id)) == sorted({channel_id, f"{channel_id[:200]}!"})
        repository.delete(channel_id)
        assert len(list(repository.load_all())) == len(NASTY_IDS) - number - 1
    assert rows(storages) == []


def test_deleting_twice_is_fine_and_leaves_no_row_behind(repository, storages):
    """In any of the storages; also a channel that never was."""
    channel_with(repository, "c", "one", "two")
    assert rows(storages)
    for channel_id in ("c", "c", "never"):
        repository.delete(channel_id)
    assert rows(storages) == []
    with pytest.raises(ItemNotFound):
        repository.load_one("c")


def test_channels_may_be_deleted_while_they_are_loaded(repository, storages):
    """One after the other."""
    for number in range(5):
        channel_with(repository, f"c{number}", "l")
    for channel in repository.load_all():
        repository.delete(channel.id)
    assert rows(storages) == []


def test_connections_may_be_deleted_while_they_are_loaded(repository):
    """Through the repository of connections itself; again is fine."""
    channel_with(repository, "c", "one", "two", "three")
    connections = repository.connections_repository
    for connection in connections.load_all("c"):
        for _ in range(2):
            connections.delete("c", connection.id)
        with pytest.raises(ItemNotFound):
            connections.load_one("c", connection.id)
    assert listener_ids(repository.load_one("c")) == []


def test_a_connection_is_loaded_by_its_id(repository):
    """With its listener and queue; one of another channel is not found."""
    channel = channel_with(repository, "c", "l")
    channel_with(repository, "d", "l")
    (connection,) = channel.get_connections()
    loaded = repository.connections_repository.load_one("c", connection.id)
    assert (loaded.id, loaded.listener.id, type(loaded.queue)) == (connection.id, "l", InMemoryQueue)
    with pytest.raises(ItemNotFound):
        repository.connections_repository.load_one("d", connection.id)


def test_persisting_again_changes_what_is_stored(repository, storages):
    """Persisting twice is the same as once."""
    channel = channel_with(repository, "c", "l")
    before = len(rows(storages))
    channel.retry_timeout_milliseconds = 9
    repository.persist(channel)
    assert repository.load_one("c").retry_timeout_milliseconds == 9
    assert len(rows(storages)) == before


def test_persisting_deletes_what_was_held_and_removed_and_nothing_that_others_added(repository, storages):
    """Two processes, each with the channel as it was when it loaded it."""
    channel_with(repository, "c", "mine", "theirs")
    mine, theirs = layer(*storages), layer(*storages)
    my_channel, their_channel = mine.load_one("c"), theirs.load_one("c")
    their_channel.register_listener(MessageQueueListener("added"))
    theirs.persist(their_channel)
    my_channel.remove_listener("mine")
    mine.persist(my_channel)
    assert listener_ids(repository.load_one("c")) == ["added", "theirs"]
    assert len(rows(storages)) == 1 + 3 * 2


def test_a_listener_removed_right_after_it_was_persisted_is_deleted(repository, storages):
    """What this repository persisted counts as held, loaded or not."""
    channel = channel_with(repository, "c", "l")
    channel.remove_listener("l")
    repository.persist(channel)
    assert len(rows(storages)) == 1


def test_repositories_of_listeners_and_queues_work_alone(storages):
    """Both are interfaces' implementations over any storage: load, persist, delete."""
    listeners, queues = ListenerRepository(storages[0]), QueueRepository(storages[0])
    listeners.persist(connection_id="a", listener=MessageQueueListener("l"))
    queues.persist(connection_id="a", queue=InMemoryQueue([Message("m", 1)]))
    assert listeners.load(connection_id="a").id == "l"
    assert queues.load(connection_id="a").pop().payload == 1
    for repository in (listeners, queues):
        for _ in range(2):
            repository.delete(connection_id="a")
        with pytest.raises(ItemNotFound):
            repository.load("a")


# What cannot be stored, and what cannot be read


@pytest.mark.parametrize("payload", [float("nan"), object(), "\ud800"])
def test_a_waiting_message_that_json_cannot_hold_is_refused(payload):
    """When it is persisted; what was stored before is left whole."""
    with open_engine("memory://") as engine:
        repository = layer(engine.storage)
        channel = channel_with(repository, "c", "l")
        channel.register_listener(MessageQueueListener("new"))
        channel.dispatch("new", Message("m", payload))
        with pytest.raises(InvalidMessageFormat):
            repository.persist(channel)
        assert listener_ids(repository.load_one("c")) == ["l"]
        assert len(rows([engine.storage])) == 4


def test_an_unregistered_listener_or_a_users_queue_is_refused_when_it_is_persisted(repository):
    """Each error says what to do."""

    class OwnListener(MessageQueueListener):
        pass

    class OwnQueue(Queue):
        push = pop = None

    for connection, error in [
        (Connection(OwnListener(), InMemoryQueue()), InvalidListenerException),
        (Connection(MessageQueueListener(), OwnQueue()), RepositoryError),
    ]:
        channel = repository.create({"channel_id": "c"})
        channel.register_connection(connection)
        with pytest.raises(error, match=r"register_listener_type|queue repository"):
            repository.persist(channel)
        with pytest.raises(ItemNotFound):
            repository.load_one("c")


DAMAGES = {
    "channel": [None, [], {}, {"v": 1, "channel": []}, {"v": 1, "channel": None}],
    "connection": [None, [], {}, {"v": 1}],
    "listener": [None, {}, {"type": "nobody", "id": "l"}],
    "queue": [None, {}, {"kind": "never"}, {"kind": "memory"}, {"kind": "memory", "messages": [{"v": 9}]}],
}


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in DAMAGES.items() for value in values])
def test_a_damaged_row_is_a_repository_error_and_never_taken_for_a_missing_one(kind, value):
    """Of each kind."""
    storage = InMemoryStorage()
    repository = layer(storage)
    channel_with(repository, "c", "l")
    (key,) = [key for key in storage.items if key.startswith(f"{kind}/")]
    storage.items[key] = value
    with pytest.raises(RepositoryError):
        repository.load_one("c")


@pytest.mark.parametrize("kind", ["listener", "queue"])
def test_a_connection_whose_listener_or_queue_is_missing_is_a_repository_error(repository, storages, kind):
    """It is not left out silently; the channel can still be deleted."""
    channel = channel_with(repository, "c", "l")
    (connection,) = channel.get_connections()
    getattr(repository.connections_repository, f"{kind}s_repository").delete(connection.id)
    with pytest.raises(RepositoryError, match="no listener or queue"):
        repository.load_one("c")
    repository.delete("c")
    assert rows(storages) == []


def test_a_queue_of_a_log_cannot_be_stored_without_its_engine():
    """A plain storage has no log; the error names what to use."""
    with open_engine("memory://") as engine:
        channel = channel_with(engine.channels, "c", "l")
        with pytest.raises(RepositoryError, match="channels"):
            layer(InMemoryStorage()).persist(channel)


# Round trips


@pytest.mark.parametrize("step", ["persist", "load_one", "persist again", "delete"])
def test_the_number_of_calls_does_not_grow_with_the_connections(step):
    """With a storage that takes many keys at once."""
    counts = []
    for size in (3, 300):
        storage = CountingBatchStorage()
        repository = layer(storage)
        channel = repository.create({"channel_id": "c"})
        for _ in range(size):
            channel.add_listener()
        if step != "persist":
            repository.persist(channel)
        for connection in tuple(channel.get_connections())[1:] if step == "persist again" else ():
            channel.remove_listener(connection.listener.id)
        storage.calls = 0
        argument = channel if step.startswith("persist") else "c"
        getattr(repository, step.split()[0])(argument)
        counts.append(storage.calls)
    assert counts[0] == counts[1] <= 10


# The channels of an engine


@pytest.fixture(params=["memory://", "sqlite:///{folder}/store.db"])
def engine(request, tmp_path):
    """An engine with transactions."""
    with open_engine(request.param.format(folder=tmp_path)) as engine:
        yield engine


def test_what_was_rolled_back_can_be_persisted_again(engine):
    """The channel is not taken for one that somebody has deleted meanwhile."""
    channel = engine.channels.create({"channel_id": "c"})
    with undone(engine.storage):
        engine.channels.persist(channel)
    assert list(engine.channels.load_all()) == []
    engine.channels.persist(channel)
    channel.broadcast(Message("m"))
    assert engine.log.heads(["c"])["c"].last == 1


def test_a_removal_that_was_rolled_back_is_stored_the_next_time(engine):
    """What the store holds is not forgotten with the transaction."""
    channel = channel_with(engine.channels, "c", "l", "m")
    channel.remove_listener("m")
    with undone(engine.storage):
        engine.channels.persist(channel)
    assert listener_ids(engine.channels.load_one("c")) == ["l", "m"]
    engine.channels.persist(channel)
    assert listener_ids(engine.channels.load_one("c")) == ["l"]


def test_a_transaction_sees_its_own_persisting(engine):
    """A listener that was persisted and removed in it is gone after it."""
    with engine.storage.transaction():
        channel = channel_with(engine.channels, "c", "l", "m")
        channel.remove_listener("m")
        engine.channels.persist(channel)
    assert listener_ids(engine.channels.load_one("c")) == ["l"]


@pytest.mark.parametrize("again_inside", [True, False])
def test_persisted_and_deleted_in_one_transaction(engine, again_inside):
    """It may be persisted again, in it and after it."""
    channel = engine.channels.create({"channel_id": "c"})
    with engine.storage.transaction():
        engine.channels.persist(channel)
        engine.channels.delete("c")
        if again_inside:
            engine.channels.persist(channel)
    engine.channels.persist(channel)
    channel.broadcast(Message("m"))
    assert engine.log.heads(["c"])["c"].last == 1


def test_a_channel_that_is_half_deleted_hides_no_other(engine):
    """A crash may leave its row where there are no transactions: it is not there, and the others are."""
    for channel_id in ("a", "ab", "b"):
        channel_with(engine.channels, channel_id, "l")
    engine.log.drop("ab")
    assert sorted(channel.id for channel in engine.channels.load_all()) == ["a", "b"]
    with pytest.raises(ItemNotFound):
        engine.channels.load_one("ab")
    loading = engine.channels.load_all()
    engine.channels.delete({"a": "b", "b": "a"}[next(loading).id])
    assert list(loading) == []


def only_row(engine, kind):
    """The key and the value of the only row of a kind."""
    (row,) = engine.storage.fetch_page(f"{kind}/", "", 2)
    return row


@pytest.mark.parametrize("what", ["channel", "listener", "queue"])
def test_what_a_newer_version_has_stored_is_refused(engine, what):
    """It is not guessed at; and it can still be deleted, with its log and its cursors."""
    channel_with(engine.channels, "c", "l")
    key, value = only_row(engine, what)
    engine.storage.upsert(key, value | {"v": 99})
    with pytest.raises(RepositoryError, match=rf"stored {what} is of format 99, .* upgrade eric_sse"):
        engine.channels.load_one("c")
    engine.channels.delete("c")
    assert list(engine.storage.fetch_all()) == []
    assert engine.cursors.get([CursorKey("c", "l")]) == {}


@pytest.mark.parametrize("row", [{"v": 1, "kind": "new"}, {"v": 1, "kind": "log"}, {}, ["damaged"], "damaged", None, 7])
def test_a_channel_whose_queue_cannot_be_read_can_be_deleted(engine, row):
    """It is in nobody's way."""
    channel_with(engine.channels, "c", "l")
    key, _ = only_row(engine, "queue")
    engine.storage.upsert(key, row)
    engine.channels.delete("c")
    assert list(engine.storage.fetch_all()) == []
    assert engine.log.heads(["c"]) == {}


def test_a_listener_whose_queue_cannot_be_read_is_removed_with_its_cursor(engine):
    """Who is named as the log's reader is so, whatever else is missing."""
    channel = channel_with(engine.channels, "c", "l")
    key, value = only_row(engine, "queue")
    del value["ack"]
    engine.storage.upsert(key, value)
    channel.remove_listener("l")
    engine.channels.persist(channel)
    assert engine.cursors.get([CursorKey("c", "l")]) == {}
