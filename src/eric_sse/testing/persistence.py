"""What an engine does whose stores outlive the process: nothing that was stored is lost, however it ended."""

from collections.abc import Iterator
from itertools import count
from typing import Any

from eric_sse.engine import Engine
from eric_sse.listener import MessageQueueListener
from eric_sse.log import CursorKey, NewEntry, Retention, View
from eric_sse.message import Position
from eric_sse.testing.fixtures import Opener
from eric_sse.testing.processes import worker

_KEY = CursorKey("c", "l")
_KILLED_AFTER = 20


class ReopeningSuite:
    """Engines that are closed, and opened again."""

    def test_everything_is_there(self, opener: Opener) -> None:
        """Values, logs with their epochs and offsets, and cursors are what they were."""
        with opener() as engine:
            engine.storage.upsert("key", {"a": [1, None]})
            engine.log.create("c", Retention(100, 3600.5))
            engine.log.append("c", [NewEntry(b"1"), NewEntry(b"2", "l"), NewEntry(b"\0\xff", "m")])
            engine.cursors.create("c", ["l", "m"])
            engine.cursors.drop("c", ["m"])
            before = _everything(engine)
        with opener() as engine:
            assert _everything(engine) == before

    def test_offsets_go_on(self, opener: Opener) -> None:
        """What is appended later gets larger offsets, also where everything before was trimmed."""
        with opener() as engine:
            engine.log.create("c", Retention(1, None))
            before = engine.log.append("c", [NewEntry(b"1"), NewEntry(b"2")]).offsets[-1]
            engine.log.trim()
        with opener() as engine:
            assert engine.log.append("c", [NewEntry(b"3")]).offsets[0] > before

    def test_keys_are_known(self, opener: Opener) -> None:
        """Repeating what was appended before stores nothing."""
        for _ in range(2):
            with opener() as engine:
                engine.log.create("c", Retention())
                engine.log.append("c", [NewEntry(b"1", None, "key")])
        with opener() as engine:
            assert engine.log.count("c", 0, View.EVERYTHING, 10) == 1

    def test_channels_are_there(self, opener: Opener) -> None:
        """A persisted channel is loaded with its listeners, and goes on where it was."""
        with opener() as engine:
            channel = engine.channels.create({"channel_id": "c"})
            channel.register_listener(MessageQueueListener("l"))
            engine.channels.persist(channel)
            engine.log.append("c", [NewEntry(b"")])
        with opener() as engine:
            loaded = engine.channels.load_one("c")
            assert [connection.listener.id for connection in loaded.get_connections()] == ["l"]
            assert engine.log.count("c", engine.cursors.get([_KEY])[_KEY].offset, "l", 10) == 1

    def test_closing_moves_cursors(self, opener: Opener) -> None:
        """Automatic acknowledgements that were only gathered are stored when the engine is closed."""
        with opener() as engine:
            engine.log.create("c", Retention())
            engine.cursors.create("c", ["l"])
            appended = engine.log.append("c", [NewEntry(b"")])
            position = Position(appended.epoch, appended.offsets[0])
            engine.acks.note(_KEY, position)
        with opener() as engine:
            assert engine.cursors.get([_KEY]) == {_KEY: position}

    def test_closing_twice(self, opener: Opener) -> None:
        """Closing again does nothing."""
        engine = opener()
        engine.storage.upsert("key", 1)
        engine.close()
        engine.close()


class CrashSuite:
    """Processes that are killed while they store."""

    def test_what_was_stored_is_there(self, opener: Opener) -> None:
        """A message, a value or a cursor of which the killed process had been told that it is stored."""
        with worker(opener, _store_on) as other:
            other.go()
            told = [other.report() for _ in range(_KILLED_AFTER)] + other.kill()
        with opener() as engine:
            entries = engine.log.read("c", 0, View.EVERYTHING, 100_000, None).entries
            stored = {entry.offset: entry.data for entry in entries}
            assert [stored.get(offset) for number, offset in told] == [b"%d" % number for number, _ in told]
            assert engine.storage.fetch_one("last") >= len(told) - 1
            assert engine.cursors.get([_KEY])[_KEY].offset >= told[-1][1]

    def test_nothing_is_torn(self, opener: Opener) -> None:
        """Of the messages of one append all are there, or none; in their order."""
        with worker(opener, _append_pairs) as other:
            other.go()
            told = [other.report() for _ in range(_KILLED_AFTER)] + other.kill()
        with opener() as engine:
            found = [entry.data for entry in engine.log.read("c", 0, View.EVERYTHING, 100_000, None).entries]
            assert len(found) >= 2 * len(told)
            assert found == [b"%d %d" % (number // 2, number % 2) for number in range(len(found))]
            assert len(found) % 2 == 0

    def test_no_broken_channels(self, opener: Opener) -> None:
        """A channel that was being persisted, or deleted, is loaded or is not there; it is never broken."""
        with worker(opener, _persist_and_delete) as other:
            other.go()
            told = [other.report() for _ in range(_KILLED_AFTER)] + other.kill()
        with opener() as engine:
            stored = [channel.id for channel in engine.channels.page("", 10_000)]
            assert {f"kept {number}" for number in told} <= set(stored)
            assert not {f"deleted {number}" for number in told} & set(stored)
            # Where there are no transactions, one that is half-deleted is not loaded.
            loaded = list(engine.channels.load_all())
            assert {f"kept {number}" for number in told} <= {channel.id for channel in loaded}
            assert all(len(channel.get_connections()) == len("abc") for channel in loaded)


def _everything(engine: Engine) -> tuple[Any, ...]:
    keys = [_KEY, CursorKey("c", "m")]
    page = engine.log.read("c", 0, View.EVERYTHING)
    return engine.storage.fetch_one("key"), page, engine.log.heads(["c"]), engine.cursors.get(keys)


def _store_on(engine: Engine) -> Iterator[tuple[int, int]]:
    """Store, and report the number and the offset, until the end."""
    engine.log.create("c", Retention())
    engine.cursors.create("c", ["l"])
    for number in count():
        appended = engine.log.append("c", [NewEntry(b"%d" % number)])
        engine.storage.upsert("last", number)
        engine.cursors.advance({_KEY: Position(appended.epoch, appended.offsets[0])})
        yield number, appended.offsets[0]


def _append_pairs(engine: Engine) -> Iterator[int]:
    engine.log.create("c", Retention())
    for number in count():
        engine.log.append("c", [NewEntry(b"%d 0" % number), NewEntry(b"%d 1" % number)])
        yield number


def _persist_and_delete(engine: Engine) -> Iterator[int]:
    for number in count():
        for name in ("kept", "deleted"):
            channel = engine.channels.create({"channel_id": f"{name} {number}"})
            for listener_id in "abc":
                channel.register_listener(MessageQueueListener(listener_id))
            engine.channels.persist(channel)
        engine.channels.delete(f"deleted {number}")
        yield number
