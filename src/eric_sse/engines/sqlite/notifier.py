"""Wake-ups: in this process at once; of other processes' commits, by watching the write-ahead log."""

import os
import select
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from eric_sse._util import get_logger
from eric_sse.codec import decode_json
from eric_sse.engines.memory import MemoryNotifier
from eric_sse.engines.sqlite.database import Database
from eric_sse.engines.sqlite.inotify import FileWatch
from eric_sse.exception import RepositoryError
from eric_sse.log import Notifier

logger = get_logger()

# A commit becomes visible some time after its bytes were written, when they are on the disk, and nothing tells when. So
# after a write there are some more looks, in seconds: often while a disk may take so long, then ever less.
_LOOKS_S = (0.001, 0.001, 0.002, 0.004, 0.008, *[0.016] * 16, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
# While this process writes, there is a look so often at most: its own messages are known, and those of others come so
# much later. A look costs as much as storing some messages.
_OWN_PAUSE_S = 0.02
# Where nothing can be watched.
_POLL_S = 0.02
_RETRY_S = 1.0
# With more new messages than these, nobody is told which channels they are of.
_MAX_NEWS = 10_000

_STATE = """SELECT coalesce((SELECT max(id) FROM eric_messages), 0),
    coalesce((SELECT value FROM eric_meta WHERE key = 'changes'), 0)"""
_NEWS = """SELECT json_group_array(channel) FROM (
    SELECT DISTINCT l.channel FROM eric_messages m JOIN eric_logs l ON l.id = m.log WHERE m.id > ?
)"""


class _State(NamedTuple):
    """What was seen of the store: the newest message, and how often the newest were removed."""

    newest: int
    removals: int


class SqliteNotifier(Notifier):
    """Wake-ups among all processes that have the file open. A thread watches it from the first `listen` on.

    It sleeps while nobody writes. What is committed on the application's own connection it notices, too.

    Args:
        database: The file.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._local = MemoryNotifier()
        self._lock = threading.Lock()
        self._thread: _Watcher | None = None

    def wake(self, channel_ids: Iterable[str | None]) -> None:
        # Other processes have noticed the commit itself.
        channels = list(channel_ids)
        self._database.after_commit(lambda: self._local.wake(channels))

    def listen(self, callback: Callable[[str | None], None]) -> Callable[[], None]:
        with self._lock:
            if self._thread is None:
                self._thread = _Watcher(self._database, self._local)
                self._thread.start()
        return self._local.listen(callback)

    @property
    def healthy(self) -> bool:
        thread = self._thread
        return thread is not None and thread.healthy

    def saw(self, before: int, newest: int) -> None:
        """Take messages as known: they were stored here, and who stored them tells.

        Args:
            before: The row id before the first of them.
            newest: That of the last.
        """
        thread = self._thread
        if thread is not None:
            thread.saw(before, newest)

    def close(self) -> None:
        """End the thread. Idempotent."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.end()

    def abandon(self) -> None:
        """In a forked child, where the thread is not: a new one is started by the next `listen`."""
        self._lock = threading.Lock()
        if self._thread is not None:
            self._thread.close_files()
            self._thread = None


class _Watcher(threading.Thread):
    """Tells of new messages as they become visible."""

    def __init__(self, database: Database, told: MemoryNotifier) -> None:
        super().__init__(name="eric-sse-sqlite-notifier", daemon=True)
        self.healthy = True
        self._database = database
        self._told = told
        self._state_lock = threading.Lock()
        self._ended = False
        self._wrote_at = -_OWN_PAUSE_S
        # Opens the log, which is then there to be watched; what is committed after the second look is noticed.
        self._look()
        self._watch = _try_to_watch(database)
        self._state = self._look()
        self._end_read, self._end_write = os.pipe()

    def run(self) -> None:
        looks = iter(_LOOKS_S)
        while not self._ended:
            if self._sleep(looks):
                looks = iter(_LOOKS_S)
            if not self._ended:
                self._check()
        self.close_files()

    def saw(self, before: int, newest: int) -> None:
        self._wrote_at = time.monotonic()
        with self._state_lock:
            if self._state.newest == before:
                self._state = _State(newest, self._state.removals)

    def end(self) -> None:
        os.write(self._end_write, b"x")
        self._ended = True  # not before: the thread closes the pipe as soon as it sees this
        if threading.current_thread() is not self:
            self.join()

    def close_files(self) -> None:
        if self._watch is not None:
            self._watch.close()
        os.close(self._end_read)
        os.close(self._end_write)

    def _sleep(self, looks: Iterator[float]) -> bool:
        """Sleep until there is a reason to look. Returns whether something was written."""
        if self.healthy and self._watch is not None:
            return self._await_write(self._watch, next(looks, None))
        self._wait(_POLL_S if self.healthy else _RETRY_S)
        return False

    def _await_write(self, watch: FileWatch, timeout_s: float | None) -> bool:
        if not self._wait(None if timeout_s is None else max(timeout_s, self._pause_s()), watch.fd):
            return False
        self._wait(self._pause_s())
        if watch.drain():
            watch.close()
            self._watch = _try_to_watch(self._database)
        return True

    def _pause_s(self) -> float:
        """How long not to look: what is being written is not visible yet."""
        return _OWN_PAUSE_S if time.monotonic() - self._wrote_at < _OWN_PAUSE_S else _LOOKS_S[0]

    def _wait(self, timeout_s: float | None, *files: int) -> bool:
        """Wait for one of the files, or the end. Returns whether there is anything to read."""
        poll = select.poll()
        for file in (self._end_read, *files):
            poll.register(file, select.POLLIN)
        return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))

    def _check(self) -> None:
        try:
            channels = self._news()
            self.healthy = True
        except RepositoryError as error:
            if self.healthy and not self._ended:
                logger.warning("looking for other processes' messages failed, trying again: %s", error)
            self.healthy = False
            return
        self._told.wake(channels)

    def _news(self) -> list[str | None]:
        seen, state = self._state, self._look()
        if state == seen:
            return []
        channels: list[str | None] = [None]
        if state.removals == seen.removals and state.newest - seen.newest <= _MAX_NEWS:
            with self._database.read_committed() as session:
                channels = decode_json(session.rows(_NEWS, (seen.newest,))[0][0])
        with self._state_lock:
            self._state = state
        return channels

    def _look(self) -> _State:
        with self._database.read_committed() as session:
            return _State(*session.rows(_STATE)[0])


def _try_to_watch(database: Database) -> FileWatch | None:
    try:
        return FileWatch(database.wal_path)
    except OSError as error:
        logger.info("%s cannot be watched (%s): looking %d times a second instead", database.path, error, 1 / _POLL_S)
        return None
