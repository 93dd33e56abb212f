"""What a durable reader of an event stream does next: a state machine that does no I/O.

The iterators of :mod:`eric_sse.clients.event_source` carry out what it decides, one blocking, one on asyncio.
"""

import json
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import urlsplit

from eric_sse._util import get_logger
from eric_sse.exception import StreamLost, StreamRefused
from eric_sse.wire.sse import DEFAULT_MAX_EVENT_BYTES, Event, EventStreamParser, EventTooLarge, field_value

DEFAULT_RETRY_MS = 3000
"""The reconnection time before the server names one."""

_MIN_RETRY_MS = 10  # what back-off doubles from where a server asks for less: 0 doubled stays a busy loop
_MAX_RETRY_AFTER_S = 3600.0  # a Retry-After date by a wrong clock must not put a client to sleep for a year
_KEPT_RESUMES = 100
_DETAIL_CHARACTERS = 200

_NO_CONTENT = 204
_OK = 200
_RETRIED_4XX = frozenset({408, 425, 429})
_CLIENT_ERRORS = range(400, 500)
_SERVER_ERRORS = range(500, 600)


class StreamState(StrEnum):
    """Where a reader of an event stream is."""

    CONNECTING = "connecting"
    OPEN = "open"
    WAITING = "waiting"
    CLOSED = "closed"


class Gap(NamedTuple):
    """What an ``eric.gap`` event says: events are missing between the one before it and the one after.

    Attributes:
        reason: ``"trimmed"``, ``"epoch"`` or ``"unknown"``.
        resumed_from: The id that the stream was asked to go on from.
    """

    reason: str
    resumed_from: str

    @classmethod
    def of(cls, event: Event) -> "Gap | None":
        """The gap that ``event`` tells of, or None for every other event."""
        if event.type != "eric.gap":
            return None
        fields: object = None
        with suppress(ValueError, RecursionError):
            fields = json.loads(event.data)
        if not isinstance(fields, dict):
            return cls("unknown", "")
        return cls(str(fields.get("reason", "unknown")), str(fields.get("resumed_from", "")))


