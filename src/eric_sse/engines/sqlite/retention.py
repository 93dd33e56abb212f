"""Trimming: what retention no longer keeps goes, a little at a time, and its space is given back."""

import time

from eric_sse._util import get_logger
from eric_sse.codec import decode_json
from eric_sse.engines.sqlite.database import Database
from eric_sse.engines.sqlite.session import Session
from eric_sse.engines.sqlite.views import LAST
from eric_sse.exception import RepositoryError
from eric_sse.log.ports import DEDUP_WINDOW_S

logger = get_logger()

# How much one transaction removes: publishers wait for so long, some milliseconds.
_CHUNK_MESSAGES = 1000
_CHUNK_PAGES = 500
_MAX_PAGES = 4000
# How many free pages stay in the file, for the messages to come: a tenth of it, and at least a megabyte.
_SLACK_PAGES = 256
_INTERVAL_S = 5.0

_DUE = f"""SELECT json_group_array(id) FROM eric_logs l
    WHERE l.trimmed < {LAST} - l.max_messages
    OR (SELECT at FROM eric_messages WHERE log = l.id ORDER BY offset LIMIT 1) < ? - l.max_age_s * 1000
"""  # noqa: S608 - all of it is in this file
# Offsets of one log are consecutive: by count, what is trimmed follows from the last.
_BY_COUNT = f"SELECT l.trimmed, {LAST} - l.max_messages FROM eric_logs l WHERE id = ?"  # noqa: S608 - as above
# Through the one before the first that is young enough: also where the clock was set back in between.
_BY_AGE = """SELECT coalesce(min(CASE WHEN m.at >= :now - l.max_age_s * 1000 THEN m.offset END) - 1, max(m.offset))
    FROM (SELECT offset, at FROM eric_messages WHERE log = :log ORDER BY offset LIMIT :budget) m
    JOIN eric_logs l ON l.id = :log WHERE l.max_age_s IS NOT NULL"""
_NEWEST = "SELECT max(id) FROM eric_messages"
_OLD_KEYS = "SELECT min(?, max(at)) FROM (SELECT at FROM eric_keys ORDER BY at LIMIT ?)"
_NOTE_REMOVAL = """INSERT INTO eric_meta (key, value) VALUES ('changes', 1)
    ON CONFLICT (key) DO UPDATE SET value = value + 1"""


def note_removal(session: Session) -> None:
    """Leave a mark for the notifiers: the newest row ids may be given again, or a listener is gone."""
    session.run(_NOTE_REMOVAL)


class Trimmer:
    """Removes what retention no longer keeps.

    Args:
        database: The file.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._next = time.monotonic() + _INTERVAL_S

    def trim_if_due(self) -> None:
        """Trim a bounded amount, if it was not done for some seconds: for those who run no server. Never raises."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _INTERVAL_S
        try:
            if self.trim(_CHUNK_MESSAGES * 10) >= _CHUNK_MESSAGES * 10:
                self._next = time.monotonic()
        except RepositoryError as error:
            logger.warning("trimming failed, trying again later: %s", error)

    def trim(self, limit: int) -> int:
        """Remove about ``limit`` messages at most, and expired keys; give space back. Returns how many messages."""
        removed, now = 0, time.time_ns() // 1_000_000
        with self._database.read() as session:
            due: list[int] = decode_json(session.rows(_DUE, (now,))[0][0])
        while due and removed < limit:
            removed += self._trim_chunk(due, min(_CHUNK_MESSAGES, limit - removed), now)
        self._forget_keys(now - int(DEDUP_WINDOW_S * 1000), limit)
        if not self._database.in_transaction:
            self._give_space_back()
        return removed

    def _trim_chunk(self, due: list[int], budget: int, now: int) -> int:
        """Trim the last of the logs, as many as the budget of messages allows; those that are done leave the list."""
        removed = 0
        with self._database.write() as session:
            newest = session.row(_NEWEST)
            while due and removed < budget:
                count = _trim_log(session, due[-1], budget - removed, now)
                removed += count
                if removed < budget:
                    due.pop()
            if session.row(_NEWEST) != newest:
                note_removal(session)
        return removed

    def _forget_keys(self, before: int, limit: int) -> None:
        with self._database.read() as session:
            (oldest,) = session.rows("SELECT min(at) FROM eric_keys")[0]
        if oldest is not None and oldest <= before:
            with self._database.write() as session:
                through = session.rows(_OLD_KEYS, (before, limit))[0]
                session.run("DELETE FROM eric_keys WHERE at <= ?", through)

    def _give_space_back(self) -> None:
        with self._database.read() as session:
            if session.rows("PRAGMA auto_vacuum") != [(2,)]:
                return
            (pages,), (free,) = session.rows("PRAGMA page_count")[0], session.rows("PRAGMA freelist_count")[0]
        excess = min(free - max(_SLACK_PAGES, pages // 10), _MAX_PAGES)
        for start in range(0, excess, _CHUNK_PAGES):
            self._database.give_back(min(_CHUNK_PAGES, excess - start))


def _trim_log(session: Session, log: int, budget: int, now: int) -> int:
    row = session.row(_BY_COUNT, (log,))
    if row is None:
        return 0
    trimmed, by_count = row
    (by_age,) = session.rows(_BY_AGE, {"now": now, "log": log, "budget": budget})[0]
    through = min(max(by_count or 0, by_age or 0), trimmed + budget)
    if through <= trimmed:
        return 0
    count = session.run("DELETE FROM eric_messages WHERE log = ? AND offset <= ?", (log, through))
    session.run("UPDATE eric_logs SET trimmed = ? WHERE id = ?", (through, log))
    return count
