"""The border between the event loop and the store: calls that may block run in threads."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from eric_sse.exception import StoreUnavailable

ANSWER_WITHIN_S = 5.0
"""How long the store gets for a read before it counts as away, in seconds."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


class StoreThreads:
    """Runs blocking calls beside the event loop, several at a time.

    Args:
        count: How many at once. More wait for their turn.
        inline: Whether the calls wait for nothing: they are made on the event loop then.
    """

    def __init__(self, count: int, *, inline: bool = False) -> None:
        self._executor = ThreadPoolExecutor(max_workers=count, thread_name_prefix="eric_sse-store")
        self._inline = inline
        self._closed = False

    def begin(self, call: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> "asyncio.Future[_R]":
        """Have ``call`` run; the future gets what it returns or raises, however long that takes.

        Raises:
            StoreUnavailable: The threads are closed.
        """
        if self._closed:
            raise StoreUnavailable("the service is closed; use one that runs")
        loop = asyncio.get_running_loop()
        if not self._inline:
            return loop.run_in_executor(self._executor, partial(call, *args, **kwargs))
        done: asyncio.Future[_R] = loop.create_future()
        try:
            done.set_result(call(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - for whoever waits
            done.set_exception(error)
        return done

    async def run(self, call: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Run ``call``, however long it takes.

        Raises:
            StoreUnavailable: The threads are closed.
            Exception: What it raises.
        """
        return await self.begin(call, *args, **kwargs)

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
        self._executor.shutdown(wait=False, cancel_futures=True)
