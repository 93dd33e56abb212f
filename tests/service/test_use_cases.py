"""The use cases: what each does, and what it refuses."""

import asyncio

import pytest

from eric_sse.exception import (
    ChannelExists,
    ChannelNotFound,
    InvalidChannelException,
    InvalidListenerException,
    InvalidMessageFormat,
    InvalidPosition,
    ListenerExists,
    ListenerNotFound,
    StoreUnavailable,
)
from eric_sse.log import Retention, View
from eric_sse.service import Outgoing, Service, ServiceOptions, threads, upkeep
from support.streams import StreamReader

UNUSUAL_IDS = ["a", "ab", "a:b", "a/b", "a*", "[ab]", "a%3Ab", "é", "e\u0301", " ", "'{}\\", "ö" * 127, "…"]


async def ids_of(listing, *arguments, limit):
    """All ids of a listing, read in pages."""
    found, after = [], ""
    while page := await listing(*arguments, after=after, limit=limit):
        found += [info.id for info in page]
        after = page[-1].id
    return found


class TestChannels:
    """Creating, listing, showing and deleting."""

    async def test_a_new_channel(self, service):
        """It is as it was asked for, and its last id says where it stands."""
        info = await service.create_channel("new", 500, Retention(7, 60.0))
        assert (info.id, info.retry_ms, info.retention, info.streams) == ("new", 500, Retention(7, 60.0), 0)
        assert info.last_id == f"{info.epoch}-0"

    async def test_defaults(self, engine):
        """Without an id it gets one; without a retry time, the service's; without a retention, the default."""
        async with Service(engine, ServiceOptions(retry_ms=1234)) as service:
            info = await service.create_channel()
        assert len(info.id) == 36
        assert (info.retry_ms, info.retention) == (1234, Retention())

    async def test_twice(self, service):
        """The second creation is refused and changes nothing."""
        with pytest.raises(ChannelExists):
            await service.create_channel("c", 1)
        assert (await service.show_channel("c")).channel.retry_ms == 3000

    async def test_created_once_by_many(self, service):
        """Of many that create the same channel at once, one wins."""
        outcomes = await asyncio.gather(*(service.create_channel("race") for _ in range(8)), return_exceptions=True)
        assert sum(isinstance(outcome, ChannelExists) for outcome in outcomes) == 7

    @pytest.mark.parametrize("bad", ["", ".", "..", "a\x00", "a\n", "x" * 256, "\ud800"])
    async def test_ids_that_cannot_be(self, service, bad):
        """A bad id is refused."""
        with pytest.raises(InvalidChannelException):
            await service.create_channel(bad)

    async def test_pages(self, service):
        """Pages of any size together hold every channel once, whatever the ids look like."""
        for id_ in UNUSUAL_IDS:
            await service.create_channel(id_)
        for limit in (1, 2, 5, 100):
            assert sorted(await ids_of(service.list_channels, limit=limit)) == sorted([*UNUSUAL_IDS, "c"])

    async def test_a_page_is_full_unless_it_is_the_last(self, service, engine):
        """A channel that is being deleted just now does not make the others disappear."""
        for id_ in "defgh":
            await service.create_channel(id_)
        engine.log.drop("d")
        engine.log.drop("e")
        assert [info.id for info in await service.list_channels("", 3)] == ["c", "f", "g"]

    async def test_details(self, service):
        """The oldest and the last id, the listeners, and the open streams."""
        assert (await service.show_channel("c")).oldest_id is None
        ids = await service.publish("c", [Outgoing(1), Outgoing(2, to="l")])
        stream = await service.open_stream("c")
        details = await service.show_channel("c")
        assert (details.oldest_id, details.channel.last_id) == tuple(ids)
        assert (details.listeners, details.channel.streams) == (1, 1)
        stream.release()

    async def test_deleting(self, service):
        """It is gone with its listeners, also the second time; one of the same name is another."""
        epoch = (await service.show_channel("c")).channel.epoch
        for _ in range(2):
            await service.delete_channel("c")
        with pytest.raises(ChannelNotFound):
            await service.show_channel("c")
        assert (await service.create_channel("c")).epoch != epoch
        assert await service.list_listeners("c") == []


