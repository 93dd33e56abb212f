"""SIGKILL at random moments under load: what was answered with 201 is delivered, in order, and none of it twice."""

import asyncio
import os
import random

import httpx2
import pytest

from eric_sse.engines import open_engine
from eric_sse.log import View
from support.load import (
    CHANNEL,
    END,
    Follower,
    ForgetfulFollower,
    Publisher,
    add_listener,
    assert_exactly_once,
    create_channel,
    expected,
)
from support.restarts import Restartable

pytestmark = pytest.mark.usefixtures("stream_path")

KILLS = 5
SEED = int(os.environ.get("ERIC_SSE_TEST_SEED", random.SystemRandom().randrange(2**32)))
LISTENERS = {"auto": "auto", "explicit": "explicit", "forgetful": "explicit"}
PATH = f"/channels/{CHANNEL}"


class Battle:
    """Publishers and followers at a server that is killed again and again."""

    def __init__(self, url: str, chance: random.Random) -> None:
        def seeded() -> random.Random:
            return random.Random(chance.random())

        self.publishers = [Publisher(url, f"p{number}", seeded(), tuple(LISTENERS)) for number in range(4)]
        listeners = f"{url}{PATH}/listeners"
        self.forgetful = ForgetfulFollower(f"{listeners}/forgetful/events", f"{listeners}/forgetful/ack", seeded())
        self.followers = [
            Follower(f"{listeners}/auto/events", "auto"),
            Follower(f"{listeners}/explicit/events", "explicit", f"{listeners}/explicit/ack"),
            *(Follower(f"{url}{PATH}/events") for _ in range(2)),
        ]

    async def fight(self, server: Restartable, chance: random.Random) -> None:
        """Publish and follow while the server is killed; return when everybody has read to the end."""
        async with asyncio.TaskGroup() as tasks:
            for follower in [*self.followers, self.forgetful]:
                tasks.create_task(follower.run())
            for follower in self.followers:
                await follower.is_listening()
            publishing = [tasks.create_task(publisher.run()) for publisher in self.publishers]
            for _ in range(KILLS):
                await asyncio.sleep(chance.uniform(0, 0.5))
                await server.kill()
                await server.start()
            for publisher in self.publishers:
                publisher.is_done = True
            await asyncio.wait(publishing)
            await publish_end(server.url)


async def publish_end(url: str) -> None:
    """Publish what followers end at."""
    async with httpx2.AsyncClient(base_url=url) as http:
        (await http.post(f"{PATH}/messages", json={"type": END, "payload": None})).raise_for_status()


async def fight(store: str, seed: int) -> Battle:
    """A whole battle on a new store, checked."""
    print(f"to repeat its choices: ERIC_SSE_TEST_SEED={seed}")
    chance = random.Random(seed)
    async with Restartable(store) as server:
        async with httpx2.AsyncClient(base_url=server.url) as http:
            await create_channel(http)
            for listener, ack in LISTENERS.items():
                await add_listener(http, listener, ack)
        battle = Battle(server.url, chance)
        await battle.fight(server, chance)
        await repeat_some(battle, server.url, chance)
    return battle


async def repeat_some(battle: Battle, url: str, chance: random.Random) -> None:
    """Send again what was answered: the answer is the same."""
    for publisher in battle.publishers:
        async with httpx2.AsyncClient(base_url=url) as publisher.http:
            for messages, ids in chance.sample(publisher.requests, min(20, len(publisher.requests))):
                assert await publisher.publish(messages) == ids


def assert_nothing_lost_or_repeated(battle: Battle, store: str) -> None:
    """The promises, of each follower and of the store."""
    assert sum(publisher.failures for publisher in battle.publishers) > 0, "no publish met a dead server"
    for follower in battle.followers:
        assert follower.source.reconnects > 0
        assert_exactly_once(follower.events, expected(battle.publishers, follower.listener))
    assert_at_least_once(battle)
    rows = sum(len(publisher.stored) for publisher in battle.publishers) + 1
    with open_engine(store) as engine:
        assert engine.log.count(CHANNEL, 0, View.EVERYTHING, cap=2 * rows) == rows


def assert_at_least_once(battle: Battle) -> None:
    """Who returns without an id is sent everything from its cursor on, in order, on each stream."""
    wanted = list(expected(battle.publishers, "forgetful"))
    for cursors, events in battle.forgetful.streams:
        if events:
            first = wanted.index(events[0].id)
            assert ["", *wanted][first] in cursors
            assert [event.id for event in events] == wanted[first : first + len(events)]
    assert {event.id for _, events in battle.forgetful.streams for event in events} == set(wanted)


async def test_kills_under_load_lose_and_repeat_nothing(tmp_path):
    """Five kills: everything that was answered with 201 arrives once and in order; repeated ids are stored once."""
    store = f"sqlite:///{tmp_path}/events.db"
    assert_nothing_lost_or_repeated(await fight(store, SEED), store)


@pytest.mark.soak
@pytest.mark.parametrize("battle", range(40))
async def test_two_hundred_kills_lose_and_repeat_nothing(tmp_path, battle):
    """The same, forty times over."""
    store = f"sqlite:///{tmp_path}/events.db"
    assert_nothing_lost_or_repeated(await fight(store, SEED + battle), store)
