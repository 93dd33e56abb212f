"""Messages on their way into a log."""

import msgspec

from eric_sse._util import id_problem
from eric_sse.codec import encode_parts
from eric_sse.exception import InvalidListenerException
from eric_sse.log import NewEntry
from eric_sse.message import Payload


class Outgoing(msgspec.Struct, frozen=True, gc=False):  # no cycle goes through one
    """A message to publish.

    Attributes:
        payload: What JSON can hold.
        type: What kind of message it is.
        to: The id of the listener that it is for; None: everybody.
        id: Makes repeating it harmless.
    """

    payload: Payload
    type: str = "message"
    to: str | None = None
    id: str | None = None


def new_entry(message: Outgoing, idempotency_key: str | None, number: int) -> NewEntry:
    """What to append for a message, the ``number``-th of a request with ``idempotency_key``.

    Raises:
        InvalidListenerException: It is for a listener that cannot be.
        InvalidMessageFormat: Its type or payload cannot be stored.
    """
    if message.to is not None and (problem := id_problem(message.to)) is not None:
        raise InvalidListenerException(problem)
    kind, key = "message", message.id
    if message.id is not None:
        kind = "unique"
    elif idempotency_key is not None:
        # A request's key cannot be taken for a message's: ids hold no NUL.
        key = f"{idempotency_key}\0{number}"
    return NewEntry(encode_parts(message.type, message.payload, kind, unique_id=message.id), message.to, key)
