"""The seed's contract: every class and method of its persistence page, by signature; and the whole layer at work.

The table below is that page: classes with their bases, methods with their parameters (a default after ``=``). What each
method does is asserted here over every kind of storage, and in the test of its module.
"""

import importlib
import inspect
import re
from abc import ABC
from typing import NamedTuple

import pytest

from eric_sse.connection import InMemoryConnectionsFactory
from eric_sse.engines import open_engine
from eric_sse.exception import ItemNotFound, NoMessagesException
from eric_sse.listener import MessageQueueListener
from eric_sse.message import Message
from eric_sse.prefabs import SSEChannelRepository
from eric_sse.repository import ConnectionRepository, InMemoryStorage, ListenerRepository, QueueRepository
from support.storages import NASTY_IDS, ColonAppendingStorage, CountingBatchStorage, JsonOnlyStorage

SEED = """
repository.KvStorage(ABC)
    abstract fetch_by_prefix(prefix)
    abstract fetch_all()
    abstract upsert(key, value)
    abstract fetch_one(key)
    abstract delete(key)

repository.InMemoryStorage(KvStorage)
    __init__(items=None)
    fetch_by_prefix(prefix)
    fetch_all()
    upsert(key, value)
    fetch_one(key)
    delete(key)

repository.AbstractChannelRepository(ChannelRepositoryInterface, ABC)
    __init__(storage, connections_repository, connections_factory)
    property connections_factory
    property connections_repository
    abstract static _channel_to_dict(channel)
    load_all()
    load_one(channel_id)
    persist(channel)
    delete(channel_id)

repository.ConnectionRepository(ConnectionRepositoryInterface)
    __init__(storage, listeners_repository, queues_repository)
    load_all(channel_id)
    load_one(channel_id, connection_id)
    persist(channel_id, connection)
    delete(channel_id, connection_id)

interfaces.QueueRepositoryInterface(ABC)
    abstract load(connection_id)
    abstract persist(connection_id, queue)
    abstract delete(connection_id)

interfaces.ListenerRepositoryInterface(ABC)
    abstract load(connection_id)
    abstract persist(connection_id, listener)
    abstract delete(connection_id)

interfaces.ConnectionRepositoryInterface(ABC)
    abstract property queues_repository
    abstract property listeners_repository
    abstract load_all(channel_id)
    abstract load_one(channel_id, connection_id)
    abstract persist(channel_id, connection)
    abstract delete(channel_id, connection_id)

interfaces.ChannelRepositoryInterface(ABC)
    abstract property connections_factory
    abstract property connections_repository
    abstract load_all()
    abstract load_one(channel_id)
    abstract persist(channel)
    abstract delete(channel_id)
    abstract create(channel_data)
"""

# What the rest of the package promises besides, under the same names as ever.
PACKAGE = """
message.Message(MessageContract)
    __init__(msg_type, msg_payload=None)

message.UniqueMessage(MessageContract)
    __init__(message, sender_id=None, message_id=None)
    property id
    property sender_id

message.SignedMessage(Message)
    __init__(sender_id, msg_type, msg_payload=None)
    property sender_id

message.MessageContract(ABC)
    abstract property type
    abstract property payload

listener.MessageQueueListener(object)
    __init__(listener_id=None)
    on_message(msg)
    start()
    stop()
    is_running()

queues.Queue(ABC)
    abstract pop()
    abstract push(message)

queues.InMemoryQueue(SignallingQueue)
    pop()
    push(message)

connection.Connection(object)
    __init__(listener, queue, connection_id=None)
    property listener
    property queue
    property id

connection.ConnectionsFactory(ABC)
    abstract create(listener=None)

connection.InMemoryConnectionsFactory(ConnectionsFactory)
    create(listener=None)

entities.AbstractChannel(ABC)
    __init__(stream_delay_seconds=0, channel_id=None, connections_factory=None)
    property id
    abstract adapt(msg)
    message_stream(listener)
    add_listener()
    register_listener(listener)
    register_connection(connection)
    remove_listener(listener_id)
    deliver_next(listener_id)
    dispatch(listener_id, msg)
    broadcast(msg)
    get_listener(listener_id)
    get_connections()
    watch()

prefabs.SSEChannel(AbstractChannel)
    __init__(stream_delay_seconds=0, retry_timeout_milliseconds=3000, channel_id=None, connections_factory=None)
    adapt(msg)

prefabs.DataProcessingChannel(AbstractChannel)
    process_queue(listener)
    adapt(msg)

prefabs.SimpleDistributedApplicationListener(MessageQueueListener)
    __init__(listener_id=None)
    set_channel(channel)
    set_action(name, action)
    dispatch_to(receiver, msg)
    on_message(msg)

prefabs.SimpleDistributedApplicationChannel(SSEChannel)
    register_listener(listener)

prefabs.SSEChannelRepository(AbstractChannelRepository)
    create(channel_data)
    static _channel_to_dict(channel)

servers.ChannelContainer(object)
    register(channel)
    register_iterable(channels)
    get(channel_id)
    rm(channel_id)
    get_all_ids()

servers.SocketServer(object)
    main()
    shutdown()
    start(file_descriptor_path)

clients.SocketClient(object)
    __init__(file_descriptor_path)
    send_payload(payload)
    create_channel()
    register(channel_id)
    stream(channel_id, listener_id)
    broadcast_message(channel_id, message_type, payload)
    dispatch(channel_id, receiver_id, message_type, payload)
    remove_listener(channel_id, listener_id)
    remove_channel(channel_id)
"""


