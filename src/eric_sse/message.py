"""Messages: a type and a payload, perhaps an id, a sender, and a place in a log. No I/O, no encoding."""

import re
from abc import ABC, abstractmethod
from typing import NamedTuple

from eric_sse._util import generate_uuid

Payload = dict | list | str | int | float | None  # type: ignore[type-arg]  # the seed's own type

MAX_OFFSET = 2**53 - 1
"""The largest offset: what a JavaScript number still holds exactly."""

_POSITION = re.compile(r"([0-9a-z]{1,32})-(0|[1-9][0-9]{0,15})", re.ASCII)


class Position(NamedTuple):
    """A place in one channel's log. As text, ``<epoch>-<offset>``, it is the SSE ``id:`` of a message."""

    epoch: str
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.offset}"

    @classmethod
    def parse(cls, text: str) -> "Position | None":
        """The position that ``text`` spells, or None where it spells none."""
        match = _POSITION.fullmatch(text)
        if match is None or int(match[2]) > MAX_OFFSET:
            return None
        return cls(match[1], int(match[2]))


class MessageContract(ABC):
    """What every message has: a type and a payload.

    Attributes:
        position: The message's place in its channel's log where it was read from one, else None.
    """

    position: Position | None = None

    @property
    @abstractmethod
    def type(self) -> str:
        """Message type."""

    @property
    @abstractmethod
    def payload(self) -> Payload:
        """Message payload: what JSON can hold, where the message is to be stored or sent."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(type={self.type!r}, payload={self.payload!r})"


class Message(MessageContract):
    """A simple message.

    Args:
        msg_type: What kind of message it is; the ``event:`` of an SSE stream.
        msg_payload: Its content.
    """

    def __init__(self, msg_type: str, msg_payload: Payload = None) -> None:
        self._type = msg_type
        self._payload = msg_payload

    @property
    def type(self) -> str:
        """Message type."""
        return self._type

    @property
    def payload(self) -> Payload:
        """Message payload."""
        return self._payload


class UniqueMessage(MessageContract):
    """A message and an id of its own.

    On a durable channel a message whose id was stored for the same receiver within the last minutes is not
    stored again, so that repeating a publish is harmless.

    Args:
        message: What it carries.
        sender_id: The id of the listener that sent it, if any.
        message_id: Its id; a new one by default.
    """

    def __init__(self, message: MessageContract, sender_id: str | None = None, message_id: str | None = None) -> None:
        self._id = message_id or generate_uuid()
        self._message = message
        self._sender_id = sender_id

    @property
    def id(self) -> str:
        """Unique message identifier."""
        return str(self._id)

    @property
    def type(self) -> str:
        """Message type."""
        return self._message.type

    @property
    def sender_id(self) -> str | None:
        """The id of the listener that sent the message."""
        return self._sender_id

    @property
    def payload(self) -> Payload:
        """Message payload."""
        return self._message.payload


class SignedMessage(Message):
    """A message and the id of the listener that sent it.

    Args:
        sender_id: Who sent it.
        msg_type: What kind of message it is.
        msg_payload: Its content.
    """

    def __init__(self, sender_id: str, msg_type: str, msg_payload: Payload = None) -> None:
        super().__init__(msg_type, msg_payload)
        self._sender_id = sender_id

    @property
    def sender_id(self) -> str:
        """The id of the listener that sent the message."""
        return self._sender_id
