"""How long it takes from an append in one process to the callback in another, the append included."""

import statistics
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection

from benchmarks.common import Result
from benchmarks.engines import fresh_stores
from eric_sse.engine import Engine
from eric_sse.engines import open_engine
from eric_sse.message import Message

CHANNEL = "news"
PAUSE_S = 0.02
PATIENCE_S = 5.0


def run(*, quick: bool = False) -> list[Result]:
    """Measure each engine, with one process that listens."""
    rounds = 5 if quick else 200
    with fresh_stores() as stores:
        return [_measure(engine, url, rounds) for engine, url in stores.items()]


def _measure(name: str, url: str, rounds: int) -> Result:
    here, there = get_context("spawn").Pipe()
    with open_engine(url) as engine:
        engine.channels.persist(engine.channels.create({"channel_id": CHANNEL}))
        # Where this process listens too, as a server does, whatever that takes is ready.
        end = engine.notifier.listen(lambda _: None)
        listener = get_context("spawn").Process(target=_listen, args=(url, there))
        listener.start()
        try:
            _receive(here)
            times = [_wake(engine, here) for _ in range(rounds)]
        finally:
            here.send(None)
            listener.join(PATIENCE_S)
            end()
    ordered = sorted(times)
    median, slow = statistics.median(ordered), ordered[int(rounds * 0.95)]
    detail = f"{slow * 1e3:.1f} ms for 19 of 20; {rounds} broadcasts, {PAUSE_S * 1e3:.0f} ms apart"
    return Result(f"from broadcast to the callback elsewhere, {name}", median * 1e3, "ms", 5, True, detail)


def _listen(url: str, pipe: Connection) -> None:
    """In the other process: tell when the callback was called."""
    with open_engine(url) as engine:
        # One clock for all processes of a machine.
        end = engine.notifier.listen(
            lambda channel: pipe.send(time.monotonic()) if channel in {CHANNEL, None} else None
        )
        pipe.send(time.monotonic())
        pipe.recv()
        end()


def _wake(engine: Engine, pipe: Connection) -> float:
    time.sleep(PAUSE_S)
    channel = engine.log_queues.for_channel(CHANNEL)
    started = time.monotonic()
    channel.broadcast(Message("quake", {"mag": 4.7}))
    # What was told before that was about the one before.
    while (called := _receive(pipe)) < started:
        pass
    return called - started


def _receive(pipe: Connection) -> float:
    if not pipe.poll(PATIENCE_S):
        raise TimeoutError(f"the callback was not called within {PATIENCE_S:g} s")
    return float(pipe.recv())
