"""Durable Server-Sent-Events channels: a library and a server.

A listener that reconnects gets exactly what it missed; a process that dies loses nothing.
Importing this package opens nothing, installs no log handler, and needs nothing but the core dependency.
"""

from eric_sse._util import generate_uuid, get_logger

__all__ = ["generate_uuid", "get_logger"]
