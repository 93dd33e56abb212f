"""A process that appends all the while, and a reader that looks whether what it has read stays as it was."""

import random
import time
from collections.abc import Iterator
from itertools import pairwise

from eric_sse.engine import Engine
from eric_sse.log import MessageLog, NewEntry, View

CHANNEL = "c"
LISTENER = "l"
_LOOK_BACK = 100
_AT_ONCE = 5_000


def append_for(engine: Engine, seconds: float, seed: int) -> Iterator[list[tuple[int, str | None]]]:
    """Append, single and together, for so long; yields the offset and receiver of each message stored."""
    chance = random.Random(seed)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        receivers = [chance.choice((None, None, LISTENER, "other")) for _ in range(chance.choice((1, 1, 2, 20)))]
        appended = engine.log.append(CHANNEL, [NewEntry(b"x" * 50, receiver) for receiver in receivers])
        yield list(zip(appended.offsets, receivers, strict=True))


class Reader:
    """Reads on and on in one view of the channel's log.

    Attributes:
        view: Which.
        offsets: What was read.
        times_up_to_date: How often it has found something new and was at the log's end then, where offsets appear.
    """

    def __init__(self, log: MessageLog, view: View | str) -> None:
        self.view = view
        self.offsets: list[int] = []
        self.times_up_to_date = 0
        self._log = log
        self._through = 0

    def read_on(self) -> bool:
        """Read what is new, and look again at what was before; whether there was something new."""
        self._look_back()
        page = self._log.read(CHANNEL, self._through, self.view, _AT_ONCE, None)
        self.offsets += [entry.offset for entry in page.entries]
        self._through = page.through
        self.times_up_to_date += bool(page.entries) and page.through == page.head.last
        return bool(page.entries)

    def check(self, told: list[tuple[int, str | None]]) -> None:
        """It has read everything that was for it, in order."""
        assert all(a < b for a, b in pairwise(self.offsets))
        assert self.offsets == sorted(offset for offset, receiver in told if self._is_mine(receiver))

    def _look_back(self) -> None:
        start, *known = self.offsets[-_LOOK_BACK:] or [0]
        page = self._log.read(CHANNEL, start, self.view, _LOOK_BACK, None)
        found = [entry.offset for entry in page.entries if entry.offset <= self._through]
        assert found == known, f"what is stored up to {self._through} was {known}, and is {found}"

    def _is_mine(self, receiver: str | None) -> bool:
        return self.view is View.EVERYTHING or receiver is None or receiver == self.view
