"""The REST routes and the streams: parse, call the service, answer."""

from typing import Annotated, Any, Literal
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import AfterValidator
from starlette.exceptions import HTTPException

from eric_sse._util import id_problem
from eric_sse.asgi.bodies import (
    MESSAGES_OPENAPI,
    AckBody,
    ChannelAnswer,
    ChannelBody,
    ChannelDetailsAnswer,
    ChannelsAnswer,
    ListenerAnswer,
    ListenerBody,
    ListenersAnswer,
    PublishedAnswer,
    read_messages,
)
from eric_sse.asgi.event_stream import EventStreamResponse
from eric_sse.asgi.problems import problem_of
from eric_sse.exception import EricError
from eric_sse.log import Retention
from eric_sse.service import ChannelInfo, ListenerInfo, Service


def _decoded(segment: str) -> str:
    """A path segment, decoded once: an id may hold ``/``, and ``%`` itself."""
    return unquote_to_bytes(segment).decode()  # a UnicodeDecodeError is a ValueError: answered with 422


ChannelId = Annotated[str, Path(description="the channel's id, percent-encoded"), AfterValidator(_decoded)]
ListenerId = Annotated[str, Path(description="the listener's id, percent-encoded"), AfterValidator(_decoded)]
After = Annotated[str, Query(description="the last id of the page before")]
Limit = Annotated[int, Query(ge=1, le=1000)]


def channel_answer(info: ChannelInfo) -> dict[str, Any]:
    """A channel as the interface shows it."""
    retention = {"max_messages": info.retention.max_messages, "max_age_s": info.retention.max_age_s}
    return {**info._asdict(), "retention": retention}


def listener_answer(info: ListenerInfo) -> dict[str, Any]:
    """A listener as the interface shows it."""
    return info._asdict()


def channel_routes(service: Service) -> APIRouter:
    """The routes of channels."""
    router = APIRouter(prefix="/channels")

    @router.post("", status_code=201, response_model=ChannelAnswer, tags=["channels"])
    async def create_channel(body: ChannelBody) -> Any:
        """Create a channel. Answers 409 where it exists."""
        retention = Retention(body.retention.max_messages, body.retention.max_age_s)
        return channel_answer(await service.create_channel(body.id, body.retry_ms, retention))

    @router.get("", response_model=ChannelsAnswer, tags=["channels"])
    async def list_channels(after: After = "", limit: Limit = 100) -> Any:
        """List channels, a page at a time."""
        page = await service.list_channels(after, limit)
        following = page[-1].id if len(page) == limit else None
        return {"channels": [channel_answer(info) for info in page], "next": following}

    @router.get("/{channel}", response_model=ChannelDetailsAnswer, tags=["channels"])
    async def show_channel(channel: ChannelId) -> Any:
        """Show a channel as it stands."""
        details = await service.show_channel(channel)
        shown = channel_answer(details.channel)
        return {**shown, "oldest_id": details.oldest_id, "listeners": details.listeners}

    @router.delete("/{channel}", status_code=204, response_class=Response, tags=["channels"])
    async def delete_channel(channel: ChannelId) -> None:
        """Remove a channel, its log and its listeners; its streams end with ``event: eric.closed``."""
        await service.delete_channel(channel)

    return router


