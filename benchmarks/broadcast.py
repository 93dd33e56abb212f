"""One broadcast on a durable channel takes as long with 10,000 listeners as with 10."""

from functools import partial

from benchmarks.common import Result, median_seconds
from benchmarks.engines import fresh_stores
from eric_sse.engines import open_engine
from eric_sse.listener import MessageQueueListener
from eric_sse.message import Message


def run(*, quick: bool = False) -> list[Result]:
    """Measure broadcasts beside each other on one store of each engine."""
    listeners, rounds = (200, 5) if quick else (10_000, 500)
    with fresh_stores() as stores:
        return [_measure(engine, url, listeners, rounds) for engine, url in stores.items()]


def _measure(name: str, url: str, listeners: int, rounds: int) -> Result:
    with open_engine(url) as engine:
        channels = []
        for number in (10, listeners):
            channel = engine.channels.create({"channel_id": f"with {number}"})
            for _ in range(number):
                channel.register_listener(MessageQueueListener())
            engine.channels.persist(channel)
            channels.append(channel)
        message = Message("quake", {"mag": 4.7, "place": "232km ENE of Raoul Island, New Zealand"})
        few, many = median_seconds([partial(channel.broadcast, message) for channel in channels], rounds)
    detail = f"{few * 1e6:.0f} us with 10 listeners, {many * 1e6:.0f} us with {listeners:,}; median of {rounds}"
    return Result(f"broadcast, {listeners:,} listeners against 10, {name}", many / few, "x", 1.2, True, detail)
