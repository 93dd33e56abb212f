"""The live tail: windows, segments, and the seam between what is read from the log and what comes live."""

import asyncio
import time
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eric_sse.codec import encode_json, encode_message
from eric_sse.engine import Engine
from eric_sse.engines.memory import open_memory
from eric_sse.exception import ChannelNotFound, StoreUnavailable
from eric_sse.listener import MessageQueueListener
from eric_sse.log import Append, Entry, NewEntry, Notifier, Retention, View
from eric_sse.message import Message
from eric_sse.service import Outgoing, Service
from eric_sse.service import stream as stream_module
from eric_sse.service import tail as tail_module
from eric_sse.service import window as window_module
from eric_sse.service.hub import Hub
from eric_sse.service.listeners import Listeners
from eric_sse.service.messages import new_entry
from eric_sse.service.opening import Opener, Request
from eric_sse.service.threads import StoreThreads
from eric_sse.service.window import Frame, Segment, Window, encode_frame
from eric_sse.wire.sse import EventStreamParser
from support.streams import StreamReader, TransportReader, publish_elsewhere


def frames(*offsets, receiver=None, size=10):
    """Frames of so many bytes."""
    return [Frame(offset, receiver, b"%010d" % offset * (size // 10)) for offset in offsets]


class TestWindow:
    """The recent frames."""

    def test_keeps_the_newest_by_count(self):
        """Of more frames than it may hold, the oldest go, and it begins after them."""
        window = Window(0, max_frames=3)
        window.extend(frames(1, 2, 5, 6, 9), through=9)
        assert (window.start, window.through) == (2, 9)
        assert window.after(2).for_listener(None) == b"".join(frame.data for frame in frames(5, 6, 9))

    def test_keeps_the_newest_by_bytes(self):
        """It never holds more bytes than it may, also where one frame is too large by itself."""
        window = Window(0, max_bytes=25)
        window.extend(frames(1, 2, 3), through=3)
        assert window.start == 1
        window.extend(frames(4, size=100), through=4)
        assert (window.start, window.through) == (4, 4)

    def test_what_is_not_shown_counts_too(self):
        """Offsets that hold nothing are passed over: a window may end after its last frame."""
        window = Window(0)
        window.extend(frames(1), through=7)
        assert window.after(0).through == 7
        assert window.after(3).for_listener(None) == b""

    def test_segments_are_limited(self, monkeypatch):
        """A segment ends where the count of bytes passes a multiple, wherever it begins; what is larger is whole."""
        monkeypatch.setattr(window_module, "CHUNK_BYTES", 25)
        window = Window(0)
        window.extend([*frames(1, 2, 3, 4), *frames(5, size=100)], through=9)
        assert [window.after(offset).through for offset in range(6)] == [2, 2, 4, 4, 9, 9]

    def test_begins_earlier(self):
        """Frames that go before it are put there, to the letter once, also where it began later meanwhile."""
        window = Window(3, max_frames=5)
        window.extend(frames(4, 5), through=6)
        assert window.prepend(frames(1, 3, 4), start=0) == 0
        assert window._frames == frames(1, 3, 4, 5)
        window.extend(frames(7, 8), through=8)
        assert (window.start, window._frames) == (1, frames(3, 4, 5, 7, 8))

    def test_begins_no_earlier_than_it_may(self):
        """It never holds more than it may: of what is put before it, the newest fit."""
        window = Window(3, max_frames=4, max_bytes=45)
        window.extend(frames(4, 5), through=5)
        assert window.prepend(frames(1, 2, 3), start=0) == 1
        assert window.prepend(frames(1, size=20), start=0) == 1
        assert window._frames == frames(2, 3, 4, 5)

    def test_segments_are_shared(self):
        """Who asks for the same gets the same, until something is added."""
        window = Window(0)
        window.extend(frames(1), through=1)
        segment = window.after(0)
        assert window.after(0) is segment
        window.extend(frames(2), through=2)
        assert window.after(0).through == 2


class TestSegment:
    """The bytes for each listener."""

    def test_dispatches_are_merged_in_order(self):
        """A listener gets broadcasts and what is its own, by offset; an anonymous stream broadcasts only."""
        segment = Segment([*frames(1), *frames(2, receiver="a"), *frames(3), *frames(4, receiver="b")], through=4)
        expected = {"a": (1, 2, 3), "b": (1, 3, 4), "c": (1, 3), None: (1, 3)}
        for listener, offsets in expected.items():
            assert segment.for_listener(listener) == b"".join(frame.data for frame in frames(*offsets))

    def test_broadcasts_are_joined_once(self):
        """All who have nothing of their own get the very same bytes."""
        segment = Segment([*frames(1, 2), *frames(3, receiver="a")], through=3)
        assert segment.for_listener("b") is segment.for_listener(None)


any_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(), lambda inner: st.lists(inner) | st.text()
)
# What another program, or a damaged disk, may have left in the store.
stored_bytes = st.one_of(
    st.binary(),
    st.builds(
        lambda kind, payload, space: (
            encode_json({"v": 1, "k": "message", "t": kind}).removesuffix(b"}")
            + b',"p":'
            + payload.replace(b",", b"," + space)
            + space
            + b"}"
        ),
        st.text(),
        any_json.map(encode_json),
        st.sampled_from([b"", b"\n", b"\r\n\r\n", b"\rdata: forged\r"]),
    ),
)


@given(stored_bytes)
def test_any_stored_bytes_become_one_event(data):
    """Whatever is stored becomes exactly one event with the message's id: itself, or a gap."""
    (event,) = EventStreamParser().feed(encode_frame("abc", Entry(7, None, data)).data)
    assert event.id == "abc-7"
    assert event.type == "eric.gap" or b'"k":"message"' in data


class InlineThreads(StoreThreads):
    """Runs calls on the event loop, a few of its turns later, so that a failure can be repeated."""

    def __init__(self, turns):
        super().__init__(1)
        self._turns = turns

    async def run(self, call, *args, **kwargs):
        """Run ``call``."""
        for _ in range(self._turns()):
            await asyncio.sleep(0)
        answer = call(*args, **kwargs)
        for _ in range(self._turns()):  # what happens meanwhile is not in the answer
            await asyncio.sleep(0)
        return answer


class Simulation:
    """One channel, its streams, and what each of them must hold."""

    def __init__(self, turns):
        self._engine = open_memory()
        threads = InlineThreads(turns)
        log = self._engine.log

        async def read(*args):
            return await threads.read(log.read, *args)

        async def get_cursors(keys):
            return await threads.read(self._engine.cursors.get, keys)

        log.create("c", Retention(max_messages=6))
        for listener in ("a", "b"):
            Listeners(self._engine).add("c", MessageQueueListener(listener), "explicit")
        self._hub = Hub(read, get_cursors, 15, 60, 0)
        self._engine.channels.persist(self._engine.channels.create({"channel_id": "c"}))
        self._engine.notifier.listen(self._hub.wake)
        self._opener = Opener(self._engine, self._hub, threads, read, 3000)
        self._receivers = []
        self._reading = {}
        self._opening = []
        self.readers = []

    async def _open(self, request, reader):
        self.readers.append(reader(await self._opener.open(request)))

    def publish(self, receiver, *, here):
        """Append a message, through this process or another."""
        self._receivers.append(receiver)
        message = Message("message", "x" * (len(self._receivers) % 40))
        append = Append("c", [NewEntry(encode_message(message), receiver)])
        appended = self._engine.log.append(append.channel_id, append.entries)
        if here:
            self._hub.stored(append, appended)
        else:
            self._engine.notifier.wake(["c"])

    async def act(self, action, choice):
        """Do one thing."""
        if action == "publish":
            self.publish((None, None, "a", "b")[choice % 4], here=choice > 5)
        elif action == "trim":
            self._engine.log.trim()
        elif action == "spurious":
            self._hub.wake(None)
        elif action == "turn":
            await asyncio.sleep(0)
        elif action == "open":
            listener = (None, "a", "b")[choice % 3]
            start = ("earliest", "latest", None)[choice % 4 % 3]
            reader = (StreamReader, TransportReader)[choice % 2]
            self._opening.append(asyncio.create_task(self._open(Request("c", listener, None, start), reader)))
        elif self.readers:
            await self.look(self.readers[choice % len(self.readers)], turns=choice)

    async def look(self, reader, turns):
        """Let a client read for some turns of the loop. Returns whether it got something."""
        if isinstance(reader, TransportReader):
            for _ in range(turns):
                if reader.look():
                    return True
                await asyncio.sleep(0)
            return False
        if reader not in self._reading:
            self._reading[reader] = asyncio.ensure_future(reader.source.next_chunk())
        reading = self._reading[reader]
        for _ in range(turns):
            if reading.done():
                del self._reading[reader]
                reader.take(reading.result())
                return True
            await asyncio.sleep(0)
        return False

    async def finish(self):
        """Let everybody read to the end, and check what they got."""
        await asyncio.gather(*self._opening)
        for reader in self.readers:
            while await self.look(reader, turns=200):
                pass
            self.check(reader)
        for reading in self._reading.values():
            reading.cancel()
        for reader in self.readers:
            reader.stream.release()

    def check(self, reader):
        """Each message that follows where it started, once and in order; or a gap that covers what is missing."""
        mine = [n for n, r in enumerate(self._receivers, 1) if r in {None, reader.stream.listener_id}]
        opening = EventStreamParser()
        opening.feed(reader.chunks[0].split(b"\n\n")[0] + b"\n\n")
        position = int(opening.last_event_id.partition("-")[2])
        trimmed = self._engine.log.heads(["c"])["c"].trimmed
        for event in reader.events:
            offset = int(event.id.partition("-")[2])
            missing = [n for n in mine if position < n < offset]
            if event.type == "eric.gap":
                assert position <= offset <= trimmed
            else:
                assert not missing
                assert offset in mine
                assert offset > position
            position = offset
        assert not [n for n in mine if n > position]


actions = st.lists(
    st.tuples(
        st.sampled_from(["publish", "publish", "publish", "open", "read", "read", "turn", "trim", "spurious"]),
        st.integers(0, 11),
    ),
    min_size=10,
    max_size=80,
)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions, st.lists(st.integers(0, 4), min_size=1, max_size=7))
def test_no_stream_loses_or_repeats_anything(monkeypatch, script, delays):
    """However appends, dispatches, openings, slow readers and trims interleave, each stream holds what is its."""
    monkeypatch.setattr(tail_module, "Window", partial(Window, max_frames=3))
    monkeypatch.setattr(tail_module, "WINDOW_FRAMES", 8)  # a page of news holds a quarter
    for module in (window_module, stream_module):
        monkeypatch.setattr(module, "CHUNK_BYTES", 120)
    calls = iter(range(1_000_000))

    def turns():
        return delays[next(calls) % len(delays)]

    async def rest(_tail):
        # In turns of the loop, as everything here: a pause in real time could not be repeated, and would outlast what
        # `finish` takes for the end.
        for _ in range(3 * turns()):
            await asyncio.sleep(0)

    monkeypatch.setattr(tail_module.ChannelTail, "_rest", rest)

    async def run():
        simulation = Simulation(turns)
        for action, choice in script:
            await simulation.act(action, choice)
        # Nothing more is published: it would wake everybody, and make good what a lost wake-up had cost.
        await simulation.finish()

    asyncio.run(run())


async def test_many_writers_and_readers(service):
    """Over real threads, streams that open while others publish hold everything from their start on, in order."""
    publishing = [asyncio.create_task(_publish_some(service, receiver)) for receiver in (None, "l", None, "l")]
    readers = []
    for number in range(12):
        listener = "l" if number % 2 else None
        readers.append(StreamReader(await service.open_stream("c", listener, start_from="earliest")))
        await asyncio.sleep(0)
    await asyncio.gather(*publishing)
    for reader in readers:
        expected = 100 if reader.stream.listener_id else 50
        await reader.until(expected)
        offsets = [int(event.id.partition("-")[2]) for event in reader.events]
        assert offsets == sorted(set(offsets))
        assert len(offsets) == expected
        reader.stream.release()


async def test_own_news_are_not_read(service, engine, log, open_reader):
    """What was stored through this process costs no reading, before and after what came from another."""
    reader = await open_reader()
    await service.publish("c", [Outgoing(1), Outgoing(2)])
    await reader.until(2)
    publish_elsewhere(engine, 3)
    await reader.until(3)
    while service._hub.tails()["c"]._task is not None:
        await asyncio.sleep(0)
    before = log.calls["read"]
    await asyncio.gather(*(service.publish("c", [Outgoing(number)]) for number in range(4, 9)))
    assert await reader.until(8) == [str(number) for number in range(1, 9)]
    assert log.calls["read"] == before


async def test_own_news_in_disorder_are_read(service, engine, open_reader):
    """Where another process has stored something in between, nothing is lost or reordered."""
    reader = await open_reader()
    engine.log.append("c", [new_entry(Outgoing("theirs"), None, 0)])  # and nobody is told
    await service.publish("c", [Outgoing("ours", id="1"), Outgoing("ours again", id="2")])
    await service.publish("c", [Outgoing("ours", id="1"), Outgoing("more")])
    assert await reader.until(4) == ['"theirs"', '"ours"', '"ours again"', '"more"']


async def _publish_some(service, receiver):
    for number in range(25):
        await service.publish("c", [Outgoing(number, to=receiver)])


async def test_news_are_read_and_encoded_once(service, engine, log, open_reader, monkeypatch):
    """Fifty streams cost one read and one encoding of each message, and all send the same bytes."""
    encoded = []
    encode = window_module.encode_json_event
    monkeypatch.setattr(window_module, "encode_json_event", lambda *a, **k: encoded.append(a) or encode(*a, **k))
    readers = [await open_reader() for _ in range(50)]
    publish_elsewhere(engine, 0)
    await asyncio.gather(*(reader.until(1) for reader in readers))
    before, encoded[:] = log.calls["read"], []
    publish_elsewhere(engine, 1, 2)
    await asyncio.gather(*(reader.until(3) for reader in readers))
    assert (log.calls["read"] - before, len(encoded)) == (1, 2)
    assert all(reader.chunks[-1] is readers[0].chunks[-1] for reader in readers)


class DeafNotifier(Notifier):
    """Loses every wake-up."""

    healthy = False

    def wake(self, channel_ids):
        """Lose them."""

    def listen(self, callback):
        """Never call back."""
        return lambda: None


async def test_a_lost_wake_up_is_healed_by_the_poll(engine):
    """With a notifier that loses everything, the poll brings the news."""
    deaf = Engine(engine.storage, engine.log, engine.cursors, DeafNotifier())
    async with Service(deaf) as service:
        await service.create_channel("c")
        reader = StreamReader(await service.open_stream("c"))
        await reader.chunk()
        await service.publish("c", [Outgoing("late")])
        await service._upkeep.poll()
        assert await reader.until(1) == ['"late"']
        reader.stream.release()


async def test_spurious_wake_ups_are_harmless(service, engine, log, open_reader):
    """Wake-ups without news send nothing, also where they are of a channel that nobody follows."""
    reader = await open_reader()
    before = log.calls["read"]
    engine.notifier.wake(["c", "nowhere"] * 3)
    await service.publish("c", [Outgoing(1)])
    assert await reader.until(1) == ["1"]
    assert len(reader.chunks) == 2
    assert log.calls["read"] - before <= 8


async def test_a_stream_that_opens_while_news_are_read_asks_the_store(service, engine, log, open_reader):
    """The news may be that the channel is gone: until they are known the tail answers for nothing."""
    await open_reader()
    while service._hub.tails()["c"]._task is not None:
        await asyncio.sleep(0)
    gate = log.close_gate("read")
    engine.channels.delete("c")
    engine.notifier.wake(["c"])
    await gate.somebody_waits()
    try:
        with pytest.raises(ChannelNotFound):
            await service.open_stream("c")
    finally:
        gate.open()


async def test_damaged_bytes_become_a_gap(service, engine, open_reader):
    """A stored message that cannot be read is a visible gap, live and in catch-up; what follows it comes."""
    live = await open_reader()
    engine.log.append("c", [NewEntry(b"\xff damaged"), NewEntry(encode_message(Message("message", "whole")))])
    engine.notifier.wake(["c"])
    late = await open_reader(start_from="earliest")
    for reader in (live, late):
        await reader.until(2)
        assert [event.type for event in reader.events] == ["eric.gap", "message"]
        assert [event.id[-2:] for event in reader.events] == ["-1", "-2"]
        assert '"reason":"unknown"' in reader.events[0].data


async def test_what_was_trimmed_unread_is_a_gap(service, engine, log, open_reader):
    """Where retention removes messages before a live stream's tail has read them, the stream says so."""
    await service.create_channel("short", retention=Retention(max_messages=1))
    reader = await open_reader("short")
    log.errors["read"] = StoreUnavailable("away")
    publish_elsewhere(engine, *range(5), channel="short")
    engine.log.trim()
    log.errors.clear()
    await reader.until(2)
    assert [event.type for event in reader.events] == ["eric.gap", "message"]
    assert [event.id[-2:] for event in reader.events] == ["-4", "-5"]


async def test_an_unexpected_error_does_not_end_the_tail(service, engine, log, open_reader, caplog):
    """A bug in an engine's read delays the news, and is logged."""
    reader = await open_reader()
    log.errors["read"] = ZeroDivisionError("a bug")
    gate = log.close_gate("read")
    publish_elsewhere(engine, 1)
    await gate.somebody_waits()
    gate.open()
    while "a bug" not in caplog.text:
        await asyncio.to_thread(gate.pass_through)
    log.errors.clear()
    assert await reader.until(1) == ["1"]


async def test_nothing_is_followed_when_nobody_listens(service, log, open_reader):
    """The last stream to leave takes the tail with it, also while the store is away."""
    reader = await open_reader()
    log.errors["read"] = StoreUnavailable("away")
    await service.publish("c", [Outgoing(1)])
    reader.stream.release()
    assert service._hub.tails() == {}


async def test_large_backlogs_are_read_in_pieces(service, engine, open_reader):
    """A stream that is far behind gets chunks of bounded size, and everything."""
    payload = "x" * 1000
    for _ in range(10):
        await service.publish("c", [Outgoing(payload)] * 50)
    reader = await open_reader(start_from="earliest")
    await reader.until(500)
    assert max(map(len, reader.chunks)) <= window_module.CHUNK_BYTES + 2000
    assert engine.log.read("c", 0, View.BROADCASTS, 1).head.last == 500


class SlowFollower:
    """Takes its time, once it is woken."""

    def wake(self):
        """Block, a little later."""
        asyncio.get_running_loop().call_soon(time.sleep, 0.1)


async def test_what_comes_while_streams_send_leaves_together(service, engine, log, open_reader, monkeypatch):
    """After a wave that took long the tail pauses, and what was published meanwhile is one read and one write."""
    reader = await open_reader()
    tail = service._hub.tails()["c"]
    tail._gather_s = 1.0
    slow = SlowFollower()
    tail.fan_out.waiting.add(slow)
    await service.publish("c", [Outgoing(0)])
    await reader.until(1)
    tail.fan_out.waiting.remove(slow)
    before = log.calls["read"]
    for number in range(1, 5):
        publish_elsewhere(engine, number)
    assert await reader.until(5) == ["0", "1", "2", "3", "4"]
    assert (len(reader.chunks), log.calls["read"] - before) == (3, 1)
