"""What goes wrong is said, and leaves what is stored whole."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from eric_sse.engines.sqlite import SqliteEngine, open_sqlite
from eric_sse.engines.sqlite.errors import translate, translate_commit
from eric_sse.exception import InvalidMessageFormat, OutcomeUnknown, RepositoryError, StoreFull, StoreUnavailable
from eric_sse.log import Append, Appended, NewEntry, Retention, View
from tests.support.sqlite_locks import locked_for, thread_in_a_transaction


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SqliteEngine]:
    """An engine on a new file that does not wait long, with a channel ``c``."""
    with open_sqlite(f"sqlite:///{tmp_path}/a.db?busy_timeout_ms=100") as engine:
        engine.log.create("c", Retention(None, None))
        yield engine


def _texts(engine: SqliteEngine) -> list[bytes]:
    return [entry.data for entry in engine.log.read("c", 0, View.EVERYTHING).entries]


def test_busy(engine: SqliteEngine, tmp_path: Path):
    """While another process holds the write lock, writing fails in the end, reading does not; then all is well."""
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="try again") as caught:
            engine.log.append("c", [NewEntry(b"1")])
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
        assert _texts(engine) == []
        other.execute("ROLLBACK")
    engine.log.append("c", [NewEntry(b"2")])
    assert _texts(engine) == [b"2"]


def test_busy_for_a_moment(engine: SqliteEngine, tmp_path: Path):
    """A lock that is given back in time is waited for."""
    with locked_for(tmp_path / "a.db", 0.03):
        engine.log.append("c", [NewEntry(b"1")])
    assert _texts(engine) == [b"1"]


def test_long_transaction_of_another_thread(engine: SqliteEngine):
    """A thread that stays in a transaction is not waited for beyond the timeout, and nothing is stored later."""
    with thread_in_a_transaction(engine), pytest.raises(StoreUnavailable, match="another thread"):
        engine.log.append("c", [NewEntry(b"1")])
    engine.log.append("c", [NewEntry(b"2")])
    assert _texts(engine) == [b"2"]


def test_full(engine: SqliteEngine):
    """A store without room says so, keeps what it has, and takes more when there is room again."""
    engine.log.append("c", [NewEntry(b"1")])
    writer = engine._database._writer
    assert writer is not None
    writer.execute(f"PRAGMA max_page_count = {writer.execute('PRAGMA page_count').fetchone()[0] + 2}")
    with pytest.raises(StoreFull, match="make room"):
        engine.log.append("c", [NewEntry(b"x" * 100_000)])
    with pytest.raises(StoreFull), engine.storage.transaction():
        engine.storage.upsert("key", "x" * 100_000)
    assert _texts(engine) == [b"1"]
    writer.execute("PRAGMA max_page_count = 1000000")
    engine.log.append("c", [NewEntry(b"2")])
    assert _texts(engine) == [b"1", b"2"]


def test_bad_entry_fails_alone(engine: SqliteEngine):
    """What SQLite could not bind is found before, and the others of the group are stored."""
    bad = (NewEntry("text"), NewEntry(b"", "\ud800"), NewEntry(b"", None, "\ud800"))  # type: ignore[arg-type]
    group = [Append("c", [NewEntry(b"1")]), *(Append("c", [NewEntry(b"x"), entry]) for entry in bad)]
    outcomes = engine.log.append_group([*group, Append("c", [NewEntry(b"2")])])
    assert [type(one) for one in outcomes] == [Appended, *[InvalidMessageFormat] * 3, Appended]
    assert _texts(engine) == [b"1", b"2"]


def test_not_a_database(tmp_path: Path):
    """A file that is something else is refused, with what to do, and left as it is."""
    (tmp_path / "a.db").write_text("These are my notes, and no database at all. " * 30)
    before = (tmp_path / "a.db").read_bytes()
    with pytest.raises(RepositoryError, match="restore a backup"):
        open_sqlite(f"sqlite:///{tmp_path}/a.db")
    assert (tmp_path / "a.db").read_bytes() == before


@pytest.mark.parametrize("part", [0.5, 0.9])
def test_truncated(tmp_path: Path, part: float):
    """A file that was cut off is refused, and not made worse."""
    _fill(tmp_path / "a.db")
    size = (tmp_path / "a.db").stat().st_size
    os.truncate(tmp_path / "a.db", int(size * part))
    with pytest.raises(RepositoryError, match="may be damaged"), open_sqlite(f"sqlite:///{tmp_path}/a.db") as engine:
        engine.log.append("c", [NewEntry(b"x")])
    assert (tmp_path / "a.db").stat().st_size == int(size * part)


def test_damaged(tmp_path: Path):
    """Pages overwritten by something else are an error where they are read, never something missing."""
    _fill(tmp_path / "a.db")
    with (tmp_path / "a.db").open("r+b") as file:
        file.seek(50_000)
        file.write(b"\xff" * 100_000)
    with pytest.raises(RepositoryError), open_sqlite(f"sqlite:///{tmp_path}/a.db") as engine:
        engine.log.read("c", 0, View.EVERYTHING, 10_000, None)


def _fill(path: Path) -> None:
    with open_sqlite(f"sqlite:///{path}") as engine:
        engine.log.create("c", Retention(None, None))
        engine.log.append("c", [NewEntry(b"x" * 500)] * 1000)


def _run_as_nobody(code: str, folder: Path) -> str:
    """Run code in a process whose user may only read the folder, and return what it prints."""
    drop = "import os; os.getuid() == 0 and (os.setgid(65534), os.setuid(65534))"
    program = textwrap.dedent(f"""
        from eric_sse.engines.sqlite import open_sqlite
        from eric_sse.log import NewEntry, View
        {drop}
        try:
            {code}
        except Exception as error:
            print(type(error).__name__, error)
    """)
    command = [sys.executable, "-c", program, f"sqlite:///{folder}/a.db"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("folder_mode", [0o755, 0o555])
def test_read_only(folder_mode: int):
    """A file, or its folder, that may not be written to is said to be so; and stays as it is."""
    folder = Path(tempfile.mkdtemp())
    try:
        _fill(folder / "a.db")
        (folder / "a.db").chmod(0o444)
        before = (folder / "a.db").read_bytes()
        folder.chmod(folder_mode)
        answer = _run_as_nobody("import sys; open_sqlite(sys.argv[1])", folder)
        assert answer.startswith("RepositoryError"), answer
        assert "writable" in answer
        assert (folder / "a.db").read_bytes() == before
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_disk_error_while_writing(tmp_path: Path):
    """A write that the system refuses is an error, and what was there can be read."""
    code = textwrap.dedent("""
        import resource, signal, sys
        from eric_sse.engines.sqlite import open_sqlite
        from eric_sse.exception import RepositoryError
        from eric_sse.log import NewEntry, Retention, View
        with open_sqlite(sys.argv[1]) as engine:
            engine.log.create("c", Retention())
            engine.log.append("c", [NewEntry(b"1")])
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
            try:
                engine.log.append("c", [NewEntry(b"x" * 1_000_000)])
            except RepositoryError as error:
                print(type(error).__name__)
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            engine.log.append("c", [NewEntry(b"2")])
            print([entry.data for entry in engine.log.read("c", 0, View.EVERYTHING).entries])
    """)
    command = [sys.executable, "-c", code, f"sqlite:///{tmp_path}/a.db"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout.splitlines()[1:], done.stderr) == (["[b'1', b'2']"], "")


def test_lost_commit():
    """A disk that fails at the commit leaves the outcome open; a full one does not."""

    def failing(code: int) -> RepositoryError:
        cause = sqlite3.OperationalError("disk I/O error")
        cause.sqlite_errorcode = code
        error = translate(cause, "a.db")
        error.__cause__ = cause
        return translate_commit(error)

    assert isinstance(failing(sqlite3.SQLITE_IOERR_FSYNC), OutcomeUnknown)
    assert isinstance(failing(sqlite3.SQLITE_FULL), StoreFull)


def test_damaged_value(engine: SqliteEngine):
    """A value that another program spoilt is reported, not left out."""
    engine.storage.upsert("key", 1)
    for spoilt in (b"{", b"1\n2", b""):
        with engine._database.write() as session:
            session.run("UPDATE eric_kv SET value = ?", (spoilt,))
        with pytest.raises(RepositoryError, match="damaged"):
            engine.storage.fetch_one("key")


def test_error_of_the_application_in_a_transaction(engine: SqliteEngine):
    """What the application raises itself inside a transaction, also of sqlite3, comes out as it is."""
    with pytest.raises(sqlite3.IntegrityError), engine.storage.transaction():
        raise sqlite3.IntegrityError
    engine.log.append("c", [NewEntry(b"1")])
    assert _texts(engine) == [b"1"]
