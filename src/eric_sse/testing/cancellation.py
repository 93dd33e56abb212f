"""What every engine does when the tasks that use it are cancelled, at any moment."""

import asyncio
import random
import time
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest

from eric_sse.codec import decode_message
from eric_sse.engine import Engine
from eric_sse.exception import InvalidChannelException, InvalidListenerException
from eric_sse.log import View
from eric_sse.service import Outgoing, Service
from eric_sse.testing.service import PROMPTLY_S, Follower, run


class CancellationSuite:
    """Tasks that are cancelled while they use an engine."""

    @pytest.mark.parametrize("seed", range(3))
    def test_publishing(self, engine: Engine, seed: int) -> None:
        """What was acknowledged is stored, once, under the id that was answered; of the rest, nothing twice."""
        acknowledged: dict[int, str] = {}

        async def publish(service: Service, number: int) -> None:
            (acknowledged[number],) = await service.publish("c", [Outgoing(number)])

        async def main(service: Service) -> None:
            await _cancel_some([publish(service, number) for number in range(60)], seed)
            await publish(service, 60)

        run(engine, main)
        page = engine.log.read("c", 0, View.EVERYTHING, 1000)
        stored = [(decode_message(entry.data).payload, f"{page.head.epoch}-{entry.offset}") for entry in page.entries]
        assert len(dict(stored)) == len(stored)
        assert acknowledged.items() <= set(stored)

    @pytest.mark.parametrize("seed", range(3))
    def test_streaming(self, engine: Engine, seed: int) -> None:
        """Who was cancelled while opening or reading a stream, and comes back, has received everything once."""

        async def main(service: Service) -> None:
            await service.add_listener("c", "l")
            followers = [Follower(service), Follower(service, "l"), Follower(service)]
            for number in range(0, 60, 10):
                await _cancel_some([one.read(1000) for one in followers], seed + number, all_of_them=True)
                await service.publish("c", [Outgoing(n) for n in range(number, number + 10)])
            for follower in followers:
                assert await follower.read(60) == list(range(60))

        run(engine, main)

    @pytest.mark.parametrize("seed", range(3))
    def test_everything(self, engine: Engine, seed: int) -> None:
        """Creating, listing, adding, acknowledging, deleting: after it the engine does all of that as before."""
        names = [f"channel {number}" for number in range(40)]

        async def main(service: Service) -> None:
            await _cancel_some([_use(service, name) for name in names], seed)
            for name in names[::4]:
                await _use_in_the_end(service, name)

        run(engine, main)

    def test_closing(self, engine: Engine) -> None:
        """A service, and its engine, close promptly while much is under way."""

        async def main(service: Service) -> None:
            reading = [asyncio.create_task(Follower(service).read(1000)) for _ in range(5)]
            publishing = [asyncio.create_task(service.publish("c", [Outgoing(n)])) for n in range(50)]
            await asyncio.sleep(0)
            for task in reading:
                task.cancel()
            await service.close()
            await asyncio.gather(*reading, *publishing, return_exceptions=True)

        run(engine, main)
        begun = time.monotonic()
        engine.close()
        assert time.monotonic() - begun < PROMPTLY_S


async def _use(service: Service, name: str) -> None:
    """Create a channel, do with it what there is to do, and delete it."""
    await service.create_channel(name)
    await service.add_listener(name, "l")
    (last_id,) = await service.publish(name, [Outgoing(1, to="l")])
    await service.acknowledge(name, "l", last_id)
    await service.list_channels()
    await service.delete_channel(name)


async def _use_in_the_end(service: Service, name: str) -> None:
    """Do the same, when whatever a cancelled task had begun in a thread is over."""
    while True:
        await service.delete_channel(name)
        try:
            return await _use(service, name)
        except (InvalidChannelException, InvalidListenerException):
            await asyncio.sleep(0.01)


async def _cancel_some(coroutines: Sequence[Coroutine[Any, Any, Any]], seed: int, *, all_of_them: bool = False) -> None:
    """Run them as tasks, cancel half of them, or all, at random moments, and wait for the rest."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    tasks = [asyncio.create_task(one) for one in coroutines]
    for task in chance.sample(tasks, len(tasks) if all_of_them else len(tasks) // 2):
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        await asyncio.sleep(chance.choice([0, 0, 0.0005, 0.002]))
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome
