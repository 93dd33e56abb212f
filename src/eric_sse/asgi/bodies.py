"""What requests carry: the models of their bodies, and the reading of messages."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from eric_sse._util import MAX_ID_BYTES, id_problem
from eric_sse.exception import InvalidMessageFormat
from eric_sse.log import Retention
from eric_sse.message import MAX_OFFSET
from eric_sse.service import Outgoing

NDJSON = "application/x-ndjson"


MAX_MESSAGES = 10_000
"""How many messages one request may carry: they are stored by one commit, for which all others wait."""

_DEFAULT = Retention()
_CENTURY_S = 100 * 365.25 * 86_400


# What the document says of ids; that they are checked is the service's business.
_ID_SCHEMA: dict[str, Any] = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_ID_BYTES,
    "pattern": r"^[^\x00-\x1f\x7f-\x9f]+$",
    "not": {"enum": [".", ".."]},
}
_NewId = Annotated[StrictStr | None, Field(json_schema_extra={"anyOf": [_ID_SCHEMA, {"type": "null"}]})]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RetentionBody(_Body):
    """How long a channel keeps messages: at least these; null for no bound."""

    max_messages: Annotated[StrictInt, Field(gt=0, le=MAX_OFFSET)] | None = _DEFAULT.max_messages
    max_age_s: Annotated[float, Field(gt=0, le=_CENTURY_S, strict=True)] | None = _DEFAULT.max_age_s


class ChannelBody(_Body):
    """A channel to create."""

    id: _NewId = None
    retry_ms: Annotated[StrictInt, Field(ge=0, le=86_400_000)] | None = None
    retention: RetentionBody = RetentionBody()


class ListenerBody(_Body):
    """A listener to subscribe."""

    id: _NewId = None
    ack: Literal["auto", "explicit"] = "auto"


class AckBody(_Body):
    """What a listener has received: everything through the message of this id."""

    id: StrictStr


class ChannelAnswer(BaseModel):
    """A channel as it stands."""

    id: str
    retry_ms: int
    retention: RetentionBody
    epoch: str
    last_id: str
    streams: int


class ChannelDetailsAnswer(ChannelAnswer):
    """A channel as it stands, and what takes a closer look."""

    oldest_id: str | None
    listeners: int


class ChannelsAnswer(BaseModel):
    """A page of channels; ``next`` is the ``after`` of the one that follows, null for the last."""

    channels: list[ChannelAnswer]
    next: str | None


class ListenerAnswer(BaseModel):
    """A listener as it stands."""

    id: str
    ack: Literal["auto", "explicit"]
    cursor: str
    lag: int


class ListenersAnswer(BaseModel):
    """A page of listeners; ``next`` is the ``after`` of the one that follows, null for the last."""

    listeners: list[ListenerAnswer]
    next: str | None


class PublishedAnswer(BaseModel):
    """The ids of the messages that were published, in their order."""

    ids: list[str]


class MessageBody(Outgoing, frozen=True, forbid_unknown_fields=True):
    """A message to publish."""

    payload: Any


_decode_one = msgspec.json.Decoder(MessageBody).decode
_decode_array = msgspec.json.Decoder(list[MessageBody]).decode
_NO_MESSAGE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


async def read_messages(request: Request) -> Sequence[Outgoing]:
    """The messages that a request carries: one, a JSON array of them, or NDJSON.

    Raises:
        HTTPException: 400 where it is not JSON, 413 where it is too many messages, 415 where it says that it is
            something else, 422 where it is not messages.
        InvalidMessageFormat: A message's id cannot be one.
    """
    try:
        body = await request.body()
    except ClientDisconnect as error:  # nobody is there to be told, and nothing to be logged
        raise HTTPException(400, "the body broke off") from error
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == NDJSON:
        messages = _decode_lines(body.split(b"\n"))
    elif content_type == "application/json" or content_type.endswith("+json"):
        messages = _decode(body)
    else:
        # Nothing is guessed: what a page of another origin may send without asking (forms, plain text) ends here.
        raise HTTPException(415, f"content-type is {content_type or 'missing'!r}; send application/json or {NDJSON}")
    for message in messages:
        if message.id is not None and (wrong := id_problem(message.id)) is not None:
            raise InvalidMessageFormat(wrong)
    return messages


def _check_count(messages: int) -> None:
    if not messages:
        raise HTTPException(422, "there is no message in the body; send at least one")
    if messages > MAX_MESSAGES:
        raise HTTPException(413, f"a request carries at most {MAX_MESSAGES} messages, not {messages}; send several")


def _decode(body: bytes) -> list[MessageBody]:
    try:
        messages = _decode_array(body) if body.lstrip()[:1] == b"[" else [_decode_one(body)]
    except _NO_MESSAGE as error:
        raise _refusal(error) from error
    _check_count(len(messages))
    return messages


def _decode_lines(lines: list[bytes]) -> list[MessageBody]:
    _check_count(sum(1 for line in lines if line.strip()))
    messages = []
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip():
                messages.append(_decode_one(line))
        except _NO_MESSAGE as error:
            raise _refusal(error, f"line {number}: ") from error
    return messages


def _refusal(error: Exception, where: str = "") -> HTTPException:
    if isinstance(error, msgspec.ValidationError):
        return HTTPException(422, f"{where}{error}")
    return HTTPException(400, f"{where}the body is not JSON: {error}")


_MESSAGE_SCHEMA = {
    "type": "object",
    "required": ["payload"],
    "additionalProperties": False,
    "properties": {
        "payload": {"description": "any JSON value"},
        "type": {
            "type": "string",
            "default": "message",
            "minLength": 1,
            "pattern": r"^[^\r\n\x00]+$",
            "not": {"pattern": r"^eric\."},
            "description": "the event's type; not eric.*",
        },
        "to": {**_ID_SCHEMA, "description": "the id of the listener that it is for; without it, everybody"},
        "id": {**_ID_SCHEMA, "description": "makes repeating the message harmless"},
    },
}

MESSAGES_OPENAPI: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [
                        _MESSAGE_SCHEMA,
                        {"type": "array", "items": _MESSAGE_SCHEMA, "minItems": 1, "maxItems": MAX_MESSAGES},
                    ]
                }
            },
            NDJSON: {"schema": {"type": "string", "description": "one message a line"}},
        },
    }
}
