"""What the durable channels of every engine do."""

from collections.abc import Sequence
from typing import Any

import pytest

from eric_sse.engine import Engine
from eric_sse.entities import AbstractChannel
from eric_sse.exception import ChannelNotFound, EpochMismatch, ItemNotFound, ListenerNotFound, NoMessagesException
from eric_sse.listener import MessageQueueListener
from eric_sse.log import MESSAGE_TYPE_GAP, CursorKey, Retention, View
from eric_sse.message import Message, MessageContract, SignedMessage, UniqueMessage
from eric_sse.testing.ids import ASCII_IDS, ODD_IDS
from eric_sse.testing.log import in_threads


class ChannelsSuite:
    """Channels: persisting, sending, receiving, deleting."""

    @pytest.fixture
    def channel(self, engine: Engine) -> AbstractChannel:
        """A durable channel ``c`` with listeners ``l`` and ``m``, which run."""
        return make_channel(engine, "c", ["l", "m"])

    def test_loaded_as_persisted(self, engine: Engine, channel: AbstractChannel) -> None:
        """A loaded channel has the settings and listeners that were persisted, and only it has them."""
        make_channel(engine, "cc", ["n"])
        loaded = engine.channels.load_one("c")
        assert ids(loaded) == ids(channel) == ["l", "m"]
        assert sorted(one.id for one in engine.channels.load_all()) == ["c", "cc"]

    def test_persisting_again(self, engine: Engine, channel: AbstractChannel) -> None:
        """Persisting again changes nothing but what was changed: cursors stay, the removed go, the new come."""
        channel.broadcast(Message("m", 1))
        channel.remove_listener("m")
        channel.register_listener(MessageQueueListener("n"))
        engine.channels.persist(channel)
        loaded = engine.channels.load_one("c")
        assert ids(loaded) == ["l", "n"]
        assert (take(loaded, "l"), take(loaded, "n")) == ([1], [])
        assert set(engine.cursors.get([CursorKey("c", id_) for id_ in "lmn"])) == {("c", "l"), ("c", "n")}

    @pytest.mark.parametrize("odd_ids", [ODD_IDS, ASCII_IDS], ids=["odd", "ascii"])
    def test_ids_of_channels(self, engine: Engine, odd_ids: Sequence[str]) -> None:
        """Channels whose ids look alike are not the same, and are deleted alone."""
        for id_ in odd_ids:
            make_channel(engine, id_, [id_]).broadcast(Message("m", id_))
        assert sorted(one.id for one in engine.channels.load_all()) == sorted(odd_ids)
        for id_ in odd_ids[::2]:
            engine.channels.delete(id_)
        assert sorted(one.id for one in engine.channels.load_all()) == sorted(odd_ids[1::2])
        for id_ in odd_ids[1::2]:
            assert take(engine.channels.load_one(id_), id_) == [id_]

    @pytest.mark.parametrize("odd_ids", [ODD_IDS, ASCII_IDS], ids=["odd", "ascii"])
    def test_ids_of_listeners(self, engine: Engine, odd_ids: Sequence[str]) -> None:
        """Listeners whose ids look alike are not the same: each gets what is for it, and is removed alone."""
        channel = make_channel(engine, "c", odd_ids)
        for id_ in odd_ids:
            channel.dispatch(id_, Message("m", id_))
        loaded = engine.channels.load_one("c")
        assert [take(loaded, id_) for id_ in odd_ids] == [[id_] for id_ in odd_ids]
        for id_ in odd_ids[::2]:
            loaded.remove_listener(id_)
        engine.channels.persist(loaded)
        assert ids(engine.channels.load_one("c")) == sorted(odd_ids[1::2])

    def test_many_listeners(self, engine: Engine) -> None:
        """A channel of thousands is persisted, loaded, and deleted with all of them."""
        names = [f"listener {number}" for number in range(2000)]
        make_channel(engine, "c", names)
        assert ids(engine.channels.load_one("c")) == sorted(names)
        engine.channels.delete("c")
        assert list(engine.storage.fetch_all()) == []
        assert engine.cursors.get([CursorKey("c", name) for name in names]) == {}

    def test_messages_come_back(self, channel: AbstractChannel) -> None:
        """Messages keep their class, type, payload, id and sender, and know their place in the log."""
        payload = {"a": [1, 2.5, None, True, "é\u2028\U0001f600"]}
        sent: list[MessageContract] = [
            Message("m", payload),
            SignedMessage("m", "signed", None),
            UniqueMessage(Message("m", "text"), "m", "id"),
        ]
        for message in sent:
            channel.broadcast(message)
        received = [channel.deliver_next("l") for _ in sent]
        assert [_parts(message) for message in received] == [_parts(message) for message in sent]
        places = [message.position.offset for message in received if message.position is not None]
        assert places == sorted(set(places))
        assert len(places) == len(sent)

    def test_one_order(self, channel: AbstractChannel) -> None:
        """Broadcasts and dispatches come in the order in which they were sent; those for others do not."""
        for number in range(9):
            if number % 3:
                channel.dispatch("lm"[number % 2], Message("m", number))
            else:
                channel.broadcast(Message("m", number))
        assert take(channel, "l") == [0, 2, 3, 4, 6, 8]
        assert take(channel, "m") == [0, 1, 3, 5, 6, 7]

    def test_new_listeners_start_now(self, engine: Engine, channel: AbstractChannel) -> None:
        """Who is added receives what is sent from then on."""
        channel.broadcast(Message("m", 1))
        channel.register_listener(MessageQueueListener("n"))
        engine.channels.persist(channel)
        channel.get_listener("n").start()
        channel.broadcast(Message("m", 2))
        assert take(channel, "n") == [2]

    def test_pops_compete(self, engine: Engine, channel: AbstractChannel) -> None:
        """Of several threads that pop one queue, each message goes to one."""
        for number in range(40):
            channel.broadcast(Message("m", number))
        taken: list[int] = []
        in_threads([lambda: taken.extend(take(engine.channels.load_one("c"), "l"))] * 3)
        assert sorted(taken) == list(range(40))

    def test_gap(self, engine: Engine) -> None:
        """Who is behind what was trimmed is told first, then goes on from the oldest message kept."""
        engine.log.create("c", Retention(2, None))
        channel = make_channel(engine, "c", ["l"])
        for number in range(5):
            channel.broadcast(Message("m", number))
        engine.log.trim()
        behind = engine.cursors.get([CursorKey("c", "l")])[CursorKey("c", "l")]
        gap = channel.deliver_next("l")
        assert (gap.type, gap.payload) == (MESSAGE_TYPE_GAP, {"reason": "trimmed", "resumed_from": str(behind)})
        assert take(channel, "l") == [3, 4]

    def test_unknown_channels(self, engine: Engine) -> None:
        """A channel that was not persisted takes no messages; looking for it, or deleting it, is as it should be."""
        with pytest.raises(ChannelNotFound):
            engine.channels.create({"channel_id": "none"}).broadcast(Message("m"))
        with pytest.raises(ItemNotFound):
            engine.channels.load_one("none")
        engine.channels.delete("none")
        assert engine.log.heads(["none"]) == {}

    def test_deleted(self, engine: Engine, channel: AbstractChannel) -> None:
        """A deleted channel leaves nothing, takes nothing, and is not there."""
        channel.broadcast(Message("m"))
        stale = engine.channels.load_one("c")
        stale.get_listener("l").start()
        for _ in range(2):
            engine.channels.delete("c")
        assert (list(engine.storage.fetch_all()), engine.log.heads(["c"])) == ([], {})
        for use in (_broadcast, _dispatch):
            with pytest.raises(ChannelNotFound):
                use(stale)
        with pytest.raises(ListenerNotFound):
            stale.deliver_next("l")

    def test_not_resurrected(self, engine: Engine, channel: AbstractChannel) -> None:
        """Who still holds a channel that was deleted, or created anew, cannot bring it back, nor write to the new."""
        stale = engine.channels.load_one(channel.id)
        stale_too = engine.channels.load_one(channel.id)
        # As somebody else would: without telling the channels that this repository holds.
        engine.log.drop("c")
        with pytest.raises(ChannelNotFound):
            engine.channels.persist(stale)
        engine.log.create("c", Retention())
        for use in (engine.channels.persist, _broadcast, _dispatch):
            with pytest.raises(EpochMismatch):
                use(stale_too)
        assert engine.log.count("c", 0, View.EVERYTHING, 10) == 0

    def test_removed_listener(self, engine: Engine, channel: AbstractChannel) -> None:
        """A removed listener's cursor is gone, and counted in the head; the others' stay."""
        stale = engine.channels.load_one("c")
        stale.get_listener("m").start()
        channel.remove_listener("m")
        engine.channels.persist(channel)
        assert engine.log.heads(["c"])["c"].removals == 1
        with pytest.raises(ListenerNotFound):
            stale.deliver_next("m")
        channel.broadcast(Message("m", 1))
        assert take(channel, "l") == [1]


