"""What an engine left behind: threads, and files and sockets by their descriptors."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PATIENCE_S = 5.0
# Where the system shows a process its own descriptors: Linux, or macOS and BSD. Elsewhere they are not looked at.
_FOLDERS = [folder for folder in (Path("/proc/self/fd"), Path("/dev/fd")) if folder.is_dir()][:1]


@contextmanager
def leaving_nothing() -> Iterator[None]:
    """Fail if a thread or descriptor that was opened inside is still there some seconds after the end."""
    before = _present()
    yield
    deadline = time.monotonic() + _PATIENCE_S
    while (left := _present() - before) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not left, f"close() left behind: {', '.join(sorted(left))}"


def _present() -> set[str]:
    threads = {f"thread {thread.name} ({thread.ident})" for thread in threading.enumerate()}
    return threads | set(_descriptors())


def _descriptors() -> Iterator[str]:
    for folder in _FOLDERS:
        for link in list(folder.iterdir()):
            target = ""
            with suppress(OSError):  # not everywhere a link
                target = str(link.readlink())
            # The descriptor with which the folder itself was listed is closed by now.
            with suppress(OSError):
                os.fstat(int(link.name))
                yield f"descriptor {link.name} {target}"
