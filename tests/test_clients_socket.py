"""The client of the unix-socket server, against servers that answer by script."""

import asyncio
import json
from contextlib import aclosing, asynccontextmanager

import pytest

from eric_sse.clients import SocketClient
from eric_sse.exception import InvalidMessageFormat


class Peer:
    """A server that answers every command alike, and says when its clients have gone."""

    def __init__(self, reply, *, hold):
        self.reply = reply
        self.hold = hold
        self.commands = []
        self.got_command = asyncio.Event()
        self.left = asyncio.Event()

    async def handle(self, reader, writer):
        """Serve one connection: the command ends with the client's EOF, the answer with ours."""
        self.commands.append(json.loads(await reader.read()))
        self.got_command.set()
        writer.write(self.reply)
        while self.hold and not writer.transport.is_closing():
            writer.write(b"\n")  # a write is what notices, on a socket whose other half was closed long ago
            await asyncio.sleep(0.01)
        writer.close()
        self.left.set()


@asynccontextmanager
async def serving(tmp_path, reply, *, hold=False):
    """A running peer, and a client of it."""
    peer, path = Peer(reply, hold=hold), tmp_path / "s"
    async with await asyncio.start_unix_server(peer.handle, path):
        yield SocketClient(str(path)), peer
        if peer.commands:
            await asyncio.wait_for(peer.left.wait(), 5)


@pytest.mark.parametrize(
    ("method", "arguments", "command"),
    [
        ("create_channel", (), {"v": "c"}),
        ("register", ("ch",), {"v": "r", "c": "ch"}),
        ("broadcast_message", ("ch", "t", {"a": 1}), {"v": "b", "c": "ch", "t": "t", "p": {"a": 1}}),
        ("dispatch", ("ch", "li", "t", None), {"v": "d", "c": "ch", "r": "li", "t": "t", "p": None}),
        ("remove_listener", ("ch", "li"), {"v": "rl", "c": "ch", "r": "li"}),
        ("remove_channel", ("ch",), {"v": "rc", "c": "ch"}),
        ("send_payload", ({"v": "é"},), {"v": "é"}),
    ],
)
async def test_a_command(tmp_path, method, arguments, command):
    """Each method sends its verb and what it was given, and returns the answer."""
    async with serving(tmp_path, "ack é".encode()) as (client, peer):
        assert await getattr(client, method)(*arguments) == "ack é"
    assert peer.commands == [command]


async def test_a_stream(tmp_path):
    """A stream yields its lines, also long ones, and nothing for its end."""
    lines = [json.dumps({"data": "x" * 200_000}) + "\n", '{"data": 2}\n']
    async with serving(tmp_path, "".join(lines).encode()) as (client, peer):
        assert [line async for line in client.stream("ch", "li")] == lines
    assert peer.commands == [{"v": "l", "c": "ch", "r": "li"}]


async def test_an_empty_stream(tmp_path):
    """A stream that ends at once yields nothing."""
    async with serving(tmp_path, b"") as (client, _):
        assert [line async for line in client.stream("ch", "li")] == []


async def test_a_closed_stream_closes_its_connection(tmp_path):
    """Leaving a stream early closes its connection."""
    async with serving(tmp_path, b"{}\n", hold=True) as (client, peer):
        async with aclosing(client.stream("ch", "li")) as lines:
            assert await anext(lines) == "{}\n"
        await asyncio.wait_for(peer.left.wait(), 5)


async def test_an_abandoned_stream_closes_its_connection(tmp_path):
    """Leaving the loop and forgetting the generator closes the connection as well."""
    async with serving(tmp_path, b"{}\n", hold=True) as (client, peer):
        async for _ in client.stream("ch", "li"):
            break
        await asyncio.wait_for(peer.left.wait(), 5)


async def test_a_cancelled_command_closes_its_connection(tmp_path):
    """A command whose answer does not come can be cancelled and leaves nothing open."""
    async with serving(tmp_path, b"", hold=True) as (client, peer):
        task = asyncio.create_task(client.create_channel())
        await peer.got_command.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(peer.left.wait(), 5)


@pytest.mark.parametrize("payload", [float("nan"), object(), {1, 2}])
async def test_a_payload_that_json_cannot_hold(tmp_path, payload):
    """What cannot be sent is refused before a connection is made."""
    async with serving(tmp_path, b"ack") as (client, peer):
        with pytest.raises(InvalidMessageFormat, match="JSON cannot hold"):
            await client.broadcast_message("ch", "t", payload)
    assert peer.commands == []


async def test_a_payload_that_contains_itself(tmp_path):
    """A cycle is refused like everything else that JSON cannot hold."""
    cycle = []
    cycle.append(cycle)
    with pytest.raises(InvalidMessageFormat):
        await SocketClient(tmp_path / "s").broadcast_message("ch", "t", cycle)


async def test_no_server(tmp_path):
    """An absent server is an error of the operating system's, with the path in it."""
    with pytest.raises(FileNotFoundError):
        await SocketClient(tmp_path / "s").create_channel()
