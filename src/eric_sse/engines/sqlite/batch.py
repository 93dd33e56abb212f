"""A group of appends, planned and then stored with a few statements."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from eric_sse.codec import decode_json
from eric_sse.engines.sqlite.session import Session
from eric_sse.engines.sqlite.views import LAST
from eric_sse.exception import EricError, InvalidMessageFormat
from eric_sse.log import Append, Appended, NewEntry
from eric_sse.log.ports import DEDUP_WINDOW_S

_LOGS = f"""WITH v (channel) AS ({{}})
    SELECT json_group_array(json_array(l.channel, l.id, l.epoch, {LAST}))
    FROM v CROSS JOIN eric_logs l ON l.channel = v.channel"""  # noqa: S608 - all of it is in this package
_KNOWN = """WITH v (i, log, receiver, key) AS ({})
    SELECT json_group_array(json_array(v.i, k.offset)) FROM v
    CROSS JOIN eric_keys k ON k.log = v.log AND k.receiver = v.receiver AND k.key = v.key WHERE k.at > ?"""
_STORE = "INSERT INTO eric_messages (log, offset, receiver, at, data) {}"
_REMEMBER = "INSERT OR REPLACE INTO eric_keys (log, receiver, key, offset, at) {}"
# SQLite's own bound for a row, which an application's connection may not have raised.
_MAX_BYTES = 999_000_000


class Key(NamedTuple):
    """What makes an entry the same as one before."""

    log: int
    receiver: str
    key: str


@dataclass
class Log:
    """Where a log stands.

    Attributes:
        channel: Whose it is.
        id: What the tables call it.
        epoch: Its epoch.
        last: The offset of its last message.
    """

    channel: str
    id: int
    epoch: str
    last: int


class Batch:
    """What a group of appends comes to. Everything that may be wrong with one of them is found before any is stored.

    So none needs a savepoint of its own: what fails after that is the store, and fails for all.

    Attributes:
        stored: How many messages it stored.
        last_id: The row id of the last of them; they are consecutive.
    """

    def __init__(self, session: Session, appends: Sequence[Append]) -> None:
        self.stored = 0
        self.last_id = 0
        self._session = session
        self._appends = appends
        self._now = time.time_ns() // 1_000_000
        self._logs: dict[str, Log] = {}
        self._known: dict[Key, int] = {}
        self._messages: list[tuple[int, int, str, int, bytes]] = []
        self._new_keys: dict[Key, int] = {}

    @property
    def logs(self) -> Collection[Log]:
        """Those that were appended to, as they stand then."""
        return self._logs.values()

    def store(self) -> list[Appended | EricError]:
        """Store them. Returns what each came to."""
        self._find_logs()
        problems = [self._problem(append) for append in self._appends]
        self._find_keys(problems)
        outcomes = [problem or self._plan(append) for append, problem in zip(self._appends, problems, strict=True)]
        self.stored = len(self._messages)
        self.last_id = self._session.insert(_STORE, self._messages)
        self._session.insert(_REMEMBER, [(*key, offset, self._now) for key, offset in self._new_keys.items()])
        return outcomes

    def _find_logs(self) -> None:
        channels = dict.fromkeys(append.channel_id for append in self._appends)
        rows = self._session.bulk(_LOGS, [(channel,) for channel in channels if _is_text(channel)])
        for (packed,) in rows:
            self._logs |= {channel: Log(channel, *log) for channel, *log in decode_json(packed)}

    def _problem(self, append: Append) -> EricError | None:
        log = self._logs.get(append.channel_id)
        return append.refusal(log.epoch if log is not None else None) or entry_problem(append.entries)

    def _find_keys(self, problems: Sequence[EricError | None]) -> None:
        keys = [
            Key(self._logs[append.channel_id].id, entry.receiver or "", entry.key)
            for append, problem in zip(self._appends, problems, strict=True)
            if problem is None
            for entry in append.entries
            if entry.key is not None
        ]
        if keys:
            oldest = self._now - int(DEDUP_WINDOW_S * 1000)
            rows = self._session.bulk(_KNOWN, [(number, *key) for number, key in enumerate(keys)], oldest)
            self._known = {keys[number]: offset for (packed,) in rows for number, offset in decode_json(packed)}

    def _plan(self, append: Append) -> Appended:
        log = self._logs[append.channel_id]
        previous, offsets = log.last, []
        for entry in append.entries:
            receiver, known = entry.receiver or "", None
            if entry.key is not None:
                known = self._recognize(Key(log.id, receiver, entry.key), log.last + 1)
            if known is None:
                log.last += 1
                self._messages.append((log.id, log.last, receiver, self._now, entry.data))
            offsets.append(known or log.last)
        return Appended(log.epoch, offsets, previous)

    def _recognize(self, key: Key, new: int) -> int | None:
        """The offset of the entry that was stored with the key; where there is none, the key is that of ``new``."""
        known = self._known.get(key)
        if known is None:
            self._known[key] = self._new_keys[key] = new
        return known


def entry_problem(entries: Sequence[NewEntry]) -> EricError | None:
    """What is wrong with one of some entries; None where they can be stored."""
    for entry in entries:
        data, receiver, key = entry.data, entry.receiver, entry.key
        if not isinstance(data, bytes) or len(data) > _MAX_BYTES:
            return InvalidMessageFormat(f"a message is stored as at most {_MAX_BYTES} bytes, not {type(data).__name__}")
        if (receiver is not None and not _is_text(receiver)) or (key is not None and not _is_text(key)):
            return InvalidMessageFormat(f"receiver {receiver!r} or key {key!r} of a message is no UTF-8 text")
    return None


def _is_text(value: str) -> bool:
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
