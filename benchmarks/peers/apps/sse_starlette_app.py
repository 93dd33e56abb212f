# mypy: disable-error-code="import-not-found"
# pyright: reportMissingImports=false
"""sse-starlette, with a queue in the process for each subscriber."""

import asyncio
from collections.abc import AsyncIterator

from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

queues: set[asyncio.Queue[str]] = set()


async def _events() -> AsyncIterator[dict[str, str]]:
    queue: asyncio.Queue[str] = asyncio.Queue()
    queues.add(queue)
    try:
        while True:
            yield {"data": await queue.get()}
    finally:
        queues.discard(queue)


async def subscribe(_: Request) -> Response:
    """A stream."""
    response: Response = EventSourceResponse(_events())
    return response


async def publish(request: Request) -> Response:
    """To every queue."""
    message = (await request.body()).decode()
    for queue in queues:
        queue.put_nowait(message)
    return Response(status_code=204)


app = Starlette(routes=[Route("/events", subscribe), Route("/pub", publish, methods=["POST"])])
