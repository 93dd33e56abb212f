"""What a group appends to one channel: one call of a script."""

from collections.abc import Iterator
from typing import Any

from eric_sse.engines.redis.keys import Keys, text
from eric_sse.engines.redis.news import News
from eric_sse.engines.redis.requests import REPETITION_US, Argument, Request, call
from eric_sse.engines.redis.scripts import APPEND
from eric_sse.exception import ChannelNotFound, EpochMismatch, EricError, InvalidMessageFormat, RepositoryError
from eric_sse.log import Append, Appended
from eric_sse.log.ports import DEDUP_WINDOW_S

_WINDOW_US = int(DEDUP_WINDOW_S * 1_000_000)
# The server's own bounds, with room for what goes with them: 512 MB for an argument, a million arguments for a command.
_MAX_BYTES = 500_000_000
_MAX_ENTRIES = 300_000


class ChannelAppends:
    """The appends of a group that are for one channel.

    Args:
        channel_id: The channel.
    """

    def __init__(self, channel_id: str) -> None:
        self.channel_id = channel_id
        self._appends: list[tuple[int, Append]] = []

    def add(self, number: int, append: Append) -> None:
        """Take an append along, by its number in the group."""
        self._appends.append((number, append))

    def request(self, keys: Keys, news: News, token: bytes) -> Request:
        """The call that stores them. Repeated with the same token, it stores nothing and answers the same."""
        log = keys.log(self.channel_id)
        arguments: list[Argument] = [*news.arguments(self.channel_id), token, _WINDOW_US, REPETITION_US]
        for _, append in self._appends:
            plain = _is_plain(append)
            arguments += (text(append.epoch or ""), "plain" if plain else "any", len(append.entries))
            if plain:
                arguments += [entry.data for entry in append.entries]
                continue
            for data, receiver, key in append.entries:
                arguments += (text(receiver or ""), b"" if key is None else b"=" + text(key), data)
        log_keys = (log.meta, log.broadcasts, log.dispatches, log.by_receiver, log.keys, log.calls)
        return call(APPEND, log_keys, arguments, replicated=True)

    def outcomes(self, reply: Any) -> Iterator[tuple[int, Appended | EricError]]:
        """What each came to, with its number in the group."""
        if isinstance(reply, RepositoryError):
            for number, _ in self._appends:
                # A new one for each caller: threads would write their tracebacks into the same.
                error = type(reply)(*reply.args)
                error.__cause__ = reply.__cause__
                yield number, error
        elif reply is None:
            yield from ((number, ChannelNotFound(self.channel_id)) for number, _ in self._appends)
        else:
            epoch, previous = reply[0][0].decode(), reply[0][2]
            for (number, append), offsets in zip(self._appends, reply[1:], strict=True):
                if offsets is None:
                    yield number, EpochMismatch(self.channel_id, str(append.epoch), epoch)
                else:
                    if isinstance(offsets, int):
                        offsets = list(range(offsets, offsets + len(append.entries)))  # noqa: PLW2901
                    yield number, Appended(epoch, offsets, previous)
                    previous = None if previous is None else max(previous, *offsets, 0)


def entry_problem(append: Append) -> EricError | None:
    """What is wrong with what is to be appended."""
    if len(append.entries) > _MAX_ENTRIES:
        return InvalidMessageFormat(
            f"{len(append.entries)} messages cannot be stored together; send {_MAX_ENTRIES} at most"
        )
    for data, receiver, key in append.entries:
        if not isinstance(data, bytes) or len(data) > _MAX_BYTES:
            return InvalidMessageFormat(f"a message is stored as at most {_MAX_BYTES} bytes, not {type(data).__name__}")
        if not _is_text(receiver) or not _is_text(key):
            return InvalidMessageFormat(f"receiver {receiver!r} or key {key!r} of a message is no UTF-8 text")
    return None


def _is_plain(append: Append) -> bool:
    """Whether it is of broadcasts without keys, whose offsets follow on one another."""
    return all(entry.key is None and not entry.receiver for entry in append.entries)


def _is_text(value: str | None) -> bool:
    if value is None or value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
