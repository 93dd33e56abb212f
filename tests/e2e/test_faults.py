"""What a server under load makes of faults: its own end, its store's end, a store that hangs, connections cut.

Each fault leaves the promises whole: what was answered with 201 is delivered, in order, and none of it twice.
"""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from support.faults import crowded_server
from support.killable_stores import STORES, StartedStores, Store, channel_key
from support.load import CHANNEL

SEED = int(os.environ.get("ERIC_SSE_TEST_SEED", random.SystemRandom().randrange(2**32)))
HANGS_S = 10
CUTS = 3

Fault = Callable[[Store, random.Random, int], Awaitable[None]]
"""What happens to a store, in so many rounds."""

many_rounds = pytest.param(20, marks=pytest.mark.soak)


@pytest.fixture(scope="module")
def stores():
    """The servers behind each engine that has some, started when they are first asked for; private to this module."""
    with StartedStores() as stores:
        yield stores


@pytest.fixture(params=STORES)
def store(stores, request):
    """One of them."""
    return stores[request.param]


@pytest.fixture
def chance():
    """Decides; the seed of what it decided is printed."""
    print(f"to repeat its choices: ERIC_SSE_TEST_SEED={SEED}")
    return random.Random(SEED)


@asynccontextmanager
async def in_between(bring_down: Callable[[], None], bring_back: Callable[[], None]) -> AsyncIterator[None]:
    """Inside the block something is down; afterwards it is back, for other tests too."""
    await asyncio.to_thread(bring_down)
    try:
        yield
    finally:
        await asyncio.to_thread(bring_back)


@pytest.mark.parametrize("rounds", [2, many_rounds])
async def test_our_server_is_killed(store: Store, chance, rounds):
    """Started again, it serves soon, and everybody goes on where they were."""
    url = store.fresh_url()
    async with crowded_server(url, chance) as (server, crowd):
        for _ in range(rounds):
            await crowd.works(chance)
            await server.kill()
            await server.start()
            await crowd.recovers(f"{store.name}, our server killed", time.monotonic())
    crowd.check(url, server_fell=True)


@pytest.mark.parametrize("rounds", [2, many_rounds])
async def test_the_store_is_killed(stores, chance, rounds):
    """While it is away publishing is refused, and streams stay open; started again, all goes on by itself."""
    await at_all(stores, is_killed, chance, rounds)


@pytest.mark.parametrize("rounds", [1, many_rounds])
async def test_the_store_hangs(stores, chance, rounds):
    """For ten seconds it answers nothing: publishing is refused within six, and all goes on when it does.

    Once only, outside of the long tests, for it takes so long.
    """
    await at_all(stores, hangs, chance, rounds)


async def at_all(stores: StartedStores, fault: Fault, chance: random.Random, rounds: int) -> None:
    """Have all of them meet with a fault, at the same time, for there is much waiting in it."""

    async def at(name: str) -> None:
        try:
            await fault(stores[name], random.Random(chance.random()), rounds)
        except BaseException as error:
            error.add_note(f"the store was {name}")
            raise

    async with asyncio.TaskGroup() as tasks:
        for name in STORES:
            tasks.create_task(at(name))


async def is_killed(store: Store, chance: random.Random, rounds: int) -> None:
    """A store is killed and started again, a few times."""
    url = store.fresh_url()
    async with crowded_server(url, chance) as (_, crowd):
        for _ in range(rounds):
            await crowd.works(chance)
            since = time.monotonic()
            async with in_between(store.server.kill, store.server.restart):
                await crowd.finds_the_store_away(since)
            await crowd.recovers(f"{store.name}, store killed", time.monotonic())
    crowd.check(url)


async def hangs(store: Store, chance: random.Random, rounds: int) -> None:
    """A store is stopped and goes on, a few times."""
    url = store.fresh_url()
    async with crowded_server(url, chance) as (_, crowd):
        for _ in range(rounds):
            await crowd.works(chance)
            since = time.monotonic()
            async with in_between(store.server.freeze, store.server.resume):
                await crowd.finds_the_store_away(since)
                await asyncio.sleep(since + HANGS_S - time.monotonic())
            await crowd.recovers(f"{store.name}, store stopped for {HANGS_S} s", time.monotonic())
            # In a cluster a replica may think that its master is gone, and take over a little later.
            await crowd.works(chance)
    crowd.check(url)


@pytest.mark.parametrize("rounds", [2, many_rounds])
async def test_connections_are_cut(store: Store, chance, rounds):
    """The store kills all connections, again and again: nobody notices more than a pause."""
    url = store.fresh_url()
    async with crowded_server(url, chance) as (_, crowd):
        for _ in range(rounds):
            for _ in range(CUTS):
                await crowd.works(chance)
                assert await asyncio.to_thread(store.server.cut) > 0
            back = time.monotonic()
            await crowd.receives_newcomers()
            await crowd.recovers(f"{store.name}, connections killed", back)
    crowd.check(url)


@pytest.mark.parametrize("store", ["redis cluster"], indirect=True)
@pytest.mark.parametrize("rounds", [2, many_rounds])
async def test_a_master_is_lost(store: Store, chance, rounds):
    """Its replica takes over, with all that was acknowledged; it comes back as the other's replica."""
    url = store.fresh_url()
    async with crowded_server(url, chance) as (_, crowd):
        for _ in range(rounds):
            await crowd.works(chance)
            master = await asyncio.to_thread(store.server.master_of, channel_key(url, CHANNEL))
            # wait=1 asks for a replica; the new master has one when the old one is back.
            async with in_between(master.kill, master.start):
                await crowd.receives_newcomers()
                await asyncio.to_thread(store.server.wait_until_well)
                answers = time.monotonic()
                assert await asyncio.to_thread(store.server.master_of, channel_key(url, CHANNEL)) is not master
            await crowd.recovers(f"{store.name}, a master killed", answers)
    crowd.check(url)
