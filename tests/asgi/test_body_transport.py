"""The body of an ASGI response as a transport."""

import asyncio

import pytest

from eric_sse.asgi.body_transport import BodyTransport


class Writer(asyncio.Protocol):
    """A protocol that notes what it is told."""

    def __init__(self):
        self.told = []

    def connection_made(self, transport):
        self.transport = transport

    def pause_writing(self):
        self.told.append("pause")

    def resume_writing(self):
        self.told.append("resume")

    def eof_received(self):
        self.told.append("eof")
        self.transport.close()

    def connection_lost(self, exc):
        self.told.append("lost")


class Carried:
    """A transport at work, and what the server was sent; its peer takes something unless it is stalled."""

    def __init__(self):
        self.sent = []
        self.takes = asyncio.Event()
        self.takes.set()
        self.error = None
        self.writer = Writer()
        self.transport = BodyTransport(self.writer, self._send)
        self.task = asyncio.create_task(self.transport.carry())

    async def _send(self, message):
        await self.takes.wait()
        if self.error is not None:
            raise self.error
        self.sent.append(message["body"] if message.get("more_body") else "end")


@pytest.fixture
async def carried():
    """A transport whose protocol is connected."""
    carried = Carried()
    await asyncio.sleep(0)
    yield carried
    carried.transport.abort()
    await asyncio.wait([carried.task], timeout=5)


async def settle():
    """Let the transport do what there is to do."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_gathers_leaves_together(carried):
    """What is written in one turn of the loop is one body event; nothing is sent for nothing."""
    carried.transport.write(b"a")
    carried.transport.write(b"")
    carried.transport.write(b"b")
    await settle()
    carried.transport.write(b"c")
    await settle()
    assert (carried.sent, carried.transport.get_write_buffer_size()) == ([b"ab", b"c"], 0)


async def test_closing_sends_what_was_written(carried):
    """The response ends after it, and the protocol hears it once."""
    carried.transport.write(b"a")
    carried.transport.close()
    await carried.task
    assert (carried.sent, carried.writer.told) == ([b"a", "end"], ["lost"])
    assert carried.transport.is_closing()


async def test_a_lot_at_once_pauses(carried):
    """With more than it wants to hold, it says so, and again when it is sent."""
    carried.transport.write(b"x" * 5000)
    carried.transport.write(b"y")
    assert carried.writer.told == ["pause"]
    await settle()
    assert (carried.sent, carried.writer.told) == ([b"x" * 5000 + b"y"], ["pause", "resume"])


async def test_a_server_that_takes_its_time_pauses(carried):
    """While the server has not taken what it was sent, the next little thing is enough."""
    carried.takes.clear()
    carried.transport.write(b"a")
    await settle()
    assert carried.writer.told == []
    carried.transport.write(b"b")
    assert (carried.writer.told, carried.transport.get_write_buffer_size()) == (["pause"], 2)
    carried.takes.set()
    await settle()
    assert (carried.sent, carried.writer.told) == ([b"a", b"b"], ["pause", "resume"])


async def test_aborting_leaves_the_response_incomplete(carried):
    """Whatever the server is doing; the protocol hears it."""
    carried.takes.clear()
    carried.transport.write(b"a")
    await settle()
    carried.transport.abort()
    await asyncio.wait([carried.task], timeout=5)
    assert carried.task.cancelled()
    assert (carried.sent, carried.writer.told) == ([], ["lost"])


@pytest.mark.parametrize(("is_sent", "told"), [(True, ["eof", "lost"]), (False, ["lost"])])
async def test_a_peer_that_leaves(carried, is_sent, told):
    """With all sent, the protocol may count it as received; else nobody knows what the peer has."""
    carried.takes.set() if is_sent else carried.takes.clear()
    carried.transport.write(b"a")
    await settle()
    carried.transport.disconnect()
    await asyncio.wait([carried.task], timeout=5)
    assert carried.writer.told == told


@pytest.mark.parametrize("error", [ConnectionResetError(), RuntimeError("the handler is closed")])
async def test_a_server_that_says_that_the_peer_is_gone(carried, error):
    """It is no error of the application's."""
    carried.error = error
    carried.transport.write(b"a")
    await carried.task
    assert (carried.sent, carried.writer.told) == ([], ["lost"])


async def test_gone_before_it_began():
    """A response that is given up before it is carried harms nothing."""
    carried = Carried()
    carried.transport.disconnect()
    await asyncio.wait([carried.task], timeout=5)
    assert (carried.sent, carried.writer.told) == (["end"], ["lost"])
