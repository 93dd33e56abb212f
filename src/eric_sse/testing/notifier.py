"""What every `Notifier` does."""

import queue
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from eric_sse.engine import Engine
from eric_sse.exception import RepositoryError
from eric_sse.log import NewEntry, Notifier, Retention
from eric_sse.testing.ids import ASCII_IDS, ODD_IDS
from eric_sse.testing.leaks import leaving_nothing

_PATIENCE_S = 10


class NotifierSuite:
    """Wake-ups within one engine."""

    @pytest.fixture
    def notifier(self, engine: Engine) -> Notifier:
        """The notifier to test."""
        return engine.notifier

    def test_wakes_everybody(self, notifier: Notifier) -> None:
        """Everybody who listens is told, for each channel."""
        heard: tuple[queue.Queue[str | None], ...] = (queue.Queue(), queue.Queue())
        for one in heard:
            notifier.listen(one.put)
        notifier.wake(["a", "é:*"])
        for one in heard:
            _hear(one, "a", "é:*")

    def test_nobody_listens(self, notifier: Notifier) -> None:
        """Waking where nobody listens, or nothing is new, does nothing."""
        notifier.wake(["a"])
        notifier.wake([])

    def test_end(self, notifier: Notifier) -> None:
        """Who has ended the subscription is told nothing; ending twice does nothing."""
        ended: queue.Queue[str | None] = queue.Queue()
        heard: queue.Queue[str | None] = queue.Queue()
        end = notifier.listen(ended.put)
        notifier.listen(heard.put)
        end()
        end()
        notifier.wake(["a"])
        _hear(heard, "a")
        assert ended.empty()

    def test_many(self, notifier: Notifier) -> None:
        """Hundreds of channels are told of at once, whatever their ids are; so are thousands of wake-ups for one."""
        heard: queue.Queue[str | None] = queue.Queue()
        notifier.listen(heard.put)
        ids = [*ODD_IDS, *ASCII_IDS, *(f"channel {number}" for number in range(500))]
        notifier.wake(ids)
        _hear(heard, *ids)
        for _ in range(1000):
            notifier.wake(["again"])
        _hear(heard, "again")

    def test_failing_callback(self, notifier: Notifier, caplog: pytest.LogCaptureFixture) -> None:
        """A callback that fails disturbs neither the others nor who wakes; it is logged, and called again."""
        heard: queue.Queue[str | None] = queue.Queue()
        failed: queue.Queue[str | None] = queue.Queue()

        def fail(channel_id: str | None) -> None:
            failed.put(channel_id)
            raise ZeroDivisionError

        notifier.listen(fail)
        notifier.listen(heard.put)
        for name in "ab":
            notifier.wake([name])
            _hear(heard, name)
            _hear(failed, name)
        assert notifier.healthy
        assert "ZeroDivisionError" in caplog.text

    def test_end_within_callback(self, notifier: Notifier) -> None:
        """A callback may end its own subscription, and begin another."""
        heard: queue.Queue[str | None] = queue.Queue()
        ends: list[Callable[[], None]] = []

        def once(_: str | None) -> None:
            while ends:
                ends.pop()()
                notifier.listen(heard.put)

        ends.append(notifier.listen(once))
        notifier.wake(["a"])
        deadline = time.monotonic() + _PATIENCE_S
        while ends and time.monotonic() < deadline:
            time.sleep(0.001)
        notifier.wake(["b"])
        _hear(heard, "b")

    def test_after_closing(self, engine: Engine) -> None:
        """When the engine is closed, waking, ending and asking for health do no harm; listening begins nothing."""
        end = engine.notifier.listen(lambda _: None)
        engine.close()
        with leaving_nothing(), suppress(RepositoryError):  # it may be refused
            engine.notifier.listen(lambda _: None)
        engine.notifier.wake(["a"])
        end()
        assert engine.notifier.healthy in {True, False}

    def test_listening_is_healthy(self, notifier: Notifier) -> None:
        """Once somebody listens, wake-ups arrive and it says so."""
        notifier.listen(lambda _: None)
        assert notifier.healthy


class SharedNotifierSuite:
    """Wake-ups of other engines on the same store. Needs also a fixture ``other``, such an engine."""

    def test_others_hear(self, engine: Engine, other: Engine) -> None:
        """What one engine appends and tells, the other hears; and finds it."""
        engine.log.create("a", Retention())
        heard: queue.Queue[str | None] = queue.Queue()
        other.notifier.listen(heard.put)
        for number in range(5):
            engine.log.append("a", [NewEntry(b"%d" % number)])
            engine.notifier.wake(["a"])
            _hear(heard, "a")
            assert other.log.count("a", 0, "l", 10) == number + 1

    def test_others_hear_of_deletion(self, engine: Engine, other: Engine) -> None:
        """That a channel is gone, or a listener, the other hears, too, when it is told; and it is so then."""
        engine.log.create("a", Retention())
        engine.cursors.create("a", ["l"])
        heard: queue.Queue[str | None] = queue.Queue()
        other.notifier.listen(heard.put)
        engine.cursors.drop("a", ["l"])
        engine.notifier.wake(["a"])
        _hear(heard, "a")
        assert other.log.heads(["a"])["a"].removals == 1
        engine.log.drop("a")
        engine.notifier.wake(["a"])
        _hear(heard, "a")
        while other.log.heads(["a"]):
            _hear(heard, "a")


def _hear(heard: "queue.Queue[str | None]", *channels: str) -> None:
    """Wait until each of the channels, or any of them, was said to have news."""
    missing = set(channels)
    while missing:
        channel = heard.get(timeout=_PATIENCE_S)
        missing = missing - {channel} if channel is not None else set()
