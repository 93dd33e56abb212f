"""An event loop that counts how often it wakes up."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any


class CountingSelector(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    """Counts its ``select`` calls: one for each turn of the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = 0

    def select(self, timeout: float | None = None) -> Any:
        """Wait for events."""
        self.turns += 1
        return super().select(timeout)


def run_counting(main: Callable[[CountingSelector], Coroutine[Any, Any, None]]) -> None:
    """Run ``main`` on a loop of its own, giving it what counts the loop's turns."""
    selector = CountingSelector()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(main(selector))
