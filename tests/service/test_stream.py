"""One open stream: how it begins, what it says of itself, how it ends, and what it leaves behind."""

import asyncio
import json

import pytest

from eric_sse.exception import ChannelNotFound, ListenerNotFound, StoreUnavailable
from eric_sse.log import CursorKey, Retention
from eric_sse.message import Position
from eric_sse.service import Outgoing, Service, opening
from eric_sse.service import stream as stream_module
from eric_sse.testing.chunks import ChunkReader
from support.streams import StreamReader, publish_elsewhere


@pytest.fixture(autouse=True)
def _try_again_at_once(monkeypatch):
    monkeypatch.setattr(opening, "_AGAIN_S", (0.01,))
    monkeypatch.setattr(stream_module, "_READ_AGAIN_SECONDS", 0.01)


async def say(service, *payloads, to=None, channel="c"):
    """Publish some messages; returns their ids."""
    return await service.publish(channel, [Outgoing(payload, to=to) for payload in payloads])


def cursor(engine, listener="l"):
    """Where a listener's cursor stands."""
    key = CursorKey("c", listener)
    return engine.cursors.get([key])[key]


async def acknowledged(engine, position):
    """Return when the listener's cursor is there."""
    async with asyncio.timeout(5):
        while str(cursor(engine)) != position:
            await asyncio.to_thread(engine.acks.flush)


class TestOpening:
    """What comes first."""

    async def test_only_id_and_retry(self, service, open_reader):
        """The opening block tells where the stream stands and when to come back, and dispatches nothing."""
        (last,) = await say(service, 1)
        reader = await open_reader()
        assert reader.chunks == [f"id: {last}\nretry: 3000\n\n".encode()]
        assert (reader.events, reader.last_id) == ([], last)

    async def test_the_channels_own_retry(self, service, open_reader):
        """A channel's setting goes before the service's."""
        await service.create_channel("slow", retry_ms=9000)
        assert (await open_reader("slow")).retry_ms == 9000

    async def test_latest_and_earliest(self, service, open_reader):
        """Without an id an anonymous stream starts at the latest; ``earliest`` is the oldest message kept."""
        await say(service, 1, 2)
        latest, earliest = await open_reader(), await open_reader(start_from="earliest")
        await say(service, 3)
        assert await latest.until(1) == ["3"]
        assert await earliest.until(3) == ["1", "2", "3"]

    async def test_a_listener_starts_at_its_cursor(self, service, open_reader):
        """Without an id a listener goes on from what it has acknowledged, with what was sent to it alone."""
        first, _ = await say(service, 1, 2)
        await say(service, "yours", to="l")
        await service.acknowledge("c", "l", first)
        assert await (await open_reader(listener_id="l")).until(2) == ["2", '"yours"']
        assert await (await open_reader(listener_id="l", start_from="earliest")).until(3) == ["1", "2", '"yours"']

    async def test_the_id_goes_before_everything(self, service, open_reader):
        """An id that was seen says where this stream starts, before ``from`` and before the cursor."""
        ids = await say(service, 1, 2, 3)
        for listener in (None, "l"):
            reader = await open_reader(listener_id=listener, last_event_id=ids[1], start_from="earliest")
            assert await reader.until(1) == ["3"]

    @pytest.mark.parametrize("listener", [None, "l"])
    async def test_unknown_channels_and_listeners(self, service, listener):
        """What is not there is refused before anything is sent."""
        with pytest.raises(ChannelNotFound):
            await service.open_stream("nowhere", listener)
        with pytest.raises(ListenerNotFound):
            await service.open_stream("c", "nobody")
        assert (await service.show_channel("c")).channel.streams == 0


