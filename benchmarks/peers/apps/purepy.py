"""The least that an SSE server in pure Python can do: a protocol that writes encoded bytes straight to the transports.

A yardstick and no server: no routing, no back-pressure, no limits. ``python purepy.py PORT``; GET /events, POST /pub.
"""

import argparse
import asyncio
import gc

import uvloop

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


class Hub:
    """Who is subscribed, and what has been published."""

    def __init__(self) -> None:
        self.transports: set[asyncio.Transport] = set()
        self._published = 0

    def publish(self, message: bytes) -> None:
        """Write one event to everybody, each with a call of its own."""
        event = b"id: %07d\ndata: %b\n\n" % (self._published, message)
        self._published += 1
        for transport in self.transports:
            transport.write(event)


class Connection(asyncio.Protocol):
    """Takes requests, one after the other."""

    __slots__ = ("_hub", "_received", "_transport")
    _transport: asyncio.Transport

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport, which is written to without asking."""
        self._transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - how it is called
        """It is written to no more."""
        self._hub.transports.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        """Answer whatever is complete."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            length = head.lower().find(b"\r\ncontent-length:")
            body_end = end + 4 + (int(head[length + 17 :].split(b"\r\n", 1)[0]) if length >= 0 else 0)
            if len(self._received) < body_end:
                return
            body, self._received = self._received[end + 4 : body_end], self._received[body_end:]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"POST /pub"):
            self._hub.publish(body)
            self._transport.write(NO_CONTENT)
        elif head.startswith(b"GET /events"):
            self._transport.write(STREAM)
            self._hub.transports.add(self._transport)
        else:
            self._transport.write(NOT_FOUND)


async def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    hub = Hub()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(hub), "127.0.0.1", parser.parse_args().port, backlog=4096)
    gc.freeze()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
