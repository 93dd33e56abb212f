"""A server that is killed or stopped, and started again in its place."""

import asyncio
import time
from contextlib import ExitStack
from typing import NamedTuple, Self

from support.server import RunningServer, running_server


class Stopped(NamedTuple):
    """How a server ended after SIGTERM."""

    status: int
    seconds: float


class Restartable:
    """The servers, one after the other, on one store and one port. An async context manager.

    None of them may log a traceback: at the end that fails.

    Args:
        store: The store's URL.
        options: More of ``eric-sse serve``.
        env: Environment variables to add.

    Attributes:
        url: Where they are.
    """

    def __init__(self, store: str, *options: str, env: dict[str, str] | None = None) -> None:
        self.store = store
        self.url = ""
        self._options = options
        self._env = env
        self._servers = ExitStack()
        self._server: RunningServer | None = None
        self._logs: list[str] = []

    @property
    def server(self) -> RunningServer:
        """The server of now."""
        if self._server is None:
            raise AssertionError("start it first")
        return self._server

    async def start(self) -> None:
        """Start one; returns when it accepts connections. The event loop goes on meanwhile."""
        port = self._server.port if self._server else 0
        context = running_server(self.store, *self._options, port=port, env=self._env)
        self._server = await asyncio.to_thread(self._servers.enter_context, context)
        self.url = self._server.url

    async def kill(self) -> None:
        """End it as a crash would."""
        await asyncio.to_thread(self.server.kill)
        self._logs.append(self.server.log)

    async def stop(self) -> Stopped:
        """End it with SIGTERM."""
        started = time.monotonic()
        status = await asyncio.to_thread(self.server.stop)
        seconds = time.monotonic() - started
        self._logs.append(self.server.log)
        return Stopped(status, seconds)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._logs.append(self.server.log)
        await asyncio.to_thread(self._servers.close)
        faults = [log for log in self._logs if "Traceback" in log]
        assert not faults, faults[0]
