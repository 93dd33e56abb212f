"""What every request passes: ids with a slash, bodies without an end, and a server that stops. Pure ASGI."""

import asyncio
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eric_sse.asgi.problems import problem
from eric_sse.service import Service


class RawPath:
    """Routes see the path as it was sent, still percent-encoded, so that an id may hold ``/`` as ``%2F``.

    Args:
        app: What comes next. It decodes path parameters itself, once.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http":
            scope = {**scope, "path": _raw_path(scope)}
        await self._app(scope, receive, send)


def _raw_path(scope: Scope) -> str:
    raw: bytes | None = scope.get("raw_path")
    path, root = scope["path"], scope.get("root_path", "")
    # raw_path is optional in ASGI; without it a slash in an id cannot be told from one between segments.
    sent = raw.split(b"?")[0].decode("latin-1") if raw else quote(path)
    if not root or not path.startswith(root):
        return sent
    # Where it is mounted stays decoded, or the router would not find it at the path's beginning.
    below = sent.split("/")[root.count("/") + 1 :]
    return "/".join([root, *below])


class BodyLimit:
    """Refuses bodies of more than ``max_bytes`` with 413, before they are read where they say their size.

    Args:
        app: What comes next.
        max_bytes: The limit.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._detail = f"the body is larger than {max_bytes} bytes; send it in pieces, or raise max_body_bytes"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max_bytes:
            await problem(413, self._detail)(scope, receive, send)
            return
        received = 0

        async def receive_limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise HTTPException(413, self._detail)
            return message

        await self._app(scope, receive_limited, send)


class GiveUp:
    """Answers 503 where a request is cancelled because the server stops, as when the store hangs.

    Args:
        app: What comes next.
        service: Whose drain says that the server stops. Any other cancellation is somebody else's, and goes on.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        answering = False

        async def send_noting(message: Message) -> None:
            nonlocal answering
            answering = True
            await send(message)

        try:
            await self._app(scope, receive, send_noting)
        except asyncio.CancelledError:
            if answering or scope["type"] != "http" or not self._service.is_draining:
                raise
            detail = (
                "the server stops, and the store has not answered; whether the request was carried out is not known: "
                "try again (messages with ids are not stored twice)"
            )
            await problem(503, detail, {"connection": "close"})(scope, receive, send)
