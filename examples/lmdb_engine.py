"""An engine on LMDB, in one file, to copy the shape of: ``docs/howto/engine.md`` explains it.

LMDB is a memory-mapped B+tree: rows in the order of their keys, one writer at a time, readers that see one moment.
Order: the only writer hands out the offsets, so they become visible in the order in which they were given.
Durability: a commit is synced to the disk before it returns, and a whole group of appends is one commit.
Transactions: LMDB nests them, so storage, log and cursors all take part in ``storage.transaction()``.
Wake-ups: who commits leaves a note of the channel, and every process looks for new notes 125 times a second.
"""

import heapq
import re
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from hashlib import blake2b
from itertools import groupby, islice, takewhile
from pathlib import Path
from struct import Struct
from typing import Any, TypeAlias
from urllib.parse import unquote

import lmdb
from msgspec import MsgspecError, msgpack

from eric_sse.codec import decode_json, encode_value
from eric_sse.engine import Engine
from eric_sse.engines.memory import MemoryNotifier
from eric_sse.exception import ChannelNotFound, ConfigurationError, EpochMismatch, EricError, RepositoryError, StoreFull
from eric_sse.log import Append, Appended, CursorKey, Cursors, Entry, Head, MessageLog, Page, Retention, View
from eric_sse.log.ports import DEDUP_WINDOW_S, cut_page, new_epoch
from eric_sse.message import Position
from eric_sse.repository import BatchKvStorage, TransactionalKvStorage

_Txn: TypeAlias = "lmdb.Transaction[bytes]"
_VERSION, _VALUE, _LOG, _ENTRY, _INBOX, _SEEN, _CURSOR, _NOTE = (bytes([kind]) for kind in b"VvleiscN")
_FORMAT, _MAX_KEY_BYTES, _POLL_S, _KEPT_NOTES = b"1", 511, 0.008, 1000
_GONE, _NEVER = object(), msgpack.encode((0, 0))
_Stored: TypeAlias = tuple[float, Entry]  # when, and what
_u64 = Struct(">Q").pack  # big-endian: the bytes sort as the numbers do


class LmdbNotifier(MemoryNotifier):
    """Wake-ups in this process, at once; but of what this thread has not committed yet, by the note of its commit."""

    def __init__(self, local: threading.local) -> None:
        super().__init__()
        self._local = local

    def wake(self, channel_ids: Iterable[str | None]) -> None:
        if getattr(self._local, "txn", None) is None:
            super().wake(channel_ids)


class _Store:
    """One LMDB environment, which must not be opened twice in a process: engines on the same folder share it."""

    opened: dict[Path, "_Store"] = {}  # noqa: RUF012 - shared on purpose
    opening = threading.Lock()

    def __init__(self, path: Path, map_bytes: int) -> None:
        self.path, self.users, self._local, self._closed = path, 0, threading.local(), threading.Event()
        self.notifier = LmdbNotifier(self._local)
        try:
            self.env = lmdb.open(str(path), map_size=map_bytes, max_readers=1024)
        except (lmdb.Error, OSError) as error:
            raise RepositoryError(f"{path} cannot be opened: {error}; name an LMDB folder, or a new one") from error
        with self.begin(write=True) as txn:
            txn.put(_VERSION, _FORMAT, overwrite=False)
            found = txn.get(_VERSION)
        if found != _FORMAT:
            self.env.close()
            raise RepositoryError(f"{path} is of format {found!r}, this engine knows {_FORMAT!r}: use a newer one")
        last = self.env.info()["last_txnid"]  # not that of the transaction: it may have had nothing to commit
        self._thread = threading.Thread(target=self._follow, args=(last,), name="eric_sse LMDB", daemon=True)
        self._thread.start()

    @contextmanager
    def begin(self, *, write: bool = False) -> Iterator[_Txn]:
        """A transaction, committed at the end. In one that this thread is in: a savepoint, or to read, that one."""
        outer, undone = getattr(self._local, "txn", None), True
        actions = self._local.actions = [] if outer is None else self._local.actions
        begun = len(actions)
        try:
            if write or outer is None:
                with self.env.begin(write=write, parent=outer) as self._local.txn:
                    yield self._local.txn
            else:
                yield outer
            undone = False
        except (lmdb.MapFullError, lmdb.DiskError) as error:
            raise StoreFull(f"{self.path}: {error}; nothing was stored: raise ?map_mb=, or make room") from error
        except (lmdb.Error, MsgspecError, UnicodeEncodeError) as error:
            raise RepositoryError(f"{self.path}: {error}; is it open, whole, and ?map_mb= the same for all?") from error
        finally:
            self._local.txn = outer
            if undone:
                del actions[begun:]
        for action in actions if outer is None else ():
            action()

    def after_commit(self, action: Callable[[], None]) -> None:
        if getattr(self._local, "txn", None) is None:
            action()
        else:
            self._local.actions.append(action)

    def _follow(self, heard: int) -> None:
        while not self._closed.wait(_POLL_S):
            if self.env.info()["last_txnid"] == heard:
                continue
            notes: list[str] = []
            with suppress(RepositoryError), self.begin() as txn:  # it may be back the next time
                notes = [txn.get(key, b"").decode() for key in _scan(txn, _NOTE, _NOTE + _u64(heard + 1))]
                heard = txn.id()
            self.notifier.wake(notes)

    def close(self) -> None:
        with self.opening:
            self.users -= 1
            if not self.users:
                del self.opened[self.path]
                self._closed.set()
                self._thread.join()
                self.env.close()


