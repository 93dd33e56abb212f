"""Cursors: one row a listener, beside its channel's log."""

from collections.abc import Collection, Mapping

from eric_sse.codec import decode_json
from eric_sse.engines.sqlite.database import Database
from eric_sse.engines.sqlite.retention import note_removal
from eric_sse.engines.sqlite.session import Session
from eric_sse.exception import ChannelNotFound
from eric_sse.log import CursorKey, Cursors
from eric_sse.message import Position

_LAST = "coalesce((SELECT offset FROM eric_messages WHERE log = l.id ORDER BY offset DESC LIMIT 1), l.trimmed)"
_LOG = f"SELECT l.id, {_LAST} FROM eric_logs l WHERE channel = ?"  # noqa: S608 - all of it is in this file
_EXISTING = "SELECT json_group_array(listener) FROM eric_cursors WHERE listener IN ({}) AND log = ?"
_CREATE = "WITH v (listener) AS ({}) INSERT INTO eric_cursors (log, listener, offset) SELECT ?, listener, ? FROM v"
_GET = """WITH v (i, channel, listener) AS ({})
    SELECT json_group_array(json_array(v.i, l.epoch, c.offset)) FROM v
    CROSS JOIN eric_logs l ON l.channel = v.channel
    CROSS JOIN eric_cursors c ON c.log = l.id AND c.listener = v.listener"""
_ADVANCE = """WITH v (channel, listener, epoch, offset) AS ({})
    UPDATE eric_cursors AS c SET offset = v.offset
    FROM v JOIN eric_logs l ON l.channel = v.channel AND l.epoch = v.epoch
    WHERE c.log = l.id AND c.listener = v.listener AND c.offset < v.offset"""
_COMPARE_AND_SET = """UPDATE eric_cursors SET offset = ?
    WHERE log = (SELECT id FROM eric_logs WHERE channel = ? AND epoch = ?) AND listener = ? AND offset = ?"""


class SqliteCursors(Cursors):
    """Cursors in a SQLite file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, channel_id: str, listener_ids: Collection[str]) -> Collection[str]:
        with self._database.write() as session:
            log = session.row(_LOG, (channel_id,))
            if log is None:
                raise ChannelNotFound(channel_id)
            existing = _existing(session, log[0], listener_ids)
            created = [id_ for id_ in dict.fromkeys(listener_ids) if id_ not in existing]
            session.bulk(_CREATE, [(id_,) for id_ in created], *log)
            return created

    def get(self, keys: Collection[CursorKey]) -> Mapping[CursorKey, Position]:
        numbered = list(keys)
        with self._database.snapshot() as session:
            rows = session.bulk(_GET, [(number, *key) for number, key in enumerate(numbered)])
        return {
            numbered[number]: Position(epoch, offset)
            for (packed,) in rows
            for number, epoch, offset in decode_json(packed)
        }

    def advance(self, positions: Mapping[CursorKey, Position]) -> None:
        with self._database.write() as session:
            session.bulk(_ADVANCE, [(*key, *position) for key, position in positions.items()])

    def compare_and_set(self, key: CursorKey, expected: Position, new: Position) -> bool:
        if new.epoch != expected.epoch:
            return False
        with self._database.write() as session:
            parameters = (new.offset, key.channel_id, expected.epoch, key.listener_id, expected.offset)
            return session.run(_COMPARE_AND_SET, parameters) > 0

    def drop(self, channel_id: str, listener_ids: Collection[str]) -> Collection[str]:
        with self._database.write() as session:
            log = session.row(_LOG, (channel_id,))
            if log is None:
                return []
            dropped = _existing(session, log[0], listener_ids)
            items = [(id_,) for id_ in dropped]
            session.bulk("DELETE FROM eric_cursors WHERE listener IN ({}) AND log = ?", items, log[0])
            if dropped:
                session.run("UPDATE eric_logs SET removals = removals + ? WHERE id = ?", (len(dropped), log[0]))
                note_removal(session)
            return list(dropped)


def _existing(session: Session, log: int, listener_ids: Collection[str]) -> dict[str, None]:
    rows = session.bulk(_EXISTING, [(id_,) for id_ in listener_ids], log)
    return dict.fromkeys(id_ for (packed,) in rows for id_ in decode_json(packed))
