"""Every error the package raises.

    EricError
    ├── InvalidChannelException         a channel id that cannot be, or a channel used wrongly
    │   ├── ChannelNotFound             no such channel
    │   ├── ChannelExists               it is there already
    │   └── EpochMismatch               it was deleted and created anew since it was read
    ├── InvalidListenerException        a listener id that cannot be, or a listener used wrongly
    │   ├── ListenerNotFound            no such listener
    │   └── ListenerExists              it is there already
    ├── InvalidConnectionException      a connection that does not fit its channel
    ├── InvalidPosition                 an id that the channel never gave
    ├── InvalidMessageFormat            a message that cannot be sent or stored
    ├── NoMessagesException             the queue is empty
    ├── ItemNotFound                    a storage holds nothing under that key
    ├── RepositoryError                 the store failed, refused, or holds what cannot be read
    │   ├── StoreUnavailable            it does not answer now; nothing was stored; try again
    │   ├── StoreFull                   it has no room left; nothing was stored
    │   └── OutcomeUnknown              the reply to a commit was lost: stored or not, nobody knows
    ├── Overloaded                      more publishes are waiting than may; try again
    ├── ConfigurationError              a store URL, driver or setting that cannot be used
    ├── StreamRefused                   a server refused a stream for good
    └── StreamLost                      a client's stream failed as often as it may

Messages carry the ids and numbers they are about, and say what to do.
"""


class EricError(Exception):
    """The one base of every error that this package raises."""


class InvalidChannelException(EricError):
    """A channel id that cannot be, or a channel used wrongly."""


class ChannelNotFound(InvalidChannelException):
    """No such channel."""

    def __init__(self, channel_id: str) -> None:
        super().__init__(f"there is no channel {channel_id!r}; create or persist it first")
        self.channel_id = channel_id


class ChannelExists(InvalidChannelException):
    """The channel to create is there already."""

    def __init__(self, channel_id: str) -> None:
        super().__init__(f"channel {channel_id!r} exists already; use it, or delete it first")
        self.channel_id = channel_id


class EpochMismatch(InvalidChannelException):
    """The channel's log was made anew since the caller read it."""

    def __init__(self, channel_id: str, expected: str, found: str) -> None:
        super().__init__(
            f"channel {channel_id!r} was deleted and created anew: its epoch is {found}, not {expected}; "
            "load the channel again"
        )
        self.channel_id = channel_id


class InvalidListenerException(EricError):
    """A listener id that cannot be, or a listener used wrongly."""


class ListenerNotFound(InvalidListenerException):
    """No such listener in that channel."""

    def __init__(self, channel_id: str, listener_id: str) -> None:
        super().__init__(
            f"channel {channel_id!r} has no listener {listener_id!r}; register it, "
            "and on a durable channel persist it, first"
        )
        self.channel_id = channel_id
        self.listener_id = listener_id


class ListenerExists(InvalidListenerException):
    """The listener to add is there already."""

    def __init__(self, channel_id: str, listener_id: str) -> None:
        super().__init__(f"channel {channel_id!r} has a listener {listener_id!r} already; use it or remove it first")
        self.channel_id = channel_id
        self.listener_id = listener_id


class InvalidConnectionException(EricError):
    """A connection that does not fit its channel."""


class InvalidPosition(EricError):
    """An id that the channel never gave: malformed, of another epoch, or ahead of its log."""

    def __init__(self, channel_id: str, text: str) -> None:
        super().__init__(
            f"{text!r} is not the id of a message of channel {channel_id!r} as it stands; "
            "acknowledge an id that one of its streams carried"
        )
        self.channel_id = channel_id


class InvalidMessageFormat(EricError):
    """A message that cannot be sent or stored."""


class NoMessagesException(EricError):
    """Raised when trying to fetch from an empty queue."""


class ItemNotFound(EricError):
    """A storage holds nothing under that key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"nothing is stored under the key {key!r}")
        self.key = key


class RepositoryError(EricError):
    """The store failed, refused a value, or holds something that cannot be read."""


class StoreUnavailable(RepositoryError):
    """The store does not answer now. Nothing was stored; the same call may succeed later."""


class StoreFull(RepositoryError):
    """The store has no room left. Nothing was stored."""


class OutcomeUnknown(RepositoryError):
    """The reply to a commit was lost: it may have been stored or not. Repeat it with the same message id."""


class Overloaded(EricError):
    """More publishes are waiting to be stored than may wait. Nothing was stored; try again later."""


class ConfigurationError(EricError):
    """A store URL, driver or setting that cannot be used. The message says what to change."""


class StreamRefused(EricError):
    """A server refused an event stream in a way that trying again would not mend."""

    def __init__(self, url: str, status: int, detail: str) -> None:
        super().__init__(f"{url} answered {status}: {detail}")
        self.url = url
        self.status = status
        self.detail = detail


class StreamLost(EricError):
    """A client's stream failed as often in a row as it may. The cause, if any, is chained."""
