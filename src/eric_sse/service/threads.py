"""The border between the event loop and the store: calls that may block run in threads."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

from eric_sse.exception import StoreUnavailable

ANSWER_WITHIN_S = 5.0
"""How long the store gets for a read before it counts as away, in seconds."""

_CLOSED = "the service is closed; use one that runs"

_P = ParamSpec("_P")
_R = TypeVar("_R")
_Then = Callable[[Any, Exception | None], None]
_Call = tuple[asyncio.AbstractEventLoop, Callable[[], Any], _Then]


class StoreThreads:
    """Runs blocking calls beside the event loop, several at a time.

    Not an executor: handing a call over and its result back takes a third less time. A call that hangs does not keep
    the process from ending.

    Args:
        count: How many at once. More wait for their turn.
        inline: Whether the calls wait for nothing: they are made on the event loop then.
    """

    def __init__(self, count: int, *, inline: bool = False) -> None:
        self._count = count
        self._inline = inline
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._started = 0
        self._closed = False

    def start(self, call: Callable[[], _R], then: Callable[[_R | None, Exception | None], None]) -> None:
        """Have ``call`` run, and ``then`` be called on the event loop with what it returned or raised.

        Raises:
            StoreUnavailable: The threads are closed, or the system gives none.
        """
        if self._closed:
            raise StoreUnavailable(_CLOSED)
        if self._inline:
            then(*_outcome(call))
            return
        if self._started < self._count:
            self._start_thread()
        self._calls.put((asyncio.get_running_loop(), call, then))

    async def run(self, call: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Run ``call``, however long it takes; where it has not begun when this is cancelled, it never does.

        Raises:
            StoreUnavailable: The threads are closed.
            Exception: What it raises.
        """
        done: asyncio.Future[_R] = asyncio.get_running_loop().create_future()
        self.start(lambda: None if done.cancelled() else call(*args, **kwargs), partial(_settle, done))
        return await done

    async def read(self, call: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Run a call that changes nothing, and give it up when it takes too long.

        Raises:
            StoreUnavailable: It has not answered within `ANSWER_WITHIN_S`, or the threads are closed.
            Exception: What it raises.
        """
        if self._inline:
            return await self.run(call, *args, **kwargs)
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await self.run(call, *args, **kwargs)
        except TimeoutError as error:
            raise StoreUnavailable(f"the store has not answered for {ANSWER_WITHIN_S:g} s; try again later") from error

    def close(self) -> None:
        """Run nothing more; what runs is not waited for."""
        self._closed = True
        with contextlib.suppress(Empty):
            while (waiting := self._calls.get_nowait()) is not None:
                _, _, then = waiting
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                    then(None, StoreUnavailable(_CLOSED))
        for _ in range(self._started):
            self._calls.put(None)

    def _start_thread(self) -> None:
        try:
            threading.Thread(target=_work, args=(self._calls,), name="eric_sse-store", daemon=True).start()
        except RuntimeError as error:
            if not self._started:
                raise StoreUnavailable(f"there is no thread for the store ({error}): allow the server more") from error
        else:
            self._started += 1


def _work(calls: "SimpleQueue[_Call | None]") -> None:
    while (waiting := calls.get()) is not None:
        _perform(*waiting)
        del waiting  # nothing is to live on while this thread sleeps


def _perform(loop: asyncio.AbstractEventLoop, call: Callable[[], Any], then: _Then) -> None:
    try:
        outcome = _outcome(call)
    except BaseException as error:  # noqa: BLE001 - it would end the thread, and leave who waits waiting
        outcome = None, RuntimeError(f"a call to the store was ended by {error!r}")
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
        loop.call_soon_threadsafe(then, *outcome)


def _outcome(call: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        return call(), None
    except StopIteration as error:  # no future takes one
        return None, RuntimeError(f"a call to the store raised {error!r}")
    except Exception as error:  # noqa: BLE001 - for whoever waits
        return None, error


def _settle(done: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
    if done.done():
        return  # given up
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)
