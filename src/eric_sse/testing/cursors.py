"""What every `Cursors` does."""

import threading

import pytest

from eric_sse.engine import Engine
from eric_sse.exception import ChannelNotFound
from eric_sse.log import CursorKey, Cursors, MessageLog, NewEntry, Retention
from eric_sse.message import Position
from eric_sse.testing.ids import ODD_IDS

_KEY = CursorKey("c", "l")


class CursorsSuite:
    """Cursors: creating, moving forward, competing, dropping."""

    @pytest.fixture
    def log(self, engine: Engine) -> MessageLog:
        """The log beside them, with a channel ``c`` of three messages."""
        engine.log.create("c", Retention())
        engine.log.append("c", [NewEntry(b"")] * 3)
        return engine.log

    @pytest.fixture
    def cursors(self, engine: Engine, log: MessageLog) -> Cursors:  # noqa: ARG002 - needed first
        """The cursors to test."""
        return engine.cursors

    def test_created_at_the_end(self, cursors: Cursors, log: MessageLog) -> None:
        """A new cursor stands at the log's end."""
        head = log.heads(["c"])["c"]
        assert list(cursors.create("c", ["l"])) == ["l"]
        assert cursors.get([_KEY]) == {_KEY: Position(head.epoch, head.last)}

    def test_created_at_the_end_of_an_empty_log(self, cursors: Cursors, log: MessageLog) -> None:
        """In a log without messages that is 0."""
        log.create("empty", Retention())
        cursors.create("empty", ["l"])
        assert cursors.get([CursorKey("empty", "l")])[CursorKey("empty", "l")].offset == 0

    def test_created_once(self, cursors: Cursors, log: MessageLog) -> None:
        """A cursor that is there is left where it is, and is not among those created."""
        cursors.create("c", ["l"])
        before = cursors.get([_KEY])
        log.append("c", [NewEntry(b"")])
        assert list(cursors.create("c", ["l", "m"])) == ["m"]
        assert cursors.get([_KEY]) == before

    def test_created_without_log(self, cursors: Cursors) -> None:
        """Where there is no log, there is no cursor."""
        with pytest.raises(ChannelNotFound):
            cursors.create("none", ["l"])

    def test_many(self, cursors: Cursors) -> None:
        """Thousands are created, read, moved and dropped at once."""
        ids = [f"listener {number}" for number in range(3000)]
        keys = [CursorKey("c", id_) for id_ in ids]
        assert sorted(cursors.create("c", ids)) == sorted(ids)
        (position,) = set(cursors.get(keys).values())
        cursors.advance(dict.fromkeys(keys, position._replace(offset=position.offset + 1)))
        assert set(cursors.get(keys).values()) == {position._replace(offset=position.offset + 1)}
        assert sorted(cursors.drop("c", ids)) == sorted(ids)
        assert cursors.get(keys) == {}

    def test_odd_ids_stay_apart(self, cursors: Cursors, log: MessageLog) -> None:
        """Channels and listeners whose ids look alike have cursors of their own."""
        for id_ in ODD_IDS:
            log.create(id_, Retention())
            cursors.create(id_, ODD_IDS)
        keys = [CursorKey(channel, listener) for channel in ODD_IDS for listener in ODD_IDS]
        moved = {key: cursors.get([key])[key]._replace(offset=n) for n, key in enumerate(keys, start=1)}
        cursors.advance(moved)
        assert cursors.get(keys) == moved

    def test_get_leaves_out(self, cursors: Cursors) -> None:
        """Listeners without a cursor, and channels without a log, are left out."""
        assert cursors.get([]) == {}
        assert cursors.get([_KEY, CursorKey("none", "l")]) == {}

    def test_never_back(self, cursors: Cursors) -> None:
        """A cursor moves forward, and stays where it is told to go back."""
        cursors.create("c", ["l"])
        start = cursors.get([_KEY])[_KEY]
        cursors.advance({_KEY: start._replace(offset=start.offset + 2)})
        cursors.advance({_KEY: start._replace(offset=start.offset + 1)})
        assert cursors.get([_KEY])[_KEY].offset == start.offset + 2

    def test_advance_leaves_alone(self, cursors: Cursors) -> None:
        """A position of another epoch moves nothing, and who has no cursor gets none."""
        cursors.create("c", ["l"])
        before = cursors.get([_KEY])
        cursors.advance({_KEY: Position("otherepoch", 1000), CursorKey("c", "m"): Position("otherepoch", 1)})
        cursors.advance({CursorKey("c", "m"): before[_KEY], CursorKey("none", "l"): before[_KEY]})
        assert cursors.get([_KEY, CursorKey("c", "m"), CursorKey("none", "l")]) == before

    def test_compare_and_set(self, cursors: Cursors) -> None:
        """A cursor moves if it stands where it was expected, also back."""
        cursors.create("c", ["l"])
        start = cursors.get([_KEY])[_KEY]
        moved = start._replace(offset=start.offset - 1)
        assert cursors.compare_and_set(_KEY, start, moved)
        assert not cursors.compare_and_set(_KEY, start, moved)
        assert not cursors.compare_and_set(_KEY, Position("otherepoch", moved.offset), start)
        assert not cursors.compare_and_set(CursorKey("c", "m"), start, moved)
        assert cursors.get([_KEY]) == {_KEY: moved}

    def test_one_competitor_wins(self, cursors: Cursors) -> None:
        """Of threads that expect the same position, one moves the cursor."""
        cursors.create("c", ["l"])
        start = cursors.get([_KEY])[_KEY]
        won: list[bool] = []

        def compete(offset: int) -> None:
            won.append(cursors.compare_and_set(_KEY, start, start._replace(offset=offset)))

        threads = [threading.Thread(target=compete, args=(start.offset + n,)) for n in range(1, 6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(won) == [False] * 4 + [True]

    def test_drop(self, cursors: Cursors) -> None:
        """Dropping tells who had one; others keep theirs."""
        cursors.create("c", ["l", "m"])
        assert list(cursors.drop("c", ["l", "none"])) == ["l"]
        assert list(cursors.drop("c", ["l"])) == list(cursors.drop("none", ["l"])) == []
        assert set(cursors.get([_KEY, CursorKey("c", "m")])) == {CursorKey("c", "m")}

    def test_go_with_the_log(self, cursors: Cursors, log: MessageLog) -> None:
        """Dropping the log drops its cursors, also for the one created anew."""
        cursors.create("c", ["l"])
        log.drop("c")
        log.create("c", Retention())
        assert cursors.get([_KEY]) == {}
        assert list(cursors.create("c", ["l"])) == ["l"]
