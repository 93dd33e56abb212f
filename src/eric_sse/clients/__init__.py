"""Clients: of the unix-socket server, and of event streams over HTTP.

They know the wire formats and nothing of channels, engines or servers. Streams need the extra ``eric-sse[client]``.
"""

from eric_sse.clients.event_source import AsyncEventSource, EventSource
from eric_sse.clients.session import Gap, StreamState
from eric_sse.clients.unix_socket import SocketClient
from eric_sse.exception import StreamLost

__all__ = ["AsyncEventSource", "EventSource", "Gap", "SocketClient", "StreamLost", "StreamState"]
