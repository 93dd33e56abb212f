"""Wake-ups by LISTEN and NOTIFY, on one connection of their own."""

import hashlib
import threading
from collections.abc import Callable, Iterable

import psycopg

from eric_sse._util import get_logger
from eric_sse.engines.memory import MemoryNotifier
from eric_sse.engines.postgres.connections import leak
from eric_sse.engines.postgres.database import Database
from eric_sse.engines.postgres.listening import MAX_NEWS, NOTIFY, Listening, notifications
from eric_sse.exception import EricError
from eric_sse.log import Notifier

logger = get_logger()

# How long the first `listen` waits for the connection, and `close` for what is still to be sent.
_CONNECT_WAIT_S = 5.0
_CLOSE_WAIT_S = 1.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0


class PostgresNotifier(Notifier):
    """Wake-ups among all processes on the same schema, by one thread and one connection from the first use on.

    Inside an application's transaction they are sent by that, and so arrive, also here, exactly when it commits.

    Args:
        database: Where.
        connect: Opens a connection for this alone, in autocommit.
    """

    def __init__(self, database: Database, connect: Callable[[], psycopg.Connection[object]]) -> None:
        self._database = database
        self._connect = connect
        # A name has 63 bytes at most, and so may the schema's have.
        self._topic = f"eric_sse_{hashlib.sha256(database.schema.encode()).hexdigest()[:16]}"
        self._local = MemoryNotifier()
        self._lock = threading.Lock()
        self._thread: _Courier | None = None
        self._closed = False

    def wake(self, channel_ids: Iterable[str | None]) -> None:
        channels = list(channel_ids)
        if not channels:
            return
        joined = self._database.joined
        if joined is None:
            self._database.after_commit(lambda: self._wake_now(channels))
            return
        try:
            with joined.savepoint():
                joined.rows(NOTIFY, (self._topic, notifications(channels)))
        except EricError as error:
            logger.warning("telling of news in the application's transaction failed: %s", error)

    def listen(self, callback: Callable[[str | None], None]) -> Callable[[], None]:
        end = self._local.listen(callback)
        courier = self._courier()
        if courier is not None:
            courier.tried.wait(_CONNECT_WAIT_S)
        return end

    @property
    def healthy(self) -> bool:
        thread = self._thread
        return thread is not None and thread.healthy

    def close(self) -> None:
        """Send what is still to be sent, if that takes no longer than a second, and end the thread. Idempotent."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.end()

    def abandon(self) -> None:
        """In a forked child, where the thread is not: a new one is started by the next use."""
        leak(self._thread)
        self._lock = threading.Lock()
        self._thread = None

    def _wake_now(self, channels: list[str | None]) -> None:
        self._local.wake(channels)
        courier = self._courier()
        if courier is not None:
            courier.send(channels)

    def _courier(self) -> "_Courier | None":
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = _Courier(self._connect, self._topic, self._local)
                self._thread.start()
            return self._thread


class _Courier(threading.Thread):
    """Carries wake-ups between this process and the server."""

    def __init__(self, connect: Callable[[], psycopg.Connection[object]], topic: str, told: MemoryNotifier) -> None:
        super().__init__(name="eric-sse-postgres-notifier", daemon=True)
        # Set by the first attempt to connect, however it went.
        self.tried = threading.Event()
        self._connect = connect
        self._topic = topic
        self._told = told
        self._lock = threading.Lock()
        self._pending: dict[str | None, None] = {}
        self._ended = threading.Event()
        self._listening: Listening | None = None
        self._pause_s = _FIRST_PAUSE_S

    @property
    def healthy(self) -> bool:
        """Whether wake-ups of others arrive."""
        listening = self._listening
        return listening is not None and listening.healthy

    def send(self, channels: Iterable[str | None]) -> None:
        """Have others told, together with what else is to be told by then."""
        with self._lock:
            self._pending.update(dict.fromkeys(channels))
            if len(self._pending) > MAX_NEWS:
                self._pending = {None: None}
            listening = self._listening
        if listening is not None:
            listening.interrupt()

    def run(self) -> None:
        # What is to be sent before the end is sent, also where it came before there was a connection.
        while not self._ended.is_set() or self._pending:
            try:
                self._carry()
            except (psycopg.Error, OSError) as error:
                if self._ended.is_set():
                    break
                logger.warning("the notifier's connection failed, trying again: %s", str(error).strip())
                self._rest()
            except Exception:
                # A callable of the application's pool, say.
                logger.exception("the notifier failed, trying again")
                self._rest()

    def _rest(self) -> None:
        self.tried.set()
        self._ended.wait(self._pause_s)
        self._pause_s = min(self._pause_s * 2, _LONGEST_PAUSE_S)

    def end(self) -> None:
        """End it, soon also where the server hangs."""
        self._ended.set()
        with self._lock:
            listening = self._listening
        if listening is not None:
            listening.interrupt()
        if threading.current_thread() is self:
            return
        self.join(_CLOSE_WAIT_S)
        if self.is_alive() and listening is not None:
            # The server hangs. A thread that is still connecting ends by itself, when that fails or is done.
            listening.cut_off()
            self.join(_CLOSE_WAIT_S)

    def _carry(self) -> None:
        """Connect, and carry until the connection fails or the thread is to end."""
        with Listening(self._connect(), self._topic) as listening:
            with self._lock:
                self._listening = listening
            try:
                self._begin(listening)
                while True:
                    ended = self._ended.is_set()
                    self._flush(listening)
                    if ended:
                        return
                    self._tell(listening.wait())
            finally:
                with self._lock:
                    self._listening = None

    def _begin(self, listening: Listening) -> None:
        self._pause_s = _FIRST_PAUSE_S
        if not listening.healthy:
            logger.warning("the notifier's connection hears nothing; is it to a pooler in transaction mode?")
        if self.tried.is_set():
            # What was sent meanwhile was not heard.
            self._tell([None])
        self.tried.set()

    def _flush(self, listening: Listening) -> None:
        with self._lock:
            pending, self._pending = self._pending, {}
        if not pending:
            return
        try:
            listening.send(pending)
        except psycopg.Error:
            with self._lock:
                self._pending = pending | self._pending
            raise

    def _tell(self, channels: Iterable[str | None]) -> None:
        try:
            self._told.wake(channels)
        except Exception:
            logger.exception("a callback of the notifier failed")
