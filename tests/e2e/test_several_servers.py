"""Several servers on one engine: what goes in at one comes out at all, and who moves between them misses nothing."""

import asyncio
import random
import re

import pytest

from e2e.recording_engine import FILE
from eric_sse.engines import open_engine
from eric_sse.repository import transaction
from support.load import Follower, Publisher, assert_exactly_once, expected, publish_end
from support.pair import Pair
from support.restarts import Restartable
from support.third_party import register_engine

MESSAGES = 150


def publishers(pair: Pair, listeners: tuple[str, ...]) -> list[Publisher]:
    """Two at each server."""
    places = ((server, number) for server in (pair.a, pair.b) for number in range(2))
    return [
        pair.publisher(server, f"{server.base_url.port}-{number}", random.Random(number), listeners)
        for server, number in places
    ]


async def publish_all(pair: Pair, publishing: list[Publisher]) -> None:
    """Have all of them publish at once, then what ends the streams."""
    async with asyncio.TaskGroup() as tasks:
        for publisher in publishing:
            tasks.create_task(publisher.run(limit=MESSAGES))
    await pair.publish_end(pair.a)


async def start(tasks: asyncio.TaskGroup, followers: list[Follower]) -> None:
    """Have all of them follow; returns when they do."""
    for follower in followers:
        tasks.create_task(follower.run())
    for follower in followers:
        await follower.is_listening()


async def test_what_is_published_at_one_server_reaches_streams_at_all(pair):
    """Four publishers, two servers: each stream, wherever it is, holds what is for it, once and in order."""
    for listener in ("here", "there"):
        await pair.add_listener(listener)
    places = [(server, listener) for server in (pair.a, pair.b) for listener in (None, "here", "there")]
    followers = [pair.follower(server, listener) for server, listener in places]
    publishing = publishers(pair, ("here", "there"))
    async with asyncio.TaskGroup() as tasks:
        await start(tasks, followers)
        await publish_all(pair, publishing)
    for follower in followers:
        assert_exactly_once(follower.events, expected(publishing, follower.listener))


@pytest.mark.parametrize(("listener", "acks"), [(None, False), ("mover", False), ("mover", True)])
async def test_a_client_moves_between_servers_under_load(pair, listener, acks):
    """By its id, or by its cursor, it goes on where it was: nothing is missing, nothing comes again."""
    await pair.add_listener("mover", ack="explicit" if acks else "auto")
    start_id = (await pair.a.get(pair.path)).json()["last_id"]
    publishing = publishers(pair, ("mover",))
    async with asyncio.TaskGroup() as tasks:
        wandering = tasks.create_task(pair.wander(listener, None if acks else start_id))
        await publish_all(pair, publishing)
    assert_exactly_once(wandering.result(), expected(publishing, listener))


async def test_an_auto_listener_moves_without_its_id(pair):
    """Once the cursor has moved, which takes a second or two, the other server goes on from there."""
    await pair.add_listener("mover")
    async with pair.reading(pair.a, "mover") as reader:
        ids = [await pair.publish(pair.b, number) for number in range(3)]
        await reader.until(3)
        async with asyncio.timeout(5):
            while await cursor(pair) != ids[-1]:
                await asyncio.sleep(0.05)
    async with pair.reading(pair.b, "mover") as reader:
        await pair.publish(pair.a, "next")
        assert await reader.until(1) == ['"next"']


async def cursor(pair: Pair) -> str:
    """Where the channel's only listener is, as b sees it."""
    (listener,) = (await pair.b.get(f"{pair.path}/listeners")).json()["listeners"]
    return listener["cursor"]


async def test_one_server_creates_a_channel(pair):
    """Asked at the same time, one answers that it did, and the other that it is there."""
    for number in range(20):
        body = {"id": f"{pair.channel}-{number}"}
        answers = await asyncio.gather(*(server.post("/channels", json=body) for server in (pair.a, pair.b)))
        assert sorted(answer.status_code for answer in answers) == [201, 409]
        created = next(answer.json() for answer in answers if answer.status_code == 201)
        for server in (pair.a, pair.b):
            assert (await server.get(f"/channels/{body['id']}")).json()["epoch"] == created["epoch"]


async def test_one_server_adds_a_listener(pair):
    """Asked at the same time, one answers that it did, and the other that it is there."""
    path = f"{pair.path}/listeners"
    for number in range(20):
        body = {"id": f"l{number}"}
        answers = await asyncio.gather(*(server.post(path, json=body) for server in (pair.a, pair.b)))
        assert sorted(answer.status_code for answer in answers) == [201, 409]
    for server in (pair.a, pair.b):
        found = (await server.get(path)).json()["listeners"]
        assert {listener["id"] for listener in found} == {f"l{number}" for number in range(20)}


def create_channels(store: str, number: int) -> None:
    """Create so many channels, straight on the store."""
    with open_engine(store) as engine, transaction(engine.storage):
        for n in range(number):
            engine.channels.persist(engine.channels.create({"channel_id": f"channel-{n}"}))


async def test_channels_are_loaded_on_demand(stores, engine_name, tmp_path):
    """On a store with 1,000 channels a server that serves a stream of one has read nothing of the others."""
    store, record = stores.fresh(engine_name), tmp_path / "record"
    await asyncio.to_thread(create_channels, store, 1_000)
    env = register_engine(tmp_path, "recording", "e2e.recording_engine:open_recording")
    async with Restartable(f"recording:{store}", env={**env, FILE: str(record)}) as server:
        follower = Follower(f"{server.url}/channels/channel-500/events")
        publisher = Publisher(server.url, "p", random.Random(1), channel="channel-500")
        async with asyncio.TaskGroup() as tasks:
            await start(tasks, [follower])
            await publisher.run(limit=1)
            await publish_end(server.url, "channel-500")
    assert follower.events
    assert set(re.findall(r"channel-\d+", record.read_text())) == {"channel-500"}
