"""Streams that have their connections to themselves: the tail writes to their transports."""

import asyncio
import json
import time
from types import SimpleNamespace

import pytest

from eric_sse.log import CursorKey, Retention
from eric_sse.service import Outgoing
from eric_sse.service import hub as hub_module
from support.streams import TransportReader, publish_elsewhere


async def say(service, *payloads, to=None):
    """Publish some messages."""
    return await service.publish("c", [Outgoing(payload, to=to) for payload in payloads])


async def until(holds):
    """Wait for what nothing tells of."""
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.001)


@pytest.fixture
async def direct(service):
    """Opens a stream on a connection of its own, and reads its opening."""
    opened = []

    async def open_direct(channel_id="c", listener_id=None, enough=1_000_000, **start):
        reader = TransportReader(await service.open_stream(channel_id, listener_id, **start), enough)
        opened.append(reader)
        reader.look()
        return reader

    yield open_direct
    for reader in opened:
        reader.transport.abort()
        reader.protocol.connection_lost(None)


async def received(reader, count):
    """The data of so many events, when they have come."""
    await until(lambda: reader.look() or len(reader.events) >= count)
    while len(reader.events) < count:
        await until(reader.look)
    return [event.data for event in reader.events]


async def test_the_opening_is_an_id_alone(direct):
    """A stream begins with a block that holds only where it is, and is live after it."""
    reader = await direct()
    assert (reader.chunks[0][:4], reader.events, reader.stream.is_live) == (b"id: ", [], True)


async def test_all_are_sent_the_same_bytes(service, direct):
    """What is new goes to everybody in one write, and is put together once."""
    readers = [await direct() for _ in range(3)]
    written = []
    for reader in readers:
        reader.transport.write = written.append
    await say(service, 1, 2)
    await until(lambda: len(written) == 3)
    assert written[0] is written[1] is written[2]
    assert written[0].count(b"data: ") == 2


async def test_dispatches_keep_their_place(service, direct):
    """A listener's own messages come between the others, in order; nobody else has them."""
    mine, other = await direct(listener_id="l"), await direct()
    await service.publish("c", [Outgoing(1), Outgoing(2, to="l"), Outgoing(3)])
    assert await received(mine, 3) == ["1", "2", "3"]
    assert await received(other, 2) == ["1", "3"]


async def test_who_takes_nothing_falls_behind(service, direct, log):
    """A transport that has enough is written to no more; when it takes more, nothing is missing."""
    slow, quick = await direct(enough=10), await direct()
    await say(service, *range(5))
    await received(quick, 5)
    held = slow.transport.get_write_buffer_size()
    await say(service, *range(5, 9))
    await received(quick, 9)
    assert (slow.stream.is_live, slow.transport.get_write_buffer_size()) == (False, held)
    assert await received(slow, 9) == [str(number) for number in range(9)]


async def test_returning_together_reads_once(service, direct, log):
    """Those who come back with different ids share one reading, and are live after it."""
    ids = await say(service, *range(20))
    before = log.calls["read"]
    readers = await asyncio.gather(*(direct(last_event_id=id_) for id_ in ids))
    for missed, reader in zip(range(19, 0, -1), readers, strict=False):
        assert len(await received(reader, missed)) == missed
    assert log.calls["read"] - before <= 3
    assert all(reader.stream.is_live for reader in readers)


async def test_returning_to_a_live_channel_costs_one_reading(service, direct, log):
    """Where somebody listens already, the store is asked for what was missed, once, and for nothing else."""
    ids = await say(service, *range(20))
    live = await direct()
    await until(lambda: live.stream.is_live and service._hub.tails()["c"]._task is None)  # it has read, and rests
    before = log.calls.copy()
    readers = await asyncio.gather(*(direct(last_event_id=id_) for id_ in ids[:-1]))
    for missed, reader in zip(range(19, 0, -1), readers, strict=True):
        assert len(await received(reader, missed)) == missed
    assert log.calls - before == {"read": 1}


async def test_a_gap_is_told(service, engine, direct):
    """Where messages are missing, the stream says so first."""
    await service.create_channel("short", retention=Retention(max_messages=1))
    (first, *_) = await service.publish("short", [Outgoing(number) for number in range(4)])
    engine.log.trim()
    reader = await direct("short", last_event_id=first)
    await received(reader, 2)
    assert [event.type for event in reader.events] == ["eric.gap", "message"]


