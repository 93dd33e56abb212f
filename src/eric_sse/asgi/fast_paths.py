"""The two requests that come by the thousand, publishing and opening a stream, past the framework's machinery.

The routes of the same paths document them, and answer whatever is unusual about such a request: an unknown query, an
``Idempotency-Key``, an id that is percent-encoded. What a usual one comes to is the same on both ways.
"""

import re

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from eric_sse.asgi.bodies import read_messages
from eric_sse.asgi.event_stream import EventStreamResponse
from eric_sse.asgi.problems import problem, problem_of
from eric_sse.codec import encode_json
from eric_sse.exception import EricError
from eric_sse.service import Service

_MESSAGES = re.compile(r"/channels/([^/%]+)/messages")
_EVENTS = re.compile(r"/channels/([^/%]+)/(?:listeners/([^/%]+)/)?events")


class FastPaths:
    """Answers usual requests of these kinds, and passes all others on.

    Args:
        app: What comes next. The path that it sees is still percent-encoded.
        service: What is served.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        response = await self._response(Request(scope, receive)) if scope["type"] == "http" else None
        await (response or self._app)(scope, receive, send)

    async def _response(self, request: Request) -> Response | None:
        """The response to a usual request; None for any other."""
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        try:
            if request.method == "POST" and not request.scope["query_string"] and (match := _MESSAGES.fullmatch(path)):
                return await self._publish(request, match[1])
            if request.method == "GET" and (match := _EVENTS.fullmatch(path)):
                return await self._stream(request, match[1], match[2])
        except EricError as error:
            return problem_of(error)
        except HTTPException as error:
            return problem(error.status_code, error.detail)
        return None

    async def _publish(self, request: Request, channel_id: str) -> Response | None:
        if "idempotency-key" in request.headers:
            return None
        ids = await self._service.publish(channel_id, await read_messages(request))
        return Response(encode_json({"ids": ids}), 201, media_type="application/json")

    async def _stream(self, request: Request, channel_id: str, listener_id: str | None) -> Response | None:
        seen, start = request.headers.get("last-event-id"), None
        if request.scope["query_string"]:
            query = request.query_params
            start = query.get("from")
            if not query.keys() <= {"last_event_id", "from"} or start not in {None, "earliest", "latest"}:
                return None
            seen = seen or query.get("last_event_id")
        return EventStreamResponse(await self._service.open_stream(channel_id, listener_id, seen, start))