class StreamSession:
    """One logical stream over as many connections as it takes.

    Whoever drives it looks at :attr:`state`: CONNECTING, send a GET with :meth:`request_headers` and report
    :meth:`responded`; OPEN, report what is :meth:`received`; WAITING, wait :attr:`delay_s` seconds and call
    :meth:`reconnect`; CLOSED, stop. A connection that ends or fails is reported as :meth:`lost`. Events are taken with
    :meth:`next_event`, all of them before the next step.

    Args:
        url: What is read; for messages, which leave out its query and credentials.
        last_event_id: Where to resume.
        reconnect: Whether a lost stream is opened again.
        max_failures: How many attempts in a row may fail without an event in between; None is no limit.
        max_retry_s: The longest back-off, in seconds.
        max_event_bytes: The largest event that is accepted.
        on_retry: Called with the reason and the seconds to wait, before each wait.
        clock: Monotonic seconds.
        jitter: A number between its two arguments.
    """

    def __init__(
        self,
        url: str,
        *,
        last_event_id: str | None = None,
        reconnect: bool = True,
        max_failures: int | None = None,
        max_retry_s: float = 30.0,
        max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES,
        on_retry: Callable[[str, float], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.url = _without_secrets(url)
        self.state = StreamState.CONNECTING
        self.delay_s = 0.0
        self.last_event_id = last_event_id or ""
        self.opened_from: deque[str] = deque(maxlen=_KEPT_RESUMES)
        self.connections = 0
        self.gaps = 0
        field_value(self.last_event_id)
        self._reconnect = reconnect
        self._max_failures = max_failures
        self._max_retry_s = max_retry_s
        self._max_event_bytes = max_event_bytes
        self._on_retry = on_retry
        self._clock = clock
        self._jitter = jitter
        self._retry_ms = DEFAULT_RETRY_MS
        self._failures = 0
        self._opened_at = 0.0
        self._resume_id = self.last_event_id
        self._parser = EventStreamParser()
        self._events: deque[Event] = deque()
        self._error: Exception | None = None

    def request_headers(self, extra: Mapping[str, str] | None = None) -> list[tuple[bytes, bytes]]:
        """The headers of the next GET. ``extra`` wins over the defaults, but for ``Last-Event-ID``."""
        # identity: a compressing proxy buffers, and an event would wait there for the next ones.
        headers = {"accept": "text/event-stream", "cache-control": "no-store", "accept-encoding": "identity"}
        headers |= {name.lower(): value for name, value in (extra or {}).items()}
        if self._resume_id:
            headers["last-event-id"] = self._resume_id
        # "Let lastEventIDValue be the EventSource object's last event ID string, encoded as UTF-8."
        return [(name.encode(), value.encode()) for name, value in headers.items()]

    def responded(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        """The server answered. ``headers`` looks names up in lower case; ``body`` is the start of an error's text.

        Raises:
            StreamRefused: It will not stream, and asking again would not change that.
            StreamLost: It failed once too often.
        """
        if self.state is StreamState.CLOSED:
            return
        if status == _NO_CONTENT:
            # "a client can be told to stop reconnecting using the HTTP 204 No Content response code"
            self.close()
        elif status in _SERVER_ERRORS or status in _RETRIED_4XX:
            wait_s = _retry_after(headers.get("retry-after", ""))
            self.lost(f"it answered {status}: {_detail(body)}", retry_after_s=wait_s)
        elif (problem := _refusal(status, headers, body)) is not None:
            self.close()
            raise StreamRefused(self.url, status, problem)
        else:
            self._opened()

    def received(self, chunk: bytes) -> None:
        """The stream brought bytes."""
        if self.state is not StreamState.OPEN:
            return
        try:
            self._take(self._parser.feed(chunk))
        except EventTooLarge as error:
            self._take(error.events)
            # Asking again would bring the same event again: the caller must raise the limit, or skip it by its id.
            self._error = error
            self.state = StreamState.CLOSED
        self._resume_id = self._parser.last_event_id
        self._retry_ms = self._retry_ms if self._parser.retry_ms is None else self._parser.retry_ms
        if not self._events:
            self.last_event_id = self._resume_id

    def lost(self, reason: str, error: Exception | None = None, *, retry_after_s: float = 0.0) -> None:
        """The connection ended (``error`` None), failed, or was not to be had.

        Raises:
            StreamLost: It failed once too often.
        """
        if self.state is StreamState.CLOSED:
            return
        # A proxy that cuts streams every few minutes, on a quiet channel, is not a failing server.
        if self.state is StreamState.OPEN and self._clock() - self._opened_at >= self._max_retry_s:
            self._failures = 0
        clean_end = self.state is StreamState.OPEN and error is None
        if not self._reconnect and clean_end:
            self.close()
            return
        self._failures += 1
        if not self._reconnect or (self._max_failures is not None and self._failures > self._max_failures):
            self.close()
            count = f"failure {self._failures} in a row"
            raise StreamLost(f"{self.url}: {reason}, {count}; see whether the server is up") from error
        self._wait(reason, retry_after_s)

    def reconnect(self) -> None:
        """The wait is over."""
        if self.state is StreamState.WAITING:
            self.state = StreamState.CONNECTING

    def interrupted(self) -> None:
        """The caller gave up the connection, as by a cancelled wait: the next step opens another, without a wait."""
        if self.state is StreamState.OPEN:
            self.state = StreamState.CONNECTING

    def close(self) -> None:
        """Stop. Events that were received and not taken are dropped; they do not count as seen."""
        self.state = StreamState.CLOSED
        self._events.clear()
        self._error = None

    def next_event(self) -> Event | None:
        """Take the next event, or None where none is left.

        Raises:
            EventTooLarge: The stream ended there.
        """
        if self._events:
            event = self._events.popleft()
            # What the caller has not taken yet does not count as seen.
            self.last_event_id = event.id if self._events else self._resume_id
            return event
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return None

    def _opened(self) -> None:
        self.state = StreamState.OPEN
        self.connections += 1
        self.opened_from.append(self._resume_id)
        self._opened_at = self._clock()
        self._parser = EventStreamParser(self._resume_id, max_event_bytes=self._max_event_bytes)

    def _take(self, events: Sequence[Event]) -> None:
        self._events.extend(events)
        if events:
            self._failures = 0
        for event in events:
            if event.type == "eric.gap":
                self.gaps += 1
            elif event.type == "eric.closed":
                self.state = StreamState.CLOSED

    def _wait(self, reason: str, retry_after_s: float) -> None:
        # Exponential back-off with full jitter: clients that lost one server at one moment must not return at one
        # moment. https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
        base_s = max(self._retry_ms, _MIN_RETRY_MS) / 1000
        ceiling_s = min(self._max_retry_s, base_s * 2 ** min(self._failures - 1, 30))
        self.delay_s = retry_after_s + self._jitter(0.0, ceiling_s)
        self.state = StreamState.WAITING
        get_logger().info("%s: %s; next attempt in %.3f s", self.url, reason, self.delay_s)
        if self._on_retry is not None:
            self._on_retry(reason, self.delay_s)


def _without_secrets(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return url  # it will be refused soon enough
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _refusal(status: int, headers: Mapping[str, str], body: bytes) -> str | None:
    if status in _CLIENT_ERRORS:
        return _detail(body)
    if status != _OK:
        return "an event stream begins with 200; see what the URL leads to"
    content_type = headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "text/event-stream":
        return f"its content type is {content_type!r}, not text/event-stream; see what the URL leads to"
    return None


def _detail(body: bytes) -> str:
    """What an error's body says: the detail of a problem (RFC 9457), else the beginning of its text."""
    with suppress(ValueError, RecursionError):
        problem = json.loads(body)
        if isinstance(problem, dict):
            return str(problem.get("detail") or problem.get("title") or problem)[:_DETAIL_CHARACTERS]
    return body[: 4 * _DETAIL_CHARACTERS].decode("utf-8", "replace")[:_DETAIL_CHARACTERS].strip() or "no reason given"


def _retry_after(value: str) -> float:
    """Seconds to wait by a ``Retry-After`` header (RFC 9110 §10.2.3), which holds seconds or a date."""
    seconds = 0.0
    if value.isascii() and value.isdigit():
        seconds = float(value[:9])
    elif value:
        with suppress(ValueError):
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER_S)
