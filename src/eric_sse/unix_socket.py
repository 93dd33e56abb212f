"""A unix-domain socket to listen on: its path is claimed, and given back. Knows nothing of what is served there."""

import contextlib
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from eric_sse._util import BACKLOG
from eric_sse.exception import ConfigurationError


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A socket that accepts connections at ``path``, for as long as the block runs.

    A file that a dead server left there is replaced. In the end the socket is closed and its file removed, unless
    another server has taken the path: a successor may, while this one lets its clients finish.

    Raises:
        ConfigurationError: A server listens there, it is another kind of file, or a socket cannot be made there.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bound:
        try:
            _remove_stale(path)
            bound.bind(str(path))
            bound.listen(BACKLOG)  # or another server that starts now would take it for a dead one's
            made = _made(path)
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {path}: {error.strerror or error}; choose another path"
            ) from error
        try:
            yield bound
        finally:
            with contextlib.suppress(OSError):
                if _made(path) == made:
                    path.unlink()


def _remove_stale(path: Path) -> None:
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise ConfigurationError(
            f"cannot listen on {path}: there is a file of that name, and it is no socket; choose another path"
        )
    if _answers(path):
        raise ConfigurationError(f"cannot listen on {path}: a server listens there; stop it, or choose another path")
    path.unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A live one with a full backlog would have the probe wait, and fails it at once like this.
        probe.settimeout(0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except BlockingIOError:
            pass
    return True


def _made(path: Path) -> tuple[int, int]:
    """Which file it is: by its time, too, since a file system may give its number to the next one."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns
