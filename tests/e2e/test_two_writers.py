"""Two processes append to one channel as fast as they can: whoever reads meanwhile reads everything, and in order."""

import random
import time
from contextlib import ExitStack
from functools import partial

import pytest

from eric_sse.engines import open_engine
from eric_sse.log import Retention, View
from eric_sse.testing.processes import worker
from support.writers import CHANNEL, LISTENER, Reader, append_for

VIEWS = (View.EVERYTHING, View.BROADCASTS, LISTENER)


@pytest.mark.parametrize("seconds", [3, pytest.param(30, marks=pytest.mark.soak)])
def test_no_offset_appears_below_one_that_was_read(stores, engine_name, seconds):
    """Readers that look back all the while never find anything new there, and in the end they have read everything."""
    opener = partial(open_engine, stores.fresh(engine_name))
    with opener() as engine, ExitStack() as stack:
        engine.log.create(CHANNEL, Retention(None, None))
        readers = [Reader(engine.log, view) for view in VIEWS]
        seeds = [random.randrange(2**32) for _ in range(2)]
        writers = [stack.enter_context(worker(opener, append_for, seconds, seed)) for seed in seeds]
        for writer in writers:
            writer.go()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for reader in readers:
                reader.read_on()
        times = [reader.times_up_to_date for reader in readers]
        told = [[tuple(found) for report in writer.finish() for found in report] for writer in writers]
        print(f"{engine_name}: {[len(own) for own in told]} messages in {seconds} s, readers up to date {times} times")
        assert min(times) > 10 * seconds
        for reader in readers:
            while reader.read_on():
                pass
            reader.check(told[0] + told[1])
    assert all(own == sorted(own) for own in map(_offsets, told))


def _offsets(told: list[tuple[int, str | None]]) -> list[int]:
    return [offset for offset, _ in told]
