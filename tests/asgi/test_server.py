"""The real server: what it binds to, what it makes of odd HTTP, and that it stops."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx2
import pytest
from fastapi import FastAPI

from eric_sse.asgi.server import bind, create_server
from eric_sse.engines.memory import open_memory
from eric_sse.exception import ConfigurationError
from eric_sse.service import Service, ServiceOptions
from support.serving import Serving, note_writes, open_stream, publish_and_read_late, read_until

HOST = b"Host: test\r\n"
JSON = b"Content-Type: application/json\r\n"


class TestBind:
    """TCP sockets."""

    def test_any_free_port(self):
        """Port 0 takes one that is free, and connections are accepted by the kernel at once."""
        with bind("127.0.0.1", 0) as bound, socket.create_connection(bound.getsockname(), timeout=1):
            assert bound.getsockname()[1] > 0

    def test_a_port_in_use(self):
        """It is refused, and the message says what to do."""
        with (
            bind("127.0.0.1", 0) as bound,
            pytest.raises(ConfigurationError, match=r"in use; stop what listens there, or .* --port"),
        ):
            bind("127.0.0.1", bound.getsockname()[1])

    def test_an_address_of_another_machine(self):
        """The message does not send anybody to look for another port."""
        with pytest.raises(ConfigurationError, match="this machine has no such address: choose another with --host"):
            bind("192.0.2.1", 0)

    @pytest.mark.parametrize(
        ("host", "port"),
        [("no-such-host.invalid", 0), ("a..b", 0), ("a\0b", 0), ("127.0.0.1", 70_000)],
    )
    def test_what_cannot_be(self, host, port):
        """Addresses, names and ports that are none are refused."""
        with pytest.raises(ConfigurationError, match="cannot listen on"):
            bind(host, port)

    def test_vanished_peers_are_given_up(self):
        """Connections inherit how long the kernel waits for a peer that acknowledges nothing."""
        with bind("127.0.0.1", 0, 7.5) as bound, socket.create_connection(bound.getsockname()):
            accepted, _ = bound.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7500


@pytest.fixture(scope="module")
def serving():
    """A server."""
    with Serving(ServiceOptions()) as serving:
        yield serving


class TestOddHttp:
    """What HTTP allows, and few clients do."""

    def post(self, body, *headers):
        """A publish."""
        return b"".join([b"POST /channels/c/messages HTTP/1.1\r\n", HOST, JSON, *headers, b"\r\n", body])

    def test_pipelined(self, serving):
        """Requests that are sent ahead are answered in order, without those behind a stream."""
        request = self.post(b'{"payload":1}', b"Content-Length: 13\r\n")
        answer = serving.talk(request * 3 + b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n", b'"ok"')
        assert answer.count(b"201 Created") == 3

    @pytest.mark.parametrize("version", [b"1.1", b"1.0"])
    def test_a_stream_with_a_request_behind_it(self, serving, version):
        """It is a stream as every other: with its peer it goes."""
        stream = b"GET /channels/c/events HTTP/" + version + b"\r\nConnection: keep-alive\r\n" + HOST + b"\r\n"
        with serving.connect() as client:
            client.sendall(stream + b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
            read_until(client, b"retry:")
            serving.await_streams(1)
        serving.await_streams(0)

    def test_a_peer_that_leaves_while_it_is_answered(self, serving, caplog):
        """Nothing is logged, also where another request waited behind its first."""
        request = self.post(b'{"payload":1}', b"Content-Length: 13\r\n")
        for _ in range(20):
            with serving.connect() as client:
                client.sendall(request * 2)
        serving.talk(request, b"201 Created")
        assert caplog.records == []

    @pytest.mark.parametrize("more", [b"a: b\r\n" * 1000, b"a" * 6000])
    def test_a_head_without_end(self, serving, more):
        """It is refused while it is small."""
        with serving.connect() as client, contextlib.suppress(ConnectionError):
            client.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + b"x: ")
            for _ in range(1000):
                client.sendall(more)
                time.sleep(0.0001)
            pytest.fail("it was read to the end")

    def test_trailers_without_end(self, serving):
        """They are read, and kept nowhere."""
        with serving.connect() as client:
            client.sendall(self.post(b'd\r\n{"payload":1}\r\n0\r\n', b"Transfer-Encoding: chunked\r\n"))
            for _ in range(100):
                client.sendall(b"a: b\r\n" * 1000)
            client.sendall(b"\r\n")
            read_until(client, b"201 Created")

    def test_chunked(self, serving):
        """A body in chunks, as slow as it likes."""
        with serving.connect() as client:
            for part in (
                self.post(b"", b"Transfer-Encoding: chunked\r\n"),
                b'5\r\n{"pay\r\n',
                b'8\r\nload":1}\r\n0\r\n\r\n',
            ):
                client.sendall(part)
            assert b"201 Created" in read_until(client, b"ids")

    def test_expect(self, serving):
        """A client that asks first is told to go on, or that it is too much before it has sent anything."""
        with serving.connect() as client:
            client.sendall(self.post(b"", b"Expect: 100-continue\r\nContent-Length: 13\r\n"))
            read_until(client, b"100 Continue\r\n\r\n")
            client.sendall(b'{"payload":1}')
            read_until(client, b"201 Created")
        answer = serving.talk(
            self.post(b"", b"Expect: 100-continue\r\nContent-Length: 99999999\r\n"), b"max_body_bytes"
        )
        assert answer.startswith(b"HTTP/1.1 413")

    def test_old_http(self, serving):
        """A stream over HTTP/1.0 begins."""
        serving.talk(b"GET /channels/c/events HTTP/1.0\r\n\r\n", b"retry: 3000")
        serving.await_streams(0)

    def test_head_keeps_the_connection(self, serving):
        """HEAD on a stream ends at once, and the connection is of use for the next request."""
        requests = b"".join(b"%b HTTP/1.1\r\n%b\r\n" % (r, HOST) for r in (b"HEAD /channels/c/events", b"GET /healthz"))
        assert b"text/event-stream" in serving.talk(requests, b'"ok"')

    @pytest.mark.parametrize("request_line", [b"GARBAGE", b"GET /\xff HTTP/1.1", b"GET / HTTP/9.9"])
    def test_what_is_no_http(self, serving, request_line):
        """It is refused."""
        assert serving.talk(request_line + b"\r\n" + HOST + b"\r\n", b"\r\n\r\n").startswith(b"HTTP/1.1 400")


class TestStreams:
    """Peers that go away, and peers that do not."""

    @pytest.mark.parametrize("way", ["close", "reset", "half"])
    def test_a_peer_that_leaves(self, serving, way, caplog):
        """However it goes, its stream is let go, and nothing is logged as an error."""
        client = open_stream(serving)
        serving.await_streams(1)
        if way == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        if way == "half":
            client.shutdown(socket.SHUT_WR)
        else:
            client.close()
        serving.publish("to nobody")
        serving.await_streams(0)
        client.close()
        assert [record for record in caplog.records if record.levelname == "ERROR"] == []

    def test_many_that_come_and_go(self, serving, caplog):
        """A hundred that leave while they are sent to leave nothing behind."""
        for _ in range(5):
            clients = [open_stream(serving) for _ in range(20)]
            serving.publish("x" * 1000)
            for client in clients:
                client.close()
        serving.await_streams(0)
        assert [record for record in caplog.records if record.levelname == "ERROR"] == []

    def test_events_go_straight_to_the_socket(self, serving, monkeypatch):
        """They do not pass the transport."""
        written = note_writes(monkeypatch)
        with open_stream(serving) as stream:
            serving.publish("straight")
            assert written == [read_until(stream, b"straight")[: len(written[0])]]

    def test_a_peer_that_reads_late(self, serving):
        """Nobody waits for it, and it gets all of it in order."""
        with open_stream(serving, SO_RCVBUF=4096) as late:
            assert publish_and_read_late(serving, late)

    def test_a_peer_that_reads_nothing(self):
        """It costs a bounded number of bytes, is given up after the send timeout, and nobody else waits for it."""
        with Serving(ServiceOptions(send_timeout_s=0.5)) as serving:
            stalled, other = open_stream(serving, SO_RCVBUF=4096), open_stream(serving)
            with stalled, other:
                for _ in range(40):
                    serving.publish("x" * 200_000)
                    read_until(other, b'x"')
                serving.await_streams(1)


def test_an_application_that_does_not_start():
    """The server says so."""

    @contextlib.asynccontextmanager
    async def lifespan(_app):
        raise LookupError("a bug")
        yield

    with open_memory() as engine, bind("127.0.0.1", 0) as bound:
        server = create_server(FastAPI(lifespan=lifespan), Service(engine))
        with pytest.raises(ConfigurationError, match="did not start"):
            server.run([bound])


# A store that hangs from the first publish on, and a publisher and a stream that wait for it.
HUNG_SERVER = """
import threading
from eric_sse.asgi.server import bind, serve
from eric_sse.config import Settings, build
from eric_sse.engines.memory import open_memory
engine = open_memory()
def hang(*_):
    print("hangs", flush=True)
    threading.Event().wait()
