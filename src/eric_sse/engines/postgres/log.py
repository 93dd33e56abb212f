"""Logs: what all channels sent, in one table."""

from collections.abc import Collection, Mapping, Sequence

from eric_sse.engines.postgres.arrays import texts
from eric_sse.engines.postgres.batch import Batch
from eric_sse.engines.postgres.database import Database
from eric_sse.engines.postgres.retention import Trimmer
from eric_sse.engines.postgres.session import Session
from eric_sse.engines.postgres.text import is_storable
from eric_sse.engines.postgres.views import HEAD_COLUMNS, HEADS, count_statement, head_from, page_statement
from eric_sse.exception import ChannelNotFound, EricError, RepositoryError
from eric_sse.log import Append, Appended, Entry, Head, MessageLog, Page, Retention, View
from eric_sse.log.ports import DEFAULT_PAGE_BYTES, DEFAULT_PAGE_MESSAGES, cut_page, new_epoch

_CREATE = """INSERT INTO {schema}.eric_logs (channel, epoch, max_messages, max_age_s) VALUES ($1, $2, $3, $4)
    ON CONFLICT (channel) DO NOTHING"""
# First the log's row, which waits for those who append to it; what they stored is then seen by the other statements.
_DROP_LOG = "DELETE FROM {schema}.eric_logs WHERE channel = $1 RETURNING id"
_DROP_REST = """WITH messages AS (DELETE FROM {schema}.eric_messages WHERE log = $1),
    keys AS (DELETE FROM {schema}.eric_keys WHERE log = $1)
    DELETE FROM {schema}.eric_cursors WHERE log = $1"""


class PostgresLog(MessageLog):
    """Logs in tables."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._trimmer = Trimmer(database)

    def create(self, channel_id: str, retention: Retention) -> bool:
        if not is_storable(channel_id):
            raise RepositoryError(f"channel id {channel_id!r} holds a NUL or a lone surrogate, which no text can carry")
        parameters = (channel_id, new_epoch(), retention.max_messages, retention.max_age_s)
        return self._database.write(lambda session: session.run(_CREATE, parameters)) > 0

    def append_group(self, appends: Sequence[Append]) -> Sequence[Appended | EricError]:
        if not appends:
            return []
        outcomes, over = self._database.write(lambda session: _store(session, appends))
        self._trimmer.note(over)
        if not self._database.in_transaction:
            self._trimmer.trim_if_due()
        return outcomes

    def read(
        self,
        channel_id: str,
        after: int,
        view: View | str,
        limit: int = DEFAULT_PAGE_MESSAGES,
        max_bytes: int | None = DEFAULT_PAGE_BYTES,
    ) -> Page:
        statement, parameters = page_statement(_known(channel_id), after, _reader(view), limit, max_bytes)
        rows = self._database.read(lambda session: session.rows(statement, parameters))
        if not rows:
            raise ChannelNotFound(channel_id)
        entries = [Entry(*row[HEAD_COLUMNS:]) for row in rows if row[HEAD_COLUMNS] is not None]
        return cut_page(head_from(rows[0][:HEAD_COLUMNS]), entries, after, limit, max_bytes)

    def heads(self, channel_ids: Collection[str]) -> Mapping[str, Head]:
        channels = texts(id_ for id_ in channel_ids if is_storable(id_))
        rows = self._database.read(lambda session: session.rows(HEADS, (channels,)))
        return {channel: head_from(tuple(head)) for channel, *head in rows}

    def trim(self, limit: int = 10_000) -> int:
        return self._trimmer.trim(limit)

    def drop(self, channel_id: str) -> None:
        if is_storable(channel_id):
            self._database.write(lambda session: _drop(session, channel_id))

    def count(self, channel_id: str, after: int, view: View | str, cap: int) -> int:
        statement, parameters = count_statement(_known(channel_id), after, _reader(view), cap)
        row = self._database.read(lambda session: session.row(statement, parameters))
        if row is None:
            raise ChannelNotFound(channel_id)
        return int(row[0])


def _store(session: Session, appends: Sequence[Append]) -> tuple[list[Appended | EricError], list[int]]:
    batch = Batch(session, appends)
    return batch.store(), batch.over


def _drop(session: Session, channel_id: str) -> None:
    log = session.row(_DROP_LOG, (channel_id,))
    if log is not None:
        session.run(_DROP_REST, log)


def _known(channel_id: str) -> str:
    if not is_storable(channel_id):
        raise ChannelNotFound(channel_id)
    return channel_id


def _reader(view: View | str) -> View | str:
    """The view; of a listener whose id could not be stored, which is sent no dispatch, the broadcasts."""
    return view if isinstance(view, View) or is_storable(view) else View.BROADCASTS
