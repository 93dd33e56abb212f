"""Which channels are due to be trimmed, kept beside the storage; and trimming them."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from eric_sse.engines.redis.client import Client
from eric_sse.engines.redis.keys import Keys, text
from eric_sse.engines.redis.requests import Argument, Effect, Request, call
from eric_sse.engines.redis.scripts import SETTLE_DUE, TRIM
from eric_sse.exception import RepositoryError

# How many channels are trimmed in one round trip, and how many messages of one of them in one step of the server.
_CHANNELS = 64
_AT_ONCE = 2000
# A channel that goes on being too long is marked no more often.
_MARK_EVERY_S = 2.0

_FAILED_AGAIN_US = 5_000_000


class Trimmer:
    """Keeps track of what is due, in one sorted set for all channels.

    A channel is in it at the time when its oldest message passes the maximal age, which the creation and each trimming
    reckon anew; and where an append finds it to be longer than it must be, at that very moment.

    Args:
        client: The store.
        keys: Its keys.
    """

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._marked: dict[str, float] = {}
        self._unregistered: dict[str, int] = {}

    def created(self, channel_id: str, max_age_s: float | None, *, won: bool) -> None:
        """Have a channel that is there trimmed by age, some day.

        Who has created it replaces a mark that a log before it has left: whoever is about to remove that one finds
        another. Where it was there, the mark is, too, unless its creator died; then it is made good here.
        """
        if max_age_s is not None and math.isfinite(max_age_s):
            due = {channel_id: _now_us() + int(max_age_s * 1_000_000)}
            self._register(due, *([] if won else ["NX"]))

    def too_long(self, channel_ids: Sequence[str]) -> None:
        """Have channels trimmed that hold more than they must."""
        now = time.monotonic()
        new = [id_ for id_ in channel_ids if self._marked.get(id_, -math.inf) <= now - _MARK_EVERY_S]
        if new:
            self._mark(new)
            self._marked |= dict.fromkeys(new, now)

    def about_to_drop(self, channel_id: str) -> Callable[[], None]:
        """Returns what forgets the channel when it is dropped, unless it was created anew by then."""
        self._marked.pop(channel_id, None)
        score = self._client.get(Request(self._keys.due, [("ZSCORE", self._keys.due, text(channel_id))]))

        def forget() -> None:
            # A mark that stays behind is removed when it is due.
            if score is not None:
                self._client.run([call(SETTLE_DUE, [self._keys.due], (text(channel_id), score, ""))])

        return forget

    def trim(self, limit: int) -> int:
        """Trim what is due. Returns how many messages were removed, about ``limit`` at most.

        Raises:
            RepositoryError: One of the channels could not be trimmed; all others were.
        """
        removed = 0
        failures: list[RepositoryError] = []
        finished: set[bytes] = set()
        marked, self._marked = self._marked, {}
        if marked:
            # Somebody else may have trimmed them between the mark and a later append.
            self._mark(list(marked))
        unregistered, self._unregistered = self._unregistered, {}
        if unregistered:
            self._register(unregistered, "NX")
        now = _now_us()
        while removed < limit:
            command = ("ZRANGE", self._keys.due, "-inf", now, "BYSCORE", "LIMIT", 0, _CHANNELS, "WITHSCORES")
            reply = self._client.get(Request(self._keys.due, [command]))
            due = {id_: score for id_, score in _pairs(reply) if id_ not in finished}
            if not due:
                break
            removed += self._trim_channels(due, limit - removed, finished, failures)
        if failures:
            raise failures[0]
        return removed

    def _register(self, due: Mapping[str, int], *options: str) -> None:
        members = [argument for id_, at in due.items() for argument in (at, text(id_))]
        (result,) = self._client.run([self._on_due("ZADD", self._keys.due, *options, *members)])
        if isinstance(result, RepositoryError):
            # The channel is there all the same; the next trimming tries again.
            self._unregistered |= due

    def _mark(self, channel_ids: Sequence[str]) -> None:
        members = [argument for id_ in channel_ids for argument in (_now_us(), text(id_))]
        # What cannot be marked now is marked by a later append.
        self._client.run([self._on_due("ZADD", self._keys.due, *members)])

    def _trim_channels(
        self, due: Mapping[bytes, int], budget: int, finished: set[bytes], failures: list[RepositoryError]
    ) -> int:
        share = min(-(-budget // len(due)), _AT_ONCE)
        requests = []
        for id_ in due:
            keys = self._keys.log(id_.decode(errors="surrogatepass"))
            log_keys = (keys.meta, keys.broadcasts, keys.dispatches, keys.by_receiver)
            requests.append(call(TRIM, log_keys, [share]))
        removed = 0
        settled: list[Argument] = []
        for (id_, score), result in zip(due.items(), self._client.run(requests), strict=True):
            if isinstance(result, RepositoryError):
                # It keeps its mark, out of the way of the others for a while.
                failures.append(result)
                finished.add(id_)
                settled += (id_, score, _now_us() + _FAILED_AGAIN_US)
                continue
            count, more, next_due = (0, 0, b"") if result is None else result
            removed += count
            if not more:
                finished.add(id_)
                settled += (id_, score, next_due)
        if settled:
            self._client.get(call(SETTLE_DUE, [self._keys.due], settled))
        return removed

    def _on_due(self, *command: Argument) -> Request:
        return Request(self._keys.due, [command], Effect.REPEATABLE)


def _pairs(reply: Sequence[Any]) -> Iterator[tuple[bytes, int]]:
    """Members and scores, whichever version of the protocol the client speaks: flat in RESP2, pairs in RESP3."""
    flat = list(chain.from_iterable(reply)) if reply and isinstance(reply[0], list) else reply
    for member, score in zip(flat[::2], flat[1::2], strict=True):
        yield member, int(float(score))


def _now_us() -> int:
    return time.time_ns() // 1000
