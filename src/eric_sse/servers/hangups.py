"""Noticing that the peer of a unix-domain socket hung up. Knows nothing of channels."""

import asyncio
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class Hangups:
    """Tells when peers hang up that have closed their sending half before.

    asyncio cannot tell: having read the end of such a connection, it does not look at it again. Where there is no
    epoll, a peer that hung up is noticed only when something is sent to it. One object serves one event loop.
    """

    def __init__(self) -> None:
        self._callbacks: dict[int, Callable[[], object]] = {}

    @contextmanager
    def watch(self, fd: int, on_hangup: Callable[[], object]) -> Iterator[None]:
        """Call ``on_hangup`` when the peer of the socket ``fd`` hangs up before the end of the block."""
        if sys.platform != "linux":
            yield
            return
        if not self._callbacks:
            self._epoll = select.epoll()
            asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._on_events)
        self._callbacks[fd] = on_hangup
        # No events but the hang-up, which is always reported: the end of what the peer sends would be one for ever.
        self._epoll.register(fd, select.EPOLLONESHOT)
        try:
            yield
        finally:
            # A socket that failed is closed by now, and its number may be another's.
            if self._callbacks.get(fd) is on_hangup:
                del self._callbacks[fd]
                with suppress(OSError):
                    self._epoll.unregister(fd)
            if not self._callbacks:
                asyncio.get_running_loop().remove_reader(self._epoll.fileno())
                self._epoll.close()

    def _on_events(self) -> None:
        if sys.platform == "linux":
            for fd, _ in self._epoll.poll(0):
                if fd in self._callbacks:
                    self._callbacks[fd]()
