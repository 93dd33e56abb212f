"""Settings, and the one place that puts an application together."""

import os
from typing import Annotated

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from eric_sse.asgi.app import DEFAULT_MAX_BODY_BYTES, create_app
from eric_sse.engine import Engine
from eric_sse.service import Service, ServiceOptions

_OPTIONS = ServiceOptions()


class Settings(BaseSettings):
    """How the server runs. Each is an environment variable too, ``ERIC_SSE_`` and the name in capitals.

    Attributes:
        store: The URL of the store.
        cors_origins: Origins whose pages may use the server, as a JSON array; ``["*"]`` for all.
        max_body_bytes: Larger request bodies are refused.
        heartbeat_s: How long a stream may be silent, in seconds.
        send_timeout_s: How long a peer may take nothing of what is sent to it, in seconds.
        retry_ms: What clients are told to wait before they come back, in milliseconds.
        max_waiting: How many messages may wait to be stored before more are refused.
        gather_ms: For how long, in milliseconds at most, messages are gathered that come while streams are written to.
    """

    model_config = SettingsConfigDict(env_prefix="ERIC_SSE_", frozen=True)

    store: str = "sqlite:///eric_sse.db"
    cors_origins: tuple[str, ...] = ()
    max_body_bytes: Annotated[int, Field(gt=0)] = DEFAULT_MAX_BODY_BYTES
    heartbeat_s: Annotated[float, Field(gt=0)] = _OPTIONS.heartbeat_s
    send_timeout_s: Annotated[float, Field(gt=0)] = _OPTIONS.send_timeout_s
    retry_ms: Annotated[int, Field(ge=0)] = _OPTIONS.retry_ms
    max_waiting: Annotated[int, Field(gt=0)] = _OPTIONS.max_waiting
    gather_ms: Annotated[float, Field(ge=0, le=1000)] = _OPTIONS.gather_s * 1000


def build(engine: Engine, settings: Settings) -> tuple[FastAPI, Service]:
    """The application that serves an engine, and the service in it. The engine stays yours to close."""
    options = ServiceOptions(
        settings.heartbeat_s,
        settings.send_timeout_s,
        settings.retry_ms,
        settings.max_waiting,
        settings.gather_ms / 1000,
    )
    service = Service(engine, options)
    return create_app(service, settings.cors_origins, settings.max_body_bytes, _telemetry()), service


def _telemetry() -> TelemetryConfig | None:
    """OpenTelemetry as FastAPI has it, if the environment speaks of it.

    Else none: FastAPI looks at each request whether there is any, which takes a tenth of the request's time.
    """
    if any(name.startswith(("OTEL_", "FASTAPI_OTEL_")) for name in os.environ):
        return None
    return {"tracing": False, "metrics": False, "logs": False}
