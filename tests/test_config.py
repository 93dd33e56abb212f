"""Settings come from the environment, and ``build`` puts together an application that obeys them."""

import os

import httpx2
import pytest
from pydantic import ValidationError

from eric_sse.config import Settings, build
from eric_sse.engines import open_engine
from eric_sse.service import ServiceOptions


@pytest.fixture
def engine():
    """An engine of the test's own."""
    with open_engine("memory://") as engine:
        yield engine


def client_of(app):
    """A client that talks to an application without a server."""
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test")


def test_the_defaults_are_the_service_s_own():
    """Where nothing is set, the server behaves as a service in an application of yours does."""
    settings, options = Settings(), ServiceOptions()
    shared = ("heartbeat_s", "send_timeout_s", "retry_ms", "max_waiting")
    assert {name: getattr(settings, name) for name in shared} == {name: getattr(options, name) for name in shared}


def test_each_setting_is_an_environment_variable(monkeypatch):
    """A setting is read from the variable of its name, lists as JSON."""
    monkeypatch.setenv("ERIC_SSE_STORE", "sqlite:///other.db")
    monkeypatch.setenv("ERIC_SSE_HEARTBEAT_S", "2.5")
    monkeypatch.setenv("ERIC_SSE_CORS_ORIGINS", '["https://a.example"]')
    settings = Settings()
    assert (settings.store, settings.heartbeat_s) == ("sqlite:///other.db", 2.5)
    assert settings.cors_origins == ("https://a.example",)


def test_what_is_given_goes_before_the_environment(monkeypatch):
    """The command line wins over a variable."""
    monkeypatch.setenv("ERIC_SSE_STORE", "sqlite:///other.db")
    assert Settings(store="memory://").store == "memory://"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HEARTBEAT_S", "0"),
        ("SEND_TIMEOUT_S", "-1"),
        ("RETRY_MS", "soon"),
        ("MAX_BODY_BYTES", "0"),
        ("MAX_WAITING", "0"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(monkeypatch, name, value):
    """A wrong value is an error that names the setting, not a server that behaves oddly."""
    monkeypatch.setenv(f"ERIC_SSE_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


async def test_larger_bodies_than_the_setting_allows_are_refused(engine):
    """``max_body_bytes`` is the application's limit."""
    app, service = build(engine, Settings(max_body_bytes=50))
    async with service, client_of(app) as client:
        assert (await client.post("/channels", json={"id": "a"})).status_code == 201
        assert (await client.post("/channels", json={"id": "a" * 50})).status_code == 413


async def test_pages_of_the_allowed_origins_may_read(engine):
    """``cors_origins`` are let in, and no others."""
    app, service = build(engine, Settings(cors_origins=("https://a.example",)))
    async with service, client_of(app) as client:
        allowed = await client.get("/healthz", headers={"origin": "https://a.example"})
        other = await client.get("/healthz", headers={"origin": "https://b.example"})
    assert allowed.headers["access-control-allow-origin"] == "https://a.example"
    assert "access-control-allow-origin" not in other.headers


async def test_new_channels_get_the_setting_s_retry(engine):
    """``retry_ms`` is what a channel without a value of its own tells its clients."""
    app, service = build(engine, Settings(retry_ms=1234))
    async with service, client_of(app) as client:
        created = await client.post("/channels", json={"id": "a"})
    assert created.json()["retry_ms"] == 1234


async def test_the_engine_stays_the_caller_s_to_close(engine):
    """Closing the service leaves the engine usable."""
    _app, service = build(engine, Settings())
    async with service:
        await service.create_channel("a")
    assert engine.channels.settings("a") is not None


@pytest.mark.parametrize("variable", [None, "OTEL_SERVICE_NAME", "FASTAPI_OTEL_AUTO_CONFIGURE"])
def test_telemetry_is_looked_for_where_the_environment_speaks_of_it(monkeypatch, engine, variable):
    """FastAPI looks at each request whether there is any; where nothing speaks of it, that time is spared."""
    for name in list(os.environ):
        if "OTEL_" in name:
            monkeypatch.delenv(name)
    if variable is not None:
        monkeypatch.setenv(variable, "x")
    app, _ = build(engine, Settings())
    assert app._telemetry["tracing"] is (variable is not None)
