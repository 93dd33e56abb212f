"""Stores of every engine that several servers can share, and two servers on one of them."""

from contextlib import AsyncExitStack, ExitStack

import httpx2
import pytest

from support.pair import Pair
from support.server import STREAM_PATH, running_server
from support.stores import ENGINES, Stores


@pytest.fixture(params=["direct", "portable"])
def stream_path(request, monkeypatch):
    """Both ways in which servers send streams."""
    monkeypatch.setenv(STREAM_PATH, request.param)
    return request.param


@pytest.fixture(scope="session")
def stores(tmp_path_factory):
    """Hands out empty stores."""
    with Stores(tmp_path_factory.mktemp("stores")) as stores:
        yield stores


@pytest.fixture(scope="module", params=ENGINES)
def engine_name(request):
    """Each engine that several servers can share."""
    return request.param


@pytest.fixture(scope="module")
def servers(stores, engine_name):
    """Two servers on one store."""
    store = stores.fresh(engine_name)
    with ExitStack() as stack:
        servers = [stack.enter_context(running_server(store)) for _ in range(2)]
        yield servers
        assert not [log for log in (server.log for server in servers) if "Traceback" in log]


@pytest.fixture
async def pair(servers):
    """The two servers, with a client for each, and a new channel."""
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(httpx2.AsyncClient(base_url=server.url, timeout=10)) for server in servers
        ]
        pair = Pair(*clients, b_pid=servers[1].pid)
        await pair.create()
        yield pair
    print(*(server.log for server in servers), sep="\n")  # shown where the test failed
