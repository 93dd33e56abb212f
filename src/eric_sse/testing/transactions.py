"""What an engine does whose storage has transactions: its log and cursors take part."""

import queue
import threading

import pytest

from eric_sse.engine import Engine
from eric_sse.log import CursorKey, NewEntry, Retention, View
from eric_sse.repository import TransactionalKvStorage
from eric_sse.testing.storage import undone

_PATIENCE_S = 20


class EngineTransactionSuite:
    """Storage, log and cursors in one transaction."""

    @pytest.fixture
    def transactional(self, engine: Engine) -> TransactionalKvStorage:
        """The storage, whose transaction is the engine's."""
        assert isinstance(engine.storage, TransactionalKvStorage)
        return engine.storage

    def test_commit_together(self, engine: Engine, transactional: TransactionalKvStorage) -> None:
        """What is done to all of them stays, and is seen inside already."""
        with transactional.transaction():
            _fill(engine)
            assert _holds(engine) == (1, 1, 1)
        assert _holds(engine) == (1, 1, 1)

    def test_rollback_together(self, engine: Engine, transactional: TransactionalKvStorage) -> None:
        """An exception undoes what was done to all of them."""
        engine.log.create("c", Retention())
        with undone(transactional):
            _fill(engine)
        assert _holds(engine) == (0, 0, 0)

    def test_rollback_of_dropping(self, engine: Engine, transactional: TransactionalKvStorage) -> None:
        """A log dropped in vain has its messages and cursors still, and its epoch."""
        _fill(engine)
        head = engine.log.heads(["c"])
        with undone(transactional):
            engine.log.drop("c")
            engine.storage.delete("key")
        assert (_holds(engine), engine.log.heads(["c"])) == ((1, 1, 1), head)

    def test_rollback_forgets_keys(self, engine: Engine, transactional: TransactionalKvStorage) -> None:
        """The key of an entry that was undone is not known: repeating stores it."""
        engine.log.create("c", Retention())
        with undone(transactional):
            engine.log.append("c", [NewEntry(b"1", None, "key")])
        engine.log.append("c", [NewEntry(b"1", None, "key")])
        assert engine.log.count("c", 0, View.EVERYTHING, 10) == 1

    def test_others_never_see_what_is_undone(self, engine: Engine, transactional: TransactionalKvStorage) -> None:
        """Who looks meanwhile, in another thread, waits, or finds what was there before."""
        engine.log.create("c", Retention())
        seen: list[tuple[int, int, int]] = []
        looking = threading.Thread(target=lambda: seen.append(_holds(engine)))
        with undone(transactional):
            _fill(engine)
            looking.start()
            looking.join(0.2)
        looking.join()
        assert seen == [(0, 0, 0)]

    def test_others_find_what_they_are_told_of(self, engine: Engine, transactional: TransactionalKvStorage) -> None:
        """Who is woken from inside a transaction finds what it holds: at once where wake-ups wait, or by waiting."""
        engine.log.create("c", Retention())
        heard: queue.Queue[str | None] = queue.Queue()
        found: list[int] = []

        def look() -> None:
            heard.get(timeout=_PATIENCE_S)
            found.append(engine.log.count("c", 0, View.EVERYTHING, 10))

        looking = threading.Thread(target=look)
        end = engine.notifier.listen(heard.put)
        looking.start()
        with transactional.transaction():
            engine.log.append("c", [NewEntry(b"1")])
            engine.notifier.wake(["c"])
            looking.join(0.1)
        looking.join()
        end()
        assert found == [1]

    def test_removals_are_undone(self, engine: Engine, transactional: TransactionalKvStorage) -> None:
        """A cursor that was dropped in vain is there still, and not counted."""
        _fill(engine)
        with undone(transactional):
            engine.cursors.drop("c", ["l"])
            assert engine.log.heads(["c"])["c"].removals == 1
        assert _holds(engine) == (1, 1, 1)
        assert engine.log.heads(["c"])["c"].removals == 0

    def test_channels_are_persisted_whole(self, engine: Engine, transactional: TransactionalKvStorage) -> None:
        """A channel persisted in a transaction that fails was never there."""
        channel = engine.channels.create({"channel_id": "c"})
        channel.add_listener()
        with undone(transactional):
            engine.channels.persist(channel)
        assert (list(engine.storage.fetch_all()), engine.log.heads(["c"])) == ([], {})

    def test_inner_append_undone_alone(self, engine: Engine, transactional: TransactionalKvStorage) -> None:
        """An inner block that fails leaves the appends around it."""
        engine.log.create("c", Retention())
        with transactional.transaction():
            engine.log.append("c", [NewEntry(b"1")])
            with undone(transactional):
                engine.log.append("c", [NewEntry(b"2")])
            engine.log.append("c", [NewEntry(b"3")])
        assert [entry.data for entry in engine.log.read("c", 0, View.EVERYTHING).entries] == [b"1", b"3"]


def _fill(engine: Engine) -> None:
    engine.log.create("c", Retention())
    engine.storage.upsert("key", 1)
    engine.cursors.create("c", ["l"])
    engine.log.append("c", [NewEntry(b"1")])


def _holds(engine: Engine) -> tuple[int, int, int]:
    """How many values, messages and cursors there are."""
    values = len(list(engine.storage.fetch_all()))
    return values, engine.log.count("c", 0, View.EVERYTHING, 10), len(engine.cursors.get([CursorKey("c", "l")]))
