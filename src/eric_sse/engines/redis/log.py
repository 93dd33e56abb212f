"""Logs: two streams a channel, for broadcasts and for dispatches, with one sequence of offsets."""

import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from eric_sse.engines.redis.appends import ChannelAppends, entry_problem
from eric_sse.engines.redis.client import Client
from eric_sse.engines.redis.keys import Keys, LogKeys, text
from eric_sse.engines.redis.news import News
from eric_sse.engines.redis.requests import Request, call
from eric_sse.engines.redis.retention import Trimmer
from eric_sse.engines.redis.scripts import COUNT, CREATE, DROP, HEAD_FIELDS, READ
from eric_sse.exception import ChannelNotFound, EricError
from eric_sse.log import Append, Appended, Entry, Head, MessageLog, Page, Retention, View
from eric_sse.log.ports import DEFAULT_PAGE_BYTES, DEFAULT_PAGE_MESSAGES, cut_page, new_epoch


class RedisLog(MessageLog):
    """Logs in Redis.

    Args:
        client: The store.
        keys: Its keys.
        news: Tells other processes.
    """

    def __init__(self, client: Client, keys: Keys, news: News) -> None:
        self._client = client
        self._keys = keys
        self._news = news
        self._trimmer = Trimmer(client, keys)

    def create(self, channel_id: str, retention: Retention) -> bool:
        # By its epoch a call that is repeated, since its reply was lost, is known.
        epoch, age = new_epoch(), retention.max_age_s
        arguments = (epoch, _or_empty(retention.max_messages), "" if age is None else repr(float(age)))
        request = call(CREATE, [self._keys.log(channel_id).meta], arguments, replicated=True)
        found, max_age = self._client.get(request)
        # After it was created, so that what a race leaves is at worst a mark of a log that is not there.
        won = bool(found.decode() == epoch)
        self._trimmer.created(channel_id, float(max_age) if max_age else None, won=won)
        return won

    def append_group(self, appends: Sequence[Append]) -> Sequence[Appended | EricError]:
        outcomes: list[Appended | EricError | None] = [entry_problem(append) for append in appends]
        channels: dict[str, ChannelAppends] = {}
        for number, append in enumerate(appends):
            if outcomes[number] is None:
                channels.setdefault(append.channel_id, ChannelAppends(append.channel_id)).add(number, append)
        requests = [one.request(self._keys, self._news, secrets.token_bytes(8)) for one in channels.values()]
        too_long = []
        for one, reply in zip(channels.values(), self._client.run(requests), strict=True):
            for number, outcome in one.outcomes(reply):
                outcomes[number] = outcome
            if isinstance(reply, list) and reply[0][1]:
                too_long.append(one.channel_id)
        self._trimmer.too_long(too_long)
        return [outcome for outcome in outcomes if outcome is not None]

    def read(
        self,
        channel_id: str,
        after: int,
        view: View | str,
        limit: int = DEFAULT_PAGE_MESSAGES,
        max_bytes: int | None = DEFAULT_PAGE_BYTES,
    ) -> Page:
        arguments = (*_view_arguments(view), max(after, 0), limit, _or_empty(max_bytes))
        result = self._client.get(call(READ, self._read_keys(channel_id), arguments))
        if result is None:
            raise ChannelNotFound(channel_id)
        entries = [
            Entry(result[at], result[at + 1].decode(errors="surrogatepass") or None, result[at + 2])
            for at in range(1, len(result), 3)
        ]
        return cut_page(_head(result[0]), entries, after, limit, max_bytes)

    def heads(self, channel_ids: Collection[str]) -> Mapping[str, Head]:
        ids = list(dict.fromkeys(channel_ids))
        metas = [self._keys.log(id_).meta for id_ in ids]
        requests = [Request(meta, [("HMGET", meta, *HEAD_FIELDS)]) for meta in metas]
        # Who asks for none wants to know whether the store answers.
        found = self._client.get_all(requests or [Request(self._keys.version, [("EXISTS", self._keys.version)])])
        return {id_: _head(fields) for id_, fields in zip(ids, found, strict=False) if fields[0] is not None}

    def trim(self, limit: int = 10_000) -> int:
        return self._trimmer.trim(limit)

    def drop(self, channel_id: str) -> None:
        keys: LogKeys = self._keys.log(channel_id)
        epoch: bytes | None = self._client.get(Request(keys.meta, [("HGET", keys.meta, "epoch")]))
        if epoch is not None:
            forget = self._trimmer.about_to_drop(channel_id)
            arguments = (*self._news.arguments(channel_id), epoch)
            self._client.get(call(DROP, keys, arguments, replicated=True))
            forget()

    def count(self, channel_id: str, after: int, view: View | str, cap: int) -> int:
        arguments = (*_view_arguments(view), max(after, 0), cap)
        found = self._client.get(call(COUNT, self._read_keys(channel_id), arguments))
        if found is None:
            raise ChannelNotFound(channel_id)
        return int(found)

    def _read_keys(self, channel_id: str) -> Sequence[bytes]:
        keys = self._keys.log(channel_id)
        return keys.meta, keys.broadcasts, keys.dispatches, keys.by_receiver


def _view_arguments(view: View | str) -> tuple[str, bytes]:
    return (view.value, b"") if isinstance(view, View) else ("listener", text(view))


def _or_empty(value: int | None) -> str:
    return "" if value is None else str(value)


def _head(fields: Sequence[Any]) -> Head:
    epoch, trimmed, last, max_messages, max_age, removals = fields
    retention = Retention(int(max_messages) if max_messages else None, float(max_age) if max_age else None)
    return Head(epoch.decode(), int(trimmed), int(last), retention, int(removals))
