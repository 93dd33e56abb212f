"""A service over each engine that is built in; whoever leaves a task behind fails."""

import pytest

from eric_sse.engine import Engine
from eric_sse.engines import open_engine
from eric_sse.service import Service, opening, threads
from support.leaks import assert_no_task_is_left
from support.streams import StreamReader
from support.watched_log import WatchedLog


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    """The URL of an empty store."""
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/events.db"


@pytest.fixture
def engine(store):
    """An engine whose log is watched."""
    with open_engine(store) as inner, Engine(inner.storage, WatchedLog(inner.log), inner.cursors, inner.notifier) as e:
        yield e


@pytest.fixture
def log(engine):
    """The engine's log, which can be told to fail."""
    return engine.log


@pytest.fixture(autouse=True)
async def _no_task_is_left():
    yield
    await assert_no_task_is_left()


@pytest.fixture
async def service(engine):
    """A service with a channel "c" that has the listener "l"."""
    async with Service(engine) as service:
        await service.create_channel("c")
        await service.add_listener("c", "l")
        yield service


@pytest.fixture
async def open_reader(service):
    """Opens a stream, and reads its opening."""
    opened = []

    async def open_reader(channel_id="c", listener_id=None, **start):
        reader = StreamReader(await service.open_stream(channel_id, listener_id, **start))
        opened.append(reader.stream)
        await reader.chunk()
        return reader

    yield open_reader
    for stream in opened:
        stream.release()


@pytest.fixture
def hung_store_later(log, monkeypatch):
    """Call it, and the store's reads hang until the test ends; nobody waits for them long."""
    gates = []

    def hang():
        monkeypatch.setattr(opening, "_FIRST_ANSWER_WITHIN_S", 0.05)
        monkeypatch.setattr(threads, "ANSWER_WITHIN_S", 0.05)
        gates.extend(log.close_gate(name) for name in ("read", "heads"))

    yield hang
    log.gates.clear()
    for gate in gates:
        gate.open()


@pytest.fixture
def hung_store(service, hung_store_later):
    """A service's store, whose reads hang until the test ends."""
    hung_store_later()
