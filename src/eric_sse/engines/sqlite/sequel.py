"""The usual append: to the log that was appended to before, and nobody else has written to it since."""

import time
from collections.abc import Collection, Sequence

from eric_sse.engines.sqlite.batch import Log, entry_problem
from eric_sse.engines.sqlite.database import Database
from eric_sse.engines.sqlite.session import MAX_ITEMS
from eric_sse.engines.sqlite.views import LAST
from eric_sse.log import Append, Appended

_STORE = f"""INSERT INTO eric_messages (log, offset, receiver, at, data) WITH v (offset, receiver, data) AS ({{}})
    SELECT ?, offset, receiver, ?, data FROM v WHERE offset <> 0 AND EXISTS (
        SELECT 1 FROM eric_logs l WHERE l.id = ? AND l.epoch = ? AND {LAST} = ?
    )"""  # noqa: S608 - all of it is in this package


class Sequel:
    """Stores such an append with one statement that is a transaction by itself.

    A `Batch` takes four: to begin, find the log, store and commit. With each, the interpreter's lock changes hands,
    which on a busy server costs more than the statement.

    Args:
        database: The file.

    Attributes:
        stored: How many messages it stored the last time.
        last_id: The row id of the last of them; they are consecutive.
    """

    def __init__(self, database: Database) -> None:
        self.stored = 0
        self.last_id = 0
        self._database = database
        self._log: Log | None = None

    def note(self, logs: Collection[Log]) -> None:
        """Remember what was appended to, if it was one log."""
        self._log = next(iter(logs)) if len(logs) == 1 else None

    def store(self, appends: Sequence[Append]) -> list[Appended] | None:
        """Store them, if they follow. Returns what each came to; None where nothing was stored, and a `Batch` has to.

        Raises:
            RepositoryError: The store failed.
        """
        log = self._log
        if log is None or not 0 < sum(len(append.entries) for append in appends) <= MAX_ITEMS:
            return None
        now, last = time.time_ns() // 1_000_000, log.last
        items: list[tuple[int, str, bytearray]] = []
        outcomes = []
        for append in appends:
            # What takes more than the log's last offset to know is for a batch.
            if append.channel_id != log.channel or append.refusal(log.epoch) or entry_problem(append.entries):
                return None
            offsets = list(range(last + 1, last + 1 + len(append.entries)))
            outcomes.append(Appended(log.epoch, offsets, last))
            for offset, entry in zip(offsets, append.entries, strict=True):
                if entry.key is not None:
                    return None
                # For each parameter of another type, bytes among them, the sqlite3 module looks for an adapter.
                items.append((offset, entry.receiver or "", bytearray(entry.data)))
            last += len(offsets)
        self._log = None  # until it is stored
        self.stored, self.last_id = self._database.store_at_once(
            _STORE, items, log.id, now, log.id, log.epoch, log.last
        )
        if not self.stored:
            return None
        self._log = Log(log.channel, log.id, log.epoch, last)
        return outcomes
