"""The threads that calls to the store run in."""

import asyncio
import threading

import pytest

from eric_sse.exception import StoreUnavailable
from eric_sse.service import threads as threads_module
from eric_sse.service.threads import StoreThreads


@pytest.fixture
def one():
    """One thread."""
    threads = StoreThreads(1)
    yield threads
    threads.close()


@pytest.fixture
def gate():
    """What a call can hang at; open at the end."""
    gate = threading.Event()
    yield gate
    gate.set()


@pytest.mark.parametrize("inline", [False, True])
async def test_a_call_runs_elsewhere_unless_it_is_to_run_here(inline):
    """What a call returns or raises comes back, from another thread or this one."""
    threads = StoreThreads(1, inline=inline)
    assert (await threads.run(threading.get_ident) == threading.get_ident()) is inline
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 1, 0)
    assert await threads.read(int, "ff", base=16) == 255
    threads.close()


async def test_so_many_run_at_once():
    """As many calls run at once as there are threads."""
    threads = StoreThreads(3)
    barrier = threading.Barrier(3, timeout=5)
    await asyncio.gather(*(threads.run(barrier.wait) for _ in range(6)))
    threads.close()


async def test_a_call_that_was_given_up_is_not_made(one, gate):
    """Who is cancelled while its call waits for its turn spares the store the call."""
    made = []
    first = asyncio.create_task(one.run(gate.wait))
    second = asyncio.create_task(one.run(made.append, "second"))
    await asyncio.sleep(0)
    second.cancel()
    gate.set()
    await first
    await one.run(made.append, "third")
    assert made == ["third"]


async def test_a_read_that_takes_too_long_is_given_up(one, gate, monkeypatch):
    """A read fails after a while; what it comes to later is of no interest."""
    monkeypatch.setattr(threads_module, "ANSWER_WITHIN_S", 0.01)
    with pytest.raises(StoreUnavailable, match="has not answered"):
        await one.read(gate.wait)
    gate.set()
    assert await one.run(int) == 0


async def test_closing_refuses_what_waits(one, gate):
    """What runs is let go on; what waits, and what comes, is refused; the thread ends."""
    first, second = (asyncio.create_task(one.run(gate.wait)) for _ in range(2))
    await asyncio.sleep(0.01)
    one.close()
    for call in (second, one.run(int)):
        with pytest.raises(StoreUnavailable, match="closed"):
            await call
    gate.set()
    assert await first
    while "eric_sse-store" in {thread.name for thread in threading.enumerate()}:
        await asyncio.sleep(0.001)


def test_a_loop_that_is_gone_is_not_told(one, gate):
    """A call that ends after its event loop harms nobody."""

    async def leave():
        asyncio.create_task(one.run(gate.wait))  # noqa: RUF006
        await asyncio.sleep(0.01)

    asyncio.run(leave())
    gate.set()
    assert asyncio.run(one.run(int)) == 0


async def test_closing_when_the_loop_is_gone(one, gate):
    """What waited for a loop that is closed is told to nobody, and the threads end."""

    async def leave():
        for _ in range(2):
            asyncio.create_task(one.run(gate.wait))  # noqa: RUF006
        await asyncio.sleep(0.01)

    await asyncio.to_thread(asyncio.run, leave())
    one.close()
    gate.set()
    while "eric_sse-store" in {thread.name for thread in threading.enumerate()}:
        await asyncio.sleep(0.001)


async def test_no_thread_is_to_be_had(one, monkeypatch):
    """A system that gives no thread is an error for who called; when it gives one again, calls are made."""

    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(StoreUnavailable, match="no thread"):
            await one.run(int)
    assert await one.run(int) == 0


async def test_what_no_future_takes(one):
    """A StopIteration that a driver lets slip is an error like any other."""
    with pytest.raises(RuntimeError, match="StopIteration"):
        await one.run(next, iter(()))


async def test_a_thread_outlives_what_ends_a_program(one):
    """A panic in a store's driver is an error for who called, and the next call is made."""

    def panic():
        raise SystemExit(1)

    with pytest.raises(RuntimeError, match="SystemExit"):
        await one.run(panic)
    assert await one.run(int, "7") == 7
