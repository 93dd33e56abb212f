"""What is measured of each target; a letter each, as in ``Target.scenarios``."""

import time
from collections.abc import Callable
from typing import NamedTuple

from benchmarks.peers.load import Figures, load
from benchmarks.peers.processes import Running, foreign_cpu_seconds, running
from benchmarks.peers.publishing import many_publishers, ndjson_batches
from benchmarks.peers.storm import reconnect_storm
from benchmarks.peers.targets import Target


class Scenario(NamedTuple):
    """A way to measure a target.

    Attributes:
        title: What it is.
        measure: Gives the figures of a server that has just been started.
        warm_up: Whether the server is to have published a little before.
        seconds: What a run takes, about, from nothing to the end: what is left can be estimated before it was run.
        rounds: Of how many rounds at most it is part.
        is_composed: Whether more than the server and ``sseload`` work for it, so that ``sseload`` cannot tell what is
            other load.
    """

    title: str
    measure: Callable[[Running], Figures]
    seconds: float = 5
    warm_up: bool = True
    rounds: int = 99
    is_composed: bool = False


def _with(**options: object) -> Callable[[Running], Figures]:
    return lambda server: load(server, None, **options)


_burst = _with(mode="fanout", conns=1000, msgs=200, timeout=90)

SCENARIOS = {
    "a": Scenario("burst, 1,000 x 200", _burst),
    "b": Scenario("burst, 100 x 2,000", _with(mode="fanout", conns=100, msgs=2000, timeout=90)),
    "c": Scenario("paced, 1,000 at 20/s", _with(mode="fanout", conns=1000, msgs=200, rate=20, timeout=60), seconds=15),
    "r": Scenario(
        "5,000 streams, 64 opening at a time", _with(mode="ramp", conns=5000, ramp_timeout=90), warm_up=False
    ),
    "m": Scenario(
        "memory, 10,000 idle streams",
        _with(mode="idle", conns=10_000, duration=1, settle=2000, ramp_timeout=120),
        seconds=12,
        warm_up=False,
        rounds=2,
    ),
    "i": Scenario(
        "idle CPU, 1,000 streams with heartbeats, 60 s",
        _with(mode="idle", conns=1000, duration=60, settle=5000),
        seconds=70,
        warm_up=False,
        rounds=1,
    ),
    "s": Scenario(
        "5,000 clients return at once", reconnect_storm, seconds=8, warm_up=False, rounds=3, is_composed=True
    ),
    "p": Scenario("64 keep-alive publishers", many_publishers, seconds=7, is_composed=True),
    "n": Scenario("NDJSON batches of 1,000", ndjson_batches, rounds=3, is_composed=True),
    "g": Scenario("the burst of a, by the cap on gathering", _burst),
    "h": Scenario(
        "paced, 4 s, by the cap on gathering",
        _with(mode="fanout", conns=1000, msgs=80, rate=20, timeout=30),
        seconds=9,
        rounds=2,
    ),
}


def rounds_of(target: Target, letter: str, rounds: int) -> int:
    """In how many of so many rounds a target is measured in a scenario."""
    return min(target.rounds, SCENARIOS[letter].rounds, rounds) if letter in target.scenarios else 0


def measure(target: Target, scenario: Scenario) -> Figures:
    """The figures of a fresh server.

    Raises:
        PeerError: It could not be run or measured.
    """
    with running(target) as server:
        if scenario.warm_up and target.subscribe is None:
            load(server, None, mode="fanout", conns=20, msgs=100, timeout=20, settle=300)
        foreign, began = foreign_cpu_seconds(), time.monotonic()
        figures = scenario.measure(server)
        if scenario.is_composed:
            figures |= {"foreign_cpu_s": foreign_cpu_seconds() - foreign, "window_s": time.monotonic() - began}
        return figures
