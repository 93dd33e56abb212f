"""What a server under load makes of faults: its own end, its store's end, a store that hangs, connections cut.

Each fault leaves the promises whole: what was answered with 201 is delivered, in order, and none of it twice.
"""

import asyncio
import os
import random
import time

import pytest

from support.faults import STORES, StartedStores, Store, channel_key, crowded_server

SEED = int(os.environ.get("ERIC_SSE_TEST_SEED", random.SystemRandom().randrange(2**32)))
HANGS_S = 10
CUTS = 3

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
async def test_the_store_is_killed(store: Store, chance, rounds):
    """While it is away publishing is refused, and streams stay open; started again, all goes on by itself."""
    url = store.fresh_url()
    async with crowded_server(url, chance) as (_, crowd):
        for _ in range(rounds):
            await crowd.works(chance)
            since = time.monotonic()
            await asyncio.to_thread(store.server.kill)
            await crowd.finds_the_store_away(since)
            await asyncio.to_thread(store.server.restart)
            await crowd.recovers(f"{store.name}, store killed", time.monotonic())
    crowd.check(url)


@pytest.mark.parametrize("rounds", [1, many_rounds])
async def test_the_store_hangs(stores, chance, rounds):
    """For ten seconds it answers nothing: publishing is refused within six, and all goes on when it does.

    All engines at the same time, for it takes so long.
    """
    async with asyncio.TaskGroup() as tasks:
        for name in STORES:
            tasks.create_task(hang(stores[name], random.Random(chance.random()), rounds))


async def hang(store: Store, chance: random.Random, rounds: int) -> None:
    """One of them hangs."""
    url = store.fresh_url()
    async with crowded_server(url, chance) as (_, crowd):
        for _ in range(rounds):
            await crowd.works(chance)
            since = time.monotonic()
            store.server.freeze()
            try:
                await crowd.finds_the_store_away(since)
                await asyncio.sleep(since + HANGS_S - time.monotonic())
            finally:
                store.server.resume()
            await crowd.recovers(f"{store.name}, store stopped for {HANGS_S} s", time.monotonic())
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
            await crowd.newcomer()
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
            master = await asyncio.to_thread(store.server.master_of, channel_key(url))
            await asyncio.to_thread(master.kill)
            await crowd.newcomer()
            await asyncio.to_thread(store.server.wait_until_well)
            answers = time.monotonic()
            assert await asyncio.to_thread(store.server.master_of, channel_key(url)) is not master
            # wait=1 asks for a replica; the new master has one when the old one is back.
            await asyncio.to_thread(master.start)
            await crowd.recovers(f"{store.name}, a master killed", answers)
    crowd.check(url)
