"""eric_sse over ASGI: the event-stream response, for any application, and an application of its own."""

from eric_sse.asgi.app import create_app
from eric_sse.asgi.event_stream import EventStreamResponse, FieldsStream

__all__ = ["EventStreamResponse", "FieldsStream", "create_app"]
