"""The event stream format: an encoder and an incremental parser, to the letter of the WHATWG HTML standard §9.2.

https://html.spec.whatwg.org/multipage/server-sent-events.html, sections 9.2.5 (parsing) and 9.2.6 (interpreting);
what stands in quotation marks below is its wording. No I/O, standard library only.
"""

import re
from typing import NamedTuple

DEFAULT_MAX_EVENT_BYTES = 16 * 1024 * 1024
"""How much of one event a parser holds at most, unless told otherwise."""

_MAX_RETRY_MS = 2**53 - 1  # what a JavaScript number still holds exactly; also keeps int() away from endless digits
_BOM = b"\xef\xbb\xbf"

# "the ways in which a line can end". Not splitlines(), which swallows the last one.
_END_OF_LINE = re.compile(rb"\r\n|\r|\n")

# A stream whose lines end in LF is cut into tokens by one C-level findall, which is quicker than splitting it into
# blocks, lines and fields: either a whole block in the form that most servers write, or else a single line with its
# LF. Every repeat is possessive. That keeps it linear, and it keeps "id: \n" from giving back its one space and reading
# as an id of " ". An id that resets (empty) or that "contains U+0000 NULL", and an empty type, are left to the line
# branch, where absent and empty are told apart.
_tokens = re.compile(
    r"(?:id: ?+([^\n\0]++)\n)?(?:event: ?+([^\n]++)\n)?data: ?+([^\n]*+)\n\n"
    r"|([^\n]*+\n)"
).findall


class Event(NamedTuple):
    """One event of a stream, as it is dispatched.

    Attributes:
        type: The event's type, ``"message"`` unless the stream named another.
        data: Its data; lines are joined by LF.
        id: The stream's last event id when the event was dispatched, ``""`` before the first. An event without an
            ``id:`` of its own carries the one before it.
    """

    type: str
    data: str
    id: str


class EventTooLarge(ValueError):
    """An event is larger than the parser was told to hold. The parser is of no use after it.

    Attributes:
        limit: The limit, in bytes.
        events: The events that the same chunk completed before it.
    """

    def __init__(self, limit: int, events: tuple[Event, ...] = ()) -> None:
        super().__init__(f"an event of the stream is larger than {limit} bytes; raise max_event_bytes or send less")
        self.limit = limit
        self.events = events


def field_value(text: str) -> bytes:
    """``text`` as the value of an ``id`` or ``event`` field, validated: do it once and keep the bytes.

    Raises:
        ValueError: It holds CR, LF or NUL, or a lone surrogate.
    """
    return _checked("field value", text, "\r\n\0")


def encode_event(
    data: str | None,
    *,
    event: str | None = None,
    event_id: str | None = None,
    retry_ms: int | None = None,
) -> bytes:
    r"""Encode one block of an event stream.

    Args:
        data: The event's data, written as one ``data:`` line for each of its lines. CRLF and CR reach the receiver as
            LF: the format cannot tell them apart. None makes a block that sets the last event id or the reconnection
            time and dispatches nothing.
        event: The event's type. ``"message"``, empty and None are the same to a receiver, and are not written.
        event_id: The last event id from this block on; ``""`` resets it, None leaves it.
        retry_ms: The receiver's reconnection time from now on, in milliseconds.

    Raises:
        ValueError: ``event`` or ``event_id`` holds what would end its field or be ignored, text holds a lone
            surrogate, ``retry_ms`` is negative, or there is nothing to dispatch or set.

    >>> encode_event("one\ntwo", event="note", event_id="7")
    b'id: 7\nevent: note\ndata: one\ndata: two\n\n'
    """
    parts: list[bytes] = []
    if event_id is not None:
        # "If the field value does not contain U+0000 NULL, then set the last event ID buffer [...]. Otherwise, ignore
        # the field": an id with NUL would be lost without a sound, so it is refused here.
        parts += (b"id: ", _checked("event id", event_id, "\r\n\0"), b"\n")
    if retry_ms is not None:
        if retry_ms < 0:
            raise ValueError(f"retry_ms is {retry_ms}; a reconnection time is zero or more milliseconds")
        parts.append(b"retry: %d\n" % retry_ms)
    if data is None:
        if event or not parts:
            raise ValueError(
                "a block without data is never dispatched: give data (it may be ''), an event_id or retry_ms"
            )
    else:
        if event and event != "message":
            parts += (b"event: ", _checked("event type", event, "\r\n"), b"\n")
        # Always a space: "If value starts with a U+0020 SPACE character, remove it", which would eat the data's own.
        parts += [b"data: %b\n" % line for line in _END_OF_LINE.split(_utf8("data", data))]
    parts.append(b"\n")
    return b"".join(parts)


