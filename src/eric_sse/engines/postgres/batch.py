"""A group of appends, planned and then stored with a few statements."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from eric_sse.engines.postgres.copying import Message, binary_rows
from eric_sse.engines.postgres.session import Session
from eric_sse.engines.postgres.text import is_storable, is_unicode
from eric_sse.exception import EricError, InvalidMessageFormat
from eric_sse.log import Append, Appended, NewEntry
from eric_sse.log.ports import DEDUP_WINDOW_S

# The locks, taken in the order of ids, are what makes offsets visible in order: nobody gets a later one before these
# are committed. They do not keep others from creating cursors.
_LOCK = """SELECT channel, id, epoch, last, extract(epoch FROM clock_timestamp())::double precision
    FROM {schema}.eric_logs WHERE channel = ANY ($1::text[]) ORDER BY channel FOR NO KEY UPDATE"""
_KNOWN = """SELECT v.number, k."offset"
    FROM unnest($1::bigint[], $2::text[], $3::bytea[]) WITH ORDINALITY v (log, receiver, key, number)
    JOIN {schema}.eric_keys k ON k.log = v.log AND k.receiver = v.receiver AND k.key = v.key WHERE k.at > $4"""
_STORE = """INSERT INTO {schema}.eric_messages (log, "offset", receiver, at, data)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::double precision[], $5::bytea[])"""
_COPY = 'COPY {schema}.eric_messages (log, "offset", receiver, at, data) FROM STDIN (FORMAT BINARY)'
_REMEMBER = """INSERT INTO {schema}.eric_keys (log, receiver, key, "offset", at)
    SELECT v.*, $5 FROM unnest($1::bigint[], $2::text[], $3::bytea[], $4::bigint[]) v
    ON CONFLICT (log, receiver, key) DO UPDATE SET "offset" = excluded."offset", at = excluded.at"""
_MOVE = """UPDATE {schema}.eric_logs l SET last = v.last, count = l.count + v.added,
    expires_at = coalesce(l.expires_at, $4 + l.max_age_s)
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) v (id, last, added)
    WHERE l.id = v.id RETURNING l.id, coalesce(l.count > l.max_messages, false)"""
# COPY stores hundreds three times as fast, and a few more slowly: it is two round trips.
_COPY_FROM = 16
_MAX_BYTES = 999_000_000
# An index holds up to 2,700 bytes a row.
_MAX_RECEIVER_BYTES = 1024
_MAX_KEY_BYTES = 256


class Key(NamedTuple):
    """What makes an entry the same as one before."""

    log: int
    receiver: str
    key: bytes


@dataclass
class _Log:
    id: int
    epoch: str
    last: int
    now: float
    added: int = 0
    given: int = 0

    def __post_init__(self) -> None:
        self.given = self.last
        # Offsets are microseconds since 1970, or one more than the last: also a server that took over without the
        # newest commits, or was restored from a backup, gives none of their offsets again.
        self.last = max(self.last, int(self.now * 1_000_000))

    def next_offset(self) -> int:
        self.last += 1
        self.added += 1
        self.given = self.last
        return self.last


@dataclass
class _Plan:
    """What is to be written."""

    messages: list[Message] = field(default_factory=list)
    keys: dict[Key, int] = field(default_factory=dict)


class Batch:
    """What a group of appends comes to. Everything that may be wrong with one of them is found before any is stored.

    So none needs a savepoint of its own: what fails after that is the store, and fails for all.

    Attributes:
        over: The ids of logs that hold more than their retention by count keeps.
    """

    def __init__(self, session: Session, appends: Sequence[Append]) -> None:
        self.over: list[int] = []
        self._session = session
        self._appends = appends
        self._logs: dict[str, _Log] = {}
        self._known: dict[Key, int] = {}
        self._plan = _Plan()

    def store(self) -> list[Appended | EricError]:
        """Store them. Returns what each came to."""
        channels = {append.channel_id for append in self._appends if is_storable(append.channel_id)}
        self._logs = {channel: _Log(*log) for channel, *log in self._session.rows(_LOCK, (list(channels),))}
        problems = [self._problem(append) for append in self._appends]
        self._find_keys([a for a, problem in zip(self._appends, problems, strict=True) if problem is None])
        outcomes = [
            self._place(append) if problem is None else problem
            for append, problem in zip(self._appends, problems, strict=True)
        ]
        self._write()
        return outcomes

    def _problem(self, append: Append) -> EricError | None:
        log = self._logs.get(append.channel_id)
        refusal = append.refusal(log.epoch if log is not None else None)
        return refusal or next(filter(None, map(_entry_problem, append.entries)), None)

    def _find_keys(self, appends: Sequence[Append]) -> None:
        keys = [
            _key(self._logs[append.channel_id], entry)
            for append in appends
            for entry in append.entries
            if entry.key is not None
        ]
        if keys:
            oldest = self._logs[appends[0].channel_id].now - DEDUP_WINDOW_S
            rows = self._session.rows(_KNOWN, (*map(list, zip(*keys, strict=True)), oldest))
            self._known = {keys[number - 1]: offset for number, offset in rows}

    def _place(self, append: Append) -> Appended:
        log = self._logs[append.channel_id]
        previous = log.given
        return Appended(log.epoch, [self._place_entry(log, entry) for entry in append.entries], previous)

    def _place_entry(self, log: _Log, entry: NewEntry) -> int:
        key = None if entry.key is None else _key(log, entry)
        if key is not None and key in self._known:
            return self._known[key]
        offset = log.next_offset()
        self._plan.messages.append((log.id, offset, entry.receiver or None, log.now, entry.data))
        if key is not None:
            self._known[key] = self._plan.keys[key] = offset
        return offset

    def _write(self) -> None:
        messages, keys = self._plan.messages, self._plan.keys
        if not messages:
            return
        if len(messages) < _COPY_FROM:
            self._session.run(_STORE, [list(column) for column in zip(*messages, strict=True)])
        else:
            self._session.copy(_COPY, binary_rows(messages))
        now = messages[0][3]
        if keys:
            self._session.run(_REMEMBER, (*map(list, zip(*keys, strict=True)), list(keys.values()), now))
        moved = [(log.id, log.last, log.added) for log in self._logs.values() if log.added]
        rows = self._session.rows(_MOVE, (*map(list, zip(*moved, strict=True)), now))
        self.over = [log for log, is_over in rows if is_over]


def _key(log: _Log, entry: NewEntry) -> Key:
    key = (entry.key or "").encode()
    if len(key) > _MAX_KEY_BYTES:
        key = hashlib.sha256(key).digest()
    return Key(log.id, entry.receiver or "", key)


def _entry_problem(entry: NewEntry) -> EricError | None:
    if not isinstance(entry.data, bytes) or len(entry.data) > _MAX_BYTES:
        return InvalidMessageFormat(
            f"a message is stored as at most {_MAX_BYTES} bytes, not {type(entry.data).__name__}"
        )
    receiver = entry.receiver or ""
    if receiver and (not is_storable(receiver) or len(receiver.encode()) > _MAX_RECEIVER_BYTES):
        return InvalidMessageFormat(
            f"receiver {entry.receiver!r} of a message is no text of up to {_MAX_RECEIVER_BYTES} bytes without NUL"
        )
    if entry.key is not None and not is_unicode(entry.key):
        return InvalidMessageFormat(f"key {entry.key!r} of a message is no UTF-8 text")
    return None