class _Part:
    def __init__(self, store: _Store) -> None:
        self._store = store


def _id(*texts: str | None) -> bytes:
    """What stands for ids in keys, where two might be too long; for None, who is everybody, zeros."""
    return b"".join(bytes(16) if text is None else blake2b(text.encode(), digest_size=16).digest() for text in texts)


def _scan(txn: _Txn, prefix: bytes, start: bytes = b"") -> Iterator[bytes]:
    """The keys that begin with ``prefix``, in order, from ``start`` on."""
    cursor = txn.cursor()
    if cursor.set_range(max(prefix, start)):
        yield from takewhile(lambda key: key.startswith(prefix), cursor.iternext(keys=True, values=False))


def _head(txn: _Txn, channel_id: str) -> Head:
    if row := txn.get(_LOG + _id(channel_id)):
        return msgpack.decode(row, type=Head)
    raise ChannelNotFound(channel_id)


def _put_head(txn: _Txn, channel_id: str, head: Head) -> None:
    """Store where a log stands, and note in the same transaction that it has news."""
    txn.put(_LOG + _id(channel_id), msgpack.encode(head))
    txn.put(_NOTE + _u64(txn.id()) + _id(channel_id), channel_id.encode())


class LmdbStorage(_Part, BatchKvStorage, TransactionalKvStorage):
    """JSON values. A key may be longer than LMDB's: a row holds all that begin as it does, nearly always one."""

    def fetch_by_prefix(self, prefix: str) -> Iterable[Any]:
        return [value for _, value in self.fetch_page(prefix, "", sys.maxsize)]

    def fetch_page(self, prefix: str, after: str, limit: int) -> Sequence[tuple[str, Any]]:
        with self._store.begin() as txn:
            rows = (decode_json(txn.get(row, b"")) for row in _scan(txn, self._row(prefix), self._row(after)))
            items = (item for row in rows for item in sorted(row.items()) if item[0].startswith(prefix))
            # A list: LMDB cannot reuse the pages that somebody who iterates at leisure may still look at.
            return list(islice((item for item in items if item[0] > after or not after), limit))

    def fetch_many(self, keys: Sequence[str]) -> Mapping[str, Any]:
        with self._store.begin() as txn:
            rows = {row: decode_json(txn.get(row, b"{}")) for row in map(self._row, keys)}
        return {key: rows[self._row(key)][key] for key in keys if key in rows[self._row(key)]}

    def upsert_many(self, items: Mapping[str, Any]) -> None:
        with self._store.begin(write=True) as txn:
            for row, keys in groupby(sorted(items), self._row):
                values = decode_json(txn.get(row, b"{}")) | {key: items[key] for key in keys}
                values = {key: value for key, value in values.items() if value is not _GONE}
                txn.put(row, encode_value(min(values), values)) if values else txn.delete(row)

    def delete_many(self, keys: Collection[str]) -> None:
        self.upsert_many(dict.fromkeys(keys, _GONE))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._store.begin(write=True):
            yield

    def after_commit(self, action: Callable[[], None]) -> None:
        self._store.after_commit(action)

    def _row(self, key: str) -> bytes:
        return (_VALUE + key.encode(errors="surrogatepass"))[:_MAX_KEY_BYTES]  # UTF-8 sorts as code points do


