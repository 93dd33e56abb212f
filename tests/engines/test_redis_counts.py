"""What operations cost on Redis: entries, commands, round trips; and the memory that comes back."""

from collections.abc import Callable, Iterator

import pytest

from eric_sse.engines.redis import RedisEngine, open_redis, scripts
from eric_sse.engines.redis.exchange import Exchange
from eric_sse.listener import MessageQueueListener
from eric_sse.log import Append, CursorKey, NewEntry, Retention, View
from eric_sse.message import Message
from support.redis_server import RedisServer, started_redis


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A server of our own."""
    with started_redis() as server:
        yield server


@pytest.fixture
def engine(server: RedisServer) -> Iterator[RedisEngine]:
    """An engine on an empty server, with a channel ``c`` that keeps everything."""
    server.command("FLUSHALL")
    for script in vars(scripts).values():
        if isinstance(script, scripts.Script):
            server.command("SCRIPT LOAD", script.source)
    with open_redis(server.url()) as engine:
        engine.log.create("c", Retention(None, None))
        yield engine


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[Exchange]:
    """The round trips that were made."""
    made: list[Exchange] = []
    send = Exchange.send

    def counted(exchange: Exchange) -> None:
        made.append(exchange)
        send(exchange)

    monkeypatch.setattr(Exchange, "send", counted)
    return made


def calls(server: RedisServer, work: Callable[[], object]) -> dict[str, int]:
    """How often the server ran each command, those of scripts among them."""
    server.command("CONFIG RESETSTAT")
    work()
    with server.connect() as client:
        stats = client.info("commandstats")
    found = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}
    return {name: count for name, count in found.items() if name not in {"config|resetstat", "info", "select"}}


def persisted(engine: RedisEngine, listeners: int):
    """A channel ``c`` with so many listeners."""
    channel = engine.channels.create({"channel_id": "c"})
    for number in range(listeners):
        channel.register_listener(MessageQueueListener(str(number)))
    engine.channels.persist(channel)
    return channel


@pytest.mark.parametrize("listeners", [0, 10, 10_000])
def test_broadcast_is_one_entry(server: RedisServer, engine: RedisEngine, trips: list, listeners: int):
    """However many listeners a channel has, a broadcast is one entry, one script, one round trip."""
    channel = persisted(engine, listeners)
    channel.broadcast(Message("news", 1))
    trips.clear()
    made = calls(server, lambda: channel.broadcast(Message("news", 1)))
    assert (made["xadd"], made["evalsha"], made["publish"], len(trips)) == (1, 1, 1, 1)
    assert sum(made.values()) < 15
    assert engine.log.count("c", 0, View.EVERYTHING, 10) == 2


def test_group_is_one_script_a_channel(server: RedisServer, engine: RedisEngine, trips: list):
    """Appends of many callers are one script for each of their channels, all in one round trip."""
    engine.log.create("d", Retention(None, None))
    trips.clear()
    group = [Append("cd"[n % 2], [NewEntry(b"x", None, f"key {n}")]) for n in range(500)]
    assert calls(server, lambda: engine.log.append_group(group))["evalsha"] == 2
    assert len(trips) == 1


@pytest.mark.parametrize("listeners", [1, 1000])
def test_live_tail_is_one_command(server: RedisServer, engine: RedisEngine, trips: list, listeners: int):
    """Everything new is read with one command, however many listeners have dispatches."""
    engine.log.append("c", [NewEntry(b"x", f"l{n % listeners}") for n in range(2000)])
    last = engine.log.append("c", [NewEntry(b"x", f"l{n % listeners}") for n in range(100)]).offsets[0]
    trips.clear()
    made = calls(server, lambda: engine.log.read("c", last - 1, View.EVERYTHING))
    assert (made["evalsha_ro"], len(trips)) == (1, 1)
    assert made["xrange"] < 10


@pytest.mark.parametrize("view", ["me", View.BROADCASTS])
def test_dispatches_of_others_cost_nothing(server: RedisServer, engine: RedisEngine, view: View | str):
    """Reading and counting take as many commands, however many messages there are for others."""

    def look() -> None:
        engine.log.read("c", 0, view)
        engine.log.count("c", 0, view, 1000)

    engine.log.append("c", [NewEntry(b"x"), NewEntry(b"x", "me")] * 20)
    alone = calls(server, look)
    engine.log.append("c", [NewEntry(b"x", f"listener {n % 100}") for n in range(20_000)])
    assert calls(server, look) == alone


def test_round_trips_are_constant(engine: RedisEngine, trips: list):
    """Persisting, loading, deleting a channel takes as many round trips, however many listeners it has."""

    def work(listeners: int) -> list[int]:
        counts = []
        for step in (lambda: persisted(engine, listeners), lambda: engine.channels.load_one("c")):
            trips.clear()
            step()
            counts.append(len(trips))
        trips.clear()
        engine.channels.delete("c")
        return [*counts, len(trips)]

    engine.log.drop("c")
    few = work(10)
    assert few == work(5000)
    assert sum(few) < 30


@pytest.mark.parametrize("channels", [1, 1000])
def test_heads_and_cursors_are_one_round_trip(engine: RedisEngine, trips: list, channels: int):
    """Where many logs stand, and the cursors of many listeners, are asked in one round trip."""
    ids = [f"channel {n}" for n in range(channels)]
    for id_ in ids:
        engine.log.create(id_, Retention())
        engine.cursors.create(id_, ["l"])
    trips.clear()
    assert len(engine.log.heads(ids)) == channels
    positions = engine.cursors.get([CursorKey(id_, "l") for id_ in ids])
    engine.cursors.advance(positions)
    assert (len(positions), len(trips)) == (channels, 3)


def test_nothing_scans(server: RedisServer, engine: RedisEngine):
    """No operation walks the key space."""

    def everything() -> None:
        channel = persisted(engine, 10)
        channel.broadcast(Message("m", 1))
        engine.log.read("c", 0, "1")
        engine.log.trim()
        list(engine.channels.load_all())
        engine.channels.page("", 10)
        engine.channels.delete("c")

    made = set(calls(server, everything))
    assert not made & {"scan", "keys", "hscan", "zscan", "sscan", "hgetall", "flushdb", "flushall"}


def test_large_page_reads_what_it_takes(server: RedisServer, engine: RedisEngine):
    """A page bounded by bytes does not load the data of hundreds that it leaves out."""
    engine.log.append("c", [NewEntry(b"x" * 1_000_000)] * 30)
    made = calls(server, lambda: engine.log.read("c", 0, View.EVERYTHING, max_bytes=1_500_000))
    assert made["xrange"] == 2, "one chunk of each stream"
    page = engine.log.read("c", 0, View.EVERYTHING, max_bytes=1_500_000)
    assert [len(entry.data) for entry in page.entries] == [1_000_000] * 2


def test_memory_comes_back(server: RedisServer, engine: RedisEngine):
    """What is trimmed is gone from every key, and a channel cannot grow far where nobody trims."""
    engine.log.create("short", Retention(100, None))
    for _ in range(40):
        engine.log.append("short", [NewEntry(b"x" * 100), NewEntry(b"x" * 100, "l")] * 100)
    assert engine.log.count("short", 0, View.EVERYTHING, 10_000) <= 1100 + 200
    while engine.log.trim():
        continue
    keys = engine.log._keys.log("short")
    with server.connect() as client:
        streams = client.xlen(keys.broadcasts) + client.xlen(keys.dispatches)
        assert (streams, client.zcard(keys.by_receiver)) == (100, 50)


def test_expired_keys_go(server: RedisServer, engine: RedisEngine):
    """A key out of its window is removed, and may be used again; and none is left where nobody appends."""
    keys = engine.log._keys.log("c")
    old = engine.log.append("c", [NewEntry(b"1", None, "old"), NewEntry(b"2", None, "older")]).offsets[0]
    with server.connect() as client:
        for name in (b"\0=old", b"\0=older"):
            client.zadd(keys.keys, {name: old - 421_000_000})
        assert engine.log.append("c", [NewEntry(b"3", None, "old")]).offsets[0] > old
        assert client.zrange(keys.keys, 0, -1) == ["\0=old"]
        assert 300_000 < client.pttl(keys.keys) <= 420_000
        assert 0 < client.pttl(keys.calls) <= 120_000


def test_deleted_channel_leaves_no_key(server: RedisServer, engine: RedisEngine):
    """Deleting a channel, twice, leaves nothing of it."""
    channel = persisted(engine, 3)
    engine.log.append("c", [NewEntry(b"1", None, "key"), NewEntry(b"2", "1")])
    for _ in range(2):
        engine.channels.delete(channel.id)
    with server.connect() as client:
        assert client.keys() == ["{eric_sse}:version"]


def test_one_due_entry_a_channel(server: RedisServer, engine: RedisEngine):
    """Channels that age are kept track of in one place, until they are dropped; a stale entry goes by itself."""
    engine.log.create("aging", Retention(None, 3600))
    with server.connect() as client:
        assert client.zrange("{eric_sse}:due", 0, -1) == ["aging"]
        client.zadd("{eric_sse}:due", {"gone": 1, "aging": 2})
        assert engine.log.trim() == 0
        assert client.zrange("{eric_sse}:due", 0, -1) == ["aging"]
        assert client.zscore("{eric_sse}:due", "aging") > 3600e6
        engine.log.drop("aging")
        assert client.exists("{eric_sse}:due") == 0


def test_offsets_are_times(engine: RedisEngine, server: RedisServer):
    """An offset is the time in microseconds, or one more than the last; also where the clock ran back."""
    first = engine.log.append("c", [NewEntry(b"1"), NewEntry(b"2")]).offsets
    with server.connect() as client:
        seconds, microseconds = client.time()
        now = seconds * 1_000_000 + microseconds
        assert now - 5_000_000 < first[0] < first[1] == first[0] + 1 <= now + 1
        client.hset(engine.log._keys.log("c").meta, "last", now + 3_600_000_000)
    assert engine.log.append("c", [NewEntry(b"3")]).offsets == [now + 3_600_000_001]