def make_channel(engine: Engine, channel_id: str, listener_ids: Sequence[str]) -> AbstractChannel:
    """A channel with listeners that run, persisted."""
    channel = engine.channels.create({"channel_id": channel_id})
    for listener_id in listener_ids:
        channel.register_listener(MessageQueueListener(listener_id))
        channel.get_listener(listener_id).start()
    engine.channels.persist(channel)
    return channel


def ids(channel: AbstractChannel) -> list[str]:
    """The ids of a channel's listeners, sorted."""
    return sorted(connection.listener.id for connection in channel.get_connections())


def take(channel: AbstractChannel, listener_id: str) -> list[Any]:
    """The payloads of everything that waits for a listener, taken off its queue."""
    channel.get_listener(listener_id).start()
    taken: list[Any] = []
    while True:
        try:
            taken.append(channel.deliver_next(listener_id).payload)
        except NoMessagesException:
            return taken


def _parts(message: MessageContract) -> tuple[Any, ...]:
    own = (getattr(message, name, None) for name in ("sender_id", "id"))
    return type(message), message.type, message.payload, *own


def _broadcast(channel: AbstractChannel) -> None:
    channel.broadcast(Message("m"))


def _dispatch(channel: AbstractChannel) -> None:
    channel.dispatch("l", Message("m"))
