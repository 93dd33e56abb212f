"""What the Redis engine says of URLs, servers, users and stores that it cannot use."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from eric_sse.engines import open_engine
from eric_sse.engines.redis import RedisEngine, open_redis
from eric_sse.engines.redis.url import options_of
from eric_sse.exception import (
    ConfigurationError,
    InvalidMessageFormat,
    RepositoryError,
    StoreFull,
    StoreUnavailable,
)
from eric_sse.log import Append, Appended, NewEntry, Retention, View
from support.certificates import make_certificate
from support.redis_server import RedisClusterServers, RedisServer, free_port, started_cluster, started_redis

MISSING = """
import importlib.abc, sys
class Nothing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "redis":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Nothing())
import eric_sse.engines.redis
from eric_sse.engines import open_engine
from eric_sse.exception import ConfigurationError
try:
    open_engine("redis://localhost/")
except ConfigurationError as error:
    print(error)
"""
PAGE = Path(__file__).parents[2] / "docs" / "engines" / "redis.md"
GRANTED = re.search(r"^user eric on >password (.*)$", PAGE.read_text(), re.MULTILINE)[1].split()


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A server of our own, with a password."""
    with started_redis(requirepass="s3:cret") as server:
        yield server


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisClusterServers]:
    """A cluster of our own."""
    with started_cluster() as cluster:
        yield cluster


CREDENTIALS = ":s3%3Acret"


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("redis://", "names no server"),
        ("redis:///0", "names no server"),
        ("redis://localhost/0#x", "with %23 for #"),
        ("redis://localhost:99999/", "'localhost:99999' is no server"),
        ("redis://localhost:0/", "'localhost:0' is no server"),
        ("redis://localhost:x/", "'localhost:x' is no server"),
        ("redis://a:1,,b:2/", "'' is no server"),
        ("redis://[::1/", "cannot be read"),
        ("redis://localhost/x", "'x' is no database"),
        ("redis://localhost/0?wait=x", "option wait=x"),
        ("redis://localhost/0?wait=-1", "option wait=-1"),
        ("redis://localhost/0?wait=1&wait=2", "option wait=2"),
        ("redis://localhost/0?timeout_ms=0", "option timeout_ms=0"),
        ("redis://localhost/0?wait_timeout_ms=", "option wait_timeout_ms="),
        ("redis://localhost/0?prefix=", "option prefix="),
        ("redis://localhost/0?prefix=a%7Bb", "without spaces and braces"),
        ("redis://localhost/0?socket_timeout=1", "option socket_timeout=1"),
        ("redis://localhost/0?ssl_cert_reqs=none", "option ssl_cert_reqs=none"),
        ("rediss://localhost/0?ssl_cert_reqs=some", "option ssl_cert_reqs=some"),
        ("rediss://localhost/0?ssl_check_hostname=maybe", "option ssl_check_hostname=maybe"),
        ("rediss://localhost/0?ssl_ca_certs=/nowhere/ca.pem", "there is no file /nowhere/ca.pem"),
    ],
)
def test_bad_url(url: str, complaint: str):
    """Each thing that may be wrong in a URL is named, before anybody is connected to."""
    with pytest.raises(ConfigurationError, match=complaint.replace("[", r"\[")):
        open_redis(url)


def test_complaints_hold_no_password():
    """A complaint about a URL does not repeat the password in it."""
    with pytest.raises(ConfigurationError) as caught:
        open_redis("redis://me:hidden@localhost/0?nonsense=1")
    assert "hidden" not in str(caught.value)


def test_url_is_read():
    """User, password, servers, database, prefix, waiting and TLS are what the URL says."""
    options = options_of(
        "rediss://me:a%40b%2F@h1:7000,[::1]:7001,h3/2?prefix=p&wait=2&wait_timeout_ms=3&timeout_ms=4"
        "&ssl_check_hostname=no&ssl_cert_reqs=none"
    )
    assert options.hosts == (("h1", 7000), ("::1", 7001), ("h3", 6379))
    tls = {"ssl": True, "ssl_check_hostname": False, "ssl_cert_reqs": "none"}
    assert options.connection == {"username": "me", "password": "a@b/", "db": 2, **tls}
    assert (options.prefix, options.wait, options.wait_timeout_ms, options.timeout_ms) == ("p", 2, 3, 4)


