"""The server: uvicorn, embedded, with a drain of our own before its shutdown.

uvicorn waits for open responses and tells them nothing: on its own it would hang at SIGTERM with one idle stream.
"""

import asyncio
import contextlib
import errno
import gc
import os
import socket
import ssl
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from eric_sse._util import BACKLOG, get_logger
from eric_sse.asgi.event_stream import HAND_OVER
from eric_sse.exception import ConfigurationError
from eric_sse.service import Service
from eric_sse.service.turns import Turns

logger = get_logger()

DRAIN_S = 0.6
"""How long open streams get to take their last bytes when the server stops, in seconds."""
EXIT_WITHIN_S = 1.6
"""After how long, in seconds, a stopping process exits even if the store hangs. What was acknowledged is stored."""

MAX_PORT = 65_535

_TICK_S = 1.0
_MAX_HEAD_BYTES = 64 * 1024
_WRITE_BUFFER_BYTES = 4 * 1024
_HEARD_AT_ONCE = 16  # new connections: some milliseconds of work

_OTHER_PORT = "choose another port with --port"
_ADVICE = {
    errno.EADDRINUSE: f"stop what listens there, or {_OTHER_PORT}",
    errno.EADDRNOTAVAIL: "this machine has no such address: choose another with --host",
}


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol, which holds less for a peer that does not read, and gives the connections of streams away."""

    def __init__(self, turns: Turns, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._turns = turns
        # What a new connection says before it is its turn.
        self._unheard: list[bytes] | None = []
        # uvicorn's `cycle` is of the request that came last: others may wait before it.
        self._answering: RequestResponseCycle | None = None
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)  # the log has it all
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._unheard is None:
            self._parse(data)
        else:
            self._unheard.append(data)
            if len(self._unheard) == 1:
                self._turns.take(self._hear)

    def eof_received(self) -> None:
        self._hear()  # its connection ends with this
        super().eof_received()

    def _hear(self) -> None:
        unheard, self._unheard = self._unheard, None
        if unheard and not self.transport.is_closing():
            self._parse(b"".join(unheard))

    def _parse(self, data: bytes) -> None:
        head = self.headers
        super().data_received(data)
        if self.headers is not head or not isinstance(head, list):
            self._head_bytes = 0
            return
        # It has begun before this, and goes on after it.
        self._head_bytes += len(data)
        if self._head_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The head of a request holds at most {_MAX_HEAD_BYTES} bytes.")

    def connection_lost(self, exc: Exception | None) -> None:
        # uvicorn tells the request that came last: a stream before it would go on for ever.
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self.headers = deque(maxlen=0)  # type: ignore[assignment]  # what follows the body is nothing to anybody
        if self.scope["http_version"] == "1.1":  # what comes before it knows no chunks
            self.scope["extensions"] = {HAND_OVER: self._hand_over}  # type: ignore[dict-item]

    def _hand_over(self, protocol: asyncio.Protocol) -> bool:
        """Leave the connection to ``protocol``, as for a WebSocket; uvicorn takes it for one whose peer is gone.

        Requests that came behind this one are not answered: its response has told that the connection closes
        (RFC 9112, section 9.6).
        """
        transport, cycle = self.transport, self._answering
        # A middleware may hold the head back, or have given the body a length.
        if cycle is None or not (cycle.response_started and cycle.chunked_encoding):
            return False
        if self.flow.write_paused or transport.is_closing():
            return False
        cycle.disconnected = True
        self.pipeline.clear()
        self.connections.discard(self)
        self.flow.resume_reading()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        # What refers to one another here would wait for the garbage collector.
        del self.scope, self.cycle, self.parser, self._answering
        return True


class DrainingServer(uvicorn.Server):
    """Serves ``app`` until SIGTERM or SIGINT; then its streams end, their clients are told when to come back.

    Args:
        config: uvicorn's.
        service: Whose streams to drain.
        on_started: Called when it accepts connections.
    """

    def __init__(self, config: uvicorn.Config, service: Service, on_started: Callable[[], None] | None = None) -> None:
        super().__init__(config)
        self._service = service
        self._on_started = on_started
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections.

        Raises:
            ConfigurationError: The application did not start.
        """
        try:
            await super().startup(sockets)
        except SystemExit as error:  # how uvicorn says so
            raise ConfigurationError("the application did not start; the log says why") from error
        if self._on_started is not None:
            self._on_started()

    async def main_loop(self) -> None:
        """Run until it is to stop. uvicorn looks ten times a second, which costs more than a thousand idle streams."""
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await self._stopping.wait()

    def stop(self) -> None:
        """Begin to stop. May be called from any thread."""
        self.should_exit = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has stopped
                self._loop.call_soon_threadsafe(self._stopping.set)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new connections, end the streams, and let the rest finish."""
        for server in self.servers:
            server.close()
        await self._service.drain(DRAIN_S)
        await asyncio.sleep(0.02)  # those that were given up notice it
        self._cut_given_up()
        await super().shutdown(sockets)

    def _cut_given_up(self) -> None:
        # uvicorn closed them. But close() waits until the peer has taken what is buffered, and these take nothing.
        for connection in list(self.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None and transport.is_closing():
                transport.abort()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at SIGTERM and SIGINT. Unlike uvicorn, do not die of them afterwards: stopping when told is success."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()

    def handle_exit(self, sig: int, frame: object) -> None:
        """Begin to stop; bounded, whatever the store does."""
        if not self.should_exit:
            watchdog = threading.Timer(EXIT_WITHIN_S, _exit_now)
            watchdog.daemon = True
            watchdog.start()
        super().handle_exit(sig, frame)  # type: ignore[arg-type]
        self.stop()


def _exit_now() -> None:
    logger.warning("the store did not answer in time: exiting; what was acknowledged is stored")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def create_server(
    app: ASGIApp,
    service: Service,
    *,
    tls: ssl.SSLContext | None = None,
    access_log: bool = False,
    on_started: Callable[[], None] | None = None,
) -> DrainingServer:
    """A server to run: ``run(sockets)`` blocks until a signal, or `stop` in any thread, ends it.

    Args:
        app: What to serve; its lifespan closes the service.
        service: Whose streams to drain.
        tls: What it shows to clients (`eric_sse.asgi.tls`); None: it speaks plain HTTP.
        access_log: Whether each request is logged.
        on_started: Called when it accepts connections.
    """
    config = uvicorn.Config(
        app,
        http=partial(_Protocol, Turns(_HEARD_AT_ONCE)),  # type: ignore[arg-type]  # a class is called, too
        ws="none",
        ssl_context_factory=None if tls is None else lambda *_: tls,
        log_config=None,
        access_log=access_log,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
        backlog=BACKLOG,
    )
    return DrainingServer(config, service, on_started)


def serve(
    app: ASGIApp,
    service: Service,
    sockets: list[socket.socket],
    *,
    tls: ssl.SSLContext | None = None,
    access_log: bool = False,
    on_started: Callable[[], None] | None = None,
) -> None:
    """Serve ``app`` on bound sockets until SIGTERM or SIGINT. Returns when everything has been let go.

    The process is the server's: its garbage collector is set to run less often.

    Args:
        app: What to serve; its lifespan closes the service.
        service: Whose streams to drain.
        sockets: Where to listen; closed in the end.
        tls: What it shows to clients (`eric_sse.asgi.tls`); None: it speaks plain HTTP.
        access_log: Whether each request is logged.
        on_started: Called when it accepts connections.

    Raises:
        ConfigurationError: The application did not start.
    """
    _spare_the_collector()
    create_server(app, service, tls=tls, access_log=access_log, on_started=on_started).run(sockets)


def _spare_the_collector() -> None:
    """Look for cycles of objects less often, and never among what was imported: a fifth of the time went to that.

    Thousands of objects are made and dropped for each second of publishing, and hardly any is part of a cycle.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def bind(host: str, port: int, user_timeout_s: float = 60.0) -> socket.socket:
    """A listening TCP socket. Port 0 takes any that is free.

    Args:
        host: The address or name.
        port: The port.
        user_timeout_s: After how long, in seconds, the kernel gives up a peer that acknowledges nothing.

    Raises:
        ConfigurationError: It cannot be bound; the message says why.
    """
    if not 0 <= port <= MAX_PORT:  # the resolver would take it modulo 65,536
        raise ConfigurationError(f"cannot listen on {host}:{port}: a port is a number from 0 to {MAX_PORT}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, ValueError) as error:  # ValueError: a name that cannot be one
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(f"cannot listen on {host}:{port}: {reason}") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # Accepted sockets inherit it: it finds peers that vanished without a word.
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(user_timeout_s * 1000))
        bound.bind(address)
        bound.listen(BACKLOG)  # where another process bound it at the same moment, only this tells
    except OSError as error:
        bound.close()
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; {_ADVICE.get(error.errno or 0, _OTHER_PORT)}"
        ) from error
    return bound