class TestGaps:
    """What is missing is said."""

    async def open_gap(self, open_reader, last_id, channel="c", **start):
        """A stream that begins with a gap, and the gap's reason."""
        reader = await open_reader(channel, last_event_id=last_id, **start)
        await reader.until(1)
        (event,) = reader.events
        assert event.type == "eric.gap"
        gap = json.loads(event.data)
        assert gap["resumed_from"] == last_id
        return reader, gap["reason"]

    async def test_trimmed(self, service, engine, open_reader):
        """After an id that was trimmed the stream goes on from the oldest message kept."""
        await service.create_channel("short", retention=Retention(max_messages=2))
        ids = await say(service, *range(5), channel="short")
        engine.log.trim()
        reader, reason = await self.open_gap(open_reader, ids[0], "short")
        assert (reason, reader.last_id) == ("trimmed", ids[2])
        assert (await reader.until(3))[1:] == ["3", "4"]

    async def test_trimmed_where_others_listen(self, service, engine, open_reader):
        """The same where the channel is followed already, and nobody asks the store where the stream is to start."""
        await service.create_channel("short", retention=Retention(max_messages=2))
        ids = await say(service, *range(5), channel="short")
        engine.log.trim()
        await open_reader("short")
        reader, reason = await self.open_gap(open_reader, ids[0], "short")
        assert (reason, reader.last_id) == ("trimmed", ids[2])
        assert (await reader.until(3))[1:] == ["3", "4"]

    async def test_the_edge_of_what_was_trimmed_is_no_gap(self, service, engine, open_reader):
        """Who has seen the last message that was trimmed misses nothing."""
        await service.create_channel("short", retention=Retention(max_messages=2))
        ids = await say(service, *range(5), channel="short")
        engine.log.trim()
        assert await (await open_reader("short", last_event_id=ids[2])).until(2) == ["3", "4"]

    async def test_another_epoch(self, service, open_reader):
        """After an id of another log the stream goes on from the oldest message kept."""
        await say(service, 1)
        reader, reason = await self.open_gap(open_reader, "0123456789ab-7")
        assert reason == "epoch"
        assert (await reader.until(2))[1] == "1"

    @pytest.mark.parametrize("last_id", ["ahead", "nonsense", "é\x01", "9" * 400, "-1", "abc-01"])
    async def test_an_id_that_was_never_given(self, service, open_reader, last_id):
        """After an id that is malformed, or ahead of the log, it goes on from the latest."""
        (last,) = await say(service, 1)
        reader, reason = await self.open_gap(open_reader, f"{last}9" if last_id == "ahead" else last_id)
        assert (reason, reader.last_id) == ("unknown", last)
        await say(service, 2)
        assert (await reader.until(2))[1] == "2"

    async def test_an_id_of_another_channel(self, service, open_reader):
        """An id is only ever looked up in the stream's own channel."""
        await service.create_channel("other")
        (foreign,) = await say(service, 1, channel="other")
        assert (await self.open_gap(open_reader, foreign))[1] == "epoch"

    async def test_a_cursor_that_was_trimmed_past(self, service, engine, open_reader):
        """A listener that comes back after its messages were trimmed is told."""
        await service.create_channel("short", retention=Retention(max_messages=1))
        await service.add_listener("short", "late")
        await say(service, 1, 2, 3, channel="short")
        engine.log.trim()
        reader = await open_reader("short", "late")
        assert json.loads((await reader.until(2))[0])["reason"] == "trimmed"
        assert reader.events[1].data == "3"


class TestHeartbeats:
    """Signs of life."""

    async def test_a_comment_where_nothing_moved(self, service, open_reader):
        """An idle stream sends a comment, which no client shows."""
        reader = await open_reader()
        reader.stream.heartbeat()
        assert await reader.chunk() == b":\n\n"

    async def test_the_id_where_the_position_moved(self, service, open_reader):
        """Where others received something meanwhile, a heartbeat tells the new position, once."""
        reader, other = await open_reader(), await open_reader(listener_id="l")
        (last,) = await say(service, "not for you", to="l")
        await other.until(1)
        reader.stream.heartbeat()
        assert await reader.chunk() == f"id: {last}\n\n".encode()
        reader.stream.heartbeat()
        assert await reader.chunk() == b":\n\n"

    async def test_news_take_its_place(self, service, open_reader):
        """A heartbeat that is due is not sent where a message goes out anyway."""
        reader = await open_reader()
        await say(service, 1)
        other = await open_reader(start_from="earliest")
        await other.until(1)
        reader.stream.heartbeat()
        assert await reader.until(1) == ["1"]
        reader.stream.heartbeat()
        assert await reader.chunk() == b":\n\n"

    async def test_only_the_silent_get_one(self, service, open_reader):
        """The sweep leaves alone who sent something just now."""
        reader = await open_reader()
        reading = asyncio.create_task(reader.source.next_chunk())
        await asyncio.sleep(0)
        service._hub.sweep()
        assert not reader.stream._heartbeat_due
        reader.stream.last_activity -= 16
        service._hub.sweep()
        assert await reading == b":\n\n"

    async def test_a_peer_that_takes_nothing_is_given_up(self, service, open_reader):
        """A chunk that is with the transport for too long ends the stream."""
        reader = await open_reader()
        reader.stream.last_activity -= 61
        service._hub.sweep()
        assert reader.source.aborted.is_set()
        assert await reader.chunk() is None


