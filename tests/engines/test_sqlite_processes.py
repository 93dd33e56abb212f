"""Several processes on one file: nothing lost or reordered, and news soon."""

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import psutil
import pytest

from eric_sse.engines.sqlite import SqliteEngine, notifier, open_sqlite
from eric_sse.log import NewEntry, Retention, View

_PATIENCE_S = 30


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SqliteEngine]:
    """An engine on a new file, with a channel ``c``."""
    with open_sqlite(f"sqlite:///{tmp_path}/a.db") as engine:
        engine.log.create("c", Retention(None, None))
        yield engine


def _start(tmp_path: Path, code: str, *, query: str = "") -> "subprocess.Popen[str]":
    """Run ``code`` in another process, with ``engine`` open on the same file and ``NewEntry`` imported."""
    program = (
        "import sys, time; from eric_sse.engines import open_engine; from eric_sse.log import NewEntry\n"
        "with open_engine(sys.argv[1]) as engine:\n" + textwrap.indent(textwrap.dedent(code), "    ")
    )
    command = [sys.executable, "-W", "error", "-c", program, f"sqlite:///{tmp_path}/a.db{query}"]
    return subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _finish(process: "subprocess.Popen[str]") -> str:
    out, err = process.communicate(timeout=_PATIENCE_S)
    assert (process.returncode, err) == (0, "")
    return out


def test_appending_at_once(engine: SqliteEngine, tmp_path: Path):
    """Two processes that append at once lose nothing; each one's messages stay in its order, without gaps."""
    code = """
        for n in range(150):
            engine.log.append("c", [NewEntry(f"{} {{n}}".encode())])
    """
    processes = [_start(tmp_path, code.format(name)) for name in "ab"]
    for process in processes:
        _finish(process)
    entries = engine.log.read("c", 0, View.EVERYTHING, 1000).entries
    assert [entry.offset for entry in entries] == list(range(1, 301))
    for name in ("a", "b"):
        own = [entry.data.decode() for entry in entries if entry.data.startswith(name.encode())]
        assert own == [f"{name} {n}" for n in range(150)]


def test_killed_while_appending(engine: SqliteEngine, tmp_path: Path):
    """What a killed process had been told is stored is there; and the others go on."""
    code = """
        for n in range(100_000):
            engine.log.append("c", [NewEntry(str(n).encode())])
            print(n, flush=True)
    """
    process = _start(tmp_path, code)
    assert process.stdout is not None
    for _ in range(50):
        process.stdout.readline()
    process.kill()
    told = process.communicate()[0].split()
    engine.log.append("c", [NewEntry(b"end")])
    stored = [entry.data.decode() for entry in engine.log.read("c", 0, View.EVERYTHING, 200_000, None).entries]
    assert stored[:-1] == [str(n) for n in range(len(stored) - 1)]
    assert len(stored) - 1 >= 50 + len(told)
    assert stored[-1] == "end"


def test_news_soon(engine: SqliteEngine, tmp_path: Path):
    """A message of another process is seen within 50 ms in 99 % of 500 cases."""
    assert sorted(_delays(engine, tmp_path, 500))[494] < 0.05