class TestListeners:
    """Subscribing, listing, acknowledging and removing."""

    async def test_a_new_listener(self, service):
        """It starts at the log's end."""
        (last,) = await service.publish("c", [Outgoing(1)])
        info = await service.add_listener("c", "new", "explicit")
        assert info == ("new", "explicit", last, 0)

    async def test_what_is_refused(self, service):
        """A bad id, one that is there, and a channel that is not."""
        for bad in ("", "..", "\ud800"):
            with pytest.raises(InvalidListenerException):
                await service.add_listener("c", bad)
        with pytest.raises(ListenerExists):
            await service.add_listener("c", "l")
        with pytest.raises(ChannelNotFound):
            await service.add_listener("nowhere", "l")

    async def test_pages_with_lag(self, service):
        """Pages of any size together hold every listener once, each with its own lag."""
        for id_ in UNUSUAL_IDS:
            await service.add_listener("c", id_)
        await service.publish("c", [Outgoing(1), Outgoing(2, to="ab")])
        for limit in (1, 4, 100):
            assert await ids_of(service.list_listeners, "c", limit=limit) == sorted([*UNUSUAL_IDS, "l"])
        assert {i.id: i.lag for i in await service.list_listeners("c", limit=100)}["ab"] == 2

    async def test_a_listener_without_a_cursor_is_being_removed(self, service, engine):
        """It is left out, and the others are there."""
        for id_ in ("a", "b", "d"):
            await service.add_listener("c", id_)
        engine.cursors.drop("c", ["a", "b"])
        assert [info.id for info in await service.list_listeners("c", limit=2)] == ["d", "l"]

    async def test_listing_costs_the_same_for_many(self, service, log):
        """The cursors of a page are read together."""
        for number in range(20):
            await service.add_listener("c", str(number))
        before = log.calls["heads"]
        await service.list_listeners("c")
        assert log.calls["heads"] - before == 1

    async def test_acknowledging(self, service):
        """The cursor moves forward, never back."""
        ids = await service.publish("c", [Outgoing(1), Outgoing(2)])
        for last_id in (ids[1], ids[0], ids[1]):
            await service.acknowledge("c", "l", last_id)
            assert (await service.list_listeners("c"))[0].cursor == ids[1]

    @pytest.mark.parametrize("bad", ["", "nonsense", "0123456789ab-1", "{epoch}-9", "{epoch}--1", "{epoch}-1 "])
    async def test_ids_that_were_never_given(self, service, bad):
        """They are refused, and the cursor stays."""
        (last,) = await service.publish("c", [Outgoing(1)])
        with pytest.raises(InvalidPosition):
            await service.acknowledge("c", "l", bad.format(epoch=last.partition("-")[0]))
        assert (await service.list_listeners("c"))[0].lag == 1

    async def test_acknowledging_for_nobody(self, service):
        """Unknown channels and listeners are named."""
        with pytest.raises(ListenerNotFound):
            await service.acknowledge("c", "nobody", "x")
        with pytest.raises(ChannelNotFound):
            await service.acknowledge("nowhere", "l", "x")

    async def test_removing(self, service):
        """It is gone, also the second time; one of the same name starts at the end."""
        await service.publish("c", [Outgoing(1)])
        for _ in range(2):
            await service.remove_listener("c", "l")
        with pytest.raises(ListenerNotFound):
            await service.open_stream("c", "l")
        assert (await service.add_listener("c", "l")).lag == 0


