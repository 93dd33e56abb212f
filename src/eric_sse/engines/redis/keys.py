"""The names of the keys that the engine keeps. A channel's are in one slot of a cluster; so are those of a storage."""

from typing import NamedTuple
from urllib.parse import quote

from eric_sse.exception import ConfigurationError


def text(value: str) -> bytes:
    """``value`` as bytes, also where no store could hold it: then nothing is found under it."""
    return value.encode(errors="surrogatepass")


class LogKeys(NamedTuple):
    """The keys of one channel.

    Attributes:
        meta: Hash: epoch, last, trimmed, max_messages, max_age, removals.
        broadcasts: Stream, ids ``<offset>-0``.
        dispatches: Stream of all receivers': receiver and data.
        by_receiver: Sorted set, all of score 0: receiver, NUL, offset in 16 digits. What is whose in `dispatches`.
        keys: Sorted set: receiver, NUL and the entry's key; the score is its offset. Against repetition.
        calls: Sorted set: the token of a call; the score is the first offset that it gave. Against repetition, too.
        cursors: Hash: listener, ``<epoch>-<offset>``.
    """

    meta: bytes
    broadcasts: bytes
    dispatches: bytes
    by_receiver: bytes
    keys: bytes
    calls: bytes
    cursors: bytes


class Keys:
    """All keys of a store.

    Args:
        prefix: What they begin with.

    Attributes:
        values: Hash: the storage's keys and values.
        order: Sorted set, all of score 0: the storage's keys, for ranges.
        due: Sorted set: channels, and when they are to be trimmed, in microseconds.
        version: String: of the store's layout.
        scratch: Whatever is tried out; gone right after.
        news: The pub/sub channel of wake-ups.

    Raises:
        ConfigurationError: The prefix cannot be one.
    """

    def __init__(self, prefix: str) -> None:
        if not prefix or not prefix.isascii() or not prefix.isprintable() or set(prefix) & set("{} "):
            raise ConfigurationError(f"prefix {prefix!r}: give printable ASCII characters without spaces and braces")
        self._prefix = prefix
        self.values = f"{{{prefix}}}:values".encode()
        self.order = f"{{{prefix}}}:keys".encode()
        self.due = f"{{{prefix}}}:due".encode()
        self.version = f"{{{prefix}}}:version".encode()
        self.scratch = f"{{{prefix}}}:scratch".encode()
        self.news = f"{prefix}:news".encode()

    def log(self, channel_id: str) -> LogKeys:
        """The keys of one channel."""
        # An empty tag would be none; and no quoted id is a lone percent sign.
        tag = quote(channel_id, safe="", errors="surrogatepass") or "%"
        return LogKeys(*(f"{self._prefix}:{{{tag}}}:{name}".encode() for name in LogKeys._fields))
