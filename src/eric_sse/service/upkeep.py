"""What a service does by itself, now and then."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from eric_sse._util import get_logger
from eric_sse.engine import Engine
from eric_sse.exception import EricError
from eric_sse.service.hub import Hub
from eric_sse.service.threads import StoreThreads

logger = get_logger()

SWEEP_EVERY_S = 1.0
POLL_EVERY_S = 1.0
POLL_HEALTHY_EVERY_S = 10.0
TRIM_EVERY_S = 5.0
TRIM_AT_ONCE = 10_000


class Upkeep:
    """Sweeps the streams, looks for news that no wake-up told, and trims. Belongs to one event loop.

    Args:
        engine: Whose logs.
        hub: Whose streams.
        threads: Where the store is asked.
    """

    def __init__(self, engine: Engine, hub: Hub, threads: StoreThreads) -> None:
        self._engine = engine
        self._hub = hub
        self._threads = threads
        self._polled = time.monotonic()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        # Each for itself: heartbeats go on while the store hangs.
        duties = ((SWEEP_EVERY_S, self._sweep), (POLL_EVERY_S, self._poll_if_due), (TRIM_EVERY_S, self._trim))
        self._tasks = [asyncio.create_task(_every(seconds, duty), name="eric_sse upkeep") for seconds, duty in duties]

    async def stop(self) -> None:
        """End."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _sweep(self) -> None:
        self._hub.sweep_if_due()

    async def _poll_if_due(self) -> None:
        if self._engine.notifier.healthy and time.monotonic() - self._polled < POLL_HEALTHY_EVERY_S:
            return
        self._polled = time.monotonic()
        await self.poll()

    async def poll(self) -> None:
        """Compare all that is followed with where it stands in the store.

        Raises:
            RepositoryError: The store does not answer.
        """
        # Taken before the store is asked: what comes later may be of a log that the answer does not know.
        tails = self._hub.tails()
        if tails:
            heads = await self._threads.read(self._engine.log.heads, list(tails))
            for channel_id, tail in tails.items():
                tail.check(heads.get(channel_id))

    async def _trim(self) -> None:
        while await self._threads.run(self._engine.log.trim, TRIM_AT_ONCE) >= TRIM_AT_ONCE:
            pass


async def _every(seconds: float, duty: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await duty()
        except EricError as error:
            logger.warning("upkeep failed, trying again: %s", error)
        except Exception:
            logger.exception("upkeep failed, trying again")