def test_driver_is_missing():
    """Without redis-py the package is imported, and opening says what to install."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", MISSING], check=True, capture_output=True, text=True)
    assert "pip install 'eric-sse[redis]'" in done.stdout


@pytest.mark.parametrize("credentials", ["", ":wrong", "nobody:s3%3Acret"])
def test_wrong_credentials(server: RedisServer, credentials: str):
    """No, or a wrong, user or password is a matter of configuration."""
    with pytest.raises(ConfigurationError, match="refuses the user or password"):
        open_redis(server.url(credentials=credentials))


def test_right_credentials(server: RedisServer):
    """The password may hold what a URL gives a meaning."""
    with open_redis(server.fresh_url(credentials=CREDENTIALS)) as engine:
        assert engine.log.create("c", Retention())


def test_nobody_there():
    """Where no server listens, the store is unavailable, at once."""
    with pytest.raises(StoreUnavailable, match="does not answer now"):
        open_redis(f"redis://127.0.0.1:{free_port()}/")


def test_several_servers_that_are_no_cluster(server: RedisServer):
    """Several servers are for a cluster."""
    with pytest.raises(ConfigurationError, match="several servers that are no cluster"):
        open_redis(f"redis://{CREDENTIALS}@127.0.0.1:{server.port},127.0.0.1:{free_port()}/")


def test_database_of_a_cluster(cluster: RedisClusterServers):
    """A cluster has no databases."""
    with pytest.raises(ConfigurationError, match="has no database 1"):
        open_redis(f"{cluster.url()}1")


def test_cluster_by_a_node_that_answers(cluster: RedisClusterServers):
    """Of several nodes to begin with, one that answers is enough."""
    with open_redis(cluster.fresh_url().replace("redis://", f"redis://127.0.0.1:{free_port()},")) as engine:
        assert engine.log.create("c", Retention())


def test_too_old(server: RedisServer, monkeypatch: pytest.MonkeyPatch):
    """A server older than 7.0 is refused. There is none here, so more is asked for."""
    monkeypatch.setattr("eric_sse.engines.redis.opening._OLDEST", (99, 0))
    with pytest.raises(ConfigurationError, match="or newer is needed"):
        open_redis(server.url(credentials=CREDENTIALS))


def test_newer_store(server: RedisServer):
    """A store of a newer version is left alone."""
    server.command("SET", "{newer}:version", 2)
    with pytest.raises(RepositoryError, match="upgrade eric_sse"):
        open_redis(server.url("prefix=newer", credentials=CREDENTIALS))
    assert server.command("KEYS", "*newer*") == ["{newer}:version"]


def test_other_programs_keys(server: RedisServer):
    """Keys of another program's under the same names are not touched."""
    server.command("SET", "{taken}:values", "theirs")
    with (
        open_redis(server.url("prefix=taken", credentials=CREDENTIALS)) as engine,
        pytest.raises(RepositoryError, match="choose another"),
    ):
        engine.storage.upsert("key", 1)
    assert server.command("GET", "{taken}:values") == "theirs"


def test_documented_permissions_suffice(server: RedisServer):
    """A user with the permissions that the documentation lists can do everything."""
    server.command("ACL SETUSER", "granted", "reset", "on", ">pw", *GRANTED)
    with open_redis(server.url(credentials="granted:pw")) as engine:
        engine.notifier.listen(lambda _: None)
        channel = engine.channels.create({"channel_id": "c"})
        channel.add_listener()
        engine.channels.persist(channel)
        engine.log.append("c", [NewEntry(b"1", "l", "key")])
        engine.log.trim()
        assert engine.notifier.healthy
        engine.channels.delete("c")


