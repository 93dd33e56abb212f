"""What every `Notifier` does."""

import queue

import pytest

from eric_sse.engine import Engine
from eric_sse.log import NewEntry, Notifier, Retention

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
            assert other.log.count("a", number, "l", 10) == 1


def _hear(heard: "queue.Queue[str | None]", *channels: str) -> None:
    """Wait until each of the channels, or any of them, was said to have news."""
    missing = set(channels)
    while missing:
        channel = heard.get(timeout=_PATIENCE_S)
        missing = missing - {channel} if channel is not None else set()
