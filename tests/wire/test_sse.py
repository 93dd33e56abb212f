"""The event stream format, against the wording of the WHATWG HTML standard §9.2."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eric_sse.wire.sse import (
    Event,
    EventStreamParser,
    EventTooLarge,
    encode_comment,
    encode_event,
    encode_json_event,
    field_value,
)
from wire.reference_sse import interpret

text = st.text(st.characters(exclude_categories=["Cs"]))
one_line = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"))
# What the grammar is made of, and what has been got wrong: pieces, so that random streams are nearly well-formed.
PIECES = [
    b"\n", b"\n\n", b"\r", b"\r\n", b"\r\n\r\n", b":", b": hb", b" ", b"data", b"data:", b"data: ",
    b"data:  x", b"id", b"id:", b"id: 7", b"id: \x00", b"event", b"event:", b"event: e",
    b"retry: 5", b"retry:", b"retry: +1", b"Data: x", b"\xef\xbb\xbf", b"\xe2\x82\xac", b"\xe2\x82",
    b"\xff", b"\xf0\x9f\x98\x80", b"\xc2\x85", b"\xe2\x80\xa8", b"\x0b\x0c", b"\x00", b"xyz",
    b"id: 1\nevent: e\ndata: {}\n\n", b"data: d\n\n", b"id: 2\r\ndata: d\r\n\r\n",
]  # fmt: skip
streams = st.lists(st.sampled_from(PIECES) | st.binary(max_size=3), max_size=30).map(b"".join)


def M(data, event_id=""):
    """An event of the default type."""
    return Event("message", data, event_id)


# (stream, events), each fed whole and byte by byte. The first four are the standard's own examples.
CASES = {
    "three lines": (b"data: YHOO\ndata: +2\ndata: 10\n\n", [M("YHOO\n+2\n10")]),
    "four blocks": (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        [M("first event", "1"), M("second event"), M(" third event")],
    ),
    "empty data": (b"data\n\ndata\ndata\n\ndata:", [M(""), M("\n")]),
    "one space is the same as none": (b"data:test\n\ndata: test\n\n", [M("test")] * 2),
    "types": (b"event: add\ndata: 1\n\nevent: remove\ndata: 2\n\n", [Event("add", "1", ""), Event("remove", "2", "")]),
    "an empty type is message": (b"event: e\nevent:\ndata: 1\n\n", [M("1")]),
    "a type of one space is empty": (b"event: \ndata: 1\n\n", [M("1")]),
    "a type without data is forgotten": (b"event: e\n\ndata: 1\n\n", [M("1")]),
    "the last type counts": (b"event: a\nevent: b\ndata: 1\n\n", [Event("b", "1", "")]),
    "an id stays": (b"id: 1\ndata: a\n\ndata: b\n\n", [M("a", "1"), M("b", "1")]),
    "an id of one space is empty": (b"id: 1\n\nid: \ndata: a\n\n", [M("a")]),
    "an id keeps its second space": (b"id:  1 \ndata: a\n\n", [M("a", " 1 ")]),
    "an id with NUL is ignored": (b"id: 1\n\nid: 2\0\ndata: a\n\n", [M("a", "1")]),
    "an id after the data counts": (b"data: a\nid: 9\n\n", [M("a", "9")]),
    "CR": (b"data: a\rid: 1\r\rdata: b\r\r", [M("a", "1"), M("b", "1")]),
    "CRLF": (b"data: a\r\nid: 1\r\n\r\ndata: b\r\n\r\n", [M("a", "1"), M("b", "1")]),
    "CR then CRLF": (b"data: a\r\r\n\r\ndata: b\n\r", [M("a"), M("b")]),
    "LF then CR are two": (b"data: a\n\rdata: b\n\n", [M("a"), M("b")]),
    "other separators are text": ("data: a\x0bb\x0cc\x85d\u2028e\n\n".encode(), [M("a\x0bb\x0cc\x85d\u2028e")]),
    "a BOM is stripped": (b"\xef\xbb\xbfdata: a\n\n", [M("a")]),
    "one BOM is stripped": (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [M("b")]),
    "half a BOM is not": (b"\xef\xbbdata: a\n\ndata: b\n\n", [M("b")]),
    "a BOM in text is text": (b"data: \xef\xbb\xbfa\n\n", [M("\ufeffa")]),
    "names are compared literally": (b"Data: a\n data: b\ndata : c\ndatax: d\n\n", []),
    "comments are ignored": (b":\n: x\n:data: y\ndata: a\n:z\n\n:\n\n", [M("a")]),
    "a value may hold colons": (b"data: a: b:\n\n", [M("a: b:")]),
    "UTF-8": ("data: €😀\n\n".encode(), [M("€😀")]),
    "bytes that are no UTF-8": (b"data: a\xffb\xe2\x82\xf0\x9f\x98\n\n", [M("a\ufffdb\ufffd\ufffd")]),
    "the end discards": (b"data: a\n\nid: 5\ndata: b\n", [M("a")]),
    "nothing": (b"", []),
}  # fmt: skip


def parse(*chunks, **options):
    """The events of a stream that arrives in ``chunks``, and the parser."""
    parser = EventStreamParser(**options)
    return [event for chunk in chunks for event in parser.feed(chunk)], parser


def by_byte(stream):
    """``stream`` in pieces of one byte."""
    return [stream[i : i + 1] for i in range(len(stream))]


@pytest.mark.parametrize(("stream", "events"), CASES.values(), ids=CASES)
def test_whole(stream, events):
    """A stream that arrives in one piece gives what the standard says."""
    assert parse(stream)[0] == events


@pytest.mark.parametrize(("stream", "events"), CASES.values(), ids=CASES)
def test_byte_by_byte(stream, events):
    """A stream that arrives a byte at a time gives the same."""
    assert parse(*by_byte(stream))[0] == events


@given(streams, st.data())
def test_any_split(stream, data):
    """However a stream is cut, and whatever is in it, it means what the reference says."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    events, parser = parse(*chunks, last_event_id="seed")
    expected = interpret(stream, "seed")
    assert (events, parser.last_event_id, parser.retry_ms) == (
        expected.events,
        expected.last_event_id,
        expected.retry_ms,
    )


