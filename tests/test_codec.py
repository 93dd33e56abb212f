"""The codec: what is stored comes back as it was, and what could not is refused."""

import enum
import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eric_sse.codec import (
    check_type,
    decode_json,
    decode_message,
    encode_json,
    encode_message,
    encode_value,
    listener_from_value,
    listener_to_value,
    message_key,
    register_listener_type,
)
from eric_sse.exception import InvalidListenerException, InvalidMessageFormat, RepositoryError
from eric_sse.listener import MessageQueueListener
from eric_sse.message import Message, MessageContract, Position, SignedMessage, UniqueMessage
from support.payloads import UNSTORABLE

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


@given(JSON)
def test_what_json_can_hold_comes_back_equal_and_of_the_same_types(value):
    """Also integers of any size, and text of any alphabet; on one line."""
    encoded = encode_json(value)
    assert repr(decode_json(encoded)) == repr(value)
    assert b"\n" not in encoded
    assert b"\r" not in encoded
    assert json.loads(encoded) == value


@pytest.mark.parametrize("name", UNSTORABLE)
def test_what_json_cannot_hold_is_refused(name):
    """It is neither stored as something else, nor a reason to fail otherwise."""
    with pytest.raises(InvalidMessageFormat, match="JSON cannot hold"):
        encode_json(UNSTORABLE[name])
    with pytest.raises(RepositoryError, match="'the key'"):
        encode_value("the key", UNSTORABLE[name])


def test_what_json_has_another_name_for_is_taken_for_that():
    """Tuples are lists, and enumerations of strings are strings."""
    colour = enum.StrEnum("Colour", ["RED"])
    assert decode_json(encode_json((1, [colour.RED], {"two": None}))) == [1, ["red"], {"two": None}]


@pytest.mark.parametrize("data", [b"", b"{", b"nul", b"NaN", b'"\xff"', b"[" * 100_000, b"1 2"])
def test_damaged_json_is_a_repository_error(data):
    """Never taken for a missing value, or half a one."""
    with pytest.raises(RepositoryError, match="damaged"):
        decode_json(data)


@given(st.builds(Message, TEXT.filter(lambda t: t and "eric." not in t and not set(t) & set("\r\n\0")), JSON))
def test_a_message_comes_back_as_it_was(message):
    """Type and payload, of its class."""
    copy = decode_message(encode_message(message))
    assert type(copy) is Message
    assert (copy.type, repr(copy.payload), copy.position) == (message.type, repr(message.payload), None)


def test_signed_and_unique_messages_keep_class_sender_and_id():
    """And learn their place."""
    place = Position("e", 1)
    signed = decode_message(encode_message(SignedMessage("s", "a", 1)), place)
    assert (type(signed), signed.sender_id, signed.position) == (SignedMessage, "s", place)
    for sender in (None, "s"):
        unique = decode_message(encode_message(UniqueMessage(Message("a", 1), sender, "id")), place)
        assert (type(unique), unique.sender_id, unique.id, unique.position) == (UniqueMessage, sender, "id", place)


def test_a_message_class_of_a_users_own_is_stored_as_type_and_payload():
    """What it adds is not stored: stored data names no code."""

    class Own(MessageContract):
        type, payload = "a", 1

    copy = decode_message(encode_message(Own()))
    assert (type(copy), copy.type, copy.payload) == (Message, "a", 1)


def test_only_a_unique_message_has_a_key():
    """What makes repeating it harmless."""
    assert message_key(UniqueMessage(Message("a"), message_id="id")) == "id"
    assert message_key(SignedMessage("s", "a")) is None


@pytest.mark.parametrize("message_type", ["", None, 1, b"a", "eric.gap", "eric.", "a\nb", "a\rb", "a\0"])
def test_a_type_that_streams_could_not_carry_is_refused(message_type):
    """Empty, no string, reserved, or breaking the line."""
    with pytest.raises(InvalidMessageFormat, match="type"):
        check_type(message_type)


@pytest.mark.parametrize("message", [Message("\ud800"), SignedMessage("\ud800", "a")])
def test_a_lone_surrogate_beside_the_payload_is_refused(message):
    """In the type or the sender."""
    with pytest.raises(InvalidMessageFormat, match="surrogate"):
        encode_message(message)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"v":1,"k":"message","t":"a"}',
        b'{"v":1,"k":"message","t":1,"p":1}',
        b'{"v":1,"k":"pickle","t":"a","p":1}',
        encode_message(Message("a", {"b": "c"}))[:-3],
    ],
)
def test_a_damaged_message_is_a_repository_error(data):
    """Cut off, of other types, or of a kind that nobody knows."""
    with pytest.raises(RepositoryError):
        decode_message(data)


class Numbered(UniqueMessage):
    """A user's own, whose id is a number."""

    id = 42


@pytest.mark.parametrize(
    ("message", "what"),
    [
        (SignedMessage(42, "m"), "sender"),
        (UniqueMessage(Message("m"), 42), "sender"),
        (Numbered(Message("m")), "id"),
    ],
)
def test_a_sender_or_an_id_that_is_no_text_is_refused(message, what):
    """Stored, it could not be read."""
    with pytest.raises(InvalidMessageFormat, match=f"{what} is a string, not 42"):
        encode_message(message)


def test_a_message_of_a_newer_version_is_refused_and_not_guessed_at():
    """The error says what to do."""
    with pytest.raises(RepositoryError, match=r"format 2.*upgrade"):
        decode_message(encode_message(Message("a")).replace(b'"v":1', b'"v":2'))


@given(st.binary())
def test_any_bytes_are_a_message_or_a_repository_error(data):
    """Decoding fails in no other way."""
    try:
        decode_message(data)
    except RepositoryError:
        return


def test_a_listener_is_stored_as_its_types_name_and_its_id():
    """Whether it runs is not stored."""
    listener = MessageQueueListener("l")
    listener.start()
    copy = listener_from_value(json.loads(json.dumps(listener_to_value(listener))))
    assert (type(copy), copy.id, copy.is_running()) == (MessageQueueListener, "l", False)


def test_a_listener_class_has_to_be_registered_to_be_stored():
    """It is refused when it is stored, not when it is loaded; a name is taken once."""

    class Own(MessageQueueListener):
        pass

    with pytest.raises(InvalidListenerException, match="register_listener_type"):
        listener_to_value(Own("l"))
    name = f"own-{uuid.uuid4()}"
    assert register_listener_type(name)(Own) is Own
    assert type(listener_from_value(listener_to_value(Own("l")))) is Own
    with pytest.raises(ValueError, match=name):
        register_listener_type(name)(MessageQueueListener)


@pytest.mark.parametrize("value", [None, [], {}, {"type": "listener"}, {"id": "l"}, {"type": "never", "id": "l"}])
def test_a_damaged_listener_or_one_of_an_unknown_type_is_a_repository_error(value):
    """The error says which it is."""
    with pytest.raises(RepositoryError, match=r"damaged|not registered"):
        listener_from_value(value)
