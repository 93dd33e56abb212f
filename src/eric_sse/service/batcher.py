"""Group commit: publishes that come while a commit is under way are stored together by the next one."""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from eric_sse._util import get_logger
from eric_sse.exception import EricError, OutcomeUnknown, Overloaded, StoreUnavailable
from eric_sse.log import Append, Appended, MessageLog, Notifier
from eric_sse.service.threads import ANSWER_WITHIN_S, StoreThreads

logger = get_logger()

_CLOSED = "the service is closed; nothing was stored"
_HANGS = "the store does not answer; nothing was stored: try again later"
_AWAY = "the store is away; nothing was stored: try again later"
_UNKNOWN = "stored or not, nobody knows: repeat it with the same message id"
# A commit that has failed for longer than this, in seconds, tells that the store is away.
_LONG_S = 1.0


class _Waiting(NamedTuple):
    append: Append
    stored: asyncio.Future[Appended]


class Batcher:
    """Takes publishes of any number of coroutines; one commit at a time stores all that has gathered.

    Belongs to one event loop.

    Args:
        log: Where to.
        notifier: Told after each commit.
        threads: Run the commits; one is enough.
        on_stored: Called on the event loop with each append that was stored, and what it came to; None where nobody
            knows.
        max_waiting: How many messages may wait. More are refused.
        max_batch: How many messages one commit takes at most, where a single publish does not hold more.
    """

    def __init__(
        self,
        log: MessageLog,
        notifier: Notifier,
        threads: StoreThreads,
        on_stored: Callable[[Append, Appended | None], None],
        *,
        max_waiting: int = 20_000,
        max_batch: int = 2_000,
    ) -> None:
        self._log = log
        self._notifier = notifier
        self._threads = threads
        self._on_stored = on_stored
        self._telling: int | None = None
        self._max_waiting = max_waiting
        self._max_batch = max_batch
        self._waiting: deque[_Waiting] = deque()
        self._messages = 0
        self._batch: list[_Waiting] = []
        self._begun = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._hangs = False

    async def publish(self, append: Append) -> Appended:
        """Store a caller's entries, all or none; returns when they are durable.

        A caller that is cancelled meanwhile has given the answer up, not the entries: they may be stored.

        Raises:
            Overloaded: Too much is waiting; nothing was stored.
            StoreUnavailable: The batcher is closed, or the store does not answer; nothing was stored.
            OutcomeUnknown: The store has not answered in time; it may yet store them.
            ChannelNotFound: There is no such log.
            RepositoryError: The store failed.
        """
        if self._closed:
            raise StoreUnavailable(_CLOSED)
        if self._hangs:
            raise StoreUnavailable(_HANGS)
        if self._messages and self._messages + len(append.entries) > self._max_waiting:
            raise Overloaded(
                f"{self._messages} messages wait to be stored, and at most {self._max_waiting} may; try again later"
            )
        waiting = _Waiting(append, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._messages += len(append.entries)
        if self._idle.is_set():
            self._idle.clear()
            asyncio.get_running_loop().call_soon(self._commit)
        return await waiting.stored

    @property
    def is_telling(self) -> bool:
        """Whether this thread tells the notifier's listeners of a commit just now: `on_stored` is told by itself."""
        return self._telling == threading.get_ident()

    async def close(self, timeout_s: float) -> None:
        """Store what was taken; after ``timeout_s`` seconds refuse what still waits. Takes nothing more."""
        self._closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        self._refuse_waiting(_CLOSED)

    def _commit(self) -> None:
        if not self._waiting:
            self._idle.set()
            return
        self._take_batch()
        self._begun = time.monotonic()
        try:
            self._threads.start(partial(self._store, [waiting.append for waiting in self._batch]), self._finish)
        except StoreUnavailable as error:
            self._finish(None, error)
        if self._timer is None:
            self._watch()

    def _take_batch(self) -> None:
        messages = 0
        while self._waiting and (not self._batch or messages + len(self._waiting[0].append.entries) <= self._max_batch):
            self._batch.append(self._waiting.popleft())
            messages += len(self._batch[-1].append.entries)

    def _finish(self, stored: Sequence[Appended | Exception] | None, error: Exception | None) -> None:
        batch, self._batch = self._batch, []
        outcomes = stored or ()
        if error is not None:
            outcomes = [error] * len(batch)
            if self._hangs or not isinstance(error, EricError):
                logger.error("storing %d publishes failed", len(batch), exc_info=error)
        self._hangs = False
        # First the answers: who has its own publishes again, and that leaves together with what is sent next.
        for waiting, outcome in zip(batch, outcomes, strict=True):
            self._messages -= len(waiting.append.entries)
            _answer(waiting, outcome)
        for waiting, outcome in zip(batch, outcomes, strict=True):
            self._tell(waiting.append, outcome)
        if time.monotonic() - self._begun > _LONG_S and all(map(_is_away, outcomes)):
            # Who has waited meanwhile would wait as long again, and be told the same.
            self._refuse_waiting(_AWAY)
        # Those just answered publish again at once: let them join the next commit.
        asyncio.get_running_loop().call_soon(self._commit)

    def _watch(self) -> None:
        """Give up the commit under way when it is due. One timer serves many commits: to set it is not for free."""
        self._timer = None
        due_s = self._begun + ANSWER_WITHIN_S - time.monotonic()
        if self._batch and due_s > 0:
            self._timer = asyncio.get_running_loop().call_later(due_s, self._watch)
        elif self._batch:
            self._give_up()

    def _give_up(self) -> None:
        """Leave nobody waiting for a store that hangs."""
        logger.warning("the store has not answered for %g s: publishing is refused until it does", ANSWER_WITHIN_S)
        for waiting in self._batch:
            _answer(waiting, OutcomeUnknown(f"the store has not answered for {ANSWER_WITHIN_S:g} s; {_UNKNOWN}"))
        self._hangs = True
        self._refuse_waiting(_HANGS)

    def _tell(self, append: Append, outcome: Appended | Exception) -> None:
        try:
            if isinstance(outcome, Appended):
                self._on_stored(append, outcome)
            elif isinstance(outcome, OutcomeUnknown):
                self._on_stored(append, None)
        except Exception:
            logger.exception("telling of what was stored in channel %r failed", append.channel_id)

    def _refuse_waiting(self, why: str) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            self._messages -= len(waiting.append.entries)
            _answer(waiting, StoreUnavailable(why))

    def _store(self, appends: list[Append]) -> Sequence[Appended | Exception]:
        outcomes = self._log.append_group(appends)
        if len(outcomes) != len(appends):
            raise OutcomeUnknown(f"the engine told of {len(outcomes)} appends, not of {len(appends)}; {_UNKNOWN}")
        self._telling = threading.get_ident()
        try:
            self._notifier.wake({append.channel_id for append in appends})
        except Exception:
            logger.exception("the notifier failed; what it was to tell of is stored")
        finally:
            self._telling = None
        return outcomes


def _is_away(outcome: Appended | Exception) -> bool:
    return isinstance(outcome, StoreUnavailable | OutcomeUnknown)


def _answer(waiting: _Waiting, outcome: Appended | Exception) -> None:
    if waiting.stored.done():
        return  # its caller was cancelled
    if isinstance(outcome, Exception):
        waiting.stored.set_exception(outcome)
    else:
        waiting.stored.set_result(outcome)
