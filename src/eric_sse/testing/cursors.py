"""What every `Cursors` does."""

from collections.abc import Sequence
from functools import partial

import pytest

from eric_sse.engine import Engine
from eric_sse.exception import ChannelNotFound
from eric_sse.log import CursorKey, Cursors, MessageLog, NewEntry, Retention
from eric_sse.message import Position
from eric_sse.testing.ids import ASCII_IDS, ODD_IDS
from eric_sse.testing.log import in_threads

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
        ids = [f"listener {number}" for number in range(10_000)]
        keys = [CursorKey("c", id_) for id_ in ids]
        assert sorted(cursors.create("c", ids)) == sorted(ids)
        (position,) = set(cursors.get(keys).values())
        cursors.advance(dict.fromkeys(keys, position._replace(offset=position.offset + 1)))
        assert set(cursors.get(keys).values()) == {position._replace(offset=position.offset + 1)}
        assert sorted(cursors.drop("c", ids)) == sorted(ids)
        assert cursors.get(keys) == {}

    @pytest.mark.parametrize("odd_ids", [ODD_IDS, ASCII_IDS], ids=["odd", "ascii"])
    def test_odd_ids_stay_apart(self, cursors: Cursors, log: MessageLog, odd_ids: Sequence[str]) -> None:
        """Channels and listeners whose ids look alike have cursors of their own."""
        for id_ in odd_ids[:40]:
            log.create(id_, Retention())
            cursors.create(id_, odd_ids)
        keys = [CursorKey(channel, listener) for channel in odd_ids[:40] for listener in odd_ids]
        moved = {key: at._replace(offset=n) for n, (key, at) in enumerate(cursors.get(keys).items(), start=1)}
        cursors.advance(moved)
        assert cursors.get(keys) == moved
        assert set(moved) == set(keys)

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

        in_threads([partial(compete, start.offset + n) for n in range(1, 6)])
        assert sorted(won) == [False] * 4 + [True]

    def test_none_is_skipped(self, cursors: Cursors) -> None:
        """Threads that move a cursor one by one, each from where it stands, move it as often as they were told so."""
        cursors.create("c", ["l"])
        start = cursors.get([_KEY])[_KEY]
        moved: list[int] = []

        def move() -> None:
            while (at := cursors.get([_KEY])[_KEY]).offset < start.offset + 30:
                if cursors.compare_and_set(_KEY, at, at._replace(offset=at.offset + 1)):
                    moved.append(at.offset)

        in_threads([move] * 3)
        assert sorted(moved) == list(range(start.offset, start.offset + 30))

    def test_one_creates(self, cursors: Cursors) -> None:
        """Of threads that create the same cursors at once, one is told that it did, for each."""
        ids = [f"listener {number}" for number in range(50)]
        created: list[str] = []
        in_threads([lambda: created.extend(cursors.create("c", ids))] * 4)
        assert sorted(created) == sorted(ids)

    def test_drop(self, cursors: Cursors) -> None:
        """Dropping tells who had one; others keep theirs."""
        cursors.create("c", ["l", "m"])
        assert list(cursors.drop("c", ["l", "none"])) == ["l"]
        assert list(cursors.drop("c", ["l"])) == list(cursors.drop("none", ["l"])) == []
        assert set(cursors.get([_KEY, CursorKey("c", "m")])) == {CursorKey("c", "m")}

    def test_removals_are_counted(self, cursors: Cursors, log: MessageLog) -> None:
        """The head counts the cursors that were dropped: only those that were there; a page's head, too."""
        cursors.create("c", ["l", "m", "n"])
        for listeners, expected in (([], 0), (["none"], 0), (["l", "none"], 1), (["l"], 1), (["m", "n"], 3)):
            cursors.drop("c", listeners)
            assert log.heads(["c"])["c"].removals == expected
            assert log.read("c", 0, "l").head.removals == expected

    def test_removed_and_created_again(self, cursors: Cursors, log: MessageLog) -> None:
        """Who is removed and comes again starts anew, at the end; the removal stays counted."""
        for expected in (1, 2):
            cursors.create("c", ["l"])
            log.append("c", [NewEntry(b"")])
            cursors.drop("c", ["l"])
            assert log.heads(["c"])["c"].removals == expected
        cursors.create("c", ["l"])
        assert cursors.get([_KEY])[_KEY].offset == log.heads(["c"])["c"].last

    def test_of_a_log_that_is_gone(self, cursors: Cursors, log: MessageLog) -> None:
        """Nothing that was meant for a dropped log's cursors moves, or makes, those of the one created anew."""
        cursors.create("c", ["l", "m"])
        old = cursors.get([_KEY])[_KEY]
        log.drop("c")
        assert not cursors.compare_and_set(_KEY, old, old._replace(offset=100))
        log.create("c", Retention())
        cursors.create("c", ["l"])
        new = cursors.get([_KEY])
        cursors.advance({_KEY: old._replace(offset=100), CursorKey("c", "m"): old})
        assert not cursors.compare_and_set(_KEY, old, old._replace(offset=100))
        assert cursors.get([_KEY, CursorKey("c", "m")]) == new
        assert log.heads(["c"])["c"].removals == 0

    def test_go_with_the_log(self, cursors: Cursors, log: MessageLog) -> None:
        """Dropping the log drops its cursors, also for the one created anew."""
        cursors.create("c", ["l"])
        log.drop("c")
        log.create("c", Retention())
        assert cursors.get([_KEY]) == {}
        assert list(cursors.create("c", ["l"])) == ["l"]
