"""Publishers and followers that go on while servers come and go, and what must be true of them afterwards."""

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from contextlib import suppress

import httpx2

from eric_sse.clients import AsyncEventSource, Gap, StreamLost
from eric_sse.message import Position
from eric_sse.wire.sse import Event

CHANNEL = "load"
END = "end"
RETRY_MS = 50
PATIENCE_S = 30
NO_BOUND = {"max_messages": None, "max_age_s": None}

Content = tuple[str, int]
"""Of a message: its publisher's name and its number there."""


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what nothing tells of."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.005)


async def create_channel(http: httpx2.AsyncClient, channel: str = CHANNEL, **settings: object) -> None:
    """Create a channel that clients return to quickly."""
    body = {"id": channel, "retry_ms": RETRY_MS, "retention": NO_BOUND, **settings}
    (await http.post("/channels", json=body)).raise_for_status()


async def add_listener(http: httpx2.AsyncClient, listener: str, ack: str = "auto", channel: str = CHANNEL) -> None:
    """Subscribe a named listener to the channel."""
    (await http.post(f"/channels/{channel}/listeners", json={"id": listener, "ack": ack})).raise_for_status()


async def publish_end(url: str, channel: str = CHANNEL) -> None:
    """Publish what followers end at."""
    async with httpx2.AsyncClient(base_url=url) as http:
        answer = await http.post(f"/channels/{channel}/messages", json={"type": END, "payload": None})
        answer.raise_for_status()


class Publisher:
    """Publishes numbered messages in their order, single or together, and repeats what was not answered with 201.

    Args:
        url: The server's.
        name: Its own.
        chance: Decides how many go together, how, and to whom.
        listeners: Whom it sends something to now and then, besides what is for everybody.
        channel: Where to.

    Attributes:
        stored: What was answered: each message's id, with its content and receiver.
        requests: What was sent, whole, to be repeated.
        is_done: Set it, and it stops after the request under way.
    """

    def __init__(
        self, url: str, name: str, chance: random.Random, listeners: Sequence[str] = (), channel: str = CHANNEL
    ) -> None:
        self.http = httpx2.AsyncClient(base_url=url)
        self.name = name
        self.stored: dict[str, tuple[Content, str | None]] = {}
        self.requests: list[tuple[list[dict], list[str]]] = []
        self.is_done = False
        self.failures = 0
        self._chance = chance
        self._receivers = (None, None, None, *listeners)
        self._path = f"/channels/{channel}/messages"
        self._number = 0

    async def run(self, limit: int | None = None) -> None:
        """Publish until done, or until so many messages were."""
        async with self.http:
            while not self.is_done and (limit is None or self._number < limit):
                messages = [self._message() for _ in range(self._chance.choice((1, 1, 1, 2, 20)))]
                ids = await self.publish(messages)
                self.requests.append((messages, ids))
                for id_, message in zip(ids, messages, strict=True):
                    self.stored[id_] = (tuple(message["payload"]), message.get("to"))

    async def publish(self, messages: list[dict]) -> list[str]:
        """Publish until it is answered, and return the ids that it is answered with."""
        while True:
            with suppress(httpx2.TransportError):
                answer = await self.http.post(self._path, **self._encoded(messages))
                if answer.status_code == 201:
                    return answer.json()["ids"]
                assert answer.status_code == 503, answer.text
            self.failures += 1
            await asyncio.sleep(0.02)

    def _message(self) -> dict:
        self._number += 1
        message = {"id": f"{self.name}-{self._number}", "payload": [self.name, self._number]}
        receiver = self._chance.choice(self._receivers)
        return message if receiver is None else message | {"to": receiver}

    def _encoded(self, messages: list[dict]) -> dict:
        if self._chance.random() < 0.5:
            lines = "\n".join(map(json.dumps, messages))
            return {"content": lines, "headers": {"Content-Type": "application/x-ndjson"}}
        return {"json": messages[0] if len(messages) == 1 else messages}