class LmdbLog(_Part, MessageLog):
    """A log is a head, its entries, and for each receiver an index, so that nobody reads past what is for others."""

    def create(self, channel_id: str, retention: Retention) -> bool:
        with self._store.begin(write=True) as txn:
            head = msgpack.encode(Head(new_epoch(), 0, 0, retention))
            return txn.put(_LOG + _id(channel_id), head, overwrite=False)

    def append_group(self, appends: Sequence[Append]) -> Sequence[Appended | EricError]:
        with self._store.begin(write=True):
            return [self._append(append.channel_id, append, time.time()) for append in appends]

    def _append(self, channel_id: str, append: Append, now: float) -> Appended | EricError:
        try:
            with self._store.begin(write=True) as txn:  # a savepoint: what fails fails alone, and whole
                head, offsets = _head(txn, channel_id), list[int]()
                if append.epoch not in {None, head.epoch}:
                    raise EpochMismatch(channel_id, str(append.epoch), head.epoch)
                for data, receiver, key in append.entries:
                    seen = _SEEN + _id(channel_id, receiver, key)
                    offset, at = msgpack.decode(txn.get(seen, _NEVER), type=tuple[int, float])
                    if at <= now - DEDUP_WINDOW_S:
                        head = head._replace(last=head.last + 1)
                        offset, entry = head.last, Entry(head.last, receiver, data)
                        txn.put(_ENTRY + _id(channel_id) + _u64(offset), msgpack.encode((now, entry)))
                        txn.put(_INBOX + _id(channel_id, receiver) + _u64(offset), b"")
                        if key is not None:
                            txn.put(seen, msgpack.encode((offset, now)))
                    offsets.append(offset)
                _put_head(txn, channel_id, head)
                return Appended(head.epoch, offsets)
        except EricError as error:
            return error

    def read(
        self, channel_id: str, after: int, view: View | str, limit: int = 256, max_bytes: int | None = 2**18
    ) -> Page:
        with self._store.begin() as txn:  # head and entries of the same moment
            head, log = _head(txn, channel_id), _id(channel_id)
            indexes = [_ENTRY + log if view is View.EVERYTHING else _INBOX + log + _id(None)]
            if isinstance(view, str):
                indexes.append(_INBOX + log + _id(view))
            offsets = heapq.merge(*((key[-8:] for key in _scan(txn, one, one + _u64(after + 1))) for one in indexes))
            rows = (txn.get(_ENTRY + log + offset, b"") for offset in islice(offsets, limit))
            entries = [msgpack.decode(row, type=_Stored)[1] for row in rows]
        return cut_page(head, entries, after, limit, max_bytes)

    def heads(self, channel_ids: Collection[str]) -> Mapping[str, Head]:
        with self._store.begin() as txn:
            rows = {id_: txn.get(_LOG + _id(id_)) for id_ in channel_ids}
            return {id_: msgpack.decode(row, type=Head) for id_, row in rows.items() if row}

    def trim(self, limit: int = 10_000) -> int:
        now, left = time.time(), limit
        with self._store.begin(write=True) as txn:
            self._store.env.reader_check()  # a process that was killed while it read would keep pages from reuse
            for seen in list(_scan(txn, _SEEN)):  # a busy store would index them by time, too
                if msgpack.decode(txn.get(seen, b""), type=tuple[int, float])[1] <= now - DEDUP_WINDOW_S:
                    txn.delete(seen)
            recent = _NOTE + _u64(max(0, txn.id() - _KEPT_NOTES))
            for note in list(takewhile(lambda key: key < recent, _scan(txn, _NOTE))):
                txn.delete(note)
            for log in list(_scan(txn, _LOG)):
                left -= self._trim(txn, log[1:], left, now)
        return limit - left

    def _trim(self, txn: _Txn, log: bytes, limit: int, now: float) -> int:
        head = old = msgpack.decode(txn.get(_LOG + log, b""), type=Head)
        count, age_s = head.retention.max_messages, head.retention.max_age_s
        for offset in range(old.trimmed + 1, min(old.last, old.trimmed + limit) + 1):  # offsets have no holes
            at, entry = msgpack.decode(txn.get(_ENTRY + log + _u64(offset), b""), type=_Stored)
            if (count is None or offset > old.last - count) and (age_s is None or at >= now - age_s):
                break
            txn.delete(_ENTRY + log + _u64(offset))
            txn.delete(_INBOX + log + _id(entry.receiver) + _u64(offset))
            head = head._replace(trimmed=offset)
        if head != old:  # where nothing was written, LMDB commits nothing
            txn.put(_LOG + log, msgpack.encode(head))
        return head.trimmed - old.trimmed

    def drop(self, channel_id: str) -> None:
        with self._store.begin(write=True) as txn:
            for kind in (_LOG, _ENTRY, _INBOX, _SEEN, _CURSOR):
                for key in list(_scan(txn, kind + _id(channel_id))):
                    txn.delete(key)
            txn.put(_NOTE + _u64(txn.id()) + _id(channel_id), channel_id.encode())