engine.log.append_group = hang
engine.log.read = hang
app, service = build(engine, Settings())
bound = bind("127.0.0.1", 0)
serve(app, service, [bound], on_started=lambda: print(bound.getsockname()[1], flush=True))
engine.close()
"""


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_while_the_store_hangs(signal_number):
    """Told to stop with open requests and a store that does not answer, it exits within two seconds, successfully."""
    with subprocess.Popen([sys.executable, "-c", HUNG_SERVER], stdout=subprocess.PIPE, text=True) as process:
        try:
            url = f"http://127.0.0.1:{process.stdout.readline().strip()}"
            httpx2.post(f"{url}/channels", json={"id": "c"}).raise_for_status()
            with httpx2.Client() as client, client.stream("GET", f"{url}/channels/c/events"):
                publisher = threading.Thread(target=_publish_to_the_end, args=(url,))
                publisher.start()
                assert process.stdout.readline() == "hangs\n"
                begun = time.monotonic()
                os.kill(process.pid, signal_number)
                assert process.wait(5) == 0
                assert time.monotonic() - begun < 2
                publisher.join()
        finally:
            process.kill()


def _publish_to_the_end(url):
    with contextlib.suppress(httpx2.HTTPError):
        httpx2.post(f"{url}/channels/c/messages", json={"payload": 1})


def test_a_crowd_is_answered(serving):
    """Hundreds that connect and ask at the same moment are all answered."""
    crowd = [serving.connect() for _ in range(300)]
    for peer in crowd:
        peer.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
    answers = [peer.recv(4096) for peer in crowd]
    for peer in crowd:
        peer.close()
    assert all(answer.startswith(b"HTTP/1.1 200") for answer in answers)


def test_a_crowd_that_says_no_more(serving):
    """What many post who then close their end is carried out, though nobody waits for the answer."""
    crowd, before = [serving.connect() for _ in range(100)], serving.channel()["last_id"]
    serving.loop.call_soon_threadsafe(time.sleep, 0.3)  # so that it meets all of them at once
    post = b"POST /channels/c/messages HTTP/1.1\r\n" + HOST + JSON + b"content-length: 13\r\n\r\n" + b'{"payload":1}'
    for peer in crowd:
        peer.sendall(post)
        peer.shutdown(socket.SHUT_WR)
    for peer in crowd:
        peer.recv(4096)
    for peer in crowd:
        peer.close()
    stream = b"GET /channels/c/events HTTP/1.1\r\n%bLast-Event-ID: %b\r\n\r\n" % (HOST, before.encode())
    last = int(before.rpartition("-")[2]) + 100
    assert serving.talk(stream, b"-%d\nevent: message\ndata: 1\n\n" % last).count(b"data: 1") == 100
