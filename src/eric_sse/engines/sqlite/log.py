"""Logs: what all channels sent, in one table; and group commit for threads that append at the same time."""

import threading
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate, islice

from eric_sse.codec import decode_json
from eric_sse.engines.sqlite.batch import Batch
from eric_sse.engines.sqlite.database import Database
from eric_sse.engines.sqlite.notifier import SqliteNotifier
from eric_sse.engines.sqlite.retention import Trimmer, note_removal
from eric_sse.engines.sqlite.sequel import Sequel
from eric_sse.engines.sqlite.session import Parameters, Session
from eric_sse.engines.sqlite.views import HEADS, count_sql, data_sql, head_from, page_sql, view_parameters
from eric_sse.engines.sqlite.wal import WalRoom
from eric_sse.exception import ChannelNotFound, EricError, OutcomeUnknown, RepositoryError, StoreUnavailable
from eric_sse.log import Append, Appended, Entry, Head, MessageLog, Page, Retention, View
from eric_sse.log.ports import DEFAULT_PAGE_BYTES, DEFAULT_PAGE_MESSAGES, cut_page, new_epoch

# Up to so many bytes a page's data comes out in one value; beyond it, row by row.
_PACKED_BYTES = 64 * 1024 * 1024
_INTERRUPTED = "its thread was interrupted: stored or not, nobody knows; repeat it with the same message id"
_CREATE = """INSERT INTO eric_logs (channel, epoch, max_messages, max_age_s) VALUES (?, ?, ?, ?)
    ON CONFLICT (channel) DO NOTHING"""
_DROP = (
    "DELETE FROM eric_messages WHERE log = ?",
    "DELETE FROM eric_keys WHERE log = ?",
    "DELETE FROM eric_cursors WHERE log = ?",
    "DELETE FROM eric_logs WHERE id = ?",
)


class SqliteLog(MessageLog):
    """Logs in a SQLite file.

    Args:
        database: The file.
        notifier: Is told what was written here, so that it does not take it for somebody else's.
    """

    def __init__(self, database: Database, notifier: SqliteNotifier) -> None:
        self._database = database
        self._notifier = notifier
        self._trimmer = Trimmer(database)
        self._sequel = Sequel(database)
        self._wal_room = WalRoom(database)
        self._waiting: deque[_Job] = deque()

    def create(self, channel_id: str, retention: Retention) -> bool:
        with self._database.write() as session:
            parameters = (channel_id, new_epoch(), retention.max_messages, retention.max_age_s)
            return session.run(_CREATE, parameters) > 0

    def append_group(self, appends: Sequence[Append]) -> Sequence[Appended | EricError]:
        if self._database.in_transaction:
            with self._database.write() as session:
                return Batch(session, appends).store()
        # Before anything is stored: they may wait, and what is stored is to be told at once.
        self._trimmer.trim_if_due()
        self._wal_room.make_if_due()
        job = _Job(appends)
        self._waiting.append(job)
        try:
            # Who gets the lock commits for all who wait for it; they find it done.
            with self._database.turn:
                if not job.done:
                    self._commit_waiting()
        except StoreUnavailable:
            if self._withdraw(job):
                raise
        except BaseException:
            # Interrupted: it is not to be stored by who comes next. Another thread may be storing it already.
            with suppress(ValueError):
                self._waiting.remove(job)
            raise
        return job.result()

    def read(
        self,
        channel_id: str,
        after: int,
        view: View | str,
        limit: int = DEFAULT_PAGE_MESSAGES,
        max_bytes: int | None = DEFAULT_PAGE_BYTES,
    ) -> Page:
        kind = view if isinstance(view, View) else None
        parameters = view_parameters(channel_id, after, view, limit)
        with self._database.snapshot() as session:
            row = session.row(page_sql(kind), parameters)
            if row is None:
                raise ChannelNotFound(channel_id)
            log, head, (offsets, sizes, receivers) = row[0], head_from(decode_json(row[1])), decode_json(row[2])
            count = _fitting(sizes, max_bytes)
            data = _data(session, kind, parameters | {"log": log, "limit": count}, sizes[:count])
        entries = [
            Entry(offset, receiver or None, one)
            for offset, receiver, one in zip(offsets[:count], receivers[:count], data, strict=True)
        ]
        return cut_page(head, entries, after, limit, max_bytes)

    def heads(self, channel_ids: Collection[str]) -> Mapping[str, Head]:
        numbered = list(channel_ids)
        with self._database.snapshot() as session:
            rows = session.bulk(HEADS, list(enumerate(numbered)))
        return {numbered[number]: head_from(head) for (packed,) in rows for number, head in decode_json(packed)}

    def trim(self, limit: int = 10_000) -> int:
        return self._trimmer.trim(limit)

    def drop(self, channel_id: str) -> None:
        with self._database.write() as session:
            log = session.row("SELECT id FROM eric_logs WHERE channel = ?", (channel_id,))
            if log is not None:
                for statement in _DROP:
                    session.run(statement, log)
                note_removal(session)

    def count(self, channel_id: str, after: int, view: View | str, cap: int) -> int:
        kind = view if isinstance(view, View) else None
        with self._database.read() as session:
            row = session.row(count_sql(kind), view_parameters(channel_id, after, view, cap))
        if row is None:
            raise ChannelNotFound(channel_id)
        return int(row[0])

    def abandon(self) -> None:
        """In a forked child: forget what the parent's threads wait for."""
        self._waiting = deque()

    def _commit_waiting(self) -> None:
        jobs: list[_Job] = []
        try:
            with suppress(IndexError):  # others may withdraw theirs meanwhile
                while True:
                    jobs.append(self._waiting.popleft())
            outcomes = iter(self._store([append for job in jobs for append in job.appends]))
        except BaseException as error:
            for job in jobs:
                job.fail(error)
            if not isinstance(error, RepositoryError):
                raise
            return
        for job in jobs:
            job.finish(list(islice(outcomes, len(job.appends))))

    def _store(self, appends: Sequence[Append]) -> Sequence[Appended | EricError]:
        sequel = self._sequel.store(appends)
        if sequel is not None:
            self._notifier.saw(self._sequel.last_id - self._sequel.stored, self._sequel.last_id)
            return sequel
        with self._database.write() as session:
            batch = Batch(session, appends)
            outcomes = batch.store()
        self._sequel.note(batch.logs)
        self._notifier.saw(batch.last_id - batch.stored, batch.last_id)
        return outcomes

    def _withdraw(self, job: "_Job") -> bool:
        try:
            self._waiting.remove(job)
        except ValueError:
            # Another thread has taken it, and is committing it.
            job.wait()
            return False
        return True


