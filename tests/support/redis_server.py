"""Redis servers of one's own, single and in a cluster, on free ports, gone at the end; and what may happen to them."""

import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import redis

START_S = 20
MASTERS = 3
_SLOTS = 16384
_SETTINGS = {"bind": "127.0.0.1", "save": "", "appendonly": "no", "repl-diskless-sync-delay": "0"}
_CLUSTER = {"cluster-enabled": "yes", "cluster-node-timeout": "1000", "cluster-replica-validity-factor": "0"}


class RedisServer:
    """A server.

    Args:
        folder: An empty folder for what it keeps.
        settings: Of its configuration, with underscores for hyphens.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self.port = free_port()
        self.settings = _SETTINGS | {name.replace("_", "-"): value for name, value in settings.items()}
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._frozen = False

    @property
    def folder(self) -> Path:
        """What it keeps is here."""
        return self._folder

    def url(self, options: str = "", *, credentials: str = "") -> str:
        """The URL of an engine on it."""
        return f"redis://{credentials and f'{credentials}@'}127.0.0.1:{self.port}/{f'?{options}' if options else ''}"

    def fresh_url(self, options: str = "", *, credentials: str = "") -> str:
        """The URL of an engine on a new, empty store."""
        return self.url(_fresh(options), credentials=credentials)

    def connect(self, **options: object) -> redis.Redis:
        """A client; the caller closes it."""
        password = self.settings.get("requirepass")
        defaults = {"port": self.port, "decode_responses": True, "socket_timeout": 5, "password": password}
        return redis.Redis(**(defaults | options))

    def command(self, *words: object) -> object:
        """The reply to a command."""
        with self.connect() as client:
            return client.execute_command(*words)

    @property
    def is_running(self) -> bool:
        """Whether it runs, and does not hang."""
        return self._process is not None and not self._frozen

    @property
    def master_port(self) -> int | None:
        """The port of the master that it is a replica of; None where it is a master."""
        with self.connect() as client:
            return client.info("replication").get("master_port")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        words = [word for name, value in self.settings.items() for word in (f"--{name}", value)]
        command = [_binary(), "--port", str(self.port), "--dir", str(self._folder), *words]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self._wait_until_ready()

    def stop(self) -> None:
        """Stop it as an administrator does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it at once."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop it and start it again."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Make it hang: it keeps its connections, and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)
        self._frozen = True

    def resume(self) -> None:
        """Make it go on after `freeze`."""
        if self._frozen and self._process is not None:
            self._process.send_signal(signal.SIGCONT)
        self._frozen = False

    def cut(self) -> int:
        """Kill all connections of others from the server's side; how many it were."""
        with self.connect() as client:
            return sum(client.client_kill_filter(_type=kind, skipme=True) for kind in ("normal", "pubsub"))

    def _end(self, signal_: int) -> None:
        self.resume()
        if self._process is not None:
            self._process.send_signal(signal_)
            self._process.wait(START_S)
            self._process = None

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(redis.ConnectionError, redis.TimeoutError), self.connect() as client:
                client.ping()
                return
            time.sleep(0.01)
        raise AssertionError(f"redis-server did not start:\n{(self._folder / 'redis.log').read_text()[-2000:]}")