@given(st.lists(st.tuples(text, one_line, one_line), max_size=5), st.data())
def test_round_trip(blocks, data):
    """What is encoded is what is parsed, at any cut; line ends in data arrive as LF."""
    stream = b"".join(encode_event(d, event=e, event_id=i) for d, e, i in blocks)
    cut = data.draw(st.integers(0, len(stream)))
    expected = [Event(e or "message", re.sub("\r\n|\r", "\n", d), i) for d, e, i in blocks]
    assert parse(stream[:cut], stream[cut:])[0] == expected


def test_an_event_is_dispatched_by_its_own_bytes():
    """No event waits for the byte after it, whatever ends its lines."""
    assert [len(parse(b"data: a" + end * 2)[0]) for end in (b"\n", b"\r", b"\r\n")] == [1, 1, 1]


def test_the_id_counts_once_its_block_has_ended():
    """A block with nothing but an id moves the last event id, and only its blank line does."""
    parser = EventStreamParser("0")
    assert parser.feed(b"id: 7\n") == []
    assert parser.last_event_id == "0"
    assert parser.feed(b"\n") == []
    assert parser.last_event_id == "7"


def test_a_resumed_stream_keeps_its_id():
    """An event without an id, on a stream that resumed, carries the id it resumed from."""
    assert parse(b"data: a\n\n", last_event_id="41")[0] == [M("a", "41")]


@pytest.mark.parametrize(
    ("value", "retry_ms"),
    [("0", 0), ("2500", 2500), ("007", 7), ("", None), ("-1", None), ("1.5", None), ("1e3", None), (" 5", None),
     ("٣", None), ("9" * 5000, 2**53 - 1), ("0" * 5000 + "5", 5)],
)  # fmt: skip
def test_retry(value, retry_ms):
    """Only ASCII digits set the reconnection time; a number without end neither fails nor takes long."""
    assert parse(f"retry: {value}\n\n".encode())[1].retry_ms == retry_ms