class TestAcknowledging:
    """What moves a cursor."""

    async def test_auto_after_the_hand_over(self, service, engine, open_reader):
        """What a listener was sent counts when the next chunk is asked for, not before."""
        start = cursor(engine)
        reader = await open_reader(listener_id="l")
        (last,) = await say(service, 1)
        await reader.until(1)
        engine.acks.flush()
        assert cursor(engine) == start
        reader.stream.heartbeat()
        await reader.chunk()
        await acknowledged(engine, last)

    async def test_not_when_the_peer_is_gone(self, service, engine, open_reader):
        """What was under way when the peer went away is not acknowledged."""
        start = cursor(engine)
        reader = await open_reader(listener_id="l")
        await say(service, 1)
        await reader.until(1)
        reader.stream.close()
        assert await reader.chunk() is None
        engine.acks.flush()
        assert cursor(engine) == start

    async def test_explicit_never_by_itself(self, service, engine, open_reader):
        """The cursor of an explicit listener stays where it is, whatever is delivered or resumed."""
        await service.add_listener("c", "careful", "explicit")
        start = cursor(engine, "careful")
        first, second = await say(service, 1, 2)
        reader = await open_reader(listener_id="careful", last_event_id=first)
        await reader.until(1)
        reader.stream.heartbeat()
        await reader.chunk()
        engine.acks.flush()
        assert cursor(engine, "careful") == start
        await service.acknowledge("c", "careful", second)
        assert str(cursor(engine, "careful")) == second

    async def test_last_event_id_acknowledges(self, service, engine, open_reader):
        """An auto listener that comes back with an id has received everything through it."""
        first, _ = await say(service, 1, 2)
        await open_reader(listener_id="l", last_event_id=first)
        await acknowledged(engine, first)

    async def test_an_older_id_moves_nothing_back(self, service, engine, open_reader):
        """An older id says where this stream starts, and leaves the cursor."""
        first, second = await say(service, 1, 2)
        await service.acknowledge("c", "l", second)
        reader = await open_reader(listener_id="l", last_event_id=first)
        assert await reader.until(1) == ["2"]
        engine.acks.flush()
        assert str(cursor(engine)) == second

    async def test_two_streams_of_one_listener(self, service, engine, open_reader):
        """Both receive everything; the cursor is the furthest of the two."""
        readers = [await open_reader(listener_id="l") for _ in range(2)]
        *_, last = await say(service, 1, 2, 3)
        for reader in readers:
            assert await reader.until(3) == ["1", "2", "3"]
        readers[0].stream.heartbeat()
        await readers[0].chunk()
        await acknowledged(engine, last)


