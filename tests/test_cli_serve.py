"""``eric-sse serve``: it says where it is, refuses what cannot be served, and stops in time."""

import contextlib
import signal
import socket
import sqlite3
import time

import httpx2
import pytest

from eric_sse.cli.serve import without_password
from eric_sse.engines import open_engine
from support.certificates import make_certificate
from support.commands import eric, eric_here, started
from support.server import running_server


@pytest.fixture
def store(tmp_path):
    """The URL of a store that is not there yet."""
    return f"sqlite:///{tmp_path}/events.db"


def test_it_says_what_it_serves_and_where_when_it_accepts_connections(store):
    """The line that machines parse names the store and the real port, and then the server answers."""
    with running_server(store) as server:
        assert server.line == f"eric-sse serving {store} on http://127.0.0.1:{server.port}"
        assert server.port > 0
        assert httpx2.get(f"{server.url}/readyz").status_code == 200
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < 1  # nothing keeps an idle server


def test_open_streams_do_not_keep_it_from_stopping(store):
    """SIGTERM with open streams ends it within two seconds, and each stream is told when to come back."""
    with running_server(store) as server, httpx2.Client(base_url=server.url) as client:
        client.post("/channels", json={"id": "news"})
        with contextlib.ExitStack() as stack:
            streams = [stack.enter_context(client.stream("GET", "/channels/news/events")) for _ in range(5)]
            begun = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - begun < 2
            assert all(b"retry:" in stream.read().rpartition(b"id:")[2] for stream in streams)


def test_ctrl_c_stops_it_successfully(store):
    """SIGINT is as good as SIGTERM, and nothing is printed about it."""
    with started("serve", "--store", store, "--port", "0") as process:
        assert process.stdout.readline().startswith("eric-sse serving")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
        assert (process.returncode, err) == (0, "")


def test_it_listens_on_a_unix_socket_and_takes_it_away_with_it(store, tmp_path):
    """With --uds the line's URL is one that --url takes; the socket goes with the server."""
    path = tmp_path / "eric.sock"
    with running_server(store, "--uds", str(path)) as server:
        assert server.url == f"unix:{path}"
        assert eric("channel", "create", "news", "--url", server.url).out == "news\n"
    assert not path.exists()


def test_it_speaks_tls(store, tmp_path):
    """With a certificate the line's URL begins with https, and commands work on it that trust the certificate."""
    certificate = make_certificate(tmp_path)
    key = certificate.with_name("key.pem")
    with running_server(store, "--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)) as server:
        assert server.url == f"https://127.0.0.1:{server.port}"
        refused = eric("channel", "create", "news", "--url", server.url)
        assert (refused.status, "certificate that is not trusted" in refused.err) == (1, True)
        missing = eric("channel", "list", "--url", server.url, env={"SSL_CERT_FILE": "nothing.pem"})
        assert (missing.status, missing.err) == (2, "eric-sse: SSL_CERT_FILE=nothing.pem: No such file or directory\n")
        plain = eric("channel", "list", "--url", server.url.replace("https:", "http:"))
        assert (plain.status, "with https:// where it speaks TLS" in plain.err) == (1, True)
        created = eric("channel", "create", "news", "--url", server.url, env={"SSL_CERT_FILE": str(certificate)})
        assert created.out == "news\n"


def test_tls_by_halves_is_refused(store, capsys):
    """A key without a certificate, and TLS on a unix-domain socket, are of no use."""
    key = eric_here(capsys, "serve", "--store", store, "--ssl-keyfile", "key.pem")
    assert (key.status, "without --ssl-certfile" in key.err) == (2, True)
    both = eric_here(capsys, "serve", "--store", store, "--ssl-certfile", "cert.pem", "--uds", "socket")
    assert (both.status, "not both" in both.err) == (2, True)


def test_beyond_loopback_it_warns_that_anybody_may_connect(store):
    """There is no authentication yet, and whoever binds to all addresses is told."""
    with started("serve", "--store", store, "--host", "0.0.0.0", "--port", "0") as process:
        process.stdout.readline()
        process.terminate()
        _, err = process.communicate()
    assert err.startswith("eric-sse: warning: http://0.0.0.0:")
    assert "no authentication" in err


def test_a_store_s_password_is_not_printed():
    """What is printed ends in logs; a password in a URL does not."""
    assert without_password("redis://me:se%3Acret@host/0") == "redis://me:***@host/0"
    assert without_password("sqlite:///a:b@c.db") == "sqlite:///a:b@c.db"


def test_the_log_is_on_stderr_and_says_what_it_is_told_to(store):
    """--access-log logs requests; standard output keeps its one line."""
    with started("serve", "--store", store, "--port", "0", "--access-log", "--log-level", "info") as process:
        url = process.stdout.readline().split()[-1]
        httpx2.get(f"{url}/healthz")
        process.terminate()
        out, err = process.communicate()
    assert out == ""
    assert '"GET /healthz HTTP/1.1" 200' in err


def test_a_port_in_use_is_refused(capsys, store):
    """The error names the address and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        status, out, err = eric_here(capsys, "serve", "--store", store, "--port", str(port))
    assert (status, out) == (1, "")
    assert err.startswith(f"eric-sse: cannot listen on 127.0.0.1:{port}: Address already in use;")


def test_a_socket_in_use_is_refused(capsys, store, tmp_path):
    """A second server does not take a socket from a first."""
    path = str(tmp_path / "eric.sock")
    with running_server(store, "--uds", path):
        status, _, err = eric_here(capsys, "serve", "--store", store, "--uds", path)
        assert (status, err) == (
            1,
            f"eric-sse: cannot listen on {path}: a server listens there; stop it, or choose another path\n",
        )


def test_a_wrong_environment_is_refused(capsys, monkeypatch, store):
    """The variable, its value and the reason are named."""
    monkeypatch.setenv("ERIC_SSE_RETRY_MS", "soon")
    status, _, err = eric_here(capsys, "serve", "--store", store)
    assert status == 2
    assert err.startswith("eric-sse: wrong environment: ERIC_SSE_RETRY_MS='soon': ")


def garbage(path):
    """A file that never was a store."""
    path.write_bytes(b"This is no database, however one looks at it. " * 100)


def truncated(path):
    """A store whose end is lost."""
    open_engine(f"sqlite:///{path}").close()
    path.write_bytes(path.read_bytes()[:5000])


def newer(path):
    """A store that a later version has written."""
    open_engine(f"sqlite:///{path}").close()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE eric_meta SET value = 99")


SERVE = ("serve", "--port", "0")


@pytest.mark.parametrize(
    ("spoil", "says", "command"),
    [
        (garbage, "damaged", SERVE),
        (truncated, "damaged", SERVE),
        (newer, "99", SERVE),
        (newer, "99", ("channel", "list")),
    ],
)
def test_a_store_that_cannot_be_read_is_refused_and_left_alone(tmp_path, spoil, says, command):
    """One line says what is wrong with the file, and not a byte of it is changed."""
    path = tmp_path / "events.db"
    spoil(path)
    before = path.read_bytes()
    status, out, err = eric(*command, "--store", f"sqlite:///{path}")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("eric-sse: ")
    assert says in err
    assert path.read_bytes() == before


@pytest.mark.parametrize("url", ["foo://bar", "sqlite:///no/such/folder/events.db"])
def test_a_store_url_that_names_nothing_is_refused(capsys, url):
    """A wrong scheme and a missing folder each get one line."""
    status, out, err = eric_here(capsys, "serve", "--store", url)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("eric-sse: ")
