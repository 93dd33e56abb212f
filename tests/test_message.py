"""Messages: what they carry, and how a place in a log is spelled."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eric_sse.message import MAX_OFFSET, Message, MessageContract, Position, SignedMessage, UniqueMessage


def test_a_message_has_a_type_and_a_payload_that_is_none_by_default():
    """The payload may be left out; a message of its own has no place in a log."""
    assert (Message("a").type, Message("a").payload, Message("a").position) == ("a", None, None)
    assert Message("a", msg_payload={"b": 1}).payload == {"b": 1}


def test_a_signed_message_is_a_message_that_names_its_sender():
    """A signed message carries a sender beside type and payload."""
    message = SignedMessage("sender", "a", [1])
    assert isinstance(message, Message)
    assert (message.sender_id, message.type, message.payload) == ("sender", "a", [1])


def test_a_unique_message_wraps_another_and_has_an_id():
    """It takes type and payload from what it wraps; its id is new unless given."""
    message = UniqueMessage(Message("a", 1), sender_id="sender", message_id="id")
    assert (message.type, message.payload, message.sender_id, message.id) == ("a", 1, "sender", "id")
    other = UniqueMessage(Message("a"))
    assert other.sender_id is None
    assert other.id != UniqueMessage(Message("a")).id


@pytest.mark.parametrize("message", [Message("a", 1), SignedMessage("s", "a", 1), UniqueMessage(Message("a", 1))])
def test_messages_survive_pickling_with_their_place(message):
    """Executors of other processes, and users' storages, pickle messages."""
    message.position = Position("e", 3)
    copy = pickle.loads(pickle.dumps(message))
    assert type(copy) is type(message)
    assert (copy.type, copy.payload, copy.position) == ("a", 1, Position("e", 3))


def test_a_message_of_a_users_own_needs_a_type_and_a_payload():
    """The contract has two abstract properties."""
    with pytest.raises(TypeError, match="payload"):
        type("Half", (MessageContract,), {"type": "a"})()


def test_a_message_says_what_it_is_when_printed():
    """Logs show a message's class, type and payload."""
    assert repr(SignedMessage("s", "a", {"b": 1})) == "SignedMessage(type='a', payload={'b': 1})"


@given(st.from_regex(r"[0-9a-z]{1,32}", fullmatch=True), st.integers(0, MAX_OFFSET))
def test_a_position_is_read_back_from_its_text(epoch, offset):
    """What ``str`` spells, ``parse`` reads."""
    position = Position(epoch, offset)
    assert Position.parse(str(position)) == position


@pytest.mark.parametrize(
    "text",
    [
        *("", "a", "a-", "-1", "a-01", "a--1", "a-1 ", "A-1", "a-1\n", "a-٣", "a-1-1"),
        f"a-{MAX_OFFSET + 1}",
        "a" * 33 + "-1",
    ],
)
def test_what_no_position_spells_is_none(text):
    """Only one spelling of a position is a position."""
    assert Position.parse(text) is None


@given(st.text())
def test_any_text_is_a_position_or_none(text):
    """Parsing never fails, and accepts only the one spelling."""
    position = Position.parse(text)
    assert position is None or str(position) == text
