"""Rows for ``COPY … FROM STDIN (FORMAT BINARY)``: https://www.postgresql.org/docs/current/sql-copy.html, Binary Format.

Put together here, since the driver takes longer for hundreds of rows than the server.
"""

import struct
from collections.abc import Iterable

Message = tuple[int, int, str | None, float, bytes]
"""A row of eric_messages: log, offset, receiver, at, data."""

# The signature, no flags, no extension of the header; and a number of fields that means the end.
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
# Each field is its length and its bytes, big-endian; the length -1 means null.
_before_receiver = struct.Struct(">hiqiqi").pack
_after_receiver = struct.Struct(">idi").pack
_with_no_receiver = struct.Struct(">hiqiqiidi").pack


def binary_rows(messages: Iterable[Message]) -> bytes:
    """The whole of the data to copy."""
    parts = [_HEADER]
    for log, offset, receiver, at, data in messages:
        if receiver is None:
            parts.append(_with_no_receiver(5, 8, log, 8, offset, -1, 8, at, len(data)))
        else:
            text = receiver.encode()
            parts += (_before_receiver(5, 8, log, 8, offset, len(text)), text, _after_receiver(8, at, len(data)))
        parts.append(data)
    parts.append(_TRAILER)
    return b"".join(parts)
