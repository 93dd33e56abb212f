"""Durable publishes over HTTP: many keep-alive publishers at once, and batches beside what sqlite3 does by hand."""

import json
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from http.client import HTTPConnection

from benchmarks.peers.load import Figures, load
from benchmarks.peers.processes import SERVER_CORE, Running, on_core
from benchmarks.peers.targets import CHANNEL, COMMITS, OURS_MESSAGES, PeerError
from eric_sse.codec import encode_message
from eric_sse.engines import open_engine
from eric_sse.message import Message

PUBLISHERS = 64
MESSAGES = 20_000

BATCH = 1_000
BATCHES = 60
BATCH_PUBLISHERS = 4

_INSERT = "INSERT INTO eric_messages (log, offset, receiver, at, data) VALUES (?, ?, '', ?, ?)"


def many_publishers(server: Running) -> Figures:
    """How many messages a second many publishers get acknowledged, one request each; a stream sees that all came."""
    before = _commits(server)
    figures = load(server, None, mode="fanout", conns=1, msgs=MESSAGES, pub_conns=PUBLISHERS, timeout=60)
    # Requests in flight at once have no order between them.
    return figures | {"out_of_order": 0, "commits": _commits(server) - before}


def _commits(server: Running) -> int:
    """How many times the server committed so far; 0 where it does not count."""
    counted = server.folder / COMMITS
    return int.from_bytes(counted.read_bytes(), "little") if counted.exists() else 0


def ndjson_batches(server: Running) -> Figures:
    """Rows a second as NDJSON over HTTP, and those that sqlite3 inserts into the same table, with commits as large."""
    body = "\n".join(json.dumps({"payload": {"n": n, "p": "x" * 80}}) for n in range(BATCH)).encode()
    began = time.monotonic()
    cpu = server.process.cpu_times()
    _at_once([lambda: _post(server.port, body, BATCHES // BATCH_PUBLISHERS)] * BATCH_PUBLISHERS)
    seconds = time.monotonic() - began
    after = server.process.cpu_times()
    used = after.user + after.system - cpu.user - cpu.system
    rows = BATCH * BATCHES
    return {
        "rows_per_s": rows / seconds,
        "by_hand_rows_per_s": _by_hand_apart(),
        "server_cpu_us_per_row": used / rows * 1e6,
    }


def _at_once(calls: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)


def _post(port: int, body: bytes, times: int) -> None:
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        for _ in range(times):
            connection.request("POST", OURS_MESSAGES, body, {"Content-Type": "application/x-ndjson"})
            response = connection.getresponse()
            response.read()
            if response.status != 201:
                raise PeerError(f"a batch was answered {response.status}, not 201")


def _by_hand_apart() -> float:
    """The rate by hand, in a process of its own on the server's core."""
    command = on_core(SERVER_CORE, [sys.executable, "-m", "benchmarks.peers.publishing"])
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return float(done.stdout)


def insert_by_hand() -> float:
    """Rows a second that sqlite3 inserts into the engine's table, with a commit for each batch, at synchronous=FULL."""
    data = [encode_message(Message("message", {"n": n, "p": "x" * 80})) for n in range(BATCH)]
    with tempfile.TemporaryDirectory() as folder:
        with open_engine(f"sqlite:///{folder}/events.db") as engine:
            engine.channels.persist(engine.channels.create({"channel_id": CHANNEL}))
        with closing(sqlite3.connect(f"{folder}/events.db", isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous=FULL")
            (log,) = connection.execute("SELECT id FROM eric_logs").fetchone()
            began = time.perf_counter()
            for batch in range(BATCHES):
                connection.execute("BEGIN IMMEDIATE")
                rows = [(log, batch * BATCH + n + 1, 0, message) for n, message in enumerate(data)]
                connection.executemany(_INSERT, rows)
                connection.execute("COMMIT")
            return BATCH * BATCHES / (time.perf_counter() - began)


if __name__ == "__main__":
    print(insert_by_hand())
