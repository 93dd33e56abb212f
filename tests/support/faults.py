"""A crowd at one server whose store, or who itself, meets with faults; and what must be true of all that is seen."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, NamedTuple

import httpx2

from eric_sse.clients import AsyncEventSource
from eric_sse.engines import open_engine
from eric_sse.log import View
from eric_sse.wire.sse import Event, EventStreamParser
from support.load import (
    CHANNEL,
    END,
    PATIENCE_S,
    Follower,
    Publisher,
    add_listener,
    assert_exactly_once,
    create_channel,
    expected,
    offset,
    publish_end,
    until,
)
from support.restarts import Restartable

RECOVERY_S = 5.0
REFUSAL_S = 8  # five for the store, and what a loaded machine adds
# A stream that is silent for longer counts as lost, and its follower connects anew: heartbeats are due every second.
SILENCE_S = 5.0
ENV = {"ERIC_SSE_HEARTBEAT_S": "1"}
ENOUGH = 50
_PATH = f"/channels/{CHANNEL}"


class Answer(NamedTuple):
    """What a publish was answered.

    Attributes:
        at: When (`time.monotonic`).
        seconds: How long it took.
        status: The status.
        retry_after: Of the header.
    """

    at: float
    seconds: float
    status: int
    retry_after: str | None


class NotingClient(httpx2.AsyncClient):
    """Patient, and notes what it was answered."""

    def __init__(self, url: str) -> None:
        super().__init__(base_url=url, timeout=PATIENCE_S)
        self.answers: list[Answer] = []

    async def post(self, *args: Any, **kwargs: Any) -> httpx2.Response:
        began = time.monotonic()
        answer = await super().post(*args, **kwargs)
        now = time.monotonic()
        self.answers.append(Answer(now, now - began, answer.status_code, answer.headers.get("retry-after")))
        return answer


class NotingPublisher(Publisher):
    """A publisher whose answers are noted."""

    def __init__(self, url: str, name: str, chance: random.Random, listeners: tuple[str, ...] = ()) -> None:
        super().__init__(url, name, chance, listeners)
        self.http: NotingClient = NotingClient(url)

    async def broadcast(self) -> str:
        """Publish one message for everybody, until it is answered with 201; returns its id."""
        message = self._message() | {"to": None}
        (id_,) = await self.publish([message])
        self.stored[id_] = (tuple(message["payload"]), None)
        return id_

    async def is_refused(self, since: float) -> None:
        """Return when a publish was answered with 503, since then."""
        await until(lambda: any(answer.status == 503 and answer.at > since for answer in self.http.answers[-9:]))


class Newcomer:
    """Opens a stream once, and reads some of what followed an id.

    Args:
        url: The stream's.
        listener: Whose it is; None where it is anonymous.
        after: The id.

    Attributes:
        events: What was received.
        arrived: Set once the server has begun to answer.
    """

    def __init__(self, url: str, listener: str | None, after: str) -> None:
        self.listener = listener
        self.events: list[Event] = []
        self.arrived = asyncio.Event()
        self._url = url
        self._after = after
        self._parser = EventStreamParser()

    @property
    def has_started(self) -> bool:
        """Whether it was told where it is."""
        return self._parser.last_event_id != ""

    async def run(self) -> None:
        """Read until there is enough, or the end."""
        headers = {"Last-Event-ID": self._after}
        async with (
            httpx2.AsyncClient(timeout=PATIENCE_S) as http,
            http.stream("GET", self._url, headers=headers) as answer,
            aclosing(answer.aiter_bytes()) as chunks,
        ):
            assert answer.status_code == 200
            async for chunk in chunks:
                self.events += self._parser.feed(chunk)
                assert self._parser.retry_ms is not None, chunk
                self.arrived.set()
                if len(self.events) >= ENOUGH or any(event.type == END for event in self.events):
                    return

    def check(self, wanted: dict[str, tuple[str, int]]) -> None:
        """It received what followed, and nothing else."""
        events = [event for event in self.events if event.type != END]
        following = [id_ for id_ in wanted if offset(id_) > offset(self._after)]
        assert_exactly_once(events, {id_: wanted[id_] for id_ in following[: len(events)]})


class Crowd:
    """Publishers and listeners at one server, who go on whatever happens.

    Args:
        url: The server's.
        chance: Decides what is published.
    """

    def __init__(self, url: str, chance: random.Random) -> None:
        names = ("p0", "p1", "p2")
        self.publishers = [
            NotingPublisher(url, name, random.Random(chance.random()), ("auto", "explicit")) for name in names
        ]
        self.prober = NotingPublisher(url, "prober", random.Random(chance.random()))
        listeners = f"{url}{_PATH}/listeners"
        self.followers = [
            _follower(f"{listeners}/auto/events", "auto"),
            _follower(f"{listeners}/explicit/events", "explicit", f"{listeners}/explicit/ack"),
            *(_follower(f"{url}{_PATH}/events") for _ in range(2)),
        ]
        self.newcomers: list[Newcomer] = []
        self._url = url
        self._tasks = asyncio.TaskGroup()

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Inside the block they work; it is left when everybody has read everything."""
        async with self.prober.http, self._tasks as tasks:
            for follower in self.followers:
                tasks.create_task(follower.run())
            for follower in self.followers:
                await follower.is_listening()
            publishing = [tasks.create_task(publisher.run()) for publisher in self.publishers]
            yield
            for publisher in self.publishers:
                publisher.is_done = True
            await asyncio.wait(publishing)
            await publish_end(self._url)

    async def works(self, chance: random.Random) -> None:
        """Have them work for a while."""
        target = self._count + 100
        await until(lambda: self._count >= target)
        await asyncio.sleep(chance.uniform(0, 0.3))

    async def receives_newcomers(self) -> tuple[Newcomer, Newcomer]:
        """Two open new streams, an anonymous and a listener's, and are answered in time."""
        after = next(reversed(expected(self.publishers, None)))
        anonymous = Newcomer(f"{self._url}{_PATH}/events", None, after)
        named = Newcomer(f"{self._url}{_PATH}/listeners/explicit/events", "explicit", after)
        self.newcomers += [anonymous, named]
        async with asyncio.timeout(REFUSAL_S):
            for newcomer in (anonymous, named):
                self._tasks.create_task(newcomer.run())
            for newcomer in (anonymous, named):
                await newcomer.arrived.wait()
        return anonymous, named

    async def finds_the_store_away(self, since: float) -> None:
        """Return when each publisher was refused, and new streams were opened nevertheless."""
        (_, named), *_ = await asyncio.gather(
            self.receives_newcomers(), *(publisher.is_refused(since) for publisher in self.publishers)
        )
        # It is for the store to say where a listener starts.
        assert not named.has_started

    async def recovers(self, what: str, back: float) -> None:
        """Publishing is answered with 201, and that reaches all open streams, in time after ``back``."""
        id_ = await self.prober.broadcast()
        stored_s = time.monotonic() - back
        await asyncio.gather(*(until(lambda f=follower: _has(f, id_)) for follower in self.followers))
        received_s = time.monotonic() - back
        await until(lambda: all(newcomer.has_started for newcomer in self.newcomers))
        started_s = time.monotonic() - back
        print(f"{what}: 201 after {stored_s:.2f} s, received {received_s:.2f} s, new streams {started_s:.2f} s")
        assert max(stored_s, received_s, started_s) < RECOVERY_S

    def check(self, store: str, *, server_fell: bool = False) -> None:
        """The promises, of each stream, of each answer, and of the store."""
        everybody = [*self.publishers, self.prober]
        for follower in self.followers:
            assert (follower.source.reconnects > 0) is server_fell
            assert_exactly_once(follower.events, expected(everybody, follower.listener))
        for newcomer in self.newcomers:
            newcomer.check(expected(everybody, newcomer.listener))
        refused = [answer for publisher in everybody for answer in publisher.http.answers if answer.status == 503]
        assert all(answer.retry_after is not None for answer in refused)
        slowest = max(answer.seconds for publisher in everybody for answer in publisher.http.answers)
        print(f"{self._count} messages, {len(refused)} publishes refused, the slowest answer took {slowest:.2f} s")
        assert slowest < REFUSAL_S
        rows = sum(len(publisher.stored) for publisher in everybody) + 1
        with open_engine(store) as engine:
            assert engine.log.count(CHANNEL, 0, View.EVERYTHING, cap=2 * rows) == rows

    @property
    def _count(self) -> int:
        return sum(len(publisher.stored) for publisher in self.publishers)


@asynccontextmanager
async def crowded_server(store: str, chance: random.Random) -> AsyncIterator[tuple[Restartable, Crowd]]:
    """A server on an empty store, and a crowd at work there; at the end everybody has read everything."""
    async with Restartable(store, env=ENV) as server:
        async with httpx2.AsyncClient(base_url=server.url) as http:
            await create_channel(http)
            for listener in ("auto", "explicit"):
                await add_listener(http, listener, listener)
        crowd = Crowd(server.url, chance)
        async with crowd.at_work():
            yield server, crowd


def _follower(url: str, listener: str | None = None, ack_url: str | None = None) -> Follower:
    follower = Follower(url, listener, ack_url)
    follower.source = AsyncEventSource(url, max_retry_s=0.2, read_timeout_s=SILENCE_S)
    return follower


def _has(follower: Follower, id_: str) -> bool:
    return bool(follower.events) and offset(follower.events[-1].id) >= offset(id_)
