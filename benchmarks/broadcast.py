"""One broadcast on a durable channel takes as long with 10,000 listeners as with 10."""

import tempfile
from functools import partial

from benchmarks.common import Result, median_seconds
from eric_sse.engines import open_engine
from eric_sse.listener import MessageQueueListener
from eric_sse.message import Message

ROUNDS = 500


def run() -> list[Result]:
    """Measure broadcasts beside each other on one store."""
    with tempfile.TemporaryDirectory() as folder, open_engine(f"sqlite:///{folder}/events.db") as engine:
        channels = []
        for listeners in (10, 10_000):
            channel = engine.channels.create({"channel_id": f"with {listeners}"})
            for _ in range(listeners):
                channel.register_listener(MessageQueueListener())
            engine.channels.persist(channel)
            channels.append(channel)
        message = Message("quake", {"mag": 4.7, "place": "232km ENE of Raoul Island, New Zealand"})
        few, many = median_seconds([partial(channel.broadcast, message) for channel in channels], ROUNDS)
    detail = f"{few * 1e6:.0f} us with 10 listeners, {many * 1e6:.0f} us with 10,000; median of {ROUNDS}"
    return [Result("broadcast, 10,000 listeners against 10", many / few, "x", 1.2, True, detail)]