def listener_routes(service: Service) -> APIRouter:
    """The routes of named listeners."""
    router = APIRouter(prefix="/channels")

    @router.post("/{channel}/listeners", status_code=201, response_model=ListenerAnswer, tags=["listeners"])
    async def add_listener(channel: ChannelId, body: ListenerBody) -> Any:
        """Subscribe a named listener, from now on. Answers 409 where it exists."""
        return listener_answer(await service.add_listener(channel, body.id, body.ack))

    @router.get("/{channel}/listeners", response_model=ListenersAnswer, tags=["listeners"])
    async def list_listeners(channel: ChannelId, after: After = "", limit: Limit = 100) -> Any:
        """List a channel's listeners, with the cursor and lag of each (lag is counted up to 1,000)."""
        page = await service.list_listeners(channel, after, limit)
        following = page[-1].id if len(page) == limit else None
        return {"listeners": [listener_answer(info) for info in page], "next": following}

    @router.delete("/{channel}/listeners/{listener}", status_code=204, response_class=Response, tags=["listeners"])
    async def remove_listener(channel: ChannelId, listener: ListenerId) -> None:
        """Remove a listener; its streams end with ``event: eric.closed``."""
        await service.remove_listener(channel, listener)

    @router.post("/{channel}/listeners/{listener}/ack", status_code=204, response_class=Response, tags=["listeners"])
    async def acknowledge(channel: ChannelId, listener: ListenerId, body: AckBody) -> None:
        """Move a listener's cursor forward, to the id of a message."""
        await service.acknowledge(channel, listener, body.id)

    return router


def message_routes(service: Service) -> APIRouter:
    """The route that publishes."""
    router = APIRouter(prefix="/channels")

    @router.post(
        "/{channel}/messages",
        status_code=201,
        response_model=PublishedAnswer,
        openapi_extra=MESSAGES_OPENAPI,
        tags=["messages"],
    )
    async def publish(
        channel: ChannelId, request: Request, idempotency_key: Annotated[str | None, Header()] = None
    ) -> Any:
        """Publish a message, an array of them, or NDJSON, all or none. Answers when they are durable."""
        if idempotency_key is not None and (wrong := id_problem(idempotency_key)) is not None:
            raise HTTPException(422, f"Idempotency-Key: {wrong}")
        return {"ids": await service.publish(channel, await read_messages(request), idempotency_key)}

    return router


Seen = Annotated[str | None, Header(alias="Last-Event-ID", description="the id that the client has seen last")]
SeenParameter = Annotated[str | None, Query(alias="last_event_id", description="the same, where no header can be set")]
From = Annotated[Literal["earliest", "latest"] | None, Query(alias="from", description="where neither is given")]

_STREAM: dict[str, Any] = {
    "tags": ["streams"],
    "status_code": 200,
    "response_class": EventStreamResponse,
    "response_description": "the stream",
}


def stream_routes(service: Service) -> APIRouter:
    """The routes of the event streams."""
    router = APIRouter(prefix="/channels")

    async def stream(channel_id: str, listener_id: str | None, seen: str | None, start: str | None) -> Response:
        return EventStreamResponse(await service.open_stream(channel_id, listener_id, seen, start))

    @router.head("/{channel}/events", include_in_schema=False)
    @router.get("/{channel}/events", **_STREAM)
    async def anonymous_stream(
        channel: ChannelId, seen: Seen = None, seen_parameter: SeenParameter = None, start: From = None
    ) -> Response:
        """Stream a channel's broadcasts; without an id or ``from``, from now on."""
        return await stream(channel, None, seen or seen_parameter, start)

    @router.head("/{channel}/listeners/{listener}/events", include_in_schema=False)
    @router.get("/{channel}/listeners/{listener}/events", **_STREAM)
    async def listener_stream(
        channel: ChannelId,
        listener: ListenerId,
        seen: Seen = None,
        seen_parameter: SeenParameter = None,
        start: From = None,
    ) -> Response:
        """Stream a listener's messages; without an id or ``from``, from its cursor."""
        return await stream(channel, listener, seen or seen_parameter, start)

    return router


def health_routes(service: Service) -> APIRouter:
    """The routes that say whether the server lives, and whether the engine answers."""
    router = APIRouter(tags=["health"])

    @router.head("/healthz", include_in_schema=False)
    @router.get("/healthz")
    async def alive() -> dict[str, str]:
        """The process is alive."""
        return {"status": "ok"}

    @router.head("/readyz", include_in_schema=False)
    @router.get("/readyz")
    async def ready() -> Any:
        """The engine answers. 503 where it does not."""
        try:
            await service.ready()
        except EricError as error:
            response = problem_of(error)
            response.status_code = 503
            return response
        return {"status": "ok"}

    return router
