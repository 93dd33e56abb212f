"""Unix sockets: claiming a path for one, and noticing that a peer hung up. Knows nothing of channels."""

import asyncio
import select
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eric_sse._util import unix_socket_answers
from eric_sse.exception import ConfigurationError


def listen(path: Path) -> socket.socket:
    """A socket that accepts connections at ``path``; you close it. The file that a dead server left there is replaced.

    Raises:
        ConfigurationError: A server answers there, it is another kind of file, or a socket cannot be made there.
    """
    _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(str(path))
        listening.listen()
    except OSError as error:
        listening.close()
        raise ConfigurationError(f"cannot make a socket at {str(path)!r}: {error}; choose another path") from error
    listening.setblocking(False)  # noqa: FBT003 - the name of the method says what is False
    return listening


def _remove_stale(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise ConfigurationError(f"{str(path)!r} is there already and is no socket; choose another path")
        if unix_socket_answers(path):
            raise ConfigurationError(f"another server answers on {str(path)!r}; stop it, or choose another path")
        path.unlink(missing_ok=True)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigurationError(f"cannot use the socket {str(path)!r}: {error}; choose another path") from error


@contextmanager
def owned(path: Path) -> Iterator[None]:
    """Remove the file at the end, unless another took its place."""
    made = path.stat()
    try:
        yield
    finally:
        with suppress(OSError):
            if path.stat().st_ino == made.st_ino:
                path.unlink()


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
