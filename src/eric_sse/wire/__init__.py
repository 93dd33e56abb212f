"""Bytes to values and back. Nothing in this package does I/O or knows what the rest of eric_sse is for."""

from eric_sse.wire.sse import (
    DEFAULT_MAX_EVENT_BYTES,
    Event,
    EventStreamParser,
    EventTooLarge,
    encode_comment,
    encode_event,
    encode_json_event,
    field_value,
)

__all__ = [
    "DEFAULT_MAX_EVENT_BYTES",
    "Event",
    "EventStreamParser",
    "EventTooLarge",
    "encode_comment",
    "encode_event",
    "encode_json_event",
    "field_value",
]
