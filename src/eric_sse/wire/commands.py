"""The commands of the unix-socket server and its answers: bytes <-> values.

A command is one JSON object, everything that the client sends until it closes its half. Its keys::

    v  verb             c  channel id           r  receiver (a listener's id)
    t  message type     p  message payload

An answer is ``ack``, an id, or a stream of JSON values, one a line. Whatever went wrong is one last line that begins
with ``error``, which no JSON value does, followed by an object that says what::

    error {"error":"ChannelNotFound","detail":"there is no channel 'news'; create or persist it first"}
"""

import re
from typing import Any, NamedTuple

import msgspec

ACK = b"ack"
"""The answer to a command that returns nothing."""

REQUIRED_KEYS = {
    "d": "ctr",  # dispatch
    "b": "ct",  # broadcast
    "c": "",  # create a channel, of the id `c` if given
    "r": "c",  # add a listener
    "l": "cr",  # listen: a stream
    "w": "c",  # watch: a stream of a listener that exists only as long
    "rl": "cr",  # remove a listener
    "rc": "c",  # remove a channel
}
"""The verbs, and the keys that each cannot do without."""

_ERROR = b"error "
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")
_decode = msgspec.json.Decoder().decode


class CommandError(ValueError):
    """The bytes are no command. The message says why."""


class Command(NamedTuple):
    """A command; what it does not need may be there, or be empty."""

    verb: str
    channel_id: str | None = None
    message_type: str = ""
    payload: Any = None
    receiver_id: str = ""


class ErrorAnswer(msgspec.Struct, frozen=True):
    """What went wrong: the name of an exception's class, and its message."""

    error: str
    detail: str


_decode_error = msgspec.json.Decoder(ErrorAnswer).decode


def parse_command(data: bytes) -> Command:
    """The command that ``data`` is.

    Raises:
        CommandError: It is none: not JSON, not an object, of an unknown verb, or a key is missing or of another type.
    """
    try:
        fields = _decode(data)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise CommandError(f"a command is a JSON object, and this is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise CommandError(f"a command is a JSON object, not a {type(fields).__name__}")
    verb = fields.get("v")
    if not isinstance(verb, str) or verb not in REQUIRED_KEYS:
        raise CommandError(f"'v' (verb) is {verb!r}; use one of {', '.join(REQUIRED_KEYS)}")
    for key in REQUIRED_KEYS[verb]:
        if not isinstance(fields.get(key), str):
            raise CommandError(f"verb {verb!r} needs the key {key!r} with a string, not {fields.get(key)!r}")
    channel_id = fields.get("c")
    if channel_id is not None and not isinstance(channel_id, str):
        raise CommandError(f"'c' (channel id) is a string, not {channel_id!r}")
    return Command(verb, channel_id, fields.get("t", ""), fields.get("p"), fields.get("r", ""))


def encode_error(error: ErrorAnswer) -> bytes:
    """The line that tells what went wrong."""
    # An error quotes what it was given, which UTF-8 need not be able to hold.
    printable = ErrorAnswer(error.error, _LONE_SURROGATE.sub("\ufffd", error.detail))
    return _ERROR + msgspec.json.encode(printable) + b"\n"


def parse_error(answer: bytes) -> ErrorAnswer | None:
    """What went wrong, where ``answer``, or a line of it, says so; None where it is data.

    Raises:
        ValueError: It begins like an error and is none.
    """
    return _decode_error(answer.removeprefix(_ERROR)) if answer.startswith(_ERROR) else None
