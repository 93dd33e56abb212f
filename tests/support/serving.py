"""The real server in a thread of the test's own process, and what talks to it byte by byte."""

import asyncio
import os
import socket
import ssl
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import httpx2

from eric_sse.asgi import create_app
from eric_sse.asgi.server import bind, create_server
from eric_sse.asgi.tls import server_context
from eric_sse.engines.memory import open_memory
from eric_sse.service import Service, ServiceOptions, fan_out


class Serving:
    """A server with a channel "c".

    Args:
        options: Of its service.
        certificate: With one that is signed by itself, it speaks TLS.
        key: The certificate's.

    Attributes:
        port: Its port.
        url: Its URL.
        trust: What a client trusts.
        loop: Its event loop.
        service: Its service.
    """

    def __init__(self, options: ServiceOptions, certificate: Path | None = None, key: Path | None = None):
        self._socket = bind("127.0.0.1", 0)
        self.port = self._socket.getsockname()[1]
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.port}"
        self.trust = ssl.create_default_context(cafile=certificate) if certificate else False
        self._tls = server_context(certificate, key) if certificate else None
        self._client = httpx2.Client(base_url=self.url, verify=self.trust)
        self._started = threading.Event()
        self._options = options
        self._thread = threading.Thread(target=self._serve)

    def _serve(self):
        with open_memory() as engine:
            self.service = Service(engine, self._options)
            app = create_app(self.service)
            self._server = create_server(app, self.service, tls=self._tls, on_started=self._note_start)
            self._server.run([self._socket])

    def _note_start(self):
        self.loop = asyncio.get_running_loop()
        self._started.set()

    def __enter__(self):
        self._thread.start()
        assert self._started.wait(10)
        self._client.post("/channels", json={"id": "c"}).raise_for_status()
        return self

    def __exit__(self, *_):
        self._client.close()
        self._server.stop()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def connect(self, **options):
        """A connection."""
        client = socket.socket()
        client.settimeout(5)
        for name, value in options.items():
            client.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        client.connect(("127.0.0.1", self.port))
        return self.trust.wrap_socket(client, server_hostname="127.0.0.1") if self.trust else client

    def talk(self, request, until):
        """What is answered to bytes, up to the bytes that are waited for."""
        with self.connect() as client:
            client.sendall(request)
            return read_until(client, until)

    def publish(self, payload):
        """Publish a message."""
        self._client.post("/channels/c/messages", json={"payload": payload}).raise_for_status()

    def channel(self):
        """What is told of the channel."""
        return self._client.get("/channels/c").json()

    def streams(self):
        """How many streams are open."""
        return self.channel()["streams"]

    def await_streams(self, count):
        """Return when so many streams are open."""
        deadline = time.monotonic() + 5
        while self.streams() != count:
            assert time.monotonic() < deadline, f"{self.streams()} streams are open, not {count}"


def open_stream(serving, **options):
    """A connection with an open stream; socket options may be given."""
    client = serving.connect(**options)
    client.sendall(b"GET /channels/c/events HTTP/1.1\r\nHost: test\r\n\r\n")
    read_until(client, b"retry:")
    return client


def read_until(client, until):
    """Read from a socket until there are those bytes, or until its end."""
    received = b""
    while until not in received and (data := client.recv(65536)):
        received += data
    assert until in received, received
    return received


def publish_and_read_late(serving, late):
    """Publish more than buffers hold to a stream whose peer reads it afterwards; whether all comes in order."""
    for number in range(60):
        serving.publish(f"{number}-" + "x" * 200_000)
    received = read_until(late, b'"59-')
    positions = [received.index(b'"%d-' % number) for number in range(60)]
    return positions == sorted(positions)


def note_writes(monkeypatch):
    """What is written to sockets past their transports from now on."""
    written = []

    def write(fileno, data):
        written.append(data)
        return os.write(fileno, data)

    monkeypatch.setattr(fan_out, "os", SimpleNamespace(write=write))
    return written
