"""Trimming: what retention no longer keeps goes, a little at a time."""

import threading
import time
from collections.abc import Iterable

from psycopg.errors import LockNotAvailable

from eric_sse._util import get_logger
from eric_sse.engines.postgres.arrays import numbers
from eric_sse.engines.postgres.database import Database
from eric_sse.engines.postgres.session import Session
from eric_sse.exception import RepositoryError, StoreUnavailable
from eric_sse.log.ports import DEDUP_WINDOW_S

logger = get_logger()

# How much one transaction removes: publishers wait for so long, some milliseconds.
_CHUNK_MESSAGES = 2000
_INTERVAL_S = 5.0
# Appends tell which logs hold too much; now and then all are looked at, for those that a process told nobody about.
_FULL_LOOK_S = 60.0

_NOW = "extract(epoch FROM clock_timestamp())::double precision"
_EXPIRED = f"SELECT id FROM {{schema}}.eric_logs WHERE expires_at < {_NOW}"  # noqa: S608 - all of it is in this file
_DUE = f"{_EXPIRED} OR id = ANY ($1::bigint[]) AND count > max_messages"
_ALL_DUE = f"{_EXPIRED} OR count > max_messages"
# Who has the row is publishing. In the line of those who wait for it trimming gets its turn, however busy the channel
# is; a long transaction is not waited for: the next time will do.
_WAIT = "SET LOCAL lock_timeout = 200"
_LOCK = f"""SELECT trimmed, coalesce(count - max_messages, 0), {_NOW} - max_age_s FROM {{schema}}.eric_logs
    WHERE id = $1 AND (count > max_messages OR expires_at < {_NOW}) FOR NO KEY UPDATE"""  # noqa: S608 - as above
# What was deleted lately may still be in the index, so that nothing looks before what was trimmed. By age, through the
# one before the first that is young enough: also where the clock was set back in between.
_TRIM = """WITH oldest AS (
        SELECT "offset", at FROM {schema}.eric_messages WHERE log = $1 AND "offset" > $2 ORDER BY "offset" LIMIT $5
    ), through AS (
        SELECT greatest(
            (SELECT max("offset") FROM (SELECT "offset" FROM oldest ORDER BY "offset" LIMIT greatest($3, 0)) excess),
            (SELECT coalesce(min("offset") FILTER (WHERE at >= $4) - 1, max("offset")) FROM oldest WHERE $4 IS NOT NULL)
        ) AS bound
    ), gone AS (
        DELETE FROM {schema}.eric_messages
        WHERE log = $1 AND "offset" > $2 AND "offset" <= (SELECT bound FROM through) RETURNING "offset"
    )
    UPDATE {schema}.eric_logs l SET count = l.count - g.removed, trimmed = greatest(l.trimmed, g.last),
        expires_at = l.max_age_s + (
            SELECT m.at FROM {schema}.eric_messages m
            WHERE m.log = $1 AND m."offset" > coalesce((SELECT bound FROM through), $2) ORDER BY m."offset" LIMIT 1
        )
    FROM (SELECT count(*) AS removed, max("offset") AS last FROM gone) g WHERE l.id = $1 RETURNING g.removed"""
_OLD_KEYS = f"""DELETE FROM {{schema}}.eric_keys WHERE ctid = ANY (ARRAY (
    SELECT ctid FROM {{schema}}.eric_keys WHERE at <= {_NOW} - $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED
))"""  # noqa: S608 - as above


class Trimmer:
    """Removes what retention no longer keeps.

    Args:
        database: Where from.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._next = time.monotonic() + _INTERVAL_S
        self._next_full_look = 0.0
        self._lock = threading.Lock()
        self._over: set[int] = set()

    def note(self, logs: Iterable[int]) -> None:
        """Remember logs that hold more than their retention by count keeps, or did."""
        with self._lock:
            self._over.update(logs)

    def trim_if_due(self) -> None:
        """Trim a bounded amount, if it was not done for some seconds: for those who run no server. Never raises."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _INTERVAL_S
        try:
            if self.trim(_CHUNK_MESSAGES) >= _CHUNK_MESSAGES:
                self._next = time.monotonic()
        except RepositoryError as error:
            logger.warning("trimming failed, trying again later: %s", error)

    def trim(self, limit: int) -> int:
        """Remove about ``limit`` messages at most, and expired keys. Returns how many messages."""
        removed, due = 0, self._due()
        while due and removed < limit:
            budget = min(_CHUNK_MESSAGES, limit - removed)
            count = self._trim_log(due[-1], budget)
            removed += count
            if count < budget:
                due.pop()
        self._database.write(lambda session: session.run(_OLD_KEYS, (DEDUP_WINDOW_S, limit)))
        return removed

    def _trim_log(self, log: int, budget: int) -> int:
        try:
            return self._database.write(lambda session: _trim(session, log, budget))
        except StoreUnavailable as error:
            if isinstance(error.__cause__, LockNotAvailable):
                return 0
            raise

    def _due(self) -> list[int]:
        """The logs that are due; the next call asks again about each of them, since some may be left as they are."""
        with self._lock:
            over, self._over = self._over, set()
        if time.monotonic() >= self._next_full_look:
            rows = self._database.read(lambda session: session.rows(_ALL_DUE))
            self._next_full_look = time.monotonic() + _FULL_LOOK_S
        else:
            rows = self._database.read(lambda session: session.rows(_DUE, (numbers(over),)))
        due = [log for (log,) in rows]
        self.note(due)
        return due


def _trim(session: Session, log: int, budget: int) -> int:
    session.rows(_WAIT)
    row = session.row(_LOCK, (log,))
    if row is None:
        return 0
    return int(session.rows(_TRIM, (log, *row, budget))[0][0])
