"""What every request passes: ids that may hold a slash, and bodies that may not be endless. Pure ASGI."""

from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from eric_sse.asgi.problems import problem


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
            raw: bytes | None = scope.get("raw_path")
            # raw_path is optional in ASGI; without it a slash in an id cannot be told from one between segments.
            path = raw.split(b"?")[0].decode("latin-1") if raw else quote(scope["path"])
            scope = {**scope, "path": path}
        await self._app(scope, receive, send)


class BodyLimit:
    """Refuses bodies of more than ``max_bytes`` with 413, before they are read where they say their size.

    Args:
        app: What comes next.
        max_bytes: The limit.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        detail = f"the body is larger than {self._max_bytes} bytes; send it in pieces, or raise max_body_bytes"
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max_bytes:
            await problem(413, detail)(scope, receive, send)
            return
        received = 0

        async def receive_limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_bytes:
                raise HTTPException(413, detail)
            return message

        await self._app(scope, receive_limited, send)
