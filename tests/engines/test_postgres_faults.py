"""What the PostgreSQL engine does when its server fails, and when it is back."""

import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from queue import Queue
from typing import Self

import pytest

from eric_sse.engines.postgres import PostgresEngine, connections, listening, open_postgres
from eric_sse.exception import EricError, OutcomeUnknown, StoreUnavailable
from eric_sse.log import NewEntry, Retention, View
from support.postgres_server import PostgresServer, postgres_server

# How soon calls must succeed after the server is back.
SOON_S = 2
_ORDER_S = 3


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of our own."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def engine(server: PostgresServer) -> Iterator[PostgresEngine]:
    """An engine with a channel ``c`` that keeps everything."""
    with open_postgres(server.fresh_url()) as engine:
        engine.log.create("c", Retention(None, None))
        yield engine


def _offsets(engine: PostgresEngine) -> list[int]:
    return [entry.offset for entry in engine.log.read("c", 0, View.EVERYTHING, 10**6, None).entries]


class Publishers:
    """Threads that publish to ``c`` all the while: what they were told was stored, and what went wrong."""

    def __init__(self, engine: PostgresEngine, threads: int = 4) -> None:
        self.stored: list[int] = []
        self.errors: list[EricError] = []
        self._engine = engine
        self._stop = threading.Event()
        self._progress = threading.Condition()
        self._threads = [threading.Thread(target=self._publish) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self.wait_for(20)
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, count: int, timeout_s: float = 10) -> None:
        """Wait until so many more were stored."""
        with self._progress:
            wanted = len(self.stored) + count
            assert self._progress.wait_for(lambda: len(self.stored) >= wanted, timeout_s), "nothing is stored any more"

    def _publish(self) -> None:
        while not self._stop.is_set():
            try:
                offsets = self._engine.log.append("c", [NewEntry(b"x")]).offsets
            except EricError as error:
                self.errors.append(error)
                continue
            with self._progress:
                self.stored += offsets
                self._progress.notify_all()


def _kill_and_start(server: PostgresServer) -> None:
    server.kill()
    server.start()


@pytest.mark.parametrize("fault", [PostgresServer.cut, PostgresServer.restart, _kill_and_start])
def test_under_load(engine: PostgresEngine, server: PostgresServer, fault: Callable[[PostgresServer], object]):
    """After a fault, twice, publishing goes on by itself, soon; nothing acknowledged is lost, order holds."""
    with Publishers(engine) as publishers:
        for _ in range(2):
            fault(server)
            publishers.wait_for(50, SOON_S)
    assert {type(error) for error in publishers.errors if not isinstance(error, StoreUnavailable)} <= {OutcomeUnknown}
    offsets = _offsets(engine)
    assert set(publishers.stored) <= set(offsets)
    # Whose outcome was unknown may be there as well.
    assert len(offsets) <= len(publishers.stored) + len(publishers.errors)
    assert [offset for offset, count in Counter(publishers.stored).items() if count > 1] == []


def test_away_for_a_while(engine: PostgresEngine, server: PostgresServer):
    """While the server is away calls fail in bounded time; after that they succeed soon, however long it was."""
    server.stop()
    for _ in range(2):
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable, match="is the server running"):
            engine.log.append("c", [NewEntry(b"1")])
        assert time.monotonic() - begun < 5
    server.start()
    begun = time.monotonic()
    engine.log.append("c", [NewEntry(b"2")])
    assert time.monotonic() - begun < SOON_S
    assert len(_offsets(engine)) == 1


