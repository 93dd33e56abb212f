"""The package eric-redis-queues, written for eric_sse 2, keeps its channels through our repositories."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from support.pinned_packages import installed
from support.redis_server import redis_server

COMPAT = Path(__file__).parent / "compat"


@pytest.fixture(scope="module")
def step(request, tmp_path_factory):
    """Runs one step of compat/redis_channel.py in a fresh process, on a server of this module's own."""
    packages = installed(COMPAT / "requirements.lock", request.config.cache)
    with redis_server(tmp_path_factory.mktemp("redis")) as port:

        def run(name):
            command = [sys.executable, "-W", "error", str(COMPAT / "redis_channel.py"), name, str(port)]
            environment = os.environ | {"PYTHONPATH": str(packages)}
            process = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
            assert process.returncode == 0, process.stderr
            return json.loads(process.stdout)

        run.port = port
        yield run


def keys(port):
    """How many keys the server holds."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"DBSIZE\r\n")
        return int(client.recv(64).lstrip(b":"))


def test_a_channel_is_stored_loaded_in_another_process_and_deleted_without_a_trace(step):
    """What one process persisted another loads whole; deleting twice is fine and leaves no key behind."""
    assert step("store") == ["one", "two"]
    assert step("load") == {
        "retry": 7,
        "channels": ["a:b*", "a:b*c"],
        "received": {
            "one": [["Message", "to all", {"n": 1}]],
            "two": [["Message", "to all", {"n": 1}], ["SignedMessage", "to two", ["é"]]],
        },
    }
    assert keys(step.port) > 0
    assert step("delete") == "ItemNotFound"
    assert keys(step.port) == 0