def test_news_without_inotify(engine: SqliteEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Where nothing can be watched, it is seen as soon in most cases."""
    monkeypatch.setattr(notifier, "_try_to_watch", lambda _: None)
    assert sorted(_delays(engine, tmp_path, 50))[25] < 0.05


def _delays(engine: SqliteEngine, tmp_path: Path, count: int) -> list[float]:
    """How long, in seconds, it takes from appending in another process to reading here."""
    news: Queue[str | None] = Queue()
    engine.notifier.listen(news.put)
    code = """
        for line in sys.stdin:
            engine.log.append("c", [NewEntry(repr(time.monotonic()).encode())])
    """
    process, after, late = _start(tmp_path, code), 0, []
    assert process.stdin is not None
    for _ in range(count):
        process.stdin.write("\n")
        process.stdin.flush()
        while not (page := engine.log.read("c", after, View.EVERYTHING)).entries:
            assert news.get(timeout=_PATIENCE_S) in {"c", "own"}
        late.append(time.monotonic() - float(page.entries[0].data))
        after = page.through
    _finish(process)
    return late


def test_news_while_this_process_writes(engine: SqliteEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writing all the time, it notices others' messages nearly as soon, and does not look after each of its own."""
    looks, look, ended = [], notifier._Watcher._look, threading.Event()
    monkeypatch.setattr(notifier._Watcher, "_look", lambda watcher: (looks.append(time.monotonic()), look(watcher))[1])
    engine.log.create("own", Retention(None, None))

    def write() -> None:
        while not ended.wait(0.002):  # the other process is to have its turn
            engine.log.append("own", [NewEntry(b"x")])

    writing = threading.Thread(target=write)
    writing.start()
    try:
        assert sorted(_delays(engine, tmp_path, 100))[95] < 0.1
    finally:
        ended.set()
        writing.join()
    assert len(looks) < 100 * (looks[-1] - looks[0])


def test_slow_disk(engine: SqliteEngine):
    """A commit that becomes visible long after its bytes were written is noticed, too."""
    news: Queue[str | None] = Queue()
    engine.notifier.listen(news.put)
    with open_sqlite(f"sqlite:///{engine._database.path}") as other, other._database.write() as session:
        # A cache of one page makes SQLite write to the log before the commit.
        session.run("PRAGMA cache_size = 1")
        other.log.append("c", [NewEntry(b"x" * 50_000)] * 5)
        time.sleep(0.3)
    assert news.get(timeout=_PATIENCE_S) == "c"


def test_idle_costs_nothing(engine: SqliteEngine, monkeypatch: pytest.MonkeyPatch):
    """While nobody writes, nothing wakes up: no time of the processor, no context switches."""
    monkeypatch.setattr(notifier, "_LOOKS_S", (0.001,))
    engine.notifier.listen(lambda _: None)
    (thread,) = [thread for thread in threading.enumerate() if "sqlite" in thread.name]
    status = Path(f"/proc/self/task/{thread.native_id}/status")
    time.sleep(0.2)
    before = _switches(status)
    time.sleep(1)
    assert _switches(status) == before


def _switches(status: Path) -> int:
    lines = status.read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)


def test_idle_without_inotify(engine: SqliteEngine, monkeypatch: pytest.MonkeyPatch):
    """Where nothing can be watched, looking costs less than a hundredth of a core."""
    monkeypatch.setattr(notifier, "_try_to_watch", lambda _: None)
    engine.notifier.listen(lambda _: None)
    process = psutil.Process()
    before = process.cpu_times()
    time.sleep(2)
    after = process.cpu_times()
    assert after.user + after.system - before.user - before.system < 0.05


def test_own_messages_are_known(engine: SqliteEngine):
    """What this process has stored is not looked for: who stored it tells."""
    engine.notifier.listen(lambda _: None)
    watcher = engine.notifier._thread
    assert watcher is not None
    for number in range(1, 20):
        engine.log.append("c", [NewEntry(b"")] * 2)
        assert watcher._state.newest == number * 2


def test_told_after_the_commit(engine: SqliteEngine):
    """Who is woken by a publish in a transaction finds the message: the wake-up waits for the commit."""
    found: Queue[int] = Queue()
    engine.notifier.listen(lambda _: found.put(engine.log.count("c", 0, View.EVERYTHING, 10)))
    with engine.storage.transaction():
        engine.log.append("c", [NewEntry(b"1")])
        engine.notifier.wake(["c"])
        assert found.empty()
    assert found.get(timeout=_PATIENCE_S) == 1


