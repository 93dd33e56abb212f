"""An HTTP server on a free port that answers each connection as a script says, faults and all."""

import asyncio
from contextlib import asynccontextmanager

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
HOLD = "say nothing until the client has gone"
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

    A script is bytes to send, HOLD or RESET, in order; then the connection is closed.

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
        self.url = ""

    @property
    def resumed_from(self):
        """The Last-Event-ID of each request, None where there was none."""
        return [request.get("last-event-id") for request in self.requests]

    async def handle(self, reader, writer):
        """Serve one connection."""
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
        self.requests.append({":path": lines[0].split(" ")[1], **headers})
        for step in self.scripts.pop(0) if self.scripts else [NO_CONTENT]:
            await self.perform(step, reader, writer)
        writer.close()

    async def perform(self, step, reader, writer):
        """Do one step of a script."""
        if step is RESET:
            writer.transport.abort()
        elif step is HOLD:
            self.holding.set()
            await reader.read()
            self.left.set()
        else:
            writer.write(step)
            await writer.drain()


@asynccontextmanager
async def serving(*scripts):
    """A running :class:`ScriptedServer`."""
    scripted = ScriptedServer(*scripts)
    server = await asyncio.start_server(scripted.handle, "127.0.0.1", 0)
    async with server:
        scripted.url = "http://127.0.0.1:%d/events" % server.sockets[0].getsockname()[1]
        yield scripted
