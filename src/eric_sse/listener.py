"""Listeners: named receivers of a channel's messages."""

from eric_sse._util import Signal, generate_uuid, id_problem
from eric_sse.exception import InvalidListenerException
from eric_sse.message import MessageContract


class MessageQueueListener:
    """A named receiver. Override :meth:`on_message` to run code when a message is delivered.

    Args:
        listener_id: Its id (1 to 255 bytes of UTF-8, no control characters); a new UUID by default.

    Attributes:
        id: Its id.
        changed: Told when the listener stops, so that its streams end at once.

    Raises:
        InvalidListenerException: The id cannot be one.
    """

    def __init__(self, listener_id: str | None = None) -> None:
        problem = id_problem(listener_id) if listener_id is not None else None
        if problem is not None:
            raise InvalidListenerException(problem)
        self.id: str = listener_id if listener_id is not None else generate_uuid()
        self.changed = Signal()
        self._is_running = False

    def on_message(self, msg: MessageContract) -> None:
        """Event handler: runs when a message is delivered. Does nothing unless overridden."""

    def start(self) -> None:
        """Let messages be delivered."""
        self._is_running = True

    def stop(self) -> None:
        """Deliver no more; open streams of this listener end."""
        self._is_running = False
        self.changed.notify()

    def is_running(self) -> bool:
        """Whether messages are delivered."""
        return self._is_running
