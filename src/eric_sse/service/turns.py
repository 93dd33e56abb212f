"""Fairness: what thousands want at the same moment is done a little at a time, and everybody else goes on meanwhile."""

import asyncio
from collections import deque
from collections.abc import Callable


class Turns:
    """Makes calls in their order, a few in each turn of the event loop. Belongs to one event loop.

    Args:
        at_once: How many in one turn.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._left = at_once
        self._waiting: deque[Callable[[], object]] = deque()
        self._is_scheduled = False

    def take(self, call: Callable[[], object]) -> None:
        """Make a call when it is its turn: now, if it is one of few."""
        self._schedule()
        if self._left and not self._waiting:
            self._left -= 1
            call()
        else:
            self._waiting.append(call)

    async def wait(self) -> None:
        """Return when it is the caller's turn."""
        turn = asyncio.Event()
        self.take(turn.set)
        await turn.wait()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self._is_scheduled = False
        self._left = self._at_once
        if self._waiting:
            self._schedule()
        while self._waiting and self._left:
            self._left -= 1
            self._waiting.popleft()()