class TestPublishing:
    """Messages in."""

    async def test_ids_in_order(self, service, engine):
        """The answer holds an id for each message, in their order, and they are stored."""
        ids = await service.publish("c", [Outgoing(n) for n in range(3)])
        epoch = ids[0].partition("-")[0]
        stored = engine.log.read("c", 0, View.EVERYTHING).entries
        assert ids == [f"{epoch}-{entry.offset}" for entry in stored]

    async def test_dispatch(self, service):
        """A message to one listener is read by it alone."""
        await service.add_listener("c", "other")
        await service.publish("c", [Outgoing("mine", to="l"), Outgoing("all")])
        lags = {info.id: info.lag for info in await service.list_listeners("c")}
        assert lags == {"l": 2, "other": 1}

    @pytest.mark.parametrize(
        ("messages", "error"),
        [
            ([Outgoing(1), Outgoing(float("nan"))], InvalidMessageFormat),
            ([Outgoing(1), Outgoing("\ud800")], InvalidMessageFormat),
            ([Outgoing(1), Outgoing(object())], InvalidMessageFormat),
            ([Outgoing(1), Outgoing(1, type="eric.gap")], InvalidMessageFormat),
            ([Outgoing(1), Outgoing(1, type="")], InvalidMessageFormat),
            ([Outgoing(1), Outgoing(1, type="a\nid: 9")], InvalidMessageFormat),
            ([Outgoing(1), Outgoing(1, to="nobody")], ListenerNotFound),
            ([Outgoing(1), Outgoing(1, to="")], InvalidListenerException),
        ],
    )
    async def test_all_or_none(self, service, engine, messages, error):
        """One message that cannot be stored keeps the others out too."""
        with pytest.raises(error):
            await service.publish("c", messages)
        assert engine.log.read("c", 0, View.EVERYTHING).entries == []

    async def test_nowhere(self, service):
        """Publishing never makes a channel."""
        for message in (Outgoing(1), Outgoing(1, to="l")):
            with pytest.raises(ChannelNotFound):
                await service.publish("nowhere", [message])

    async def test_repeated_ids(self, service, engine):
        """A message whose id was stored is not stored again, and gets the same answer."""
        first = await service.publish("c", [Outgoing(1, id="once"), Outgoing(2)])
        again = await service.publish("c", [Outgoing(1, id="once"), Outgoing(3)])
        assert first[0] == again[0]
        assert len(engine.log.read("c", 0, View.EVERYTHING).entries) == 3

    async def test_repeated_requests(self, service, engine):
        """A request whose key was stored is not stored again; its key is not that of a message."""
        messages = [Outgoing(1), Outgoing(2)]
        first = await service.publish("c", messages, "key")
        assert await service.publish("c", messages, "key") == first
        assert await service.publish("c", messages, "other") != first
        assert await service.publish("c", [Outgoing(1, id="key")]) != first
        assert len(engine.log.read("c", 0, View.EVERYTHING).entries) == 5


class TestLife:
    """What a service does by itself, and how it ends."""

    async def test_ready(self, service, log, monkeypatch):
        """It says so where the engine answers, and raises where it fails or hangs."""
        await service.ready()
        log.errors["heads"] = StoreUnavailable("away")
        with pytest.raises(StoreUnavailable, match="away"):
            await service.ready()
        monkeypatch.setattr(threads, "ANSWER_WITHIN_S", 0.01)
        log.errors.clear()
        gate = log.close_gate("heads")
        with pytest.raises(StoreUnavailable, match="not answered for"):
            await service.ready()
        gate.open()

    async def test_it_trims_and_sweeps_by_itself(self, engine, log, monkeypatch):
        """Retention is kept and heartbeats are sent without anybody asking, also after a failure."""
        for name in ("SWEEP_EVERY_S", "POLL_EVERY_S", "TRIM_EVERY_S"):
            monkeypatch.setattr(upkeep, name, 0.01)
        log.errors["trim"] = ZeroDivisionError("a bug")
        async with Service(engine, ServiceOptions(heartbeat_s=0.01)) as service:
            await service.create_channel("c", retention=Retention(max_messages=1))
            reader = StreamReader(await service.open_stream("c"))
            await service.publish("c", [Outgoing(1), Outgoing(2)])
            await reader.until(2)
            assert await reader.chunk() == b":\n\n"
            log.errors.clear()
            while engine.log.heads(["c"])["c"].trimmed < 1:
                await reader.chunk()
            reader.stream.release()

    async def test_heartbeats_go_on_while_the_store_hangs(self, engine, log, monkeypatch):
        """No duty waits for another."""
        for name in ("SWEEP_EVERY_S", "POLL_EVERY_S", "TRIM_EVERY_S"):
            monkeypatch.setattr(upkeep, name, 0.01)
        async with Service(engine, ServiceOptions(heartbeat_s=0.01)) as service:
            await service.create_channel("c")
            reader = StreamReader(await service.open_stream("c"))
            await reader.chunk()
            gates = [log.close_gate(name) for name in ("heads", "read", "trim")]
            await gates[2].somebody_waits()
            assert [await reader.chunk() for _ in range(3)] == [b":\n\n"] * 3
            reader.stream.release()
            for gate in gates:
                gate.open()

    async def test_an_unused_service_can_be_closed(self, engine):
        """A service that did nothing has nothing to end."""
        service = Service(engine)
        await service.close()
        with pytest.raises(StoreUnavailable):
            await service.publish("c", [Outgoing(1)])