def test_dead_connections_of_the_pool(engine: PostgresEngine, server: PostgresServer):
    """After a restart not one call fails for the connections that the pool had, though each of them is dead."""
    inside = threading.Barrier(8)

    def hold() -> None:
        with engine.storage.transaction():
            inside.wait(10)

    threads = [threading.Thread(target=hold) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.restart()
    for _ in range(20):
        engine.log.append("c", [NewEntry(b"x")])
    assert len(_offsets(engine)) == 20


def test_frozen_for_a_while(engine: PostgresEngine, server: PostgresServer):
    """A server that hangs for a while keeps callers waiting; they go on when it does."""
    with Publishers(engine) as publishers:
        server.freeze()
        time.sleep(1)
        server.resume()
        publishers.wait_for(50, SOON_S)
    assert publishers.errors == []
    assert set(publishers.stored) == set(_offsets(engine))


def test_frozen_for_long(server: PostgresServer, monkeypatch: pytest.MonkeyPatch):
    """A server that hangs for longer than a reply may take is given up; nobody waits for good, also not `close`."""
    monkeypatch.setattr(connections, "_REPLY_S", 0.2)
    monkeypatch.setattr(connections, "_POOL_WAIT_S", 0.5)
    engine = open_postgres(server.fresh_url("lock_timeout_ms=200&connect_timeout=2"))
    engine.log.create("c", Retention())
    engine.notifier.listen(lambda _: None)
    server.freeze()
    try:
        with pytest.raises(StoreUnavailable):
            engine.log.append("c", [NewEntry(b"1")])
        begun = time.monotonic()
        engine.close()
        assert time.monotonic() - begun < 3
    finally:
        server.resume()


def test_notifier_comes_back(engine: PostgresEngine, server: PostgresServer):
    """A notifier that lost its connection says so, connects again by itself, and says that anything may be new."""
    heard: Queue[str | None] = Queue()
    engine.notifier.listen(heard.put)
    server.stop()
    _until(lambda: not engine.notifier.healthy)
    server.start()
    assert heard.get(timeout=SOON_S) is None
    _until(lambda: engine.notifier.healthy)
    with open_postgres(server.url(f"schema={engine._database.schema}")) as other:
        other.notifier.wake(["c"])
        assert heard.get(timeout=SOON_S) == "c"


def test_notifier_on_a_hanging_server(server: PostgresServer, monkeypatch: pytest.MonkeyPatch):
    """A notifier whose server hangs is not healthy for long."""
    monkeypatch.setattr(listening, "_HEARTBEAT_S", 0.1)
    monkeypatch.setattr(listening, "_DEAF_S", 0.3)
    with open_postgres(server.fresh_url()) as engine:
        engine.notifier.listen(lambda _: None)
        assert engine.notifier.healthy
        server.freeze()
        try:
            _until(lambda: not engine.notifier.healthy)
        finally:
            server.resume()
        _until(lambda: engine.notifier.healthy)


def test_last_words(engine: PostgresEngine, server: PostgresServer):
    """What a short-lived publisher tells last is heard, though it closes its engine at once."""
    heard: Queue[str | None] = Queue()
    engine.notifier.listen(heard.put)
    for number in range(10):
        with open_postgres(server.url(f"schema={engine._database.schema}")) as other:
            other.notifier.wake([f"{number}"])
        assert heard.get(timeout=5) == f"{number}"


def test_order_of_visibility(engine: PostgresEngine, server: PostgresServer):
    """With the writers of two engines on a channel, who reads on never finds a smaller offset later."""
    url = server.url(f"schema={engine._database.schema}")
    with open_postgres(url) as other, Publishers(engine) as one, Publishers(other) as two:
        seen, after, deadline = [], 0, time.monotonic() + _ORDER_S
        while time.monotonic() < deadline:
            page = engine.log.read("c", after, View.EVERYTHING)
            seen += [entry.offset for entry in page.entries]
            after = page.through
    seen += [entry.offset for entry in engine.log.read("c", after, View.EVERYTHING, 10**6, None).entries]
    assert all(a < b for a, b in pairwise(seen))
    assert set(seen) == set(one.stored) | set(two.stored)


def test_fork(server: PostgresServer):
    """A forked child gets connections of its own, and leaves its parent's alone."""
    code = textwrap.dedent("""
        import os, sys
        from eric_sse.engines import open_engine
        from eric_sse.log import NewEntry, Retention, View
        with open_engine(sys.argv[1]) as engine:
            engine.log.create("c", Retention())
            engine.notifier.listen(lambda _: None)
            engine.log.append("c", [NewEntry(b"parent")])
            if os.fork() == 0:
                engine.log.append("c", [NewEntry(b"child")])
                engine.notifier.listen(lambda _: None)
                assert engine.notifier.healthy
                sys.exit(7)
            assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
            engine.log.append("c", [NewEntry(b"parent")])
            print([entry.data for entry in engine.log.read("c", 0, View.EVERYTHING).entries], engine.notifier.healthy)
    """)
    command = [sys.executable, "-c", code, server.fresh_url()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "[b'parent', b'child', b'parent'] True\n"


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