async def test_heartbeats_by_the_sweep(service, direct):
    """A silent stream is sent a comment; one that was just written to is not; a moved position is told as an id."""
    reader = await direct()
    reader.stream.last_activity -= 16
    service._hub.sweep()
    assert reader.look()
    assert reader.chunks[-1] == b":\n\n"
    await say(service, 1)
    await received(reader, 1)
    service._hub.sweep()
    assert not reader.look()
    await say(service, 2, to="l")
    await until(lambda: service._hub.tails()["c"].window.through == 2)
    reader.stream.heartbeat()
    reader.look()
    assert reader.chunks[-1].endswith(b"-2\n\n")
    assert reader.stream.is_live


async def test_idle_streams_are_not_looked_at(service, direct, monkeypatch):
    """They are swept when one has come or was sent something, however little, and when the first may be silent."""
    hub, swept = service._hub, []
    sweep = hub.sweep
    monkeypatch.setattr(hub, "sweep", lambda: swept.append(1) or sweep())

    def sweeps():
        swept.clear()
        for _ in range(3):
            hub.sweep_if_due()
        return len(swept)

    reader = await direct()
    assert sweeps() == 1
    named = await direct(listener_id="l")
    assert sweeps() == 1
    assert sweeps() == 0
    await say(service, 1)
    await received(reader, 1)
    await received(named, 1)
    assert sweeps() == 1
    await say(service, 2, to="l")
    await received(named, 2)
    assert sweeps() == 1
    named.transport.enough = 10
    await say(service, "x" * 100, to="l")
    await until(lambda: not named.stream.is_live)
    assert sweeps() == 3
    await received(named, 3)
    assert sweeps() == 1
    assert sweeps() == 0
    assert 14 < hub._sweep_at - time.monotonic() <= 15
    monkeypatch.setattr(hub_module, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + 15))
    assert sweeps() >= 1
    assert reader.look()
    assert reader.chunks[-1].startswith((b":", b"id:"))


async def test_acknowledged_by_the_sweep(service, engine, direct):
    """An automatic listener's cursor moves to what its transport took, and not to what waits in it."""
    reader, key = await direct(listener_id="l"), CursorKey("c", "l")
    await say(service, 1)
    await received(reader, 1)
    reader.transport.enough = 10
    await say(service, 2)
    await until(lambda: not reader.stream.is_live)
    service._hub.sweep()
    engine.acks.flush()
    taken = engine.cursors.get([key])[key].offset
    reader.look()
    engine.acks.flush()
    assert (taken, engine.cursors.get([key])[key].offset) == (0, 2)


async def test_what_has_not_left_is_not_acknowledged(service, engine, direct):
    """Neither the sweep nor the end of a connection takes what the transport still holds as delivered."""
    reader, key = await direct(listener_id="l"), CursorKey("c", "l")
    start = engine.cursors.get([key])[key].offset
    await say(service, 1)
    await until(lambda: reader.transport.get_write_buffer_size() > 0)
    service._hub.sweep()
    reader.protocol.eof_received()
    engine.acks.flush()
    assert engine.cursors.get([key])[key].offset == start


async def test_who_takes_a_little_nothing_is_cut_off_too(service, direct):
    """Also where so little waits that the transport has not asked to pause, and nothing follows."""
    reader = await direct()
    await say(service, 1)
    await until(lambda: reader.transport.get_write_buffer_size() > 0)
    reader.stream.last_activity -= 61
    service._hub.tails()["c"].fan_out.pushed_at -= 61
    service._hub.sweep()
    assert reader.transport.is_aborted


async def test_who_takes_nothing_for_long_is_cut_off(service, direct):
    """After the send timeout it is given up, unless it has taken something since."""
    reader = await direct(enough=10)
    await say(service, "x" * 100)
    await until(lambda: reader.stream.is_writing)
    for seconds_ago, taken, given_up in ((61, 5, False), (61, 0, True)):
        reader.stream.last_activity -= seconds_ago
        del reader.transport._buffer[:taken]
        service._hub.sweep()
        assert reader.transport.is_aborted is given_up