@pytest.mark.parametrize(
    "stream",
    [
        b"data: " + b"x" * 95,
        b"x" * 101 + b"\n",
        b":" * 101,
        b"data: " + b"\xff" * 50 + b"\n\n",
        b"data: " + b"x" * 60 + b"\ndata: " + b"y" * 60 + b"\n",
    ],
)
def test_a_large_event_is_refused_however_it_arrives(stream):
    """What exceeds the limit is refused at the same place, whole or byte by byte, and the events before it are told."""
    before = b"data: a\n\n"
    with pytest.raises(EventTooLarge, match="larger than 100 bytes") as refused:
        parse(before + stream, max_event_bytes=100)
    assert refused.value.events == (M("a"),)
    with pytest.raises(EventTooLarge):
        parse(*by_byte(before + stream), max_event_bytes=100)


@pytest.mark.parametrize("feed", [lambda s: [s], by_byte])
def test_the_limit_is_for_each_event(feed):
    """Events within the limit pass, together far above it; so do comments without end."""
    stream = b"data: " + b"x" * 93 + b"\n\n" + b": hb\n" * 100
    assert len(parse(*feed(stream * 10), max_event_bytes=100)[0]) == 10


@pytest.mark.parametrize("piece", [b"x", b"data\n", b"\n", b"data: 12\n"])
def test_adversarial_streams_take_linear_time(piece):
    """Four times the bytes, one at a time, take about four times as long, never sixteen."""

    def seconds(count):
        parser, chunks = EventStreamParser(), by_byte(piece * (count // len(piece)))
        started = time.process_time()
        for chunk in chunks:
            parser.feed(chunk)
        return time.process_time() - started

    assert min(seconds(100_000) for _ in range(2)) < 10 * min(seconds(25_000) for _ in range(3))


def test_encode_event():
    """A block holds its fields in the order that parsers read fastest, and ends with a blank line."""
    block = encode_event("a\r\nb\rc\n", event="e", event_id="1", retry_ms=5)
    assert block == b"id: 1\nretry: 5\nevent: e\ndata: a\ndata: b\ndata: c\ndata: \n\n"


def test_encode_event_leaves_the_default_type_out():
    """The type that a receiver supplies itself is not sent."""
    assert encode_event("a", event="message") == encode_event("a", event="") == encode_event("a") == b"data: a\n\n"


def test_encode_event_without_data():
    """A block with an id and a reconnection time dispatches nothing and sets both."""
    events, parser = parse(encode_event(None, event_id="7", retry_ms=3000))
    assert (events, parser.last_event_id, parser.retry_ms) == ([], "7", 3000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": "d", "event_id": "1\ndata: forged"}, "event id .* holds '\\\\n'"),
        ({"data": "d", "event_id": "1\r"}, "event id .* holds '\\\\r'"),
        ({"data": "d", "event_id": "1\0"}, "event id .* holds '\\\\x00'"),
        ({"data": "d", "event": "e\n\n"}, "event type .* holds '\\\\n'"),
        ({"data": "d", "event": "e\rid: 9"}, "event type .* holds '\\\\r'"),
        ({"data": "a\n\ud800"}, "data holds the lone surrogate '\\\\ud800' at index 2"),
        ({"data": "d", "event_id": "\udfff"}, "event id holds the lone surrogate"),
        ({"data": "d", "retry_ms": -1}, "retry_ms is -1"),
        ({"data": None, "event": "e"}, "never dispatched"),
        ({"data": None}, "never dispatched"),
    ],
)
def test_encode_event_refuses(arguments, message):
    """What would forge a field, void one or not encode is refused, and the error says what and where."""
    with pytest.raises(ValueError, match=message):
        encode_event(**arguments)


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b", "\ud800"])
def test_field_value_refuses(value):
    """A value that is validated once to be written many times holds nothing that could end a field."""
    with pytest.raises(ValueError, match="field value"):
        field_value(value)


def test_encode_json_event():
    """The unchecked fast path gives a receiver the same event as the checked one."""
    fast = encode_json_event(b'{"n":1}', event=field_value("é"), event_id=field_value("k-1"))
    assert parse(fast)[0] == parse(encode_event('{"n":1}', event="é", event_id="k-1"))[0]


@given(text)
def test_comments_are_never_seen(comment):
    """A comment, whatever it holds, dispatches nothing and disturbs nothing around it."""
    stream = encode_event("a", event_id="1") + encode_comment(comment) + encode_event("b")
    assert parse(stream)[0] == [M("a", "1"), M("b", "1")]


def test_an_empty_comment_is_three_bytes():
    """A heartbeat costs as little as a whole block can."""
    assert encode_comment() == b":\n\n"
