"""The unix-socket server: each verb, bad input, clients that hang up, shutdown, the socket's file."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
from contextlib import asynccontextmanager

import psutil
import pytest

from eric_sse.clients import SocketClient
from eric_sse.engines import open_engine
from eric_sse.exception import ChannelExists, ChannelNotFound, ConfigurationError, InvalidChannelException
from eric_sse.message import Message
from eric_sse.prefabs import SSEChannel
from eric_sse.servers import ChannelContainer, SocketServer
from eric_sse.wire.commands import parse_error


@asynccontextmanager
async def serving(path, *channels, **options):
    """A server on ``path`` that accepts connections."""
    container = ChannelContainer()
    container.register_iterable(channels)
    server = SocketServer(path, container, **options)
    running = asyncio.create_task(server.main())
    await asyncio.wait([running, starting := asyncio.create_task(server.started.wait())], return_when="FIRST_COMPLETED")
    if running.done():
        starting.cancel()
        running.result()
    try:
        yield server
    finally:
        await server.shutdown()
        await running


@pytest.fixture
def path(tmp_path):
    """Where the socket is made."""
    return tmp_path / "socket"


@pytest.fixture
async def server(path):
    """A server with one channel, ``c``."""
    async with serving(path, SSEChannel(channel_id="c")) as server:
        yield server


@pytest.fixture
def client(server, path):
    """Its client."""
    return SocketClient(path)


async def until(condition):
    """Wait until ``condition()`` holds: for what a peer's hanging up does there is nothing to await here."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def python(*arguments):
    """A Python process, killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def accepts(path):
    """Whether a server answers there."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


async def ask(path, data):
    """Send ``data`` as a command, and read the whole answer."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await writer.wait_closed()
    return answer


async def open_stream(path, **command):
    """Send a command and leave its answer to be read."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(json.dumps(command).encode())
    writer.write_eof()
    return reader, writer


# ChannelContainer


def test_a_container_finds_channels_by_their_ids():
    """Each id once."""
    container, channel = ChannelContainer(), SSEChannel(channel_id="c")
    container.register(channel)
    container.register(channel)
    assert container.get("c") is channel
    with pytest.raises(ChannelExists, match="'c'"):
        container.register(SSEChannel(channel_id="c"))
    container.rm("c")
    assert list(container.get_all_ids()) == []


def test_registering_many_leaves_those_that_are_there():
    """Of any iterable."""
    container, channel = ChannelContainer(), SSEChannel(channel_id="c")
    container.register(channel)
    container.register_iterable(SSEChannel(channel_id=channel_id) for channel_id in "bcd")
    assert list(container.get_all_ids()) == ["c", "b", "d"]
    assert container.get("c") is channel


@pytest.mark.parametrize("use", ["get", "rm"])
def test_an_unknown_channel_is_refused_by_name(use):
    """With an error that the seed's users catch."""
    with pytest.raises(ChannelNotFound, match="'nobody'") as caught:
        getattr(ChannelContainer(), use)("nobody")
    assert isinstance(caught.value, InvalidChannelException)


def test_servers_share_no_channels_unless_they_are_told_to(path):
    """Each has a container of its own, reachable as ``cc``."""
    container = ChannelContainer()
    assert SocketServer(path).cc is not SocketServer(path).cc
    assert SocketServer(path, container).cc is container


# Verbs


async def test_a_session_from_creating_a_channel_to_removing_it(client, server):
    """Every verb of the client, in the order in which they are used."""
    channel_id = await client.create_channel()
    listener_id = await client.register(channel_id)
    assert list(server.cc.get_all_ids()) == ["c", channel_id]
    assert await client.broadcast_message(channel_id, "news", {"a": "é"}) == "ack"
    assert await client.dispatch(channel_id, listener_id, "note", None) == "ack"
    stream = client.stream(channel_id, listener_id)
    assert [json.loads(await anext(stream)) for _ in range(2)] == [
        {"event": "news", "retry": 3000, "data": {"a": "é"}},
        {"event": "note", "retry": 3000, "data": None},
    ]
    assert await client.remove_listener(channel_id, listener_id) == "ack"
    assert [line async for line in stream] == []
    assert await client.remove_channel(channel_id) == "ack"
    assert list(server.cc.get_all_ids()) == ["c"]


async def test_watching_streams_what_comes_to_a_listener_of_its_own(client, server, path):
    """It exists only as long as the stream."""
    reader, writer = await open_stream(path, v="w", c="c")
    await until(lambda: server.cc.get("c").get_connections())
    await client.broadcast_message("c", "news", 1)
    assert json.loads(await reader.readline())["data"] == 1
    writer.close()
    await until(lambda: not server.cc.get("c").get_connections())


async def test_a_channel_may_be_created_under_a_name(path, server):
    """Once."""
    assert await ask(path, b'{"v":"c","c":"news"}') == b"news"
    assert parse_error(await ask(path, b'{"v":"c","c":"news"}')).error == "ChannelExists"
    assert parse_error(await ask(path, b'{"v":"c","c":".."}')).error == "InvalidChannelException"


