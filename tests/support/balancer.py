"""A load balancer for TCP connections, so that our real client, which knows one URL, is served by several servers."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from types import TracebackType
from typing import Self

_CHUNK_BYTES = 64 * 1024


class Balancer:
    """Connects each client to one of several servers, the next that accepts in turn. An async context manager.

    Args:
        ports: The servers' ports, on loopback.

    Attributes:
        url: Where clients find it.
        served: How many connections each port was given.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self.url = ""
        self.served = dict.fromkeys(ports, 0)
        self._turns = count()
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # In a task of our own: one that asyncio makes it cannot see cancelled without an error.
        connection = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)
        connection.add_done_callback(lambda _: writer.close())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        backend = await self._connect()
        if backend is None:
            return
        answers, requests = backend
        pumps = [asyncio.create_task(_pump(reader, requests)), asyncio.create_task(_pump(answers, writer))]
        try:
            # Where one side has ended the other has nobody to talk to.
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            requests.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """A connection to the first server, from the next one on, that accepts; None: all are down."""
        ports = list(self.served)
        turn = next(self._turns) % len(ports)
        for port in ports[turn:] + ports[:turn]:
            with suppress(OSError):
                connection = await asyncio.open_connection("127.0.0.1", port)
                self.served[port] += 1
                return connection
        return None


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await source.read(_CHUNK_BYTES):
            sink.write(chunk)
            await sink.drain()
