"""Queues: what a listener has still to receive, first in, first out."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from eric_sse._util import Signal
from eric_sse.exception import NoMessagesException
from eric_sse.message import MessageContract


class Queue(ABC):
    """Abstract base class for queues (FIFO)."""

    @abstractmethod
    def pop(self) -> MessageContract:
        """The next message, removed from the queue. Consumers compete: no two get the same one.

        Raises:
            NoMessagesException: The queue is empty.
        """

    @abstractmethod
    def push(self, message: MessageContract) -> None:
        """Append ``message``."""


class SignallingQueue(Queue):
    """A power of some queues: they tell when there is something new, so that nobody has to poll them."""

    @abstractmethod
    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Have ``wake`` called, from any thread, when something may be new. Returns what ends the subscription."""


class QueueReader(ABC):
    """One consumer's own way through a queue that keeps its messages. Not for two consumers at once."""

    @abstractmethod
    def read(self) -> Sequence[MessageContract]:
        """The next messages in order, a page at most; empty where there are none yet. May block on I/O."""

    @abstractmethod
    def delivered(self, message: MessageContract) -> None:
        """Say that ``message``, got from :meth:`read`, was handed on. Moves the cursor, soon, if that is automatic."""


class LogBackedQueue(SignallingQueue):
    """A power of some queues: they are a view of their channel's log, which keeps what was read."""

    @property
    @abstractmethod
    def channel_id(self) -> str:
        """The channel whose log this is a view of."""

    @property
    @abstractmethod
    def listener_id(self) -> str:
        """The listener that it is the queue of."""

    @abstractmethod
    def reader(self) -> QueueReader:
        """A new reader, which starts at the listener's cursor."""


class InMemoryQueue(SignallingQueue):
    """A queue in this process's memory.

    Args:
        messages: What it holds at the start, oldest first.
    """

    def __init__(self, messages: Iterable[MessageContract] = ()) -> None:
        # deque's append and popleft are atomic, and unlike SimpleQueue it can be looked at without being emptied.
        self._messages = deque(messages)
        self._signal = Signal()

    def pop(self) -> MessageContract:
        """The next message, removed from the queue.

        Raises:
            NoMessagesException: The queue is empty.
        """
        try:
            return self._messages.popleft()
        except IndexError:
            raise NoMessagesException("the queue is empty") from None

    def push(self, message: MessageContract) -> None:
        """Append ``message`` and wake the streams that wait for it."""
        self._messages.append(message)
        self._signal.notify()

    def pending(self) -> list[MessageContract]:
        """What is in the queue now, oldest first; it stays there."""
        return list(self._messages)

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Have ``wake`` called, from the pushing thread, after each push. Returns what ends the subscription."""
        return self._signal.subscribe(wake)
