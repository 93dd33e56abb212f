"""The lock that those who write through one connection take turns by."""

import threading

from eric_sse.exception import StoreUnavailable


class Turn:
    """A thread's turn to write, for a ``with`` block; it may be nested.

    A class and no generator: each publish passes here twice.

    Args:
        path: The file, for messages.
        timeout_ms: How long to wait for another thread.
    """

    def __init__(self, path: str, timeout_ms: int) -> None:
        self._path = path
        self._timeout_ms = timeout_ms
        self._lock = threading.RLock()

    def try_to_take(self) -> bool:
        """Take it where no other thread has it. Returns whether that was so."""
        return self._lock.acquire(blocking=False)

    def __enter__(self) -> None:
        """Wait for it.

        Raises:
            StoreUnavailable: Another thread had it for longer than the timeout.
        """
        if not self._lock.acquire(timeout=self._timeout_ms / 1000):
            raise StoreUnavailable(
                f"{self._path}: another thread is in a transaction for more than {self._timeout_ms} ms. Nothing was "
                "stored: try again, and keep transactions short"
            )

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        self._lock.release()
