"""Small things with no better home: ids, the logger, wake-ups, sockets. Standard library only."""

import asyncio
import contextlib
import threading
import unicodedata
from collections.abc import Callable
from logging import Logger, getLogger
from uuid import uuid4

BACKLOG = 65_535
"""Of a listening socket: the kernel makes it as much as it allows."""

MAX_ID_BYTES = 255


def get_logger() -> Logger:
    """The package's logger, named ``eric_sse``. No handler is installed: that is the application's choice."""
    return getLogger("eric_sse")


def generate_uuid() -> str:
    """A new random id (UUID version 4)."""
    return str(uuid4())


def id_problem(value: object) -> str | None:
    """Why ``value`` cannot be the id of a channel or listener, or None where it can.

    An id is 1 to 255 bytes of UTF-8 without control characters or lone surrogates, and not ``.`` or ``..``, which
    URLs resolve away. Ids are compared as they are: nothing is normalised.
    """
    if not isinstance(value, str):
        return f"an id is a string, not {type(value).__name__}"
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return f"id {value!r} holds a lone surrogate, which UTF-8 cannot carry"
    if not 1 <= size <= MAX_ID_BYTES:
        return f"an id is 1 to {MAX_ID_BYTES} bytes of UTF-8; {value[:40]!r} has {size}"
    if value in {".", ".."}:
        return f"id {value!r} would be resolved away in a URL; choose another"
    if not value.isprintable() and any(unicodedata.category(c) == "Cc" for c in value):
        return f"id {value!r} holds a control character; remove it"
    return None


class Signal:
    """Something changed: calls everybody who asked to be told, from the thread that tells.

    It carries no data. A pickled signal comes back with nobody listening.
    """

    def __init__(self) -> None:
        self._subscribers: dict[object, Callable[[], None]] = {}
        self._lock = threading.Lock()

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Have ``wake`` called at each :meth:`notify`. It must not block. Returns what ends the subscription."""
        token = object()
        with self._lock:
            self._subscribers[token] = wake

        def unsubscribe() -> None:
            with self._lock:
                self._subscribers.pop(token, None)

        return unsubscribe

    def notify(self) -> None:
        """Wake all subscribers."""
        with self._lock:
            subscribers = list(self._subscribers.values())
        for wake in subscribers:
            wake()

    def __reduce__(self) -> tuple[type["Signal"], tuple[()]]:
        return (Signal, ())


class Wakeup:
    """A flag of the running event loop that any thread may raise by calling it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def __call__(self) -> None:
        # A closed loop has nobody left to wake.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self) -> None:
        """Wait until it is raised, and lower it: what is raised after that is not missed."""
        await self._event.wait()
        self._event.clear()