class TestStoreAway:
    """The stream stays open while the store does not answer."""

    async def away(self, log):
        """Have every read refused."""
        log.errors.update(read=StoreUnavailable("away"), heads=StoreUnavailable("away"))

    async def test_at_the_opening(self, service, log):
        """It opens with ``retry:`` and heartbeats, and starts where it was to start when the store is back."""
        await say(service, 1)
        await self.away(log)
        reader = StreamReader(await service.open_stream("c", start_from="earliest"))
        assert await reader.chunk() == b"retry: 3000\n\n"
        reader.stream.heartbeat()
        assert await reader.chunk() == b":\n\n"
        log.errors.clear()
        assert await reader.until(1) == ["1"]
        assert reader.chunks[2].startswith(b"id: ")
        reader.stream.release()

    async def test_at_the_opening_while_it_hangs(self, service, hung_store):
        """The same where the store does not even refuse."""
        reader = StreamReader(await service.open_stream("c"))
        assert await reader.chunk() == b"retry: 3000\n\n"
        reader.stream.heartbeat()
        assert await reader.chunk() == b":\n\n"
        reader.stream.release()

    @pytest.mark.parametrize("what", ["channel", "listener"])
    async def test_gone_when_it_is_back(self, service, engine, log, what):
        """What was removed while the stream waited is told as gone."""
        await self.away(log)
        reader = StreamReader(await service.open_stream("c", "l"))
        if what == "channel":
            log.drop("c")
        else:
            engine.cursors.drop("c", ["l"])
        log.errors.clear()
        assert await reader.rest() == ["eric.closed"]
        assert json.loads(reader.events[0].data) == {"removed": what}
        reader.stream.release()

    async def test_while_live(self, engine, log, open_reader):
        """A live stream goes on with everything that was published meanwhile."""
        reader = await open_reader()
        await self.away(log)
        publish_elsewhere(engine, 1, 2)
        reader.stream.heartbeat()
        assert await reader.chunk() == b":\n\n"
        log.errors.clear()
        assert await reader.until(2) == ["1", "2"]

    async def test_while_catching_up(self, service, log, open_reader):
        """A stream that is behind shows that it lives, and catches up when the store is back."""
        await say(service, 1, 2)
        reader = await open_reader(start_from="earliest")
        await self.away(log)
        reader.stream.heartbeat()
        assert await reader.chunk() == b":\n\n"
        log.errors.clear()
        assert await reader.until(2) == ["1", "2"]

    async def test_hanging_while_catching_up(self, service, open_reader, hung_store_later):
        """A read that hangs holds up neither heartbeats nor the end."""
        await say(service, 1)
        reader = await open_reader(start_from="earliest")
        hung_store_later()
        reader.stream.heartbeat()
        assert await reader.chunk() == b":\n\n"
        reader.stream.close()
        assert await reader.chunk() is None


class TestEnd:
    """How a stream ends."""

    async def test_deleted_channel(self, service, open_reader):
        """Its streams end with ``eric.closed``."""
        readers = [await open_reader(), await open_reader(listener_id="l")]
        await service.delete_channel("c")
        for reader in readers:
            assert await reader.rest() == ["eric.closed"]
            assert json.loads(reader.events[0].data) == {"removed": "channel"}

    async def test_removed_listener(self, service, open_reader):
        """Its streams end with ``eric.closed``; those of others go on."""
        mine, anonymous = await open_reader(listener_id="l"), await open_reader()
        await service.remove_listener("c", "l")
        assert await mine.rest() == ["eric.closed"]
        await say(service, 1)
        assert await anonymous.until(1) == ["1"]

    async def test_removed_by_another_process(self, service, engine, open_reader):
        """What nobody told this process is found by the poll."""
        await service.create_channel("d")
        listener, channel = await open_reader(listener_id="l"), await open_reader("d")
        engine.cursors.drop("c", ["l"])
        engine.log.drop("d")
        await service._upkeep.poll()
        assert await listener.rest() == await channel.rest() == ["eric.closed"]

    async def test_removed_just_before_it_is_followed(self, service, engine, log, open_reader):
        """A listener that is removed while its channel's first stream opens does not keep it."""
        gate = log.close_gate("read")
        reader = await open_reader(listener_id="l")
        engine.cursors.drop("c", ["l"])
        gate.open()
        assert await reader.rest() == ["eric.closed"]

    async def test_removal_costs_no_asking(self, service, engine, open_reader, monkeypatch):
        """While no listener is removed, nobody asks for those of the streams, however much is published."""
        mine = await open_reader(listener_id="l")
        await say(service, 1)
        await mine.until(1)
        monkeypatch.setattr(engine.cursors, "get", None)
        await say(service, 2, 3)
        assert await mine.until(3) == ["1", "2", "3"]

    async def test_deleted_and_created_anew(self, service, open_reader):
        """A stream of the old channel ends; one of the new begins, and an old id is a gap."""
        (old_id,) = await say(service, 1)
        old = await open_reader()
        await service.delete_channel("c")
        await service.create_channel("c")
        new = await open_reader(last_event_id=old_id)
        await say(service, 2)
        assert await old.rest() == ["eric.closed"]
        assert json.loads((await new.until(2))[0])["reason"] == "epoch"
        assert new.events[1].data == "2"

    async def test_a_stale_answer_ends_nobody(self, service, engine, open_reader):
        """Who was told of the old log just before it was made anew asks again, and harms no stream of the new."""
        stale = engine.log.heads(["c"])["c"]
        await service.delete_channel("c")
        await service.create_channel("c")
        reader = await open_reader()
        assert service._hub.tail("c", stale, 3000) is None
        await say(service, 1)
        assert await reader.until(1) == ["1"]

    async def test_restart(self, service, open_reader):
        """A drain ends streams and spreads their return; what was sent before counts as received."""
        readers = [await open_reader(listener_id="l") for _ in range(20)]
        draining = asyncio.create_task(service.drain())
        for reader in readers:
            assert await reader.rest() == []
            assert 1500 <= reader.retry_ms <= 4500
            reader.stream.release()
        await draining
        assert len({reader.retry_ms for reader in readers}) > 5

    async def test_opened_while_draining(self, service):
        """A stream that is opened when the service stops ends at once."""
        await service.drain()
        reader = StreamReader(await service.open_stream("c"))
        assert await reader.rest() == []
        reader.stream.release()

    async def test_who_does_not_leave_is_thrown_out(self, service, open_reader):
        """A drain waits for a bounded time, then aborts."""
        reader = await open_reader()
        await service.drain(0.01)
        assert reader.source.aborted.is_set()


