"""Messages <-> bytes, listeners <-> plain values. No code in data: what is decoded becomes one of the known types.

A stored message is one JSON object, ``{"v": 1, "k": "message" | "unique" | "signed", "t": type, "p": payload,
"s": sender, "i": id}``, without what it does not have. A class of messages that is not one of the three is stored as
what every message is, a type and a payload.
"""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from eric_sse.exception import InvalidListenerException, InvalidMessageFormat, RepositoryError
from eric_sse.listener import MessageQueueListener
from eric_sse.message import Message, MessageContract, Payload, Position, SignedMessage, UniqueMessage

FORMAT_VERSION = 1
"""Version of the stored bytes. A store written by a newer version is refused, not guessed at."""

RESERVED_TYPES = "eric."
"""Prefix of the message types that streams use to speak of themselves."""

_L = TypeVar("_L", bound=MessageQueueListener)


class StoredMessage(msgspec.Struct, omit_defaults=True, rename={"kind": "k", "type": "t", "payload": "p"}):
    """A message as it is stored. Its payload stays JSON text: a stream sends it without looking inside."""

    v: int
    kind: str
    type: str
    payload: msgspec.Raw
    s: str | None = None
    i: str | None = None


_decode_stored = msgspec.json.Decoder(StoredMessage).decode
_encode_stored = msgspec.json.Encoder().encode
_encode_value = msgspec.json.Encoder().encode
_decode_value = msgspec.json.Decoder().decode
_encode_strictly = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode


def encode_json(value: Any) -> bytes:
    """``value`` as JSON on one line of UTF-8.

    Raises:
        InvalidMessageFormat: JSON cannot hold it: NaN or infinity, an object of Python's own, a cycle, a lone
            surrogate. The message says which.
    """
    try:
        # msgspec is ten times as fast, but writes NaN as null and dates as strings: what does not come back equal
        # is for the strict encoder to refuse, or to accept (tuples).
        encoded = _encode_value(value)
        if _decode_value(encoded) == value:
            return encoded
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        pass
    try:
        encoded = _encode_strictly(value).encode()
        if _decode_value(encoded) == _with_lists(value):
            return encoded
    except UnicodeEncodeError as error:
        raise InvalidMessageFormat(f"JSON cannot hold this value: lone surrogate at {error.start}") from error
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise InvalidMessageFormat(f"JSON cannot hold this value: {error}") from error
    raise InvalidMessageFormat("JSON cannot hold this value as it is: the keys of objects are strings")


