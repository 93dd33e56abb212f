"""200 coroutines publish at once: how many share a commit, and what durability costs."""

import asyncio
import tempfile
import time
from collections.abc import Sequence

from benchmarks.common import Result
from eric_sse.engine import Engine
from eric_sse.engines import open_engine
from eric_sse.exception import EricError
from eric_sse.log import Append, Appended
from eric_sse.service import Outgoing, Service

COROUTINES = 200
EACH = 50
ROUNDS = 5


async def _publish_all(engine: Engine) -> tuple[float, int]:
    """The rate, in messages per second, and the number of commits."""
    commits = 0
    append_group = engine.log.append_group

    def counting(appends: Sequence[Append]) -> Sequence[Appended | EricError]:
        nonlocal commits
        commits += 1
        return append_group(appends)

    engine.log.append_group = counting  # type: ignore[method-assign]
    async with Service(engine) as service:
        channel = (await service.create_channel()).id

        async def publisher(number: int) -> None:
            for n in range(EACH):
                await service.publish(channel, [Outgoing({"publisher": number, "n": n})])

        started = time.perf_counter()
        await asyncio.gather(*(publisher(number) for number in range(COROUTINES)))
        seconds = time.perf_counter() - started
    engine.log.append_group = append_group  # type: ignore[method-assign]
    return COROUTINES * EACH / seconds, commits


def run() -> list[Result]:
    """Measure SQLite, at ``synchronous=FULL``, and memory in turn."""
    sqlite_rates, memory_rates, commits = [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS):
            with open_engine(f"sqlite:///{folder}/{number}.db") as engine:
                rate, made = asyncio.run(_publish_all(engine))
                sqlite_rates.append(rate)
                commits = max(commits, made)
            with open_engine("memory://") as engine:
                memory_rates.append(asyncio.run(_publish_all(engine))[0])
    ratio = sorted(a / b for a, b in zip(sqlite_rates, memory_rates, strict=True))[ROUNDS // 2]
    messages = COROUTINES * EACH
    rates = f"{sorted(sqlite_rates)[ROUNDS // 2]:,.0f} and {sorted(memory_rates)[ROUNDS // 2]:,.0f} messages/s"
    return [
        Result("messages a commit, 200 coroutines", messages / commits, "", 50, False, f"{commits} commits at most"),
        Result("publishing on SQLite against memory", ratio, "x", 0.6, False, f"{rates}; median of {ROUNDS}"),
    ]
