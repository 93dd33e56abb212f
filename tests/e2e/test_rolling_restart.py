"""Two servers that are restarted one after the other under load: nothing is lost, and nothing comes twice."""

import asyncio
import random
from contextlib import AsyncExitStack

import httpx2
import pytest

from support.balancer import Balancer
from support.load import (
    CHANNEL,
    Follower,
    Publisher,
    add_listener,
    assert_exactly_once,
    create_channel,
    expected,
    publish_end,
)
from support.restarts import Restartable

ROUNDS = 2
BETWEEN_S = 0.4
EVENTS = f"/channels/{CHANNEL}/events"
LISTENERS = f"/channels/{CHANNEL}/listeners"
BALANCED = {"auto": "auto", "explicit": "explicit"}
PINNED = ("at-a", "at-b")


class Crowd:
    """Publishers and followers: some at one server for good, some wherever the balancer sends them.

    Args:
        servers: The servers.
        balancer: In front of them.
    """

    def __init__(self, servers: list[Restartable], balancer: Balancer) -> None:
        receivers = (*BALANCED, *PINNED)
        urls = [*(server.url for server in servers), balancer.url, balancer.url]
        self.publishers = [Publisher(url, f"p{n}", random.Random(n), receivers) for n, url in enumerate(urls)]
        listeners = f"{balancer.url}{LISTENERS}"
        self.followers = [
            *(Follower(f"{url}{EVENTS}") for url in urls),
            Follower(f"{listeners}/auto/events", "auto"),
            Follower(f"{listeners}/explicit/events", "explicit", f"{listeners}/explicit/ack"),
            *(
                Follower(f"{server.url}{LISTENERS}/{listener}/events", listener)
                for server, listener in zip(servers, PINNED, strict=True)
            ),
        ]

    async def endure(self, servers: list[Restartable]) -> None:
        """Publish and follow while the servers are restarted in turn; return when everybody has read to the end."""
        async with asyncio.TaskGroup() as tasks:
            for follower in self.followers:
                tasks.create_task(follower.run())
            for follower in self.followers:
                await follower.is_listening()
            publishing = [tasks.create_task(publisher.run()) for publisher in self.publishers]
            await restart_in_turn(servers)
            for publisher in self.publishers:
                publisher.is_done = True
            await asyncio.wait(publishing)
            await publish_end(servers[0].url)


async def restart_in_turn(servers: list[Restartable]) -> None:
    """Stop and start the one, then the other; again and again."""
    for server in ROUNDS * servers:
        await asyncio.sleep(BETWEEN_S)  # of load with both
        assert (await server.stop()).status == 0
        await asyncio.sleep(BETWEEN_S)  # of load with the other alone
        await server.start()


@pytest.fixture
async def servers(stores, engine_name):
    """Two servers on one store, with a channel and its listeners."""
    store = stores.fresh(engine_name)
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(Restartable(store)) for _ in range(2)]
        async with httpx2.AsyncClient(base_url=servers[0].url) as http:
            await create_channel(http)
            for listener, ack in (*BALANCED.items(), *((listener, "auto") for listener in PINNED)):
                await add_listener(http, listener, ack)
        yield servers


async def test_a_rolling_restart_under_load_loses_and_repeats_nothing(servers):
    """Twice round: what was answered with 201 reaches everybody whom it is for, in order and once."""
    async with Balancer([server.server.port for server in servers]) as balancer:
        crowd = Crowd(servers, balancer)
        await crowd.endure(servers)
        assert all(balancer.served.values())
    for follower in crowd.followers:
        assert follower.source.reconnects > 0
        assert_exactly_once(follower.events, expected(crowd.publishers, follower.listener))
