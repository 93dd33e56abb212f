"""An HTTP server on a free port that answers each connection as a script says, faults and all."""

import asyncio
from contextlib import asynccontextmanager, suppress

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
HOLD = "say nothing until the client has gone"
WAIT_LEFT = "wait until the client has gone from a connection that held"
RESET = "reset the connection"


def answer(status, body=b"", **headers):
    """A whole answer; header names are written with ``_`` for ``-``."""
    lines = [f"HTTP/1.1 {status} Because", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunk(data):
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class ScriptedServer:
    """Answers its n-th connection by its n-th script, and with 204 when there is none left.

    A script is bytes to send, HOLD, WAIT_LEFT or RESET, in order; then the connection is closed.

    Attributes:
        requests: What was asked, as dicts of headers with lower-case names; ``":path"`` is the path.
        holding: Set while a script holds.
        left: Set once the client has gone from a script that held.
    """

    def __init__(self, *scripts):
        self.scripts = list(scripts)
        self.requests = []
        self.holding = asyncio.Event()
        self.left = asyncio.Event()
        self.connections = []
        self.url = ""

    @property
    def resumed_from(self):
        """The Last-Event-ID of each request, None where there was none."""
        return [request.get("last-event-id") for request in self.requests]

    async def handle(self, reader, writer):
        """Serve one connection."""
        self.connections.append(asyncio.current_task())
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
        self.requests.append({":path": lines[0].split(" ")[1], **headers})
        for step in self.scripts.pop(0) if self.scripts else [NO_CONTENT]:
            await self.perform(step, reader, writer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async def perform(self, step, reader, writer):
        """Do one step of a script."""
        if step is RESET:
            writer.transport.abort()
        elif step is HOLD:
            self.holding.set()
            with suppress(OSError):
                await reader.read()
            self.left.set()
        elif step is WAIT_LEFT:
            await self.left.wait()
        else:
            writer.write(step)
            await writer.drain()


@asynccontextmanager
async def serving(*scripts):
    """A running :class:`ScriptedServer`, which fails the test if a connection is still open when it ends."""
    scripted = ScriptedServer(*scripts)
    async with await asyncio.start_server(scripted.handle, "127.0.0.1", 0) as server:
        scripted.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/events"
        yield scripted
        server.close()
        # Only what a client leaves open can keep one of these from ending.
        async with asyncio.timeout(5):
            await asyncio.gather(*scripted.connections)