def encode_json_event(data: bytes, *, event: bytes, event_id: bytes) -> bytes:
    """Encode one event whose parts are bytes already, without checking them: for a server's hot path.

    Args:
        data: JSON on one line, UTF-8: no CR or LF byte. JSON escapes both in strings, so that any encoder which
            does not indent satisfies this.
        event: The type, and ``event_id`` the id, as :func:`field_value` gave them.
        event_id: See ``event``.
    """
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id, event, data)


def encode_comment(text: str = "") -> bytes:
    """Encode a comment, which receivers ignore: what keeps an idle connection from being taken for dead.

    It ends with a blank line, so that it may stand between any two blocks.

    Raises:
        ValueError: ``text`` holds a lone surrogate.
    """
    lines = _END_OF_LINE.split(_utf8("comment", text))
    return b"".join(b": %b\n" % line if line else b":\n" for line in lines) + b"\n"


class EventStreamParser:
    r"""Parse an event stream that arrives in pieces.

    Time is linear in the bytes fed, however they are cut. Bytes that are not UTF-8 become U+FFFD. What the end of the
    stream leaves incomplete is discarded: "If the file ends in the middle of an event, before the final empty line,
    the incomplete event is not dispatched". One parser serves one connection.

    Args:
        last_event_id: Where the stream resumes, kept until the stream sets another. (The standard initialises the
            buffer to the empty string for each connection; browsers keep it over a reconnect, and so do we.)
        max_event_bytes: The longest line, and the most data of one event, that is held.

    >>> parser = EventStreamParser()
    >>> parser.feed(b"id: 1\ndata: he")
    []
    >>> parser.feed(b"llo\n\n")
    [Event(type='message', data='hello', id='1')]
    """

    def __init__(self, last_event_id: str = "", *, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._last_event_id = last_event_id
        self._retry_ms: int | None = None
        # "a data buffer, an event type buffer, and a last event ID buffer". The data is kept as bytes, so that many
        # short lines cost what they hold and not an object each.
        self._data = bytearray()
        self._type = ""
        self._id_buffer = last_event_id
        self._line = bytearray()  # the beginning of a line that has not ended
        self._at_block_start = True
        self._after_cr = False
        self._bom_settled = False

    @property
    def last_event_id(self) -> str:
        """The id to resume from: that of the last block which ended, also of one that held nothing but an id."""
        return self._last_event_id

    @property
    def retry_ms(self) -> int | None:
        """The reconnection time that the stream asked for last, in milliseconds, or None if it has not."""
        return self._retry_ms

    def feed(self, chunk: bytes) -> list[Event]:
        """Take the next bytes and return the events that they complete, in order.

        Raises:
            EventTooLarge: An event exceeds ``max_event_bytes``.
        """
        if not self._bom_settled:
            chunk = self._without_bom(chunk)
        chunk = self._with_lf_only(chunk)
        end = chunk.rfind(b"\n") + 1
        if not end:
            self._hold(chunk)
            return []
        lines = chunk[:end]
        if self._line:
            lines = bytes(self._line) + lines
            self._line.clear()
        events: list[Event] = []
        try:
            self._interpret(lines, events)
            self._hold(chunk[end:])
        except EventTooLarge as error:
            error.events = tuple(events)
            raise
        return events

    def _without_bom(self, chunk: bytes) -> bytes:
        # §9.2.6: "The UTF-8 decode algorithm strips one leading UTF-8 Byte Order Mark (BOM), if any."
        self._line += chunk
        head = bytes(self._line)
        if len(head) < len(_BOM) and _BOM.startswith(head):
            return b""  # it may yet become one
        self._bom_settled = True
        self._line.clear()
        return head.removeprefix(_BOM)

    def _with_lf_only(self, chunk: bytes) -> bytes:
        # A CR ends its line at once. Were it held back until the next byte shows that no LF follows, an event would
        # wait for the one after it.
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return chunk

    def _hold(self, part: bytes) -> None:
        self._line += part
        if len(self._line) > self._max:
            raise EventTooLarge(self._max)

    def _interpret(self, lines: bytes, events: list[Event]) -> None:
        # Decoding by line gives what decoding the stream would: LF is never inside a UTF-8 sequence, and a sequence
        # that is cut short by one is replaced either way.
        kept = self._up_to_long_line(lines)
        # U+FFFD is three bytes for one that was fed; below a third of the limit nothing here can exceed it.
        may_skip_checks = 3 * len(lines) <= self._max
        fast = may_skip_checks and self._at_block_start
        append, new = events.append, tuple.__new__
        for event_id, event_type, data, line in _tokens(kept.decode("utf-8", "replace")):
            if line:
                self._process_line(line, events)
                fast = may_skip_checks and self._at_block_start
            elif fast:
                if event_id:
                    self._id_buffer = self._last_event_id = event_id
                append(new(Event, (event_type or "message", data, self._last_event_id)))
            else:  # a block that lines before it began
                self._process_block(event_id, event_type, data, events)
                fast = may_skip_checks
        if len(kept) < len(lines):
            raise EventTooLarge(self._max)

    def _up_to_long_line(self, lines: bytes) -> bytes:
        if len(lines) > self._max:
            start = 0
            for line in lines.split(b"\n"):
                if len(line) > self._max:
                    return lines[:start]
                start += len(line) + 1
        return lines

    def _process_block(self, event_id: str, event_type: str, data: str, events: list[Event]) -> None:
        self._id_buffer = event_id or self._id_buffer
        self._type = event_type or self._type
        self._process_field("data", data)
        self._dispatch(events)

    def _process_line(self, line: str, events: list[Event]) -> None:
        if line == "\n":
            self._dispatch(events)
            return
        self._at_block_start = False
        # "Otherwise, the string is not empty but does not contain a U+003A COLON character: [...] using the whole line
        # as the field name, and the empty string as the field value". A comment comes out as a field named "".
        name, _, value = line[:-1].partition(":")
        self._process_field(name, value.removeprefix(" "))

    def _process_field(self, name: str, value: str) -> None:
        if name == "data":
            self._data += value.encode()
            self._data += b"\n"
            if len(self._data) > self._max:
                raise EventTooLarge(self._max)
        elif name == "event":
            self._type = value
        elif name == "id" and "\0" not in value:
            self._id_buffer = value
        # "If the field value consists of only ASCII digits": str.isdigit() alone also takes other scripts'.
        elif name == "retry" and value.isascii() and value.isdigit():
            self._retry_ms = min(int(value.lstrip("0")[:17] or "0"), _MAX_RETRY_MS)

    def _dispatch(self, events: list[Event]) -> None:
        # "Set the last event ID string of the event source to the value of the last event ID buffer", also where
        # nothing is dispatched: "If the data buffer is an empty string, set the data buffer and the event type buffer
        # to the empty string and return."
        self._last_event_id = self._id_buffer
        self._at_block_start = True
        if self._data:
            # Here: "If the data buffer's last character is a U+000A LINE FEED (LF) character, then remove" it.
            data = self._data[:-1].decode()
            events.append(Event(self._type or "message", data, self._last_event_id))
            self._data = bytearray()
        self._type = ""


def _checked(what: str, text: str, forbidden: str) -> bytes:
    for character in forbidden:
        if character in text:
            raise ValueError(f"{what} {text!r} holds {character!r}, which would end or void its field; remove it")
    return _utf8(what, text)


def _utf8(what: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{what} holds the lone surrogate {text[error.start]!r} at index {error.start}, which UTF-8 cannot carry; "
            "replace it"
        ) from error
