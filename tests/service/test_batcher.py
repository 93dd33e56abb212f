"""Group commit."""

import asyncio
import time

import pytest

from eric_sse.exception import ChannelNotFound, OutcomeUnknown, Overloaded, StoreUnavailable
from eric_sse.log import Append, NewEntry, Retention, View
from eric_sse.service import batcher as batcher_module
from eric_sse.service.batcher import Batcher
from eric_sse.service.threads import StoreThreads


def append(channel="c", messages=1):
    """So many messages for a channel."""
    return Append(channel, [NewEntry(b"{}")] * messages)


def stored(log):
    """How many messages the channel holds."""
    return len(log.read("c", 0, View.EVERYTHING, 100_000, None).entries)


@pytest.fixture
def threads():
    """Where commits run."""
    threads = StoreThreads(1)
    yield threads
    threads.close()


def ignore(_append, _appended):
    """What is stored is of no interest."""


@pytest.fixture
def batcher(engine, threads):
    """A batcher in whose log there is a channel "c"."""
    engine.log.create("c", Retention())
    return Batcher(engine.log, engine.notifier, threads, ignore, max_waiting=20, max_batch=50)


async def held(batcher, log):
    """A publish whose commit hangs, and the gate that lets it go on."""
    gate = log.close_gate("append_group")
    publish = asyncio.create_task(batcher.publish(append()))
    await gate.somebody_waits()
    return publish, gate


async def test_200_coroutines_share_commits(engine, threads, log):
    """Two hundred coroutines that publish at once cause at most one commit per 50 messages."""
    log.create("c", Retention())
    batcher = Batcher(log, engine.notifier, threads, ignore)

    async def publisher():
        return [(await batcher.publish(append())).offsets[0] for _ in range(10)]

    offsets = await asyncio.gather(*(publisher() for _ in range(200)))
    assert sorted(offset for mine in offsets for offset in mine) == list(range(1, 2001))
    assert log.calls["append_group"] <= 2000 / 50


async def test_a_bad_append_fails_alone(batcher):
    """Of a group, only the append to a channel that is not there fails."""
    good, bad, other = await asyncio.gather(
        *(batcher.publish(append(channel)) for channel in ("c", "nowhere", "c")), return_exceptions=True
    )
    assert [*good.offsets, *other.offsets] == [1, 2]
    assert isinstance(bad, ChannelNotFound)


@pytest.mark.parametrize("error", [StoreUnavailable("it is away"), RuntimeError("a bug")])
async def test_a_commit_that_fails_fails_for_all(batcher, log, error):
    """Where the commit fails, every caller is told, and the next commit works."""
    log.errors["append_group"] = error
    outcomes = await asyncio.gather(*(batcher.publish(append()) for _ in range(3)), return_exceptions=True)
    assert outcomes == [error] * 3
    log.errors.clear()
    assert (await batcher.publish(append())).offsets == [1]


async def test_cancelled_during_the_commit(batcher, log):
    """A caller that is cancelled during its commit harms nobody else; what it sent may be stored, and is."""
    first, gate = await held(batcher, log)
    second = asyncio.create_task(batcher.publish(append()))
    first.cancel()
    gate.open()
    assert (await second).offsets == [2]
    assert first.cancelled()


async def test_cancelled_while_waiting(batcher, log):
    """A caller that is cancelled before its commit began harms nobody else."""
    first, gate = await held(batcher, log)
    second, third = (asyncio.create_task(batcher.publish(append())) for _ in range(2))
    await asyncio.sleep(0)
    second.cancel()
    gate.open()
    assert (await first).offsets == [1]
    assert (await third).offsets[0] > 1


async def test_overload_refuses_and_recovers(batcher, log):
    """More than may wait are refused, not stored; once the store answers, all is well again."""
    first, gate = await held(batcher, log)
    waiting = [asyncio.create_task(batcher.publish(append())) for _ in range(19)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="20 messages wait"):
        await batcher.publish(append())
    gate.open()
    await asyncio.gather(first, *waiting)
    assert stored(log) == 20
    assert (await batcher.publish(append())).offsets == [21]


