"""A channel or listener that one server removes: its streams end at the others, and nobody brings it back."""

import asyncio
import json
import random

from eric_sse.clients import Gap
from support.load import assert_exactly_once, expected, offset, until
from support.pair import Pair
from support.streams import Reader

PROMPTLY_S = 2


async def assert_ends(reader: Reader, what: str) -> None:
    """Nothing more comes, soon, than word that the channel or listener is gone."""
    before = len(reader.events)
    async with asyncio.timeout(PROMPTLY_S):
        await reader.rest()
    (event,) = reader.events[before:]
    assert (event.type, json.loads(event.data)) == ("eric.closed", {"removed": what})


async def delete_channel(pair: Pair) -> None:
    """Delete the channel through a."""
    assert (await pair.a.delete(pair.path)).status_code == 204


async def remove_listener(pair: Pair, listener: str) -> None:
    """Remove a listener through a."""
    assert (await pair.a.delete(f"{pair.path}/listeners/{listener}")).status_code == 204


async def status_of_publishing(pair: Pair) -> int:
    """How b answers who publishes to the channel."""
    return (await pair.b.post(f"{pair.path}/messages", json={"payload": 1})).status_code


async def test_a_deleted_channels_streams_end_everywhere(pair):
    """Named and anonymous, quiet or with something received: they are told that the channel is gone."""
    await pair.add_listener("named")
    async with (
        pair.reading(pair.a) as here,
        pair.reading(pair.b) as there,
        pair.reading(pair.b, "named") as named,
    ):
        await pair.publish(pair.b, 1)
        await named.until(1)
        await asyncio.gather(here.until(1), there.until(1))
        await delete_channel(pair)
        await asyncio.gather(*(assert_ends(reader, "channel") for reader in (here, there, named)))


async def test_a_deleted_channel_is_gone_everywhere(pair):
    """Who publishes, reads or acknowledges at another server is told so at once, and changes nothing by it."""
    await pair.add_listener("named")
    last = await pair.publish(pair.b, 1)
    await delete_channel(pair)
    assert await status_of_publishing(pair) == 404
    assert (await pair.b.post(pair.ack("named"), json={"id": last})).status_code == 404
    for path in (pair.path, f"{pair.path}/listeners", pair.events(), pair.events("named")):
        assert (await pair.b.get(path)).status_code == 404
    assert (await pair.a.get(pair.path)).status_code == 404


async def test_a_busy_server_does_not_bring_a_channel_back(pair):
    """One that publishes, streams and moves cursors all the while stops; made anew, the channel is empty."""
    await pair.add_listener("named")
    async with pair.reading(pair.b, "named") as reader, asyncio.TaskGroup() as tasks:
        publishing = [tasks.create_task(publish_until_gone(pair)) for _ in range(4)]
        await reader.until(50)
        await delete_channel(pair)
        async with asyncio.timeout(PROMPTLY_S):
            assert (await reader.rest())[-1] == "eric.closed"
            await asyncio.wait(publishing)
    await pair.create()
    found = (await pair.b.get(pair.path)).json()
    assert (offset(found["last_id"]), found["oldest_id"], found["listeners"]) == (0, None, 0)


async def publish_until_gone(pair: Pair) -> None:
    """Publish through b until there is no channel."""
    while (status := await status_of_publishing(pair)) == 201:
        pass
    assert status == 404


async def test_a_server_that_has_not_heard_refuses(pair):
    """What it was asked to publish before the channel was deleted, it finds no channel for."""
    async with pair.reading(pair.b) as reader:
        with pair.b_stopped():
            publishing = asyncio.create_task(status_of_publishing(pair))
            await delete_channel(pair)
        assert await publishing == 404
        await assert_ends(reader, "channel")
    assert (await pair.a.get(pair.path)).status_code == 404


async def test_a_channel_made_anew_is_another(pair):
    """Streams of the old one end though its name is there again; who comes back with an id of it sees a gap."""
    async with pair.reading(pair.b) as reader:
        old_id = await pair.publish(pair.b, 1)
        await reader.until(1)
        with pair.b_stopped():
            await delete_channel(pair)
            await pair.create()
        await assert_ends(reader, "channel")
    async with pair.reading(pair.b, last_event_id=old_id) as reader:
        new_id = await pair.publish(pair.a, 2)
        await reader.until(2)
    assert Gap.of(reader.events[0]) == Gap("epoch", old_id)
    assert (reader.events[1].data, reader.events[1].id) == ("2", new_id)
    assert new_id.partition("-")[0] != old_id.partition("-")[0]


async def test_a_removed_listeners_streams_end_everywhere(pair):
    """Those of others, named and anonymous, go on."""
    for listener in ("gone", "stays"):
        await pair.add_listener(listener)
    async with (
        pair.reading(pair.a, "gone") as here,
        pair.reading(pair.b, "gone") as there,
        pair.reading(pair.b, "stays") as stays,
        pair.reading(pair.b) as anonymous,
    ):
        await remove_listener(pair, "gone")
        await asyncio.gather(assert_ends(here, "listener"), assert_ends(there, "listener"))
        await pair.publish(pair.a, "on")
        assert await stays.until(1) == await anonymous.until(1) == ['"on"']
    assert (await pair.b.get(pair.events("gone"))).status_code == 404
    assert (await pair.b.post(f"{pair.path}/messages", json={"payload": 1, "to": "gone"})).status_code == 404


async def test_a_listener_is_removed_while_its_channel_is_busy(pair):
    """Its stream at the other server ends; another's there holds everything."""
    for listener in ("gone", "stays"):
        await pair.add_listener(listener)
    gone, stays = (pair.follower(pair.b, listener) for listener in ("gone", "stays"))
    publisher = pair.publisher(pair.b, "p", random.Random(1), ("stays",))
    async with asyncio.TaskGroup() as tasks:
        ends, _ = [tasks.create_task(follower.run()) for follower in (gone, stays)]
        await asyncio.gather(gone.is_listening(), stays.is_listening())
        publishing = tasks.create_task(publisher.run())
        await until(lambda: len(gone.events) > 100)
        await remove_listener(pair, "gone")
        await asyncio.wait_for(ends, PROMPTLY_S)
        publisher.is_done = True
        await publishing
        await pair.publish_end(pair.a)
    assert gone.events[-1].type == "eric.closed"
    assert_exactly_once(stays.events, expected([publisher], "stays"))
