"""Listeners: ids, whether they run, and that stopping is noticed."""

import pickle

import pytest

from eric_sse.exception import InvalidListenerException
from eric_sse.listener import MessageQueueListener
from eric_sse.message import Message


def test_a_listener_is_stopped_until_it_is_started():
    """Starting and stopping switch between running and not."""
    listener = MessageQueueListener()
    assert not listener.is_running()
    listener.start()
    assert listener.is_running()
    listener.stop()
    assert not listener.is_running()


def test_a_listener_has_an_id_of_its_own_unless_one_is_given():
    """Ids are new by default, and kept as they are given."""
    assert MessageQueueListener().id != MessageQueueListener().id
    assert MessageQueueListener(listener_id="é/1").id == "é/1"


@pytest.mark.parametrize(
    "listener_id", ["", ".", "..", "x" * 256, "é" * 128, "a\nb", "\x7f", "\x85", "\ud800", 1, b"a"]
)
def test_an_id_that_cannot_be_one_is_refused(listener_id):
    """Too short, too long, control characters, lone surrogates, path segments that URLs resolve, other types."""
    with pytest.raises(InvalidListenerException, match="id"):
        MessageQueueListener(listener_id)


def test_whoever_subscribed_is_told_of_a_stop_until_the_subscription_ends():
    """Streams wait for this."""
    listener, told = MessageQueueListener(), []
    end = listener.changed.subscribe(lambda: told.append("stopped"))
    listener.stop()
    end()
    listener.stop()
    assert told == ["stopped"]


def test_receiving_does_nothing_unless_overridden():
    """The hook takes a message and returns nothing."""
    assert MessageQueueListener().on_message(Message("a")) is None


def test_a_listener_survives_pickling():
    """As users' storages and other processes need; nobody is subscribed to the copy."""
    listener = MessageQueueListener("a")
    listener.changed.subscribe(lambda: None)
    listener.start()
    copy = pickle.loads(pickle.dumps(listener))
    assert (copy.id, copy.is_running()) == ("a", True)
    copy.stop()
    assert listener.is_running()
