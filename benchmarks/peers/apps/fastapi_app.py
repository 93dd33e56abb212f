"""FastAPI's own SSE response, with a queue in the process for each subscriber.

``raw_data`` hands the published JSON on without encoding it again.
"""

import asyncio
from collections.abc import AsyncIterable

from fastapi import FastAPI, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

app = FastAPI(openapi_url=None)
queues: set[asyncio.Queue[str]] = set()


@app.get("/events", response_class=EventSourceResponse)
async def events() -> AsyncIterable[ServerSentEvent]:
    """A stream."""
    queue: asyncio.Queue[str] = asyncio.Queue()
    queues.add(queue)
    try:
        while True:
            yield ServerSentEvent(raw_data=await queue.get())
    finally:
        queues.discard(queue)


@app.post("/pub", status_code=204)
async def publish(request: Request) -> Response:
    """To every queue."""
    message = (await request.body()).decode()
    for queue in queues:
        queue.put_nowait(message)
    return Response(status_code=204)