async def test_removing_a_channel_ends_its_streams_and_no_others(client, server, path):
    """Nobody could send to them any more."""
    server.cc.register(SSEChannel(channel_id="d"))
    readers = [await open_stream(path, v="w", c=channel_id) for channel_id in "cd"]
    await until(lambda: all(server.cc.get(channel_id).get_connections() for channel_id in "cd"))
    assert await client.remove_channel("c") == "ack"
    assert await asyncio.wait_for(readers[0][0].read(), 5) == b""
    await client.broadcast_message("d", "news", 1)
    assert await readers[1][0].readline()
    for _, writer in readers:
        writer.close()


async def test_a_durable_channel_is_served_like_any_other(path):
    """Its events carry their ids."""
    with open_engine("memory://") as engine:
        channel = engine.channels.create({"channel_id": "c"})
        listener = channel.add_listener()
        engine.channels.persist(channel)
        async with serving(path, channel):
            client = SocketClient(path)
            assert await client.dispatch("c", listener.id, "news", 1) == "ack"
            stream = client.stream("c", listener.id)
            assert json.loads(await anext(stream))["id"].endswith("-1")
            await stream.aclose()


# Bad input


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (b"", "InvalidMessageFormat"),
        (b"not JSON", "InvalidMessageFormat"),
        (b"[]", "InvalidMessageFormat"),
        (b'{"v":"x"}', "InvalidMessageFormat"),
        (b'{"v":"d","c":"c","r":"l"}', "InvalidMessageFormat"),
        (b'{"v":"b","c":"c","t":"eric.gap"}', "InvalidMessageFormat"),
        (b'{"v":"b","c":"c","t":""}', "InvalidMessageFormat"),
        (b'{"v":"b","c":"nobody","t":"a"}', "ChannelNotFound"),
        (b'{"v":"r","c":"nobody"}', "ChannelNotFound"),
        (b'{"v":"w","c":"nobody"}', "ChannelNotFound"),
        (b'{"v":"rc","c":"nobody"}', "ChannelNotFound"),
        (b'{"v":"l","c":"c","r":"nobody"}', "ListenerNotFound"),
        (b'{"v":"rl","c":"c","r":"nobody"}', "ListenerNotFound"),
        (b'{"v":"d","c":"c","t":"a","r":"nobody"}', "ListenerNotFound"),
    ],
)
async def test_a_bad_command_is_answered_with_an_error_and_the_server_lives_on(path, server, command, error):
    """The error is told from data by how its line begins."""
    answer = parse_error(await ask(path, command))
    assert answer.error == error
    assert answer.detail
    assert await ask(path, b'{"v":"b","c":"c","t":"a"}') == b"ack"


async def test_a_command_may_be_as_large_as_the_bound_and_no_larger(path):
    """One that is larger is read to its end, so that its sender gets the answer."""
    async with serving(path, SSEChannel(channel_id="c"), max_command_bytes=1_000_000):
        fitting = b'{"v":"b","c":"c","t":"a"}'.ljust(1_000_000)
        assert await ask(path, fitting) == b"ack"
        assert "1000000 bytes" in parse_error(await ask(path, fitting + b" ")).detail
        assert "1000000 bytes" in parse_error(await ask(path, fitting * 5)).detail


async def test_a_message_that_json_cannot_hold_ends_a_stream_with_an_error(client, server):
    """The program that serves the channel sent it; what comes after is there for the next stream."""
    channel = server.cc.get("c")
    listener = channel.add_listener()
    channel.broadcast(Message("bad", object()))
    channel.broadcast(Message("good", 1))
    lines = [line async for line in client.stream("c", listener.id)]
    assert [parse_error(line.encode()).error for line in lines] == ["InvalidMessageFormat"]
    stream = client.stream("c", listener.id)
    assert json.loads(await anext(stream))["data"] == 1
    await stream.aclose()


async def test_an_error_that_nobody_foresaw_is_answered_and_logged(path, server, caplog):
    """A channel of the program's own may raise anything."""
    server.cc.get("c").broadcast = lambda message: 1 / 0
    assert parse_error(await ask(path, b'{"v":"b","c":"c","t":"a"}')).error == "ZeroDivisionError"
    assert "a command failed" in caplog.text


# Clients that hang up


async def test_a_client_that_hangs_up_ends_its_idle_stream(server, path):
    """At once, without anything being sent; the listener stays, with what comes later."""
    listener = server.cc.get("c").add_listener()
    _, writer = await open_stream(path, v="l", c="c", r=listener.id)
    await until(lambda: server._streams)
    writer.close()
    await until(lambda: not server._connections)
    server.cc.get("c").broadcast(Message("later", 1))
    assert server.cc.get("c").deliver_next(listener.id).payload == 1