class RedisClusterServers:
    """A cluster of three masters, each with a replica.

    Args:
        folder: An empty folder for what they keep.
        settings: Of each one's configuration.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self.servers = []
        for number in range(2 * MASTERS):
            (folder / str(number)).mkdir()
            server = RedisServer(folder / str(number), **(_CLUSTER | {"cluster-port": str(free_port())}), **settings)
            self.servers.append(server)

    def url(self, options: str = "") -> str:
        """The URL of an engine on it, with two of its nodes to begin with."""
        nodes = ",".join(f"127.0.0.1:{server.port}" for server in self.servers[:2])
        return f"redis://{nodes}/{f'?{options}' if options else ''}"

    def fresh_url(self, options: str = "") -> str:
        """The URL of an engine on a new, empty store."""
        return self.url(_fresh(options))

    def start(self) -> None:
        """Start all, make them a cluster, and wait until it answers."""
        for server in self.servers:
            server.start()
        self._assign_slots()
        for server in self.servers[1:]:
            self.servers[0].command("CLUSTER MEET", "127.0.0.1", server.port, server.settings["cluster-port"])
        _wait(lambda: all(self._knows_all(server) for server in self.servers), "the nodes did not meet")
        ids = [server.command("CLUSTER MYID") for server in self.servers]
        for number, server in enumerate(self.servers[MASTERS:]):
            server.command("CLUSTER REPLICATE", ids[number])
        self.wait_until_well()

    def wait_until_well(self) -> None:
        """Wait until there are three masters, every running node serves, and replicas are in step."""
        _wait(self._is_well, "the cluster did not get well")

    @property
    def running(self) -> list[RedisServer]:
        """The nodes that run, and do not hang."""
        return [server for server in self.servers if server.is_running]

    def master_of(self, key: str) -> RedisServer:
        """Who holds the key now."""
        with redis.RedisCluster(host="127.0.0.1", port=self.running[0].port) as client:
            port = client.get_node_from_key(key).port
        return next(server for server in self.servers if server.port == port)

    def hand_over(self, key: str) -> None:
        """Have the replica of who holds the key take its place, as an administrator does; wait until it has."""
        master = self.master_of(key)
        replica = next(server for server in self.running if server.master_port == master.port)
        for _ in range(5):
            replica.command("CLUSTER FAILOVER")
            # Soon after another failover the others refuse, for twice the node timeout.
            with suppress(AssertionError):
                _wait(lambda: self.master_of(key) is replica, "nobody took over", 4)
                return
        raise AssertionError("the replica did not take over")

    def cut(self) -> int:
        """Kill all connections of clients from the nodes' side; how many it were."""
        return sum(server.cut() for server in self.running)

    def freeze(self) -> None:
        """Make all of them hang."""
        for server in self.running:
            server.freeze()

    def resume(self) -> None:
        """Make them go on after `freeze`."""
        for server in self.servers:
            server.resume()

    def kill(self) -> None:
        """Kill all of them at once."""
        for server in self.servers:
            server.kill()

    def restart(self) -> None:
        """Start again those that do not run, and wait until the cluster is well."""
        self.resume()
        for server in self.servers:
            if not server.is_running:
                server.start()
        self.wait_until_well()

    def _is_well(self) -> bool:
        masters = [server for server in self.running if server.master_port is None]
        return len(masters) == MASTERS and all(_is_well(server) for server in self.running)

    def _assign_slots(self) -> None:
        for number, server in enumerate(self.servers[:MASTERS]):
            first, last = (_SLOTS * n // MASTERS for n in (number, number + 1))
            server.command("CLUSTER ADDSLOTSRANGE", first, last - 1)
            server.command("CLUSTER SET-CONFIG-EPOCH", number + 1)

    def _knows_all(self, server: RedisServer) -> bool:
        with server.connect() as client:
            nodes = client.cluster("NODES")
        return len(nodes) == len(self.servers) and not any("handshake" in node["flags"] for node in nodes.values())


@contextmanager
def started_redis(folder: Path | None = None, **settings: str) -> Iterator[RedisServer]:
    """A server, started; it is gone at the end, and so is its folder where none was given."""
    with ExitStack() as stack:
        server = RedisServer(folder or _folder(stack), **settings)
        stack.callback(server.kill)
        server.start()
        yield server


@contextmanager
def started_cluster(**settings: str) -> Iterator[RedisClusterServers]:
    """A cluster, started; it and its folder are gone at the end."""
    with ExitStack() as stack:
        cluster = RedisClusterServers(_folder(stack), **settings)
        stack.callback(cluster.kill)
        cluster.start()
        yield cluster


@contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    """Start a server that keeps nothing, and yield its port."""
    with started_redis(folder) as server:
        yield server.port


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _folder(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eric-redis-")))


def _fresh(options: str) -> str:
    return "&".join(filter(None, [f"prefix=p{secrets.token_hex(6)}", options]))


def _binary() -> str:
    binary = shutil.which("redis-server")
    if binary is None:
        raise AssertionError("redis-server is missing; install it with: apt-get install redis-server")
    return binary


def _is_well(server: RedisServer) -> bool:
    with server.connect() as client:
        info, replication = client.cluster("INFO"), client.info("replication")
    in_step = replication["role"] == "master" or replication.get("master_link_status") == "up"
    return info["cluster_state"] == "ok" and in_step


def _wait(condition: Callable[[], bool], failure: str, patience_s: float = START_S) -> None:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        with suppress(redis.RedisError):
            if condition():
                return
        time.sleep(0.02)
    raise AssertionError(failure)
