"""Wake-ups: in this process at once; of other processes by pub/sub, on a connection of its own."""

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from eric_sse._util import get_logger
from eric_sse.engines.memory import MemoryNotifier
from eric_sse.engines.redis.driver import Connection, exceptions, no_retry
from eric_sse.engines.redis.news import News
from eric_sse.engines.redis.nodes import Nodes
from eric_sse.log import Notifier

logger = get_logger()

PING_EVERY_S = 5.0
"""How long to hear nothing before asking whether anybody is there; and how long to wait for that answer."""
_PAUSE_S = 0.05
_MAX_PAUSE_S = 1.0


class RedisNotifier(Notifier):
    """Wake-ups among all processes on the store. A thread listens from the first `listen` on.

    What is stored here is told to others by the scripts that store it, so that `wake` needs no round trip.

    Args:
        nodes: The servers.
        news: What is told.
        timeout_s: How long to wait for a connection.
    """

    def __init__(self, nodes: Nodes, news: News, timeout_s: float) -> None:
        self._nodes = nodes
        self._news = news
        self._timeout_s = timeout_s
        self._local = MemoryNotifier()
        self._lock = threading.Lock()
        self._thread: _Subscriber | None = None
        self._closed = False

    def wake(self, channel_ids: Iterable[str | None]) -> None:
        self._local.wake(list(channel_ids))

    def listen(self, callback: Callable[[str | None], None]) -> Callable[[], None]:
        end = self._local.listen(callback)
        with self._lock:
            if self._closed:
                return end
            # In a forked child the thread is not alive.
            if self._thread is None or not self._thread.is_alive():
                self._thread = _Subscriber(self._nodes, self._news, self._local, self._timeout_s)
                self._thread.start()
            thread = self._thread
        thread.settled.wait(self._timeout_s)
        return end

    @property
    def healthy(self) -> bool:
        thread = self._thread
        return thread is not None and thread.healthy and thread.is_alive()

    def close(self) -> None:
        """End the thread. Idempotent."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.end()


class _Subscriber(threading.Thread):
    """Listens, and connects again when the connection is lost.

    Attributes:
        healthy: Whether it hears.
        settled: Set once it hears, or has failed to.
    """

    def __init__(self, nodes: Nodes, news: News, told: MemoryNotifier, timeout_s: float) -> None:
        super().__init__(name="eric-sse-redis-notifier", daemon=True)
        self.healthy = False
        self.settled = threading.Event()
        self._nodes = nodes
        self._news = news
        self._told = told
        self._ended = threading.Event()
        self._connection: Connection | None = None
        self._pause_s = _PAUSE_S
        # RESP2: the news come as ordinary replies.
        self._options: dict[str, Any] = {
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "retry": no_retry(),
            "retry_on_error": [],
            "health_check_interval": 0,
            "protocol": 2,
            "maint_notifications_config": None,
            "decode_responses": False,
        }

    def run(self) -> None:
        attempt = 0
        while not self._ended.is_set():
            try:
                self._listen(attempt)
            except (exceptions.RedisError, exceptions.RedisClusterException, OSError) as error:
                self._say_once(error)
            except Exception:
                logger.exception("listening for other processes' messages failed, trying again")
            self.healthy = False
            self.settled.set()
            self._nodes.suspect()
            # In a cluster the next node may answer.
            attempt += 1
            self._ended.wait(self._pause_s)
            self._pause_s = min(self._pause_s * 2, _MAX_PAUSE_S)

    def end(self) -> None:
        self._ended.set()
        self._disconnect()
        if threading.current_thread() is not self:
            # It may be connecting to somebody who does not answer: then it ends at the timeout.
            self.join(1)

    def _listen(self, attempt: int) -> None:
        connection = self._connection = self._nodes.new_connection(attempt, self._options)
        try:
            connection.connect()
            connection.send_command("SUBSCRIBE", self._news.channel)
            connection.read_response(disable_decoding=True)
            self._subscribed()
            while not self._ended.is_set():
                self._hear(self._next(connection))
        finally:
            self._disconnect()

    def _subscribed(self) -> None:
        self.healthy = True
        self._pause_s = _PAUSE_S
        if self.settled.is_set():
            # Nobody knows what was told meanwhile.
            self._tell(None)
        self.settled.set()

    def _next(self, connection: Connection) -> Any:
        """The next thing said."""
        try:
            return connection.read_response(disable_decoding=True, timeout=PING_EVERY_S, disconnect_on_error=False)
        except exceptions.TimeoutError:
            connection.send_command("PING")
            return connection.read_response(disable_decoding=True, timeout=PING_EVERY_S)

    def _hear(self, message: Any) -> None:
        if message[0] == b"message":
            channel_id = self._news.channel_id(message[2])
            if channel_id is not None:
                self._tell(channel_id)

    def _tell(self, channel_id: str | None) -> None:
        try:
            self._told.wake([channel_id])
        except Exception:
            logger.exception("a callback of the notifier failed")

    def _say_once(self, error: Exception) -> None:
        if not self._ended.is_set() and (self.healthy or not self.settled.is_set()):
            logger.warning("listening for other processes' messages failed, trying again: %s", error)

    def _disconnect(self) -> None:
        connection = self._connection
        if connection is not None:
            with suppress(OSError, exceptions.RedisError):
                connection.disconnect()
