"""What the Redis engine does while connections, servers, masters and slots come and go."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count, pairwise
from pathlib import Path
from typing import Self

import pytest

from eric_sse.engines.redis import RedisEngine, notifier, open_redis
from eric_sse.engines.redis.exchange import Exchange
from eric_sse.engines.redis.requests import call
from eric_sse.engines.redis.scripts import DROP
from eric_sse.exception import EricError, OutcomeUnknown, RepositoryError, StoreUnavailable
from eric_sse.log import Append, Appended, CursorKey, NewEntry, Retention, View
from support.redis_server import RedisClusterServers, RedisServer, started_cluster, started_redis

PATIENCE_S = 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server of our own that writes everything to its disk before it replies."""
    folder: Path = tmp_path_factory.mktemp("redis")
    with started_redis(folder, appendonly="yes", appendfsync="always") as server:
        yield server


@pytest.fixture
def engine(server: RedisServer) -> Iterator[RedisEngine]:
    """An engine with a channel ``c``."""
    with open_redis(server.fresh_url()) as engine:
        engine.log.create("c", Retention(None, None))
        yield engine


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisClusterServers]:
    """A cluster of our own."""
    with started_cluster() as cluster:
        yield cluster


@pytest.fixture
def lost_reply(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """When called, it has the server execute the next request, and its reply be lost."""
    receive = Exchange.receive

    def lose() -> None:
        def receive_nothing(exchange: Exchange) -> None:
            monkeypatch.setattr(Exchange, "receive", receive)
            exchange._connection.can_read(PATIENCE_S)
            exchange._connection.disconnect()
            receive(exchange)

        monkeypatch.setattr(Exchange, "receive", receive_nothing)

    return lose


class Publisher(threading.Thread):
    """Appends, one message after the other, until it is stopped; in two channels at once."""

    def __init__(self, engine: RedisEngine, *channels: str) -> None:
        super().__init__()
        self.acknowledged: dict[str, list[tuple[int, bytes]]] = {channel: [] for channel in channels}
        self.errors: list[EricError] = []
        self._engine = engine
        self._stopped = threading.Event()

    def run(self) -> None:
        for number in count():
            if self._stopped.is_set():
                return
            data = b"%d" % number
            appends = [Append(channel, [NewEntry(data)]) for channel in self.acknowledged]
            for append, outcome in zip(appends, self._engine.log.append_group(appends), strict=True):
                if isinstance(outcome, Appended):
                    self.acknowledged[append.channel_id].append((outcome.offsets[0], data))
                else:
                    self.errors.append(outcome)

    def wait_for(self, more: int) -> None:
        """Wait until each channel has so many more."""
        targets = {channel: len(done) + more for channel, done in self.acknowledged.items()}
        deadline = time.monotonic() + PATIENCE_S
        while any(len(self.acknowledged[channel]) < target for channel, target in targets.items()):
            assert time.monotonic() < deadline, self.errors[-1:]
            time.sleep(0.005)

    def __enter__(self) -> Self:
        self.start()
        self.wait_for(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self.join()

    def check(self) -> None:
        """All that was acknowledged is there, once, in its order; and nothing twice."""
        for channel, acknowledged in self.acknowledged.items():
            entries = self._engine.log.read(channel, 0, View.EVERYTHING, 1_000_000, None).entries
            stored = {entry.offset: entry.data for entry in entries}
            assert [offset for offset, data in acknowledged if stored.get(offset) != data] == []
            assert len({entry.data for entry in entries}) == len(entries)
            assert all(a < b for a, b in pairwise(offset for offset, _ in acknowledged))


def test_append_whose_reply_is_lost(engine: RedisEngine, lost_reply: Callable[[], None]):
    """It is made again, stores nothing twice, and answers the offsets of the first time."""
    new = [NewEntry(b"1"), NewEntry(b"2", "l", "key"), NewEntry(b"3"), NewEntry(b"2", "l", "key"), NewEntry(b"4")]
    before = engine.log.append("c", [NewEntry(b"0", None, "known")]).offsets[0]
    lost_reply()
    _, offsets, previous = engine.log.append("c", [NewEntry(b"0", None, "known"), *new])
    entries = engine.log.read("c", 0, View.EVERYTHING).entries
    assert [entry.data for entry in entries] == [b"0", b"1", b"2", b"3", b"4"]
    assert [entries[place].offset for place in (0, 1, 2, 3, 2, 4)] == list(offsets)
    assert (offsets[0], previous) == (before, None)


def test_group_whose_reply_is_lost(engine: RedisEngine, lost_reply: Callable[[], None]):
    """So does each append of a group."""
    engine.log.create("d", Retention())
    lost_reply()
    appends = [Append("cd"[n % 2], [NewEntry(b"%d" % n)], "other" if n == 3 else None) for n in range(6)]
    outcomes = engine.log.append_group(appends)
    assert [type(outcome) is Appended for outcome in outcomes] == [True, True, True, False, True, True]
    found = [entry.data for channel in "cd" for entry in engine.log.read(channel, 0, View.EVERYTHING).entries]
    assert found == [b"0", b"2", b"4", b"1", b"5"]


def test_log_is_created_once(engine: RedisEngine, lost_reply: Callable[[], None]):
    """Whose creation of a log was not answered has won all the same."""
    lost_reply()
    assert engine.log.create("new", Retention())
    assert not engine.log.create("new", Retention())


def test_cursor_is_moved_once(engine: RedisEngine, lost_reply: Callable[[], None]):
    """Whose move of a cursor was not answered has won all the same."""
    engine.cursors.create("c", ["l"])
    key = CursorKey("c", "l")
    before = engine.cursors.get([key])[key]
    lost_reply()
    assert engine.cursors.compare_and_set(key, before, before._replace(offset=7))
    assert not engine.cursors.compare_and_set(key, before, before._replace(offset=8))


@pytest.mark.parametrize("name", ["create", "drop"])
def test_what_cannot_be_repeated(engine: RedisEngine, lost_reply: Callable[[], None], name: str):
    """Where the answer to a repetition would be another, the outcome is unknown, and the error says so."""
    lost_reply()
    with pytest.raises(OutcomeUnknown, match="stored or not, nobody knows"):
        getattr(engine.cursors, name)("c", ["l"])


def test_scripts_are_forgotten(server: RedisServer, engine: RedisEngine):
    """A server that forgot all scripts, as after a restart or a failover, is given them again."""
    engine.log.append("c", [NewEntry(b"1")])
    server.command("SCRIPT FLUSH")
    engine.log.append("c", [NewEntry(b"2")])
    server.command("SCRIPT FLUSH")
    assert [entry.data for entry in engine.log.read("c", 0, "l").entries] == [b"1", b"2"]


def test_connections_are_killed(server: RedisServer, engine: RedisEngine):
    """Publishers whose connections are killed again and again lose nothing, and store nothing twice."""
    with Publisher(engine, "c") as one, Publisher(engine, "c") as other:
        for _ in range(10):
            assert server.cut() > 0
            one.wait_for(5)
            other.wait_for(5)
    assert one.errors == other.errors == []
    data = [entry.data for entry in engine.log.read("c", 0, View.EVERYTHING, 1_000_000, None).entries]
    assert len(data) == len(one.acknowledged["c"]) + len(other.acknowledged["c"])


@pytest.mark.parametrize("way", ["kill", "stop"])
def test_server_restarts(server: RedisServer, engine: RedisEngine, way: str):
    """What was acknowledged is there after the server was killed, or stopped, and started again."""
    with Publisher(engine, "c") as publisher:
        getattr(server, way)()
        time.sleep(0.2)
        server.start()
        publisher.wait_for(20)
    assert all(isinstance(error, StoreUnavailable | OutcomeUnknown) for error in publisher.errors)
    publisher.check()


def test_server_is_away(server: RedisServer):
    """While no server listens, every call says so at once."""
    with open_redis(server.fresh_url()) as engine:
        engine.log.create("c", Retention())
        server.kill()
        try:
            started = time.monotonic()
            for call in (lambda: engine.log.append("c", [NewEntry(b"1")]), lambda: engine.log.heads(["c"])):
                with pytest.raises(StoreUnavailable, match="nothing was stored"):
                    call()
            assert time.monotonic() - started < 1
        finally:
            server.start()
        assert engine.log.heads(["c"])["c"].last == 0


def test_server_hangs(server: RedisServer):
    """While a server hangs, nothing waits for longer than the timeout; nor does closing."""
    engine = open_redis(server.fresh_url("timeout_ms=300"))
    engine.log.create("c", Retention())
    engine.notifier.listen(lambda _: None)
    server.freeze()
    try:
        started = time.monotonic()
        with pytest.raises(OutcomeUnknown):
            engine.log.append("c", [NewEntry(b"1")])
        with pytest.raises(StoreUnavailable):
            engine.log.read("c", 0, "l")
        engine.close()
        assert time.monotonic() - started < 2
    finally:
        server.resume()


def test_too_few_replicas(server: RedisServer):
    """An append that too few replicas confirm is stored, and its outcome unknown; the error counts them."""
    with open_redis(server.fresh_url()) as plain:
        plain.log.create("c", Retention())
        prefix = plain.log._keys._prefix
        with open_redis(server.url(f"prefix={prefix}&wait=1&wait_timeout_ms=50")) as engine:
            with pytest.raises(OutcomeUnknown, match="0 of the 1 replicas"):
                engine.log.append("c", [NewEntry(b"1")])
            assert plain.log.count("c", 0, View.EVERYTHING, 10) == 1


def test_notifier_connects_again(server: RedisServer, monkeypatch: pytest.MonkeyPatch):
    """A notifier whose connection is killed, or whose server restarts, hears again; and says that it missed some."""
    url = server.fresh_url()
    with open_redis(url) as engine, open_redis(url) as other:
        other.log.create("c", Retention())
        heard: queue.Queue[str | None] = queue.Queue()
        engine.notifier.listen(heard.put)
        for disturb in (server.cut, server.restart, server.cut):
            disturb()
            assert heard.get(timeout=PATIENCE_S) is None
            assert engine.notifier.healthy
            other.log.append("c", [NewEntry(b"1")])
            assert heard.get(timeout=PATIENCE_S) == "c"


def test_deaf_notifier_is_noticed(server: RedisServer, monkeypatch: pytest.MonkeyPatch):
    """A notifier that hears nothing asks whether somebody is there; where nobody answers it is not healthy."""
    monkeypatch.setattr(notifier, "PING_EVERY_S", 0.1)
    with open_redis(server.fresh_url()) as engine:
        heard: queue.Queue[str | None] = queue.Queue()
        engine.notifier.listen(heard.put)
        time.sleep(0.3)
        assert engine.notifier.healthy
        server.freeze()
        try:
            _wait_until(lambda: not engine.notifier.healthy)
        finally:
            server.resume()
        assert heard.get(timeout=PATIENCE_S) is None
        assert engine.notifier.healthy


def test_own_news_come_once(engine: RedisEngine):
    """What is appended and told here is not told a second time by the server."""
    heard: queue.Queue[str | None] = queue.Queue()
    engine.notifier.listen(heard.put)
    engine.log.append("c", [NewEntry(b"1")])
    engine.notifier.wake(["c"])
    engine.notifier.wake(["end"])
    assert [heard.get(timeout=PATIENCE_S) for _ in range(2)] == ["c", "end"]
    assert heard.empty()


def test_listening_before_the_server_is_there(server: RedisServer):
    """Who listens while the server is away is told once it is back."""
    with open_redis(server.fresh_url()) as engine:
        server.kill()
        try:
            heard: queue.Queue[str | None] = queue.Queue()
            engine.notifier.listen(heard.put)
            assert not engine.notifier.healthy
        finally:
            server.start()
        assert heard.get(timeout=PATIENCE_S) is None
        assert engine.notifier.healthy


def test_master_is_lost(cluster: RedisClusterServers):
    """With ``wait=1`` nothing acknowledged is lost with a master, and publishing goes on by itself."""
    with open_redis(cluster.fresh_url("wait=1")) as engine:
        for channel in ("a", "b", "c"):
            engine.log.create(channel, Retention(None, None))
        with Publisher(engine, "a", "b", "c") as publisher:
            cluster.master_of(engine.log._keys.log("a").meta.decode()).kill()
            cluster.wait_until_well()
            well = time.monotonic()
            # The new master has no replica yet, so that appends to it are stored, and unconfirmed.
            cluster.restart()
            publisher.wait_for(20)
            assert time.monotonic() - well < 10
        publisher.check()
        assert all(isinstance(error, StoreUnavailable | OutcomeUnknown) for error in publisher.errors)


def test_master_hangs(cluster: RedisClusterServers):
    """A replica takes the place of a master that hangs, and publishing goes on by itself; other channels' at once."""
    with open_redis(cluster.fresh_url("timeout_ms=2000")) as engine:
        for channel in ("a", "b"):
            engine.log.create(channel, Retention(None, None))
        with Publisher(engine, "a") as one, Publisher(engine, "b") as other:
            master = cluster.master_of(engine.log._keys.log("a").meta.decode())
            master.freeze()
            try:
                other.wait_for(20)
                one.wait_for(20)
            finally:
                master.resume()
        assert other.errors == []
        assert len(one.errors) <= 3
    cluster.wait_until_well()


def test_master_hands_over(cluster: RedisClusterServers):
    """While a master hands over to its replica, nothing fails."""
    with open_redis(cluster.fresh_url()) as engine:
        engine.log.create("a", Retention(None, None))
        with Publisher(engine, "a") as publisher:
            cluster.hand_over(engine.log._keys.log("a").meta.decode())
            publisher.wait_for(20)
        assert publisher.errors == []
        publisher.check()
    cluster.wait_until_well()


def test_cluster_connections_are_killed(cluster: RedisClusterServers):
    """Publishers whose connections to all nodes are killed lose nothing, and store nothing twice."""
    with open_redis(cluster.fresh_url()) as engine:
        engine.log.create("a", Retention(None, None))
        engine.log.create("b", Retention(None, None))
        with Publisher(engine, "a", "b") as publisher:
            for _ in range(5):
                cluster.cut()
                publisher.wait_for(5)
        assert publisher.errors == []
        publisher.check()


def test_cluster_news_from_every_node(cluster: RedisClusterServers):
    """News of channels on all nodes are heard, on a connection to whichever; also when its node is lost."""
    url = cluster.fresh_url()
    with open_redis(url) as engine, open_redis(url) as other:
        heard: queue.Queue[str | None] = queue.Queue()
        engine.notifier.listen(heard.put)
        for _ in range(2):
            for channel in ("a", "b", "c", "d"):
                other.log.create(channel, Retention())
                other.log.append(channel, [NewEntry(b"1")])
                assert heard.get(timeout=PATIENCE_S) == channel
            cluster.cut()
            assert heard.get(timeout=PATIENCE_S) is None


def test_slot_moves(cluster: RedisClusterServers):
    """A channel whose slot moves to another master is found there. Meanwhile, it may be unavailable."""
    with open_redis(cluster.fresh_url("timeout_ms=300")) as engine:
        meta = engine.log._keys.log("a").meta.decode()
        slot, source = cluster.servers[0].command("CLUSTER KEYSLOT", meta), cluster.master_of(meta)
        target = next(server for server in cluster.running if server is not source and not server.master_port)
        source_id, target_id = source.command("CLUSTER MYID"), target.command("CLUSTER MYID")
        target.command("CLUSTER SETSLOT", slot, "IMPORTING", source_id)
        source.command("CLUSTER SETSLOT", slot, "MIGRATING", target_id)
        assert engine.log.create("a", Retention(None, None)), "one key, by way of ASK"
        with pytest.raises(StoreUnavailable):  # several keys, of which some are not there
            engine.log.append("a", [NewEntry(b"1")])
        for server in (target, source):
            server.command("CLUSTER SETSLOT", slot, "NODE", target_id)
        engine.log.append("a", [NewEntry(b"2")])
        assert [entry.data for entry in engine.log.read("a", 0, View.EVERYTHING).entries] == [b"2"]


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_repeated_drop_spares_what_was_made_anew(engine: RedisEngine):
    """A drop that is made again, since its reply was lost, finds another log, and leaves it."""
    engine.log.create("again", Retention())
    keys = engine.log._keys.log("again")
    old = engine.log.heads(["again"])["again"].epoch
    engine.log.drop("again")
    engine.log.create("again", Retention())
    engine._client.get(call(DROP, keys, (*engine.log._news.arguments("again"), old)))
    assert engine.log.heads(["again"])["again"].epoch != old


def test_a_channel_that_cannot_be_trimmed_holds_up_no_other(server: RedisServer, engine: RedisEngine):
    """The others are trimmed, and the error is raised in the end."""
    for name in ("broken", "whole"):
        engine.log.create(name, Retention(1, 3600))
        engine.log.append(name, [NewEntry(b"1"), NewEntry(b"2")])
    with server.connect() as client:
        key = engine.log._keys.log("broken").broadcasts
        client.delete(key)
        client.set(key, "no stream")
    with pytest.raises(RepositoryError):
        engine.log.trim()
    assert engine.log.count("whole", 0, View.EVERYTHING, 10) == 1
