"""Linux's inotify, as little of it as it takes to sleep until a file is written to."""

import contextlib
import ctypes
import os
import struct

_IN_MODIFY = 0x2
_IN_DELETE_SELF = 0x400
_IN_MOVE_SELF = 0x800
_IN_IGNORED = 0x8000
_EVENT = struct.Struct("iIII")


class FileWatch:
    """Tells when a file is written to, or replaced.

    Args:
        path: The file, which exists.

    Raises:
        OSError: This system has no inotify, or no more of it.
    """

    def __init__(self, path: str) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            init, add_watch = libc.inotify_init1, libc.inotify_add_watch
        except AttributeError as error:
            raise OSError("this system has no inotify") from error
        self.fd = _checked(init(os.O_NONBLOCK | os.O_CLOEXEC))
        try:
            _checked(add_watch(self.fd, os.fsencode(path), _IN_MODIFY | _IN_DELETE_SELF | _IN_MOVE_SELF))
        except OSError:
            self.close()
            raise

    def drain(self) -> bool:
        """Take the events that have come. Returns whether the file was deleted or moved away."""
        replaced = False
        with contextlib.suppress(BlockingIOError):
            while True:
                replaced = _tells_replacement(os.read(self.fd, 65536)) or replaced
        return replaced

    def close(self) -> None:
        """Let go of it."""
        os.close(self.fd)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _tells_replacement(events: bytes) -> bool:
    start, replaced = 0, False
    while start < len(events):
        _, mask, _, name_length = _EVENT.unpack_from(events, start)
        replaced = replaced or bool(mask & (_IN_DELETE_SELF | _IN_MOVE_SELF | _IN_IGNORED))
        start += _EVENT.size + name_length
    return replaced