class LmdbCursors(_Part, Cursors):
    """A row for each position, among those of its log, so that it goes with the log."""

    def create(self, channel_id: str, listener_ids: Collection[str]) -> Collection[str]:
        with self._store.begin(write=True) as txn:
            head = _head(txn, channel_id)
            end = msgpack.encode(Position(head.epoch, head.last))
            return [id_ for id_ in listener_ids if txn.put(_CURSOR + _id(channel_id, id_), end, overwrite=False)]

    def get(self, keys: Collection[CursorKey]) -> Mapping[CursorKey, Position]:
        with self._store.begin() as txn:
            rows = {key: txn.get(_CURSOR + _id(*key)) for key in keys}
            return {key: msgpack.decode(row, type=Position) for key, row in rows.items() if row}

    def advance(self, positions: Mapping[CursorKey, Position]) -> None:
        with self._store.begin(write=True) as txn:
            for key, old in self.get(positions).items():
                if positions[key].epoch == old.epoch and positions[key].offset > old.offset:
                    txn.put(_CURSOR + _id(*key), msgpack.encode(positions[key]))

    def compare_and_set(self, key: CursorKey, expected: Position, new: Position) -> bool:
        with self._store.begin(write=True) as txn:
            return self.get([key]).get(key) == expected and txn.put(_CURSOR + _id(*key), msgpack.encode(new))

    def drop(self, channel_id: str, listener_ids: Collection[str]) -> Collection[str]:
        with self._store.begin(write=True) as txn:
            dropped = [id_ for id_ in listener_ids if txn.delete(_CURSOR + _id(channel_id, id_))]
            if dropped:
                head = _head(txn, channel_id)
                _put_head(txn, channel_id, head._replace(removals=head.removals + len(dropped)))
            return dropped


class LmdbEngine(Engine):
    """An engine on one folder: for any number of threads, and of processes that were spawned rather than forked."""

    def __init__(self, store: _Store) -> None:
        super().__init__(LmdbStorage(store), LmdbLog(store), LmdbCursors(store), store.notifier)
        self._opened = ExitStack()
        self._opened.callback(store.close)

    def close(self) -> None:
        with self._opened:  # what it opened is closed once, also where moving the cursors fails
            super().close()


def open_lmdb(url: str) -> LmdbEngine:
    """Open or create the folder of a URL ``lmdb:///absolute/folder?map_mb=1024``: what it may grow to, in megabytes."""
    match = re.fullmatch(r"lmdb://(/[^/?#][^?#]*)(?:\?map_mb=([1-9][0-9]{0,7}))?", url)
    if match is None:
        raise ConfigurationError(f"store URL {url!r} is not like lmdb:///absolute/folder, or that with ?map_mb=1024")
    path = Path(unquote(match[1])).resolve()
    with _Store.opening:
        if path not in _Store.opened:
            _Store.opened[path] = _Store(path, int(match[2] or 1024) * 2**20)
        _Store.opened[path].users += 1
        return LmdbEngine(_Store.opened[path])