class _Job:
    """One caller's appends, on their way through another thread's commit."""

    def __init__(self, appends: Sequence[Append]) -> None:
        self.appends = appends
        self._outcomes: Sequence[Appended | EricError] = ()
        self._error: BaseException | None = None
        # Locked until it is done. An Event takes as long to make as SQLite takes for a statement.
        self._under_way = threading.Lock()
        self._under_way.acquire()

    @property
    def done(self) -> bool:
        return not self._under_way.locked()

    def wait(self) -> None:
        with self._under_way:
            return

    def finish(self, outcomes: Sequence[Appended | EricError]) -> None:
        self._outcomes = outcomes
        self._under_way.release()

    def fail(self, error: BaseException) -> None:
        self._error = error
        self._under_way.release()

    def result(self) -> Sequence[Appended | EricError]:
        if isinstance(self._error, RepositoryError):
            # A new one: threads would write their tracebacks into the same.
            raise type(self._error)(*self._error.args) from self._error.__cause__
        if self._error is not None:
            raise OutcomeUnknown(_INTERRUPTED) from self._error
        return self._outcomes


def _fitting(sizes: Sequence[int], max_bytes: int | None) -> int:
    """How many entries a page takes: through the one with which it holds ``max_bytes``."""
    if max_bytes is not None:
        for number, total in enumerate(accumulate(sizes), start=1):
            if total >= max_bytes:
                return number
    return len(sizes)


def _data(session: Session, kind: View | None, parameters: Parameters, sizes: Sequence[int]) -> list[bytes]:
    if sum(sizes) > _PACKED_BYTES:
        return [data for (data,) in session.rows(data_sql(kind, packed=False), parameters)]
    if not sizes:
        return []
    packed = session.rows(data_sql(kind, packed=True), parameters)[0][0]
    ends = list(accumulate(sizes))
    return [packed[end - size : end] for end, size in zip(ends, sizes, strict=True)]