async def test_a_client_that_is_killed_ends_its_stream(server, path):
    """A process that dies says no goodbye."""
    script = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        's.sendall(b\'{"v":"w","c":"c"}\'); s.shutdown(socket.SHUT_WR); s.recv(1)'
    )
    async with python("-c", script, str(path)) as process:
        await until(lambda: server._streams)
        process.kill()
        await until(lambda: not server.cc.get("c").get_connections())


async def test_many_clients_come_and_go_and_leave_nothing(server, path):
    """No connection, stream, listener or open file is left of them."""
    before = psutil.Process().num_fds()
    for _ in range(20):
        streams = [await open_stream(path, v="w", c="c") for _ in range(5)]
        await until(lambda: len(server._streams) == 5)
        for _, writer in streams:
            writer.close()
        await until(lambda: not server._connections)
    assert not server.cc.get("c").get_connections()
    assert psutil.Process().num_fds() <= before


async def test_a_client_that_reads_nothing_blocks_nobody_else(client, server, path):
    """Its stream waits; other commands are answered."""
    _, writer = await open_stream(path, v="w", c="c")
    await until(lambda: server._streams)
    for _ in range(50):
        await client.broadcast_message("c", "big", "x" * 100_000)
    assert await client.broadcast_message("c", "news", 1) == "ack"
    writer.close()


# Starting and shutting down


async def test_shutting_down_ends_streams_at_once_and_removes_the_socket(path):
    """Also of a client that reads nothing; and of one that has sent only half of a command."""
    async with serving(path, SSEChannel(channel_id="c")) as server:
        writers = [(await open_stream(path, v="w", c="c"))[1] for _ in range(2)]
        writers.append((await asyncio.open_unix_connection(path))[1])
        writers[-1].write(b'{"v":')
        await until(lambda: len(server._streams) == 2 and len(server._connections) == 3)
        server.cc.get("c").broadcast(Message("big", "x" * 10_000_000))
        async with asyncio.timeout(1):
            await server.shutdown()
        assert not path.exists()
        assert not server.cc.get("c").get_connections()
        assert not server._connections
        for writer in writers:
            writer.close()


async def test_shutting_down_lets_a_command_in_progress_finish(path):
    """What is being stored is acknowledged."""
    channel, begun, go_on = SSEChannel(channel_id="c"), asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    channel.broadcast = lambda message: (loop.call_soon_threadsafe(begun.set), go_on.wait(5))
    async with serving(path, channel) as server:
        asking = asyncio.create_task(ask(path, b'{"v":"b","c":"c","t":"a"}'))
        await begun.wait()
        stopping = asyncio.create_task(server.shutdown())
        await asyncio.sleep(0)
        go_on.set()
        assert await asking == b"ack"
        await stopping


async def test_shutting_down_twice_or_before_starting_does_nothing(path):
    """A server may be started again afterwards."""
    server = SocketServer(path)
    await server.shutdown()
    for _ in range(2):
        running = asyncio.create_task(server.main())
        await server.started.wait()
        await server.shutdown()
        await server.shutdown()
        await running


async def test_a_live_servers_socket_is_not_taken(path, server):
    """The second server says so, and the first goes on."""
    with pytest.raises(ConfigurationError, match="a server listens there"):
        await SocketServer(path).main()
    with pytest.raises(ConfigurationError, match="runs already"):
        await server.main()
    assert await ask(path, b'{"v":"b","c":"c","t":"a"}') == b"ack"


async def test_a_dead_servers_socket_is_replaced(path):
    """The file of a server that was killed is no obstacle."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    async with serving(path, SSEChannel(channel_id="c")):
        assert await ask(path, b'{"v":"b","c":"c","t":"a"}') == b"ack"


async def test_a_path_that_is_no_place_for_a_socket_is_refused(tmp_path):
    """Another kind of file, which is left alone; a folder that is not there; a path that is too long."""
    file = tmp_path / "file"
    file.write_text("precious")
    for path in (file, tmp_path, tmp_path / "none" / "socket", tmp_path / ("x" * 120)):
        with pytest.raises(ConfigurationError, match="choose another path"):
            await SocketServer(path).main()
    assert file.read_text() == "precious"


async def test_a_socket_that_took_the_servers_place_is_left(path):
    """A server removes its own file, not another's."""
    async with serving(path):
        path.unlink()
        path.write_text("precious")
    assert path.read_text() == "precious"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_started_server_ends_cleanly_on_a_signal(path, number):
    """``SocketServer.start`` runs until then, also with an open stream, and exits with 0."""
    script = "import sys; from eric_sse.servers import SocketServer; SocketServer.start(sys.argv[1])"
    async with python("-W", "error", "-c", script, str(path)) as process:
        await until(lambda: accepts(path))
        channel_id = (await ask(path, b'{"v":"c"}')).decode()
        reader, writer = await open_stream(path, v="w", c=channel_id)
        assert await ask(path, json.dumps({"v": "b", "c": channel_id, "t": "a"}).encode()) == b"ack"
        process.send_signal(number)
        _, errors = await asyncio.wait_for(process.communicate(), 5)
        writer.close()
    assert (process.returncode, errors, path.exists()) == (0, b"", False)
    del reader
