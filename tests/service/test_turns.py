"""Turns: a few calls in each turn of the event loop."""

import asyncio

import pytest

from eric_sse.service.turns import Turns


async def test_many_at_once_are_called_in_turns():
    """Of calls that come in the same turn of the loop, a few are made in each of the next, in their order."""
    turns, called, counts = Turns(32), [], []
    for number in range(100):
        turns.take(lambda number=number: called.append(number))
    for _ in range(4):
        counts.append(len(called))
        await asyncio.sleep(0)
    assert counts == [32, 64, 96, 100]
    assert called == list(range(100))


async def test_one_at_a_time_is_called_at_once():
    """Whoever comes alone does not wait."""
    turns, called = Turns(1), []
    for number in range(100):
        turns.take(lambda number=number: called.append(number))
        assert len(called) == number + 1
        await asyncio.sleep(0)


async def test_nobody_overtakes_those_who_wait():
    """A call that comes while others wait is made after them."""
    turns, called = Turns(2), []
    for number in range(5):
        turns.take(lambda number=number: called.append(number))
    await asyncio.sleep(0)
    turns.take(lambda: called.append("late"))
    await asyncio.sleep(0.01)
    assert called == [0, 1, 2, 3, 4, "late"]


async def test_waiting_returns_in_its_turn():
    """Coroutines go on in their order, and one that was cancelled meanwhile is passed over."""
    turns, passed = Turns(1), []

    async def pass_through(number):
        await turns.wait()
        passed.append(number)

    tasks = [asyncio.create_task(pass_through(number)) for number in range(4)]
    await asyncio.sleep(0)
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert passed == [0, 1, 3]


async def test_a_call_that_fails_keeps_nobody_waiting():
    """What fails in its turn is the event loop's to report, and the next one's turn comes all the same."""
    turns, called, reported = Turns(1), [], []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    turns.take(lambda: None)
    turns.take(lambda: 1 / 0)
    turns.take(lambda: called.append("next"))
    await asyncio.sleep(0.01)
    assert called == ["next"]
    assert len(reported) == 1


async def test_a_call_that_fails_at_once_tells_its_caller():
    """Where the call is made at once, its error is the caller's, and turns go on."""
    turns, called = Turns(1), []
    with pytest.raises(ZeroDivisionError):
        turns.take(lambda: 1 / 0)
    turns.take(lambda: called.append("next"))
    await asyncio.sleep(0.01)
    assert called == ["next"]
