"""Cursors: a hash beside each channel's log."""

import secrets
from collections.abc import Collection, Mapping

from eric_sse.engines.redis.client import Client
from eric_sse.engines.redis.keys import Keys, text
from eric_sse.engines.redis.news import News
from eric_sse.engines.redis.requests import REPETITION_US, Argument, Effect, Request, call
from eric_sse.engines.redis.scripts import ADVANCE, COMPARE_AND_SET, CREATE_CURSORS, DROP_CURSORS
from eric_sse.exception import ChannelNotFound
from eric_sse.log import CursorKey, Cursors
from eric_sse.log.ports import by_channel
from eric_sse.message import Position

# How many listeners one command carries at most.
_CHUNK = 20_000


class RedisCursors(Cursors):
    """Cursors in Redis.

    Args:
        client: The store.
        keys: Its keys.
        news: Tells other processes.
    """

    def __init__(self, client: Client, keys: Keys, news: News) -> None:
        self._client = client
        self._keys = keys
        self._news = news

    def create(self, channel_id: str, listener_ids: Collection[str]) -> Collection[str]:
        ids, keys = list(dict.fromkeys(listener_ids)), self._keys.log(channel_id)
        chunks = _chunks(ids) or [[]]
        results = self._client.get_all(
            [
                call(CREATE_CURSORS, (keys.meta, keys.cursors), _texts(chunk), Effect.ONCE, replicated=True)
                for chunk in chunks
            ]
        )
        if None in results:
            raise ChannelNotFound(channel_id)
        return [chunk[n - 1] for chunk, numbers in zip(chunks, results, strict=True) for n in numbers]

    def get(self, keys: Collection[CursorKey]) -> Mapping[CursorKey, Position]:
        ordered: list[CursorKey] = []
        requests: list[Request] = []
        for channel_id, listener_ids in by_channel(keys).items():
            cursors = self._keys.log(channel_id).cursors
            for chunk in _chunks(listener_ids):
                ordered += (CursorKey(channel_id, listener_id) for listener_id in chunk)
                requests.append(Request(cursors, [("HMGET", cursors, *_texts(chunk))]))
        values = [value for values in self._client.get_all(requests) for value in values]
        return {key: _position(value) for key, value in zip(ordered, values, strict=True) if value is not None}

    def advance(self, positions: Mapping[CursorKey, Position]) -> None:
        requests = []
        for channel_id, listener_ids in by_channel(positions).items():
            for chunk in _chunks(listener_ids):
                arguments: list[Argument] = []
                for listener_id in chunk:
                    epoch, offset = positions[CursorKey(channel_id, listener_id)]
                    arguments += (text(listener_id), text(epoch), offset)
                requests.append(call(ADVANCE, [self._keys.log(channel_id).cursors], arguments))
        self._client.get_all(requests)

    def compare_and_set(self, key: CursorKey, expected: Position, new: Position) -> bool:
        keys = self._keys.log(key.channel_id)
        # By its token a call that is repeated, since its reply was lost, is known.
        token, window = secrets.token_bytes(8), REPETITION_US
        arguments = (text(key.listener_id), _stored(expected), _stored(new), token, window)
        request = call(COMPARE_AND_SET, (keys.cursors, keys.calls), arguments, replicated=True)
        return bool(self._client.get(request))

    def drop(self, channel_id: str, listener_ids: Collection[str]) -> Collection[str]:
        ids, keys = list(dict.fromkeys(listener_ids)), self._keys.log(channel_id)
        chunks = _chunks(ids)
        news = self._news.arguments(channel_id)
        requests = [
            call(DROP_CURSORS, (keys.meta, keys.cursors), (*news, *_texts(chunk)), Effect.ONCE, replicated=True)
            for chunk in chunks
        ]
        results = self._client.get_all(requests)
        return [chunk[n - 1] for chunk, numbers in zip(chunks, results, strict=True) for n in numbers]


def _chunks(ids: list[str]) -> list[list[str]]:
    return [ids[at : at + _CHUNK] for at in range(0, len(ids), _CHUNK)]


def _texts(ids: Collection[str]) -> list[bytes]:
    return [text(id_) for id_ in ids]


def _stored(position: Position) -> bytes:
    return text(f"{position.epoch}-{position.offset}")


def _position(value: bytes) -> Position:
    epoch, _, offset = value.decode(errors="surrogatepass").rpartition("-")
    return Position(epoch, int(offset))