def _with_lists(value: Any) -> Any:
    """``value`` with lists for its tuples, which is what they become."""
    if isinstance(value, dict):
        return {key: _with_lists(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_lists(item) for item in value]
    return value


def encode_value(key: str, value: Any) -> bytes:
    """The bytes that a storage keeps for ``value``.

    Raises:
        RepositoryError: It is not a plain JSON value.
    """
    try:
        return encode_json(value)
    except InvalidMessageFormat as error:
        raise RepositoryError(f"the value for key {key!r} cannot be stored: {error}") from error


def decode_json(data: bytes | str) -> Any:
    """The value that stored JSON text holds.

    Raises:
        RepositoryError: It is not JSON: the store is damaged, or another program wrote to it.
    """
    try:
        return _decode_value(data)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise RepositoryError(f"stored value {data[:80]!r} is not JSON ({error}); is the store damaged?") from error


def check_version(value: Any, what: str) -> None:
    """Refuse what a newer version of eric_sse has stored.

    Raises:
        RepositoryError: It is of another format than this version reads.
    """
    version = value.get("v") if isinstance(value, dict) else None
    if version != FORMAT_VERSION:
        raise RepositoryError(f"{_other_format(what, version)}, or see whether the store is damaged")


def _other_format(what: str, version: object) -> str:
    return f"stored {what} is of format {version!r}, this version reads {FORMAT_VERSION}: upgrade eric_sse"


def check_type(message_type: object) -> None:
    """Refuse what cannot be the type of a message that is stored or streamed.

    Raises:
        InvalidMessageFormat: It is no string, empty, reserved, or would break an event stream's line.
    """
    if not isinstance(message_type, str) or not message_type:
        raise InvalidMessageFormat(f"a message's type is a string that is not empty, not {message_type!r}")
    if message_type.startswith(RESERVED_TYPES):
        raise InvalidMessageFormat(
            f"message type {message_type!r} is reserved: types that begin with {RESERVED_TYPES!r} are eric_sse's own"
        )
    if "\n" in message_type or "\r" in message_type or "\0" in message_type:
        raise InvalidMessageFormat(f"message type {message_type!r} holds a line break or NUL; remove it")


def encode_message(message: MessageContract) -> bytes:
    """The bytes to store ``message`` as.

    Raises:
        InvalidMessageFormat: Its type or payload cannot be stored.
    """
    kind, sender, unique_id = "message", None, None
    if isinstance(message, UniqueMessage):
        kind, sender, unique_id = "unique", message.sender_id, message.id
    elif isinstance(message, SignedMessage):
        kind, sender = "signed", message.sender_id
    return encode_parts(message.type, message.payload, kind, sender, unique_id)


def encode_parts(
    message_type: str,
    payload: Payload,
    kind: str = "message",
    sender_id: str | None = None,
    unique_id: str | None = None,
) -> bytes:
    """The bytes to store a message as that is nothing but its parts.

    Raises:
        InvalidMessageFormat: Its type or payload cannot be stored.
    """
    check_type(message_type)
    for what, text in (("sender", sender_id), ("id", unique_id)):
        if text is not None and not isinstance(text, str):
            raise InvalidMessageFormat(f"a message's {what} is a string, not {text!r}")
    raw = msgspec.Raw(encode_json(payload))
    try:
        return _encode_stored(StoredMessage(FORMAT_VERSION, kind, message_type, raw, sender_id, unique_id))
    except UnicodeEncodeError as error:
        raise InvalidMessageFormat(f"message type, sender or id holds a lone surrogate at {error.start}") from error


def message_key(message: MessageContract) -> str | None:
    """What makes repeating ``message`` harmless: its id, where it has one."""
    return message.id if isinstance(message, UniqueMessage) else None


def decode_stored(data: bytes) -> StoredMessage:
    """The parts of a stored message, its payload left as text.

    Raises:
        RepositoryError: The bytes are damaged, or of a newer version.
    """
    try:
        stored = _decode_stored(data)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise RepositoryError(
            f"stored message {data[:80]!r} cannot be read ({error}); is the store damaged?"
        ) from error
    if stored.v != FORMAT_VERSION:
        raise RepositoryError(_other_format("message", stored.v))
    return stored


def decode_message(data: bytes, position: Position | None = None) -> MessageContract:
    """The message that was stored as ``data``, of its class, knowing its place.

    Raises:
        RepositoryError: The bytes are damaged, or of a newer version.
    """
    stored = decode_stored(data)
    payload: Payload = decode_json(bytes(stored.payload))
    message: MessageContract
    if stored.kind == "unique":
        message = UniqueMessage(Message(stored.type, payload), stored.s, stored.i)
    elif stored.kind == "signed":
        message = SignedMessage(stored.s or "", stored.type, payload)
    elif stored.kind == "message":
        message = Message(stored.type, payload)
    else:
        raise RepositoryError(f"stored message is of the unknown kind {stored.kind!r}: upgrade eric_sse")
    message.position = position
    return message


_listener_types: dict[str, Callable[[str], MessageQueueListener]] = {}
_listener_names: dict[type[MessageQueueListener], str] = {}


def register_listener_type(name: str) -> Callable[[type[_L]], type[_L]]:
    """Class decorator: listeners of this class may be persisted, under ``name``.

    The class is called with the listener's id alone when one is loaded.

    Example:
        >>> @register_listener_type("mailer")
        ... class Mailer(MessageQueueListener): ...

    Raises:
        ValueError: Another class has that name.
    """

    def register(cls: type[_L]) -> type[_L]:
        if _listener_types.setdefault(name, cls) is not cls:
            raise ValueError(f"listener type {name!r} is taken by {_listener_types[name]!r}; choose another name")
        _listener_names[cls] = name
        return cls

    return register


def listener_to_value(listener: MessageQueueListener) -> dict[str, Any]:
    """What to store for ``listener``: its type's name and its id. Whether it runs is not stored.

    Raises:
        InvalidListenerException: Its class is not registered.
    """
    name = _listener_names.get(type(listener))
    if name is None:
        raise InvalidListenerException(
            f"listener {listener.id!r} is a {type(listener).__qualname__}, which could not be loaded again: decorate "
            "the class with eric_sse.codec.register_listener_type(name), or write a listener repository of your own"
        )
    return {"v": FORMAT_VERSION, "type": name, "id": listener.id}


def listener_from_value(value: Any) -> MessageQueueListener:
    """The listener that was stored as ``value``; not running.

    Raises:
        RepositoryError: The value is damaged, or names a type that is not registered here.
    """
    check_version(value, "listener")
    try:
        name, listener_id = value["type"], value["id"]
    except KeyError as error:
        raise RepositoryError(f"stored listener {value!r} cannot be read; is the store damaged?") from error
    build = _listener_types.get(name)
    if build is None:
        raise RepositoryError(
            f"stored listener {listener_id!r} is of type {name!r}, which is not registered in this process: "
            "import the module that registers it first"
        )
    return build(listener_id)


register_listener_type("listener")(MessageQueueListener)
