"""The unix-socket server's commands and answers, as bytes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eric_sse.wire.commands import (
    ACK,
    REQUIRED_KEYS,
    Command,
    CommandError,
    ErrorAnswer,
    encode_error,
    parse_command,
    parse_error,
)

FULL = {"c": "channel", "t": "type", "p": {"a": [1]}, "r": "receiver"}


@pytest.mark.parametrize("verb", REQUIRED_KEYS)
def test_a_whole_command_is_read(verb):
    """Also with keys that its verb does not need, or that nobody knows."""
    data = json.dumps({"v": verb, **FULL, "x": 1}).encode()
    assert parse_command(data) == Command(verb, "channel", "type", {"a": [1]}, "receiver")


@pytest.mark.parametrize(("verb", "key"), [(verb, key) for verb, keys in REQUIRED_KEYS.items() for key in keys])
@pytest.mark.parametrize("wrong", [{}, {"v": 1}, None])
def test_a_missing_key_or_one_of_another_type_is_named(verb, key, wrong):
    """The error says which key the verb needs."""
    fields = {"v": verb, **FULL}
    del fields[key]
    if wrong is not None:
        fields[key] = wrong
    with pytest.raises(CommandError, match=f"'{verb}' needs the key '{key}'"):
        parse_command(json.dumps(fields).encode())


@pytest.mark.parametrize("fields", [{}, {"v": None}, {"v": "x"}, {"v": ["d"]}, {"V": "d"}, {"v": "D"}])
def test_an_unknown_verb_is_refused_and_the_known_ones_listed(fields):
    """Verbs are the eight, to the letter."""
    with pytest.raises(CommandError, match="use one of d, b, c, r, l, w, rl, rc"):
        parse_command(json.dumps(fields).encode())


@pytest.mark.parametrize(
    "data", [b"", b"{", b"{}{}", b"\xff", b'{"v":"c","p":NaN}', b'{"p":"\\ud800"}', b"[" * 100_000]
)
def test_what_is_not_json_is_refused(data):
    """Nothing, half an object, two, no UTF-8, NaN, a lone surrogate, nested too deep."""
    with pytest.raises(CommandError, match="not JSON"):
        parse_command(data)


@pytest.mark.parametrize("data", [b"[]", b"null", b'"d"', b"1"])
def test_json_that_is_no_object_is_refused(data):
    """A command is an object."""
    with pytest.raises(CommandError, match="is a JSON object"):
        parse_command(data)


def test_a_channel_to_create_may_be_named_by_a_string():
    """Or left to the server to name."""
    assert parse_command(b'{"v":"c"}') == Command("c")
    assert parse_command(b'{"v":"c","c":"news"}').channel_id == "news"
    with pytest.raises(CommandError, match="'c'"):
        parse_command(b'{"v":"c","c":1}')


@given(st.binary())
def test_any_bytes_are_a_command_or_a_command_error(data):
    """Parsing fails in no other way."""
    try:
        assert parse_command(data).verb in REQUIRED_KEYS
    except CommandError:
        return


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_an_error_is_one_line_that_is_read_back(detail):
    """Whatever its text holds."""
    line = encode_error(ErrorAnswer("E", detail))
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert parse_error(line) == ErrorAnswer("E", detail)


def test_what_utf8_cannot_hold_is_replaced_in_an_error():
    """An error quotes what it was given."""
    assert parse_error(encode_error(ErrorAnswer("E", "a\ud800b"))).detail == "a\ufffdb"


@given(st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text()))
def test_no_data_is_taken_for_an_error(value):
    """No JSON value begins like one; nor do acks and the ids that the server gives."""
    assert parse_error(json.dumps(value).encode()) is None
    assert parse_error(ACK) is None
