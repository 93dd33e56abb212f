"""The use cases of durable channels, once, for every way in; and the streams they open."""

from eric_sse.service.stream import MESSAGE_TYPE_CLOSED, EventStream
from eric_sse.service.use_cases import (
    ChannelDetails,
    ChannelInfo,
    ListenerInfo,
    Outgoing,
    Service,
    ServiceOptions,
)

__all__ = [
    "MESSAGE_TYPE_CLOSED",
    "ChannelDetails",
    "ChannelInfo",
    "EventStream",
    "ListenerInfo",
    "Outgoing",
    "Service",
    "ServiceOptions",
]
