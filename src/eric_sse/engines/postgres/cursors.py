"""Cursors: one row a listener, beside its channel's log."""

from collections.abc import Collection, Iterable, Mapping

from eric_sse.engines.postgres.arrays import numbers, texts
from eric_sse.engines.postgres.database import Database
from eric_sse.engines.postgres.session import Session
from eric_sse.engines.postgres.text import is_storable
from eric_sse.exception import ChannelNotFound
from eric_sse.log import CursorKey, Cursors
from eric_sse.message import Position

# The lock lets others append, and keeps the log from being dropped.
_LOG = "SELECT id, last FROM {schema}.eric_logs WHERE channel = $1 FOR KEY SHARE"
# In the order of the primary key, here and below, so that two who write the same rows never wait in a circle.
_CREATE = """INSERT INTO {schema}.eric_cursors (log, listener, "offset")
    SELECT $1, listener, $2 FROM unnest($3::text[]) listener ORDER BY listener COLLATE "C"
    ON CONFLICT DO NOTHING RETURNING listener"""
_GET = """SELECT v.number, l.epoch, c."offset"
    FROM unnest($1::text[], $2::text[]) WITH ORDINALITY v (channel, listener, number)
    JOIN {schema}.eric_logs l ON l.channel = v.channel
    JOIN {schema}.eric_cursors c ON c.log = l.id AND c.listener = v.listener"""
_ADVANCE = """WITH behind AS (
        SELECT c.log, c.listener, v.new FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])
            v (channel, listener, epoch, new)
        JOIN {schema}.eric_logs l ON l.channel = v.channel AND l.epoch = v.epoch
        JOIN {schema}.eric_cursors c ON c.log = l.id AND c.listener = v.listener
        WHERE c."offset" < v.new ORDER BY c.log, c.listener FOR NO KEY UPDATE OF c
    )
    UPDATE {schema}.eric_cursors c SET "offset" = b.new FROM behind b
    WHERE c.log = b.log AND c.listener = b.listener AND c."offset" < b.new"""
_COMPARE_AND_SET = """UPDATE {schema}.eric_cursors c SET "offset" = $1 FROM {schema}.eric_logs l
    WHERE l.channel = $2 AND l.epoch = $3 AND c.log = l.id AND c.listener = $4 AND c."offset" = $5"""
_DROP_FROM = "SELECT id FROM {schema}.eric_logs WHERE channel = $1 FOR NO KEY UPDATE"
_DROP = """WITH gone AS (
        DELETE FROM {schema}.eric_cursors WHERE log = $1 AND listener = ANY ($2::text[]) RETURNING listener
    ), counted AS (
        UPDATE {schema}.eric_logs SET removals = removals + (SELECT count(*) FROM gone)
        WHERE id = $1 AND EXISTS (SELECT FROM gone)
    )
    SELECT listener FROM gone"""


class PostgresCursors(Cursors):
    """Cursors in a table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, channel_id: str, listener_ids: Collection[str]) -> Collection[str]:
        return self._database.write(lambda session: _create(session, channel_id, listener_ids))

    def get(self, keys: Collection[CursorKey]) -> Mapping[CursorKey, Position]:
        numbered = _stored(keys)
        if not numbered:
            return {}
        columns = [texts(column) for column in zip(*numbered, strict=True)]
        rows = self._database.read(lambda session: session.rows(_GET, columns))
        return {numbered[number - 1]: Position(epoch, offset) for number, epoch, offset in rows}

    def advance(self, positions: Mapping[CursorKey, Position]) -> None:
        rows = [(*key, *positions[key]) for key in _stored(positions)]
        if rows:
            *names, offsets = zip(*rows, strict=True)
            columns = [*map(texts, names), numbers(offsets)]
            self._database.write(lambda session: session.run(_ADVANCE, columns))

    def compare_and_set(self, key: CursorKey, expected: Position, new: Position) -> bool:
        if new.epoch != expected.epoch or not _stored([key]):
            return False
        parameters = (new.offset, key.channel_id, expected.epoch, key.listener_id, expected.offset)
        return self._database.write(lambda session: session.run(_COMPARE_AND_SET, parameters)) > 0

    def drop(self, channel_id: str, listener_ids: Collection[str]) -> Collection[str]:
        listeners = [id_ for id_ in listener_ids if is_storable(id_)]
        if not is_storable(channel_id) or not listeners:
            return []
        return self._database.write(lambda session: _drop(session, channel_id, listeners))


def _create(session: Session, channel_id: str, listener_ids: Collection[str]) -> list[str]:
    log = session.row(_LOG, (channel_id,)) if is_storable(channel_id) else None
    if log is None:
        raise ChannelNotFound(channel_id)
    return [listener for (listener,) in session.rows(_CREATE, (*log, texts(listener_ids)))]


def _drop(session: Session, channel_id: str, listener_ids: list[str]) -> list[str]:
    # The log before its cursors, as all take them; what it waited for is then seen by the next statement.
    log = session.row(_DROP_FROM, (channel_id,))
    return [listener for (listener,) in session.rows(_DROP, (*log, texts(listener_ids)))] if log else []


def _stored(keys: Iterable[CursorKey]) -> list[CursorKey]:
    # What cannot be stored is not there.
    return [key for key in keys if is_storable(key.channel_id) and is_storable(key.listener_id)]