@pytest.mark.parametrize("what", ["channel", "listener"])
async def test_what_was_removed_ends(service, direct, what):
    """Its streams are told, and end as a body does."""
    reader = await direct(listener_id="l")
    await (service.delete_channel("c") if what == "channel" else service.remove_listener("c", "l"))
    await until(lambda: reader.look() or reader.has_ended)
    assert json.loads(reader.events[-1].data) == {"removed": what}
    assert reader.transport.is_closing()


async def test_draining_tells_when_to_come_back(service, direct):
    """Streams end with a time to wait, and the drain waits for their connections."""
    reader = await direct()
    draining = asyncio.create_task(service.drain(5))
    await until(lambda: reader.look() or reader.has_ended)
    assert reader.chunks[-1].startswith(b"retry: ")
    assert not draining.done()
    reader.protocol.connection_lost(None)
    await draining


async def test_a_lost_connection_leaves_nothing(service, direct):
    """Whoever is gone is forgotten, and the channel is followed no more."""
    reader = await direct()
    reader.transport.close()
    reader.protocol.connection_lost(ConnectionResetError())
    assert service._hub.count("c") == 0
    assert service._hub.tails() == {}


async def test_one_closed_transport_harms_nobody(service, direct):
    """A transport that refuses is passed over; all others are written to."""
    first, second = await direct(), await direct()

    def refuse(_data):
        raise RuntimeError("the handler is closed")

    first.transport.write = refuse
    await say(service, 1)
    assert await received(second, 1) == ["1"]


async def test_a_hanging_store_while_behind(service, direct, hung_store_later):
    """A stream that cannot read on is sent heartbeats, and ends when it is closed."""
    await say(service, 1)
    hung_store_later()
    reader = await direct(start_from="earliest")
    await until(lambda: reader.look() or reader.chunks)
    reader.stream.heartbeat()
    reader.stream.close(b"retry: 1\n\n")
    await until(lambda: reader.look() or reader.has_ended)


async def test_a_long_way_behind(service, engine, direct, monkeypatch):
    """More than the window may hold is read from the log, page by page, and nothing is missing or doubled."""
    publish_elsewhere(engine, *range(3000))
    reader = await direct(start_from="earliest")
    assert await received(reader, 3000) == [str(number) for number in range(3000)]
    assert reader.stream.is_live


async def test_what_is_sent_to_nobody_is_not_acknowledged(service, engine, direct):
    """What comes between a peer's leaving and the end of its connection was never sent to it."""
    reader, key = await direct(listener_id="l"), CursorKey("c", "l")
    await say(service, 1)
    await received(reader, 1)
    reader.protocol.eof_received()
    await say(service, 2)
    reader.transport.close()
    reader.protocol.connection_lost(None)
    engine.acks.flush()
    assert engine.cursors.get([key])[key].offset == 1


async def test_a_removal_on_a_busy_channel(service, direct):
    """A removed listener's stream ends, however much is published."""
    reader, busy = await direct(listener_id="l"), True

    async def publish():
        while busy:
            await say(service, 1)

    publishing = asyncio.create_task(publish())
    await service.remove_listener("c", "l")
    await until(lambda: reader.look() or reader.has_ended)
    while not reader.has_ended:
        await until(reader.look)
    busy = False
    await publishing


async def test_a_channel_made_anew_at_once(service, direct):
    """A stream that is opened after a channel was created anew is of the new one."""
    old = await direct()
    await service.delete_channel("c")
    await service.create_channel("c")
    await service.add_listener("c", "l")
    readers = [await direct(), await direct(listener_id="l")]
    await say(service, 1)
    for reader in readers:
        assert await received(reader, 1) == ["1"]
    assert old.look()


async def test_one_too_far_back_spoils_it_for_nobody(service, log, direct):
    """Of those that return, those that the window may reach share one reading, whatever the others need."""
    ids = [id_ for number in range(3) for id_ in await say(service, *range(number * 900, number * 900 + 900))]
    before = log.calls["read"]
    readers = await asyncio.gather(*(direct(last_event_id=ids[at]) for at in (0, -3, -2)))
    assert [len(await received(reader, count)) for reader, count in zip(readers, (2699, 2, 1), strict=True)]
    assert log.calls["read"] - before < 60
