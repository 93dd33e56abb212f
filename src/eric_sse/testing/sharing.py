"""What an engine does whose stores serve several engines at once: each finds at once what the others did."""

from collections.abc import Callable
from functools import partial

import pytest

from eric_sse.engine import Engine
from eric_sse.entities import AbstractChannel
from eric_sse.exception import ChannelNotFound, EpochMismatch, ListenerNotFound
from eric_sse.listener import MessageQueueListener
from eric_sse.log import CursorKey, NewEntry, Retention, View
from eric_sse.message import Message, Position
from eric_sse.testing.log import in_threads

_KEY = CursorKey("c", "l")


class SharedStoreSuite:
    """Two engines on one store."""

    @pytest.fixture
    def channel(self, engine: Engine) -> AbstractChannel:
        """A channel ``c`` with a listener ``l``, persisted by the first engine."""
        channel = engine.channels.create({"channel_id": "c"})
        channel.register_listener(MessageQueueListener("l"))
        engine.channels.persist(channel)
        return channel

    @pytest.fixture
    def loaded(self, other: Engine, channel: AbstractChannel) -> AbstractChannel:
        """The same channel, loaded by the second."""
        return other.channels.load_one(channel.id)

    def test_values_are_seen(self, engine: Engine, other: Engine) -> None:
        """What one has stored or deleted, the other finds changed at once."""
        for number in range(5):
            engine.storage.upsert("key", number)
            assert other.storage.fetch_one("key") == number
        engine.storage.delete("key")
        assert list(other.storage.fetch_all()) == []

    def test_messages_are_seen(self, engine: Engine, other: Engine) -> None:
        """What one has appended, the other reads at once; offsets go on across both."""
        assert engine.log.create("c", Retention())
        assert not other.log.create("c", Retention())
        offsets = [one.log.append("c", [NewEntry(b"")]).offsets[0] for one in (engine, other) * 5]
        assert [entry.offset for entry in other.log.read("c", 0, View.EVERYTHING).entries] == sorted(set(offsets))
        assert engine.log.heads(["c"]) == other.log.heads(["c"])

    def test_keys_are_known(self, engine: Engine, other: Engine) -> None:
        """What one has appended, the other does not store again."""
        engine.log.create("c", Retention())
        first = engine.log.append("c", [NewEntry(b"1", "l", "key")])
        assert other.log.append("c", [NewEntry(b"1", "l", "key")])[:2] == first[:2]

    def test_cursors_are_seen(self, engine: Engine, other: Engine) -> None:
        """Where one has moved a cursor to, the other finds it; it competes for it, too."""
        engine.log.create("c", Retention())
        engine.cursors.create("c", ["l"])
        start = other.cursors.get([_KEY])[_KEY]
        engine.cursors.advance({_KEY: start._replace(offset=5)})
        assert other.cursors.get([_KEY])[_KEY].offset == 5  # noqa: PLR2004
        assert not other.cursors.compare_and_set(_KEY, start, start._replace(offset=1))
        other.cursors.advance({_KEY: start._replace(offset=3)})
        assert engine.cursors.get([_KEY])[_KEY].offset == 5  # noqa: PLR2004

    def test_removals_are_seen(self, engine: Engine, other: Engine) -> None:
        """A listener that one has removed is counted in the head that the other reads, by every way to read it."""
        engine.log.create("c", Retention())
        engine.cursors.create("c", ["l", "m"])
        assert other.log.heads(["c"])["c"].removals == 0
        engine.cursors.drop("c", ["l", "m", "none"])
        assert other.log.heads(["c"])["c"].removals == 2  # noqa: PLR2004
        assert other.log.read("c", 0, View.EVERYTHING).head.removals == 2  # noqa: PLR2004

    def test_trimming_is_seen(self, engine: Engine, other: Engine) -> None:
        """What one has trimmed is gone for the other, which can tell."""
        engine.log.create("c", Retention(1, None))
        offsets = engine.log.append("c", [NewEntry(b"%d" % number) for number in range(5)]).offsets
        other.log.trim()
        page = engine.log.read("c", 0, View.EVERYTHING)
        assert (page.head.trimmed, [entry.offset for entry in page.entries]) == (offsets[3], [offsets[4]])

    def test_received_by_the_other(self, channel: AbstractChannel, loaded: AbstractChannel) -> None:
        """What is sent through one is received through the other, once, whoever asks."""
        loaded.get_listener("l").start()
        channel.get_listener("l").start()
        for number in range(4):
            channel.broadcast(Message("m", number))
            loaded.dispatch("l", Message("m", -number))
        received = [one.deliver_next("l").payload for one in (loaded, channel) * 4]
        assert received == [0, 0, 1, -1, 2, -2, 3, -3]

    @pytest.mark.parametrize("use", [AbstractChannel.broadcast, lambda c, m: c.dispatch("l", m)])
    def test_deleted_elsewhere(
        self,
        engine: Engine,
        channel: AbstractChannel,
        loaded: AbstractChannel,
        use: Callable[[AbstractChannel, Message], None],
    ) -> None:
        """Who has not heard that a channel was deleted is told when it is used; it is not brought back."""
        engine.channels.delete(channel.id)
        with pytest.raises(ChannelNotFound):
            use(loaded, Message("m"))
        assert engine.log.heads(["c"]) == {}

    def test_persisted_after_deletion(
        self, engine: Engine, other: Engine, channel: AbstractChannel, loaded: AbstractChannel
    ) -> None:
        """Nor does persisting it bring it back."""
        engine.channels.delete(channel.id)
        loaded.add_listener()
        with pytest.raises(ChannelNotFound):
            other.channels.persist(loaded)
        assert engine.log.heads(["c"]) == {}
        assert list(engine.channels.load_all()) == []

    def test_created_anew_elsewhere(
        self, engine: Engine, other: Engine, channel: AbstractChannel, loaded: AbstractChannel
    ) -> None:
        """Nor is a channel that was deleted and created anew taken for the one that was."""
        engine.channels.delete(channel.id)
        engine.channels.persist(engine.channels.create({"channel_id": "c"}))
        with pytest.raises(EpochMismatch):
            loaded.broadcast(Message("m"))
        with pytest.raises(EpochMismatch):
            other.channels.persist(loaded)
        assert engine.log.count("c", 0, View.EVERYTHING, 10) == 0

    def test_listener_removed_elsewhere(
        self, engine: Engine, channel: AbstractChannel, loaded: AbstractChannel
    ) -> None:
        """A listener that was removed receives nothing any more, and persisting others does not bring it back."""
        channel.remove_listener("l")
        engine.channels.persist(channel)
        loaded.get_listener("l").start()
        loaded.broadcast(Message("m"))
        with pytest.raises(ListenerNotFound):
            loaded.deliver_next("l")
        assert engine.cursors.get([_KEY]) == {}

    def test_listeners_of_both(
        self, engine: Engine, other: Engine, channel: AbstractChannel, loaded: AbstractChannel
    ) -> None:
        """What one adds to a channel, the other does not remove when it persists its own."""
        channel.register_listener(MessageQueueListener("m"))
        loaded.register_listener(MessageQueueListener("n"))
        engine.channels.persist(channel)
        other.channels.persist(loaded)
        found = engine.channels.load_one("c").get_connections()
        assert sorted(connection.listener.id for connection in found) == ["l", "m", "n"]

    def test_one_creates(self, engine: Engine, other: Engine) -> None:
        """Of two that create the same log, or cursor, at the same moment, one is told that it did."""
        created: list[str] = []

        def create(one: Engine) -> None:
            for number in range(10):
                created.extend([f"c{number}"] * one.log.create(f"c{number}", Retention()))
                created.extend(f"{number} {id_}" for id_ in one.cursors.create(f"c{number}", "abc"))

        in_threads([partial(create, one) for one in (engine, other)])
        assert sorted(created) == sorted(f"{number} {id_}" for number in range(10) for id_ in "abc") + [
            f"c{number}" for number in range(10)
        ]

    def test_acknowledged_by_the_other(self, other: Engine, channel: AbstractChannel, engine: Engine) -> None:
        """A listener that moved there goes on from where it has acknowledged here."""
        appended = engine.log.append(channel.id, [NewEntry(b""), NewEntry(b"")])
        engine.acks.note(_KEY, Position(appended.epoch, appended.offsets[0]))
        engine.acks.flush()
        assert other.cursors.get([_KEY])[_KEY].offset == appended.offsets[0]