@pytest.mark.parametrize("denied", ["-xadd", "-evalsha", "-publish", "~other:*", "resetchannels"])
def test_missing_permission(server: RedisServer, denied: str):
    """Who may not append is told so, by the server's words and where to look; and nothing is stored."""
    with open_redis(server.url(credentials=CREDENTIALS)) as engine:
        engine.log.create("c", Retention())
        before = engine.log.heads(["c"])
    words = [*GRANTED, *(["resetkeys", "~{eric_sse}:*"] if denied.startswith("~") else []), denied]
    server.command("ACL SETUSER", "denied", "reset", "on", ">pw", *words)
    with (
        pytest.raises(RepositoryError, match=r"permission.*ACL"),
        open_redis(server.url(credentials="denied:pw")) as engine,
    ):
        engine.log.append("c", [NewEntry(b"1")])
    with open_redis(server.url(credentials=CREDENTIALS)) as engine:
        assert engine.log.heads(["c"]) == before


def test_full(server: RedisServer):
    """Where memory runs out, nothing is stored, and what is there can be read."""
    with open_redis(server.fresh_url(credentials=CREDENTIALS)) as engine:
        engine.log.create("c", Retention())
        engine.log.append("c", [NewEntry(b"1")])
        server.command("CONFIG SET", "maxmemory", "1mb")
        try:
            for store in (lambda: engine.log.append("c", [NewEntry(b"2")]), lambda: engine.storage.upsert("key", 1)):
                with pytest.raises(StoreFull, match="maxmemory"):
                    store()
            assert engine.log.count("c", 0, View.EVERYTHING, 10) == 1
        finally:
            server.command("CONFIG SET", "maxmemory", "0")
        assert engine.log.append("c", [NewEntry(b"2")])
        assert list(engine.storage.fetch_all()) == []


def test_replica(server: RedisServer, tmp_path: Path):
    """A replica takes no writes: the store is unavailable."""
    with (
        started_redis(tmp_path, replicaof=f"127.0.0.1 {server.port}", masterauth="s3:cret") as replica,
        pytest.raises(StoreUnavailable),
        open_redis(replica.url()) as engine,
    ):
        engine.storage.upsert("key", 1)


def test_opened_while_full(server: RedisServer):
    """A store that is full can be opened, and read."""
    url = server.fresh_url(credentials=CREDENTIALS)
    with open_redis(url) as engine:
        engine.log.create("c", Retention())
    server.command("CONFIG SET", "maxmemory", "1mb")
    try:
        with open_redis(url) as engine:
            assert engine.log.heads(["c"])
    finally:
        server.command("CONFIG SET", "maxmemory", "0")


def test_eviction_is_warned_of(server: RedisServer, caplog: pytest.LogCaptureFixture):
    """A server that throws data away when memory runs out is used, but not without a word."""
    server.command("CONFIG SET", "maxmemory-policy", "allkeys-lru")
    try:
        open_redis(server.url(credentials=CREDENTIALS)).close()
    finally:
        server.command("CONFIG SET", "maxmemory-policy", "noeviction")
    assert "allkeys-lru" in caplog.text


def test_clients_handed_in_stay_open(server: RedisServer):
    """An engine on the application's client neither closes it nor minds how it decodes."""
    with redis.Redis(port=server.port, password="s3:cret", decode_responses=True, encoding="latin-1") as client:
        with RedisEngine(client, prefix="handed-in") as engine:
            engine.log.create("é", Retention())
            engine.log.append("é", [NewEntry(b"\xff", "ü")])
            engine.notifier.listen(lambda _: None)
            assert engine.notifier.healthy
            assert engine.log.read("é", 0, "ü").entries[0][1:] == ("ü", b"\xff")
        with pytest.raises(StoreUnavailable, match="closed"):
            engine.log.heads(["é"])
        assert client.ping()