class Member(NamedTuple):
    """One line of the table."""

    cls: str
    bases: str
    kind: str
    name: str
    parameters: str


def parsed(table):
    """The table's lines, each with its class."""
    members, cls, bases = [], "", ""
    for line in filter(None, table.splitlines()):
        if header := re.fullmatch(r"([\w.]+)\((.*)\)", line):
            cls, bases = header.groups()
        else:
            kind, name, parameters = re.fullmatch(
                r"    ((?:abstract |static |property )*)(\w+)(?:\((.*)\))?", line
            ).groups()
            members.append(Member(cls, bases, kind, name, parameters))
    return members


MEMBERS = parsed(SEED) + parsed(PACKAGE)


def find(path):
    """The class that ``module.Class`` names."""
    module, name = path.split(".")
    return getattr(importlib.import_module(f"eric_sse.{module}"), name)


def test_the_table_holds_the_whole_page():
    """Eight classes, forty-three methods and properties."""
    assert len({member.cls for member in parsed(SEED)}) == 8
    assert len(parsed(SEED)) == 43


@pytest.mark.parametrize("member", MEMBERS, ids=lambda m: f"{m.cls}.{m.name}")
def test_a_member_has_the_seeds_signature(member):
    """Names and defaults of parameters, and whether it is abstract, static, a property; documented where it is."""
    cls = find(member.cls)
    attribute = inspect.getattr_static(cls, member.name)
    assert (member.name in getattr(cls, "__abstractmethods__", ())) is ("abstract" in member.kind)
    assert isinstance(attribute, property) is ("property" in member.kind)
    assert not (("static" in member.kind) and not isinstance(attribute, staticmethod))
    assert inspect.getdoc(getattr(cls, member.name)) if member.name != "__init__" else cls.__doc__
    if "property" not in member.kind:
        assert parameters_of(getattr(cls, member.name)) == member.parameters


def parameters_of(function):
    """As the table writes them; all may be given by position and by name."""
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)
    return ", ".join(p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters)


@pytest.mark.parametrize("path", sorted({(member.cls, member.bases) for member in MEMBERS}))
def test_a_class_has_the_seeds_bases_and_is_defined_where_it_is_imported_from(path):
    """In the module of that name, or within the package of that name."""
    cls = find(path[0])
    assert ", ".join(base.__name__ for base in cls.__bases__ if base.__name__ != "Generic") == path[1]
    assert cls.__module__.startswith(f"eric_sse.{path[0].split('.')[0]}")


@pytest.mark.parametrize("path", sorted({member.cls for member in MEMBERS}))
def test_a_class_can_be_instantiated_exactly_where_nothing_in_it_is_abstract(path):
    """The table says which methods a user has to write."""
    abstract = {member.name for member in MEMBERS if member.cls == path and "abstract" in member.kind}
    missing = getattr(find(path), "__abstractmethods__", frozenset())
    inherited = {"create"} if path == "repository.AbstractChannelRepository" else set()
    assert missing == abstract | inherited
    assert not abstract or issubclass(find(path), ABC)