class TestLeaks:
    """Nothing is left behind; the fixture looks for tasks."""

    @pytest.mark.parametrize("turns", range(12))
    async def test_cancelled_while_opening(self, service, turns):
        """An opening that is cancelled at any point leaves no stream and no subscription."""
        opening_stream = asyncio.create_task(service.open_stream("c", "l"))
        for _ in range(turns):
            await asyncio.sleep(0.0002)
        if not opening_stream.cancel():
            (await opening_stream).release()
        await asyncio.wait([opening_stream])
        if not opening_stream.cancelled():
            opening_stream.result().release()
        assert service._hub.tails() == {}
        assert service._hub.count("c") == 0

    @pytest.mark.parametrize("end", ["close", "abort", "cancel"])
    @pytest.mark.parametrize("moment", ["idle", "catching up", "waiting for the store"])
    async def test_ended_while_reading(self, service, log, end, moment):
        """However and whenever a reader goes, nothing is left."""
        await say(service, 1)
        if moment == "waiting for the store":
            log.errors["heads"] = StoreUnavailable("away")
        stream = await service.open_stream("c", start_from="earliest" if moment == "catching up" else None)
        reader = ChunkReader(stream)
        await reader.next_chunk()
        if moment == "catching up":
            log.errors["read"] = StoreUnavailable("away")
        reading = asyncio.create_task(reader.next_chunk())
        await asyncio.sleep(0)
        reading.cancel() if end == "cancel" else getattr(stream, end)()
        await asyncio.wait([reading], timeout=5)
        assert reading.cancelled() if end == "cancel" else reading.result() is None
        stream.release()
        stream.release()
        assert service._hub.tails() == {}
        assert service._hub.count("c") == 0

    async def test_a_closed_service(self, engine):
        """A service leaves nothing behind, also with streams that wait for the store; closing twice is fine."""
        service = Service(engine)
        await service.create_channel("c")
        engine.log.errors["heads"] = StoreUnavailable("away")
        stream = await service.open_stream("c")
        reader = ChunkReader(stream)
        await service.close(0.01)
        await service.close()
        assert await reader.next_chunk() is not None
        assert await reader.next_chunk() is None
        stream.release()
        with pytest.raises(StoreUnavailable, match="closed"):
            await service.list_channels()

    async def test_closing_moves_the_cursors(self, engine):
        """What was delivered is acknowledged at the latest when the service closes."""
        async with Service(engine) as service:
            await service.create_channel("c")
            await service.add_listener("c", "l")
            reader = StreamReader(await service.open_stream("c", "l"))
            (last,) = await say(service, 1)
            await reader.until(1)
            reader.stream.heartbeat()
            await reader.chunk()
            reader.stream.release()
        assert str(cursor(engine)) == last
        assert Position.parse(last) is not None