@pytest.mark.parametrize("protocol", [2, 3])
def test_protocols(server: RedisServer, protocol: int):
    """A client handed in may speak either version of the protocol."""
    with redis.Redis(port=server.port, password="s3:cret", protocol=protocol) as client:
        engine = RedisEngine(client, prefix=f"resp{protocol}")
        engine.log.create("c", Retention(1, 3600.5))
        engine.log.append("c", [NewEntry(b"1"), NewEntry(b"2", "l", "key")])
        assert engine.log.trim() == 1
        engine.storage.upsert("key", None)
        assert (list(engine.storage.fetch_all()), engine.cursors.create("c", ["l"])) == ([None], ["l"])
        assert engine.log.read("c", 0, "l").head.retention == Retention(1, 3600.5)
        engine.close()


def test_cluster_clients_handed_in(cluster: RedisClusterServers):
    """The same goes for a cluster's client."""
    with redis.RedisCluster(host="127.0.0.1", port=cluster.servers[0].port, decode_responses=True) as client:
        with RedisEngine(client, prefix="handed-in", wait=1) as engine:
            engine.log.create("é", Retention())
            engine.log.append("é", [NewEntry(b"\xff", "ü")])
            engine.notifier.listen(lambda _: None)
            assert engine.notifier.healthy
            assert engine.log.read("é", 0, "ü").entries[0][1:] == ("ü", b"\xff")
        assert client.ping()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for this machine, signed by itself; its key is beside it."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def tls_port(certificate: Path) -> Iterator[int]:
    """A server that speaks TLS on this port, too."""
    port, key = free_port(), certificate.with_name("key.pem")
    files = {"tls_cert_file": str(certificate), "tls_key_file": str(key), "tls_ca_cert_file": str(certificate)}
    with started_redis(tls_port=str(port), tls_auth_clients="no", **files):
        yield port


def test_tls(tls_port: int, certificate: Path):
    """With ``rediss://`` the server's certificate is checked against the authorities that are named."""
    with open_redis(f"rediss://127.0.0.1:{tls_port}/?ssl_ca_certs={certificate}") as engine:
        engine.notifier.listen(lambda _: None)
        assert engine.notifier.healthy
        assert engine.log.create("c", Retention())


@pytest.mark.parametrize("scheme", ["rediss", "redis"])
def test_tls_that_does_not_fit(tls_port: int, scheme: str):
    """A certificate that nobody vouches for, and a client that does not speak TLS, are no good."""
    with pytest.raises((ConfigurationError, StoreUnavailable)) as caught:
        open_redis(f"{scheme}://127.0.0.1:{tls_port}/")
    assert scheme == "redis" or isinstance(caught.value, ConfigurationError)


@pytest.mark.parametrize("arguments", [{"wait": -1}, {"wait_timeout_ms": 0}, {"timeout_ms": 0}, {"prefix": "a b"}])
def test_bad_arguments(server: RedisServer, arguments: dict):
    """What cannot be used beside a client is refused."""
    with redis.Redis(port=server.port) as client, pytest.raises(ConfigurationError):
        RedisEngine(client, **arguments)


def test_not_a_client():
    """Asynchronous clients, and what is none, are refused."""
    with pytest.raises(ConfigurationError, match=r"is no redis\.Redis"):
        RedisEngine("redis://localhost")


@pytest.mark.parametrize("entry", [NewEntry(b"x", "\ud800"), NewEntry(b"x", None, "\ud800"), NewEntry("x")])
def test_entries_that_cannot_be_stored(server: RedisServer, entry: NewEntry):
    """In a group what cannot be stored fails alone."""
    with open_redis(server.fresh_url(credentials=CREDENTIALS)) as engine:
        engine.log.create("c", Retention())
        outcomes = engine.log.append_group([Append("c", [entry]), Append("c", [NewEntry(b"1")])])
        assert [type(outcome) for outcome in outcomes] == [InvalidMessageFormat, Appended]
        assert engine.log.count("c", 0, View.EVERYTHING, 10) == 1


def test_scheme_is_registered(server: RedisServer):
    """The engine is found by its scheme."""
    with open_engine(server.fresh_url(credentials=CREDENTIALS)) as engine:
        assert isinstance(engine, RedisEngine)
