"""Loading and persisting a channel of 10,000 connections, against a hand-written script on the same rows."""

import gc
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.by_hand import ByHand, PostgresByHand, RedisByHand, SqliteByHand
from benchmarks.common import Result, median_seconds
from benchmarks.engines import fresh_stores
from eric_sse.engines import open_engine
from eric_sse.listener import MessageQueueListener


class _Script(NamedTuple):
    opened: Callable[[str], ByHand]
    limit: float


_SCRIPTS = {
    "sqlite": _Script(SqliteByHand, 3),
    "redis": _Script(RedisByHand, 2),
    "postgres": _Script(PostgresByHand, 2),
}


def run(*, quick: bool = False) -> list[Result]:
    """Measure both ways in turn, on the same store of each engine."""
    connections, rounds = (200, 2) if quick else (10_000, 9)
    with fresh_stores() as stores:
        return [result for engine, url in stores.items() for result in _measure(engine, url, connections, rounds)]


def _measure(name: str, url: str, connections: int, rounds: int) -> list[Result]:
    script = _SCRIPTS[name]
    with open_engine(url) as engine, script.opened(url) as by_hand:
        channel = engine.channels.create({"channel_id": "crowd"})
        for number in range(connections):
            channel.register_listener(MessageQueueListener(f"listener {number}"))
        engine.channels.persist(channel)
        by_hand.remember()
        # What this process holds besides, such as what both are going to write, is not for them to walk through.
        gc.collect()
        gc.freeze()
        load, read, persist, write = median_seconds(
            [
                lambda: engine.channels.load_one("crowd"),
                by_hand.read,
                lambda: engine.channels.persist(channel),
                by_hand.write,
            ],
            rounds,
        )
        gc.unfreeze()
    compared = (("loading", load, read), ("persisting", persist, write))
    return [
        Result(
            f"{what} {connections:,} connections against by hand, {name}",
            ours / theirs,
            "x",
            script.limit,
            True,
            f"{ours * 1e3:.0f} ms and {theirs * 1e3:.0f} ms; median of {rounds}",
        )
        for what, ours, theirs in compared
    ]
