"""The use cases of durable channels, once, for every way in; and the streams they open."""

from eric_sse.service.channels import ChannelDetails, ChannelInfo
from eric_sse.service.listeners import ListenerInfo
from eric_sse.service.messages import Outgoing
from eric_sse.service.stream import MESSAGE_TYPE_CLOSED, EventStream
from eric_sse.service.use_cases import Service, ServiceOptions

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