class Follower:
    """Reads one stream to the message that ends it, as our client does by itself: with its id, from restart to restart.

    Args:
        url: The stream's.
        listener: Whose it is; None where it is anonymous.
        ack_url: Where to acknowledge what was received, if it is to.

    Attributes:
        events: What was received.
    """

    def __init__(self, url: str, listener: str | None = None, ack_url: str | None = None) -> None:
        self.source = AsyncEventSource(url, max_retry_s=0.2)
        self.listener = listener
        self.events: list[Event] = []
        self._ack_url = ack_url

    async def run(self) -> None:
        """Read until the end."""
        async with self.source, httpx2.AsyncClient() as http:
            async for event in self.source:
                if event.type == END:
                    return
                self.events.append(event)
                if self._ack_url is not None and len(self.events) % 50 == 0:
                    await acknowledge(http, self._ack_url, event.id)

    async def is_listening(self) -> None:
        """Return when it knows where it is."""
        await until(lambda: self.source.last_event_id != "")

    async def has_reconnected(self, times: int) -> None:
        """Return when it has, so many times, and received something since."""
        await until(lambda: self.source.reconnects >= times)
        received = len(self.events)
        await until(lambda: len(self.events) > received)


async def acknowledge(http: httpx2.AsyncClient, url: str, event_id: str) -> bool:
    """Try to acknowledge; whether it was answered."""
    try:
        answer = await http.post(url, json={"id": event_id})
    except httpx2.TransportError:
        return False
    assert answer.status_code in {204, 503}, answer.text
    return answer.status_code == 204


class ForgetfulFollower:
    """Reads a listener's stream, acknowledges now and then, and returns without its id after each loss.

    Attributes:
        streams: What was received, by connection, each with the ids one of which its cursor stood at: what was
            acknowledged last, ``""`` for nothing, and what was sent as an acknowledgement since, without an answer.
    """

    def __init__(self, url: str, ack_url: str, chance: random.Random) -> None:
        self.streams: list[tuple[list[str], list[Event]]] = []
        self._url = url
        self._ack_url = ack_url
        self._chance = chance
        self._cursors = [""]

    async def run(self) -> None:
        """Read until the end."""
        async with httpx2.AsyncClient() as http:
            while not await self._read(http):
                await asyncio.sleep(0.02)

    async def _read(self, http: httpx2.AsyncClient) -> bool:
        received: list[Event] = []
        self.streams.append((list(self._cursors), received))
        with suppress(StreamLost):
            async with AsyncEventSource(self._url, reconnect=False) as events:
                async for event in events:
                    if event.type == END:
                        return True
                    received.append(event)
                    if self._chance.random() < 0.02:
                        await self._acknowledge(http, event.id)
        return False

    async def _acknowledge(self, http: httpx2.AsyncClient, event_id: str) -> None:
        if await acknowledge(http, self._ack_url, event_id):
            self._cursors = [event_id]
        else:
            self._cursors.append(event_id)


def offset(id_: str) -> int:
    """Where a message is."""
    position = Position.parse(id_)
    assert position is not None, id_
    return position.offset


def content(event: Event) -> Content:
    """What an event carries."""
    assert Gap.of(event) is None, event
    return tuple(json.loads(event.data))


def expected(publishers: Sequence[Publisher], listener: str | None) -> dict[str, Content]:
    """What one listener, or an anonymous stream, must receive: ids and contents, in order."""
    stored = {id_: kept for publisher in publishers for id_, kept in publisher.stored.items()}
    assert len(stored) == sum(len(publisher.stored) for publisher in publishers), "an id was given twice"
    own = {id_: found for id_, (found, to) in stored.items() if to is None or to == listener}
    return dict(sorted(own.items(), key=lambda item: offset(item[0])))


def assert_exactly_once(events: Sequence[Event], wanted: dict[str, Content]) -> None:
    """Everything that was answered with 201, in order, nothing twice, and nothing else."""
    assert_in_order(events)
    assert {event.id: content(event) for event in events} == wanted
    by_publisher: dict[str, list[int]] = {}
    for name, number in map(content, events):
        by_publisher.setdefault(name, []).append(number)
    assert all(numbers == sorted(set(numbers)) for numbers in by_publisher.values())


def assert_in_order(events: Sequence[Event]) -> None:
    """Offsets only grow: nothing twice on one stream."""
    offsets = [offset(event.id) for event in events]
    assert offsets == sorted(set(offsets))
