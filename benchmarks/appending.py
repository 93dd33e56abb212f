"""Appending in batches, durable when it returns, against the best way that the driver has to store the same bytes."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

from benchmarks.by_hand import PostgresByHand, RedisByHand
from benchmarks.common import Result, median_seconds
from benchmarks.engines import fresh_stores
from eric_sse.codec import encode_message
from eric_sse.engines import open_engine
from eric_sse.log import NewEntry
from eric_sse.message import Message

BATCH = 500
LIMIT = 1.5

Append = Callable[[Sequence[bytes]], None]


def _redis(stack: ExitStack, url: str) -> Mapping[str, Append]:
    script = stack.enter_context(RedisByHand(url))
    return {"a pipeline of XADDs": script.append_by_pipeline, "a script of XADDs": script.append_by_script}


def _postgres(stack: ExitStack, url: str) -> Mapping[str, Append]:
    script = stack.enter_context(PostgresByHand(url))
    return {"COPY": script.append_by_copy, "INSERT from arrays": script.append_by_arrays}


_WAYS = {"redis": _redis, "postgres": _postgres}


def run(*, quick: bool = False) -> list[Result]:
    """Measure all ways in turn, on the same store of each engine."""
    rounds = 3 if quick else 100
    with fresh_stores(list(_WAYS)) as stores:
        return [_measure(engine, url, rounds) for engine, url in stores.items()]


def _measure(name: str, url: str, rounds: int) -> Result:
    """Against the fastest way; the others are told."""
    payload = {"mag": 4.7, "place": "232km ENE of Raoul Island, New Zealand"}
    batch = [encode_message(Message("quake", {"n": n, **payload})) for n in range(BATCH)]
    with ExitStack() as stack:
        engine = stack.enter_context(open_engine(url))
        engine.channels.persist(engine.channels.create({"channel_id": "busy"}))
        entries = [NewEntry(data) for data in batch]
        ways = _WAYS[name](stack, url)
        calls: list[Callable[[], object]] = [lambda: engine.log.append("busy", entries)]
        calls += [lambda way=way: way(batch) for way in ways.values()]  # type: ignore[misc]
        ours, *others = median_seconds(calls, rounds)
    taken = ", ".join(f"{seconds * 1e3:.1f} ms by {way}" for way, seconds in zip(ways, others, strict=True))
    detail = f"{ours * 1e3:.1f} ms, {taken}; median of {rounds}"
    return Result(f"appending {BATCH} against the best by hand, {name}", ours / min(others), "x", LIMIT, True, detail)
