"""The ASGI application: a service's routes, with what every request passes around them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.middleware.cors import CORSMiddleware

from eric_sse.asgi import problems
from eric_sse.asgi.fast_paths import FastPaths
from eric_sse.asgi.middleware import BodyLimit, GiveUp, RawPath
from eric_sse.asgi.routes import channel_routes, health_routes, listener_routes, message_routes, stream_routes
from eric_sse.service import Service

DEFAULT_MAX_BODY_BYTES = 16 * 1024 * 1024


def create_app(
    service: Service,
    cors_origins: Sequence[str] = (),
    max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
    telemetry: TelemetryConfig | None = None,
) -> FastAPI:
    """The application that serves ``service`` over HTTP. Run it, or mount it in an application of yours.

    The service is closed with the application. Mounted, no lifespan reaches it: close the service yourself.

    Args:
        service: What it serves.
        cors_origins: Origins whose pages may use it; ``*`` for all.
        max_body_bytes: Larger bodies are refused.
        telemetry: OpenTelemetry, as FastAPI takes it.

    Example:
        >>> app = FastAPI()
        >>> app.mount("/live", create_app(service))  # doctest: +SKIP
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with service:
            yield

    app = FastAPI(
        title="eric_sse",
        summary="Durable Server-Sent-Events channels",
        lifespan=lifespan,
        responses=problems.OPENAPI,
        redirect_slashes=False,
        telemetry=telemetry,
    )
    problems.install(app)
    for routes in (channel_routes, listener_routes, message_routes, stream_routes, health_routes):
        app.include_router(routes(service))
    app.add_middleware(FastPaths, service=service)
    app.add_middleware(RawPath)
    app.add_middleware(BodyLimit, max_bytes=max_body_bytes)
    app.add_middleware(GiveUp, service=service)
    if cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors_origins),
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["Content-Type", "Last-Event-ID", "Idempotency-Key"],
        )
    return app
