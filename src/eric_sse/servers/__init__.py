"""Serving this process's channels to other programs on a unix socket.

The protocol is that of :mod:`eric_sse.wire.commands`; :class:`eric_sse.clients.SocketClient` speaks it.
"""

from eric_sse.servers.channels import ChannelContainer
from eric_sse.servers.socket_server import MAX_COMMAND_BYTES, SocketServer

__all__ = ["MAX_COMMAND_BYTES", "ChannelContainer", "SocketServer"]