@pytest.mark.parametrize("watched", [True, False])
def test_closing_while_it_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watched: bool):
    """Closing is safe at any moment of the thread's."""
    monkeypatch.setattr(notifier, "_POLL_S", 0.0001)
    if not watched:
        monkeypatch.setattr(notifier, "_try_to_watch", lambda _: None)
    for _ in range(30):
        with open_sqlite(f"sqlite:///{tmp_path}/a.db") as engine:
            engine.notifier.listen(lambda _: None)
            engine.storage.upsert("key", 1)


@pytest.mark.parametrize("removal", ["drop", "trim"])
def test_news_in_place_of_what_was_removed(engine: SqliteEngine, removal: str):
    """Messages that take the place of the newest, which another process has removed, are news."""
    engine.log.create("d", Retention(None, 0.001))
    engine.log.append("d", [NewEntry(b"1")])
    news: Queue[str | None] = Queue()
    engine.notifier.listen(news.put)
    with open_sqlite(f"sqlite:///{engine._database.path}") as other, other.storage.transaction():
        if removal == "drop":
            other.log.drop("d")
        else:
            time.sleep(0.01)
            assert other.log.trim() == 1
        other.log.append("c", [NewEntry(b"2")])
    assert news.get(timeout=_PATIENCE_S) is None


def test_failing_callback(engine: SqliteEngine):
    """A callback that fails does not end the watching."""
    news: Queue[str | None] = Queue()

    def fail(channel: str | None) -> None:
        news.put(channel)
        raise ZeroDivisionError

    engine.notifier.listen(fail)
    with open_sqlite(f"sqlite:///{engine._database.path}") as other:
        for _ in range(2):
            other.log.append("c", [NewEntry(b"")])
            assert news.get(timeout=_PATIENCE_S) == "c"
    assert engine.notifier.healthy


def test_closing_ends_the_thread(engine: SqliteEngine):
    """Closing ends the thread at once, also in the midst of looking."""
    engine.notifier.listen(lambda _: None)
    engine.log.append("c", [NewEntry(b"")])
    begun = time.monotonic()
    engine.close()
    assert time.monotonic() - begun < 1
    assert not [thread for thread in threading.enumerate() if "sqlite" in thread.name]
    assert not engine.notifier.healthy


def test_fork(engine: SqliteEngine, tmp_path: Path):
    """A forked child goes on with connections of its own, and so does the parent, whoever ends first."""
    code = """
        import os
        news = []
        engine.notifier.listen(news.append)
        engine.log.append("c", [NewEntry(b"before")])
        child = os.fork()
        name = b"parent" if child else b"child"
        for _ in range(20):
            engine.log.append("c", [NewEntry(name)])
        if child:
            assert os.waitpid(child, 0)[1] == 0
            engine.log.append("c", [NewEntry(b"after")])
        else:
            engine.notifier.listen(news.append)
            assert engine.notifier.healthy
            engine.close()
            os._exit(0)
    """
    # Python 3.12 warns of every fork of a process with threads.
    _finish(_start(tmp_path, f"import warnings; warnings.simplefilter('ignore')\n{textwrap.dedent(code)}"))
    data = [entry.data for entry in engine.log.read("c", 0, View.EVERYTHING).entries]
    assert (data[0], data[-1], sorted(data[1:-1])) == (b"before", b"after", [b"child"] * 20 + [b"parent"] * 20)


def test_fork_inside_a_transaction(engine: SqliteEngine, tmp_path: Path):
    """In a child that was forked inside a transaction the engine is closed; the parent's commit is not disturbed."""
    code = """
        import os
        from eric_sse.exception import RepositoryError
        with engine.storage.transaction():
            engine.log.append("c", [NewEntry(b"parent")])
            child = os.fork()
            if not child:
                try:
                    engine.log.append("c", [NewEntry(b"child")])
                except RepositoryError:
                    os._exit(0)
                os._exit(1)
            assert os.waitpid(child, 0)[1] == 0
    """
    _finish(_start(tmp_path, code))
    assert [entry.data for entry in engine.log.read("c", 0, View.EVERYTHING).entries] == [b"parent"]
