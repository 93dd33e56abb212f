"""Automatic acknowledgement: gathered, moved together, kept when the store fails."""

import os
import threading
from contextlib import contextmanager

import pytest

from eric_sse.engines import open_engine
from eric_sse.exception import StoreUnavailable
from eric_sse.log import AckBuffer, CursorKey, Cursors, Retention
from eric_sse.message import Position

ONE, TWO = CursorKey("c", "one"), CursorKey("c", "two")


class RecordingCursors(Cursors):
    """Notes what is advanced, after raising the errors that it was given."""

    create = get = compare_and_set = drop = None

    def __init__(self, *errors):
        self.errors, self.advanced, self.called = list(errors), [], threading.Event()

    def advance(self, positions):
        """Note it."""
        self.called.set()
        if self.errors:
            raise self.errors.pop(0)
        self.advanced.append(dict(positions))


def test_many_notes_are_one_move_of_each_cursor_to_its_furthest():
    """In one call; and nothing is called where nothing was noted."""
    acks = AckBuffer(cursors := RecordingCursors(), interval_s=1000)
    for key, offset in [(ONE, 1), (TWO, 5), (ONE, 3), (ONE, 2), (TWO, 4)]:
        acks.note(key, Position("e", offset))
    acks.flush()
    acks.flush()
    acks.close()
    assert cursors.advanced == [{ONE: Position("e", 3), TWO: Position("e", 5)}]


def test_a_move_that_fails_keeps_the_furthest():
    """What is noted while the store fails may be less far, where a listener has two streams."""
    cursors = RecordingCursors()
    acks = AckBuffer(cursors, interval_s=1000)

    def fail(_):
        acks.note(ONE, Position("e", 50))
        raise StoreUnavailable("away")

    cursors.advance = fail
    acks.note(ONE, Position("e", 100))
    with pytest.raises(StoreUnavailable):
        acks.flush()
    del cursors.advance
    acks.close()
    assert cursors.advanced == [{ONE: Position("e", 100)}]


def test_a_position_of_another_epoch_replaces_what_was_noted():
    """Offsets of two logs cannot be compared; the later note counts."""
    acks = AckBuffer(cursors := RecordingCursors(), interval_s=1000)
    acks.note(ONE, Position("old", 9))
    acks.note(ONE, Position("new", 1))
    acks.close()
    assert cursors.advanced == [{ONE: Position("new", 1)}]


def test_what_was_noted_is_moved_by_itself_after_the_interval():
    """No timer runs before the first note, nor after the last move."""
    acks = AckBuffer(cursors := RecordingCursors(), interval_s=0.01)
    assert acks._timer is None
    acks.note(ONE, Position("e", 1))
    assert cursors.called.wait(5)
    acks.close()
    assert cursors.advanced == [{ONE: Position("e", 1)}]
    assert acks._timer is None


def test_a_failed_move_is_tried_again_and_loses_nothing():
    """With what was noted in the meantime."""
    acks = AckBuffer(cursors := RecordingCursors(StoreUnavailable("away")), interval_s=1000)
    acks.note(ONE, Position("e", 1))
    acks.note(TWO, Position("e", 1))
    with pytest.raises(StoreUnavailable):
        acks.flush()
    acks.note(ONE, Position("e", 2))
    acks.close()
    assert cursors.advanced == [{ONE: Position("e", 2), TWO: Position("e", 1)}]


def test_a_timer_whose_move_fails_is_set_again(caplog):
    """The store may come back; the log says what happened."""
    acks = AckBuffer(cursors := RecordingCursors(StoreUnavailable("away")), interval_s=0.01)
    acks.note(ONE, Position("e", 1))
    assert cursors.called.wait(5)
    cursors.called.clear()
    assert cursors.called.wait(5)
    acks.close()
    assert cursors.advanced == [{ONE: Position("e", 1)}]
    assert "trying again: away" in caplog.text


def test_closing_waits_for_a_move_that_a_timer_began():
    """After it the store may go away."""
    cursors, go_on = RecordingCursors(), threading.Event()
    record = cursors.advance
    cursors.advance = lambda positions: (cursors.called.set(), go_on.wait(5), record(positions))
    acks = AckBuffer(cursors, interval_s=0.01)
    acks.note(ONE, Position("e", 1))
    assert cursors.called.wait(5)
    closing = threading.Thread(target=acks.close)
    closing.start()
    assert not cursors.advanced
    go_on.set()
    closing.join(5)
    assert cursors.advanced == [{ONE: Position("e", 1)}]


@contextmanager
def engine_with_a_note():
    """An engine that is to move a cursor to 7."""
    with open_engine("memory://") as engine:
        engine.log.create("c", Retention())
        engine.cursors.create("c", ["one"])
        epoch = engine.cursors.get([ONE])[ONE].epoch
        engine.acks.note(ONE, Position(epoch, 7))
        yield engine


def test_an_engine_moves_cursors_when_it_is_closed():
    """What was delivered just before is acknowledged."""
    with engine_with_a_note() as engine:
        assert engine.cursors.get([ONE])[ONE].offset == 0
    assert engine.cursors.get([ONE])[ONE].offset == 7


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_moves_no_cursor_for_its_parent():
    """On any engine: what was gathered before the fork is the parent's to acknowledge."""
    with engine_with_a_note() as engine:
        child = os.fork()
        if not child:
            engine.acks.flush()
            os._exit(engine.cursors.get([ONE])[ONE].offset)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert engine.cursors.get([ONE])[ONE].offset == 7
