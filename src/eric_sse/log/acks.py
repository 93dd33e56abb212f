"""Automatic acknowledgement: cursors move lazily, many together, at most once a second."""

import threading

from eric_sse._util import get_logger
from eric_sse.exception import EricError
from eric_sse.log.ports import CursorKey, Cursors
from eric_sse.message import Position

logger = get_logger()


class AckBuffer:
    """Gathers how far listeners have received, and moves their cursors together.

    What is buffered when a process dies was delivered but not acknowledged: those listeners receive it again.

    Args:
        cursors: What to move.
        interval_s: How long to gather, in seconds.
    """

    def __init__(self, cursors: Cursors, interval_s: float = 1.0) -> None:
        self._cursors = cursors
        self._interval_s = interval_s
        self._pending: dict[CursorKey, Position] = {}
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._timer: threading.Timer | None = None
        self._closed = False

    def note(self, key: CursorKey, position: Position) -> None:
        """Say that a listener has received everything through ``position``. Does no I/O."""
        with self._lock:
            self._keep(key, position)
            self._arm()

    def flush(self) -> None:
        """Move the cursors now.

        Raises:
            RepositoryError: The store failed; what was gathered is kept for the next time.
        """
        # One at a time, so that the last flush, in close(), has waited for one that a timer began: after it the store
        # goes away.
        with self._flushing:
            with self._lock:
                pending, self._pending = self._pending, {}
            if not pending:
                return
            try:
                self._cursors.advance(pending)
            except BaseException:
                with self._lock:
                    newer, self._pending = self._pending, pending
                    for key, position in newer.items():
                        self._keep(key, position)
                raise

    def close(self) -> None:
        """Flush for the last time.

        Raises:
            RepositoryError: The store failed; those listeners will receive again what they had.
        """
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
        self.flush()

    def _keep(self, key: CursorKey, position: Position) -> None:
        known = self._pending.get(key)
        if known is None or known.epoch != position.epoch or known.offset < position.offset:
            self._pending[key] = position

    def _arm(self) -> None:
        # No timer runs while nothing waits: an idle process is never woken.
        if self._timer is None and not self._closed:
            self._timer = threading.Timer(self._interval_s, self._on_timer)
            self._timer.daemon = True
            self._timer.start()

    def _on_timer(self) -> None:
        with self._lock:
            self._timer = None
        try:
            self.flush()
        except EricError as error:
            logger.warning("moving the cursors failed, trying again: %s", error)
            with self._lock:
                self._arm()

    def abandon(self) -> None:
        """In a forked child: forget what the parent gathered, and the thread that was to flush it."""
        self.__init__(self._cursors, self._interval_s)  # type: ignore[misc]