async def test_cancelled_callers_make_room(batcher, log):
    """What was taken from callers that went away does not count for ever."""
    first, gate = await held(batcher, log)
    waiting = [asyncio.create_task(batcher.publish(append())) for _ in range(19)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    gate.open()
    await first
    await batcher.publish(append())
    assert len((await batcher.publish(append(messages=20))).offsets) == 20


async def test_a_large_publish_is_taken_when_nothing_waits(batcher, log):
    """A single publish of more than may wait goes through, alone."""
    assert len((await batcher.publish(append(messages=100))).offsets) == 100
    assert log.groups == [100]


async def test_commits_are_bounded(engine, threads, log):
    """No commit takes more messages than it should, and none is left out."""
    log.create("c", Retention())
    batcher = Batcher(log, engine.notifier, threads, ignore, max_batch=5)
    await asyncio.gather(*(batcher.publish(append(messages=2)) for _ in range(8)))
    assert log.groups == [4, 4, 4, 4]


async def test_close_stores_what_was_taken(batcher, log):
    """Closing waits for what was taken; what comes later is refused."""
    publishes = [asyncio.create_task(batcher.publish(append())) for _ in range(3)]
    await asyncio.sleep(0)
    await batcher.close(5)
    assert all(task.done() and not task.exception() for task in publishes)
    with pytest.raises(StoreUnavailable, match="closed"):
        await batcher.publish(append())
    assert stored(log) == 3


async def test_close_does_not_wait_for_ever(batcher, log):
    """Where the store hangs, what still waits is refused after a while."""
    first, gate = await held(batcher, log)
    second = asyncio.create_task(batcher.publish(append()))
    await asyncio.sleep(0)
    await batcher.close(0.01)
    with pytest.raises(StoreUnavailable, match="nothing was stored"):
        await second
    gate.open()
    assert (await first).offsets == [1]


async def test_a_store_that_hangs_keeps_nobody_waiting(batcher, log, monkeypatch):
    """Whose commit hangs is told that nobody knows; who waits, and who comes, that nothing was stored."""
    monkeypatch.setattr(batcher_module, "ANSWER_WITHIN_S", 0.05)
    first, gate = await held(batcher, log)
    second = asyncio.create_task(batcher.publish(append()))
    with pytest.raises(OutcomeUnknown):
        await first
    for publish in (second, batcher.publish(append())):
        with pytest.raises(StoreUnavailable, match="nothing was stored"):
            await publish
    gate.open()
    while stored(log) == 0:
        await asyncio.sleep(0)
    await batcher.close(5)
    assert stored(log) == 1


async def test_each_commit_gets_its_whole_time(batcher, log, monkeypatch):
    """A commit that begins when an earlier one was begun a while ago is not given up sooner for that."""
    monkeypatch.setattr(batcher_module, "ANSWER_WITHIN_S", 0.1)
    await batcher.publish(append())
    await asyncio.sleep(0.06)
    begun = time.monotonic()
    first, gate = await held(batcher, log)
    with pytest.raises(OutcomeUnknown):
        await first
    assert time.monotonic() - begun > 0.09
    gate.open()


async def test_what_became_of_a_commit_that_was_given_up_is_logged(batcher, log, monkeypatch, caplog):
    """Its callers know nothing of it any more."""
    monkeypatch.setattr(batcher_module, "ANSWER_WITHIN_S", 0.01)
    log.errors["append_group"] = StoreUnavailable("it was away")
    first, gate = await held(batcher, log)
    with pytest.raises(OutcomeUnknown):
        await first
    gate.open()
    await batcher.close(5)
    assert "storing 1 publishes failed" in caplog.text


async def test_a_store_that_is_away_is_not_tried_for_each_in_turn(batcher, log, monkeypatch):
    """Where a commit has failed only after a while, who waited meanwhile is refused as well, and at once."""
    monkeypatch.setattr(batcher_module, "_LONG_S", 0)
    log.errors["append_group"] = StoreUnavailable("it is away")
    first, gate = await held(batcher, log)
    second = asyncio.create_task(batcher.publish(append()))
    await asyncio.sleep(0)
    gate.open()
    for publish in (first, second):
        with pytest.raises(StoreUnavailable, match="is away"):
            await publish
    assert log.calls["append_group"] == 1
    log.errors.clear()
    assert len((await batcher.publish(append(messages=20))).offsets) == 20


async def test_a_store_that_comes_back_is_used_again(batcher, log, monkeypatch):
    """After it has hung, the next publish is stored, and room is left for as many as ever."""
    monkeypatch.setattr(batcher_module, "ANSWER_WITHIN_S", 0.05)
    first, gate = await held(batcher, log)
    with pytest.raises(OutcomeUnknown):
        await first
    log.gates.clear()
    gate.open()
    while not batcher._idle.is_set():
        await asyncio.sleep(0)
    assert len((await batcher.publish(append(messages=20))).offsets) == 20
    assert batcher._messages == 0


async def test_without_a_thread_nothing_is_taken(batcher, threads, monkeypatch):
    """Where the commit cannot be started its callers are told, and the next one is tried."""

    def refuse(*_):
        raise StoreUnavailable("no thread")

    with monkeypatch.context() as patched:
        patched.setattr(threads, "start", refuse)
        with pytest.raises(StoreUnavailable, match="no thread"):
            await batcher.publish(append())
    assert (await batcher.publish(append())).offsets == [1]


async def test_an_engine_that_tells_of_too_few(batcher, log, monkeypatch):
    """Its callers are told that nobody knows, and the next commit works."""
    with monkeypatch.context() as patched:
        patched.setattr(log, "append_group", lambda _: [])
        with pytest.raises(OutcomeUnknown, match="told of 0 appends, not of 1"):
            await batcher.publish(append())
    assert (await batcher.publish(append())).offsets == [1]


async def test_those_who_listen_are_told_after_the_commit(engine, batcher):
    """One wake-up for each channel of a group, and not before it can be read."""
    engine.log.create("d", Retention())
    woken = []
    end = engine.notifier.listen(lambda channel: woken.append((channel, stored(engine.log))))
    await asyncio.gather(*(batcher.publish(append(channel)) for channel in "ccdc"))
    end()
    assert sorted(set(woken)) == [("c", 3), ("d", 3)]


async def test_what_nobody_knows_is_looked_for(engine, threads, log):
    """Where the outcome is unknown, those who follow the channel are to look."""
    told = []
    log.create("c", Retention())
    batcher = Batcher(log, engine.notifier, threads, lambda append, appended: told.append(appended))
    log.errors["append_group"] = OutcomeUnknown("the reply was lost")
    with pytest.raises(OutcomeUnknown):
        await batcher.publish(append())
    log.errors["append_group"] = StoreUnavailable("away")
    with pytest.raises(StoreUnavailable):
        await batcher.publish(append())
    assert told == [None]


async def test_a_notifier_that_fails_fails_no_publish(engine, threads, log, monkeypatch, caplog):
    """What is stored is stored, whatever becomes of the wake-up."""

    def fail(_channels):
        raise ZeroDivisionError

    log.create("c", Retention())
    batcher = Batcher(log, engine.notifier, threads, ignore)
    monkeypatch.setattr(engine.notifier, "wake", fail)
    assert (await batcher.publish(append())).offsets == [1]
    assert "the notifier failed" in caplog.text
    assert not batcher.is_telling
