"""A PostgreSQL server of one's own, on a free port, gone at the end; and what may happen to one."""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg

START_S = 30
_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "100",
    "shared_buffers": "64MB",
    # A test that needs to know what survives a crash of the machine would not find out here anyway.
    "fsync": "off",
}


class PostgresServer:
    """A running server whose superuser ``postgres`` needs no password; a role ``guarded``, once created, needs one.

    Args:
        folder: An empty folder, owned by the user that the server is to run as.
        user: That user's name; None: ours.
    """

    def __init__(self, folder: Path, user: str | None) -> None:
        self.port = _free_port()
        self._folder = folder
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None
        command = [_binary("initdb"), "-D", folder / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run([*command, "--locale=C"], user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        rules = folder / "data" / "pg_hba.conf"
        rules.write_text(f"host all guarded 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")

    def url(self, options: str = "", *, user: str = "postgres", database: str = "postgres") -> str:
        """The URL of an engine on it."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}{f'?{options}' if options else ''}"

    def fresh_url(self, options: str = "") -> str:
        """The URL of an engine on a new, empty store."""
        return self.url("&".join(filter(None, [f"schema=s{secrets.token_hex(6)}", options])))

    def connect(self, **options: object) -> psycopg.Connection:
        """A superuser's connection, in autocommit unless told otherwise; the caller closes it."""
        return psycopg.connect(self.url(), **{"autocommit": True, **options})

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = {**_SETTINGS, "port": str(self.port), "unix_socket_directories": str(self._folder)}
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self._folder / "server.log").open("ab") as log:
            command = [_binary("postgres"), "-D", self._folder / "data", *words]
            self._process = subprocess.Popen(command, user=self._user, cwd=self._folder, stdout=log, stderr=log)
        self._wait_until_ready()

    def stop(self) -> None:
        """Stop it as an administrator does, its clients cut off (``pg_ctl stop -m fast``)."""
        if self._process is not None and self._process.poll() is None:
            self.resume()
            self._process.send_signal(signal.SIGINT)
            self._process.wait(START_S)
        self._process = None

    def kill(self) -> None:
        """Kill it and all of its processes at once."""
        processes = self._all()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(START_S)
        self._process = None
        # A new one does not start while the memory that they share is in use.
        _, left = psutil.wait_procs(processes, START_S)
        assert not left

    def restart(self) -> None:
        """Stop it and start it again."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Make it hang: it keeps its connections, and answers nothing."""
        for process in self._all():
            process.suspend()

    def resume(self) -> None:
        """Make it go on after `freeze`."""
        for process in self._all():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def cut(self, application: str = "eric_sse%") -> int:
        """Kill all connections of applications whose name is like that from the server's side; how many it were."""
        terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE %s"
        with self.connect() as connection:
            return connection.execute(terminate, (application,)).fetchone()[0]

    def _all(self) -> list[psutil.Process]:
        postmaster = psutil.Process(self._process.pid)
        return [postmaster, *postmaster.children(recursive=True)]

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            with contextlib.suppress(psycopg.OperationalError), self.connect(connect_timeout=2):
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"PostgreSQL did not start:\n{(self._folder / 'server.log').read_text()[-2000:]}")


@contextlib.contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server in a new folder, started; it and its folder are gone at the end."""
    # Not in pytest's own folder: that one is closed to the user that the server runs as.
    folder, user = Path(tempfile.mkdtemp(prefix="eric-pg-")), _unprivileged_user()
    try:
        if user is not None:
            shutil.chown(folder, user)
        server = PostgresServer(folder, user)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _unprivileged_user() -> str | None:
    """Whom to run the server as: PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _binary(name: str) -> Path:
    found = [path for pattern in _FOLDERS for path in Path("/").glob(f"{pattern[1:]}/{name}")]
    if found:
        return max(
            found,
            key=lambda path: [
                int(part) for part in path.parent.parent.name.split("-")[-1].split(".")[:1] if part.isdigit()
            ],
        )
    if on_path := shutil.which(name):
        return Path(on_path).resolve()
    raise AssertionError(f"{name} is missing; install it with: apt-get install postgresql")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
