"""Logs, cursors and notifiers: the ports, and the queue that is a cursor over them."""

from eric_sse.log.acks import AckBuffer
from eric_sse.log.ports import (
    Append,
    Appended,
    CursorKey,
    Cursors,
    Entry,
    Head,
    MessageLog,
    NewEntry,
    Notifier,
    Page,
    Retention,
    View,
)
from eric_sse.log.queue import ACK_AUTO, ACK_EXPLICIT, LogQueue, LogQueues, connection_id
from eric_sse.log.resume import MESSAGE_TYPE_GAP, Gap, resume

__all__ = [
    "ACK_AUTO",
    "ACK_EXPLICIT",
    "MESSAGE_TYPE_GAP",
    "AckBuffer",
    "Append",
    "Appended",
    "CursorKey",
    "Cursors",
    "Entry",
    "Gap",
    "Head",
    "LogQueue",
    "LogQueues",
    "MessageLog",
    "NewEntry",
    "Notifier",
    "Page",
    "Retention",
    "View",
    "connection_id",
    "resume",
]
