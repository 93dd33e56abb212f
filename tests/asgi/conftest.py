"""A service on the memory engine, and a client of its application; whoever leaves a task behind fails."""

import httpx2
import pytest

from eric_sse.asgi import create_app
from eric_sse.engine import Engine
from eric_sse.engines.memory import open_memory
from eric_sse.service import Service
from support.leaks import assert_no_task_is_left
from support.watched_log import WatchedLog


@pytest.fixture(autouse=True)
async def _no_task_is_left():
    yield
    await assert_no_task_is_left()


@pytest.fixture
def engine():
    """An engine whose log is watched."""
    with open_memory() as inner, Engine(inner.storage, WatchedLog(inner.log), inner.cursors, inner.notifier) as engine:
        yield engine


@pytest.fixture
def log(engine):
    """The engine's log, which can be told to fail."""
    return engine.log


@pytest.fixture
async def service(engine):
    """A service with a channel "c" that has the listener "l"."""
    async with Service(engine) as service:
        await service.create_channel("c")
        await service.add_listener("c", "l")
        yield service


@pytest.fixture
def app(service):
    """The application."""
    return create_app(service, max_body_bytes=10_000)


@pytest.fixture
async def client(app):
    """A client of it."""
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client