# The whole layer at work


def over(*storages):
    """A persistence layer over one storage, or over four: channels, connections, listeners, queues."""
    channels, connections, listeners, queues = storages * (4 // len(storages))
    return SSEChannelRepository(
        storage=channels,
        connections_repository=ConnectionRepository(
            storage=connections,
            listeners_repository=ListenerRepository(listeners),
            queues_repository=QueueRepository(queues),
        ),
        connections_factory=InMemoryConnectionsFactory(),
    )


@pytest.fixture(
    params=[
        *((cls, count) for cls in (InMemoryStorage, JsonOnlyStorage, ColonAppendingStorage) for count in (1, 4)),
        (CountingBatchStorage, 1),
        ("memory://", 1),
    ],
    ids=lambda param: f"{param[1]} {getattr(param[0], '__name__', param[0])}",
)
def repository(request):
    """Layers over storages of users, one for all or one each; and an engine's own. Nothing is left at the end."""
    kind, count = request.param
    if kind == "memory://":
        with open_engine(kind) as engine:
            yield engine.channels
            assert list(engine.storage.fetch_all()) == []
        return
    storages = [kind() for _ in range(count)]
    yield over(*storages)
    assert [list(storage.fetch_all()) for storage in storages] == [[]] * count


def test_channels_whose_ids_resemble_each_other_live_apart(repository):
    """Persisted, loaded in one go and one by one, sent to, changed and deleted, none touches another."""
    for channel_id in NASTY_IDS:
        channel = repository.create({"channel_id": channel_id})
        channel.register_listener(MessageQueueListener(channel_id))
        repository.persist(channel)
        channel.broadcast(Message("m", channel_id))
        repository.persist(channel)
    loaded = {channel.id: channel for channel in repository.load_all()}
    assert sorted(loaded) == sorted(NASTY_IDS)
    for channel_id, channel in loaded.items():
        (connection,) = channel.get_connections()
        assert (connection.listener.id, connection.queue.pop().payload) == (channel_id, channel_id)
        with pytest.raises(NoMessagesException):
            connection.queue.pop()
        repository.delete(channel_id)
        repository.delete(channel_id)


def test_connections_are_loaded_persisted_and_deleted_one_by_one(repository):
    """Through the repository of connections, whose own repositories are at hand."""
    channel = repository.create({"channel_id": "c"})
    repository.persist(channel)
    connections = repository.connections_repository
    channel.register_listener(MessageQueueListener("l"))
    (connection,) = channel.get_connections()
    connections.persist("c", connection)
    assert connections.load_one("c", connection.id).listener.id == "l"
    assert connections.listeners_repository.load(connection.id).id == "l"
    assert connections.queues_repository.load(connection.id)
    assert [c.id for c in connections.load_all("c")] == [connection.id]
    for _ in range(2):
        connections.delete("c", connection.id)
    assert list(connections.load_all("c")) == []
    for load in (connections.listeners_repository.load, connections.queues_repository.load):
        with pytest.raises(ItemNotFound):
            load(connection.id)
    repository.delete("c")


def test_channels_are_deleted_while_they_are_loaded(repository):
    """And their connections while those are."""
    for number in range(5):
        channel = repository.create({"channel_id": f"c{number}"})
        for _ in range(3):
            channel.add_listener()
        repository.persist(channel)
    for channel in repository.load_all():
        for connection in repository.connections_repository.load_all(channel.id):
            repository.connections_repository.delete(channel.id, connection.id)
        repository.delete(channel.id)
    assert list(repository.load_all()) == []


def test_a_users_own_channel_repository_needs_two_methods():
    """As the seed's suggestions have it: how a channel is made, and of what."""

    class Repository(SSEChannelRepository.__base__):
        def create(self, channel_data):
            return SSEChannelRepository.create(self, channel_data)

        channel_class = SSEChannelRepository.channel_class

        @staticmethod
        def _channel_to_dict(channel):
            return {"channel_id": channel.id}

    storage = InMemoryStorage()
    repository = Repository(storage, over(storage).connections_repository, InMemoryConnectionsFactory())
    repository.persist(repository.create({"channel_id": "c"}))
    assert repository.load_one("c").id == "c"
    assert isinstance(repository.connections_factory, InMemoryConnectionsFactory)
