"""Errors as ``application/problem+json`` (RFC 9457): what was wrong, and what to do."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from eric_sse._util import get_logger
from eric_sse.exception import (
    ChannelExists,
    ChannelNotFound,
    ConfigurationError,
    EpochMismatch,
    EricError,
    InvalidChannelException,
    InvalidListenerException,
    InvalidMessageFormat,
    InvalidPosition,
    ListenerExists,
    ListenerNotFound,
    OutcomeUnknown,
    Overloaded,
    StoreFull,
    StoreUnavailable,
)

logger = get_logger()

RETRY_AFTER_S = 1

MEDIA_TYPE = "application/problem+json"

_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "what was wrong, and what to do"},
    },
}

OPENAPI: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "The request cannot be carried out.", "content": {MEDIA_TYPE: {"schema": _SCHEMA}}},
    "5XX": {"description": "The server or its store failed.", "content": {MEDIA_TYPE: {"schema": _SCHEMA}}},
}
"""How every operation documents its errors."""

# The first that fits an error.
_STATUS: tuple[tuple[type[EricError], HTTPStatus], ...] = (
    (ChannelNotFound, HTTPStatus.NOT_FOUND),
    (ListenerNotFound, HTTPStatus.NOT_FOUND),
    (ChannelExists, HTTPStatus.CONFLICT),
    (ListenerExists, HTTPStatus.CONFLICT),
    (EpochMismatch, HTTPStatus.CONFLICT),
    (InvalidChannelException, HTTPStatus.UNPROCESSABLE_ENTITY),
    (InvalidListenerException, HTTPStatus.UNPROCESSABLE_ENTITY),
    (InvalidMessageFormat, HTTPStatus.UNPROCESSABLE_ENTITY),
    (InvalidPosition, HTTPStatus.UNPROCESSABLE_ENTITY),
    (ConfigurationError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (Overloaded, HTTPStatus.SERVICE_UNAVAILABLE),
    (StoreUnavailable, HTTPStatus.SERVICE_UNAVAILABLE),
    (OutcomeUnknown, HTTPStatus.SERVICE_UNAVAILABLE),
    (StoreFull, HTTPStatus.INSUFFICIENT_STORAGE),
    (EricError, HTTPStatus.INTERNAL_SERVER_ERROR),
)


def problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """A response that says what was wrong."""
    phrase = HTTPStatus(status).phrase
    headers = dict(headers or {})
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.setdefault("retry-after", str(RETRY_AFTER_S))
    # The detail may quote what was sent, also what UTF-8 cannot carry.
    detail = detail.encode("utf-8", "backslashreplace").decode()
    return JSONResponse(
        {"type": "about:blank", "title": phrase, "status": int(status), "detail": detail},
        status_code=status,
        headers=headers,
        media_type=MEDIA_TYPE,
    )


def problem_of(error: EricError) -> Response:
    """The response for one of the package's errors."""
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    if status is HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.error("a request failed: %s", error, exc_info=error)
    return problem(status, str(error))


async def _on_eric_error(_request: Request, error: Exception) -> Response:
    return problem_of(error) if isinstance(error, EricError) else problem(500, str(error))


async def _on_http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    detail = str(error.detail)
    if detail == HTTPStatus(error.status_code).phrase:  # the router's own: no such route, or not with that method
        detail = f"{request.method} {request.url.path} is nothing this server does; /docs lists what it does"
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed(request))
    return problem(error.status_code, detail, headers)


def _allowed(request: Request) -> list[str]:
    # The router names the methods of the first route of that path only.
    routes = request.app.router.routes
    scopes = {method: {**request.scope, "method": method} for method in ("GET", "HEAD", "POST", "DELETE")}
    return [m for m, scope in scopes.items() if any(route.matches(scope)[0] is Match.FULL for route in routes)]


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    found = error.errors()
    content_type = request.headers.get("content-type", "")
    if any(tuple(e["loc"]) == ("body",) and isinstance(e["input"], bytes) for e in found):
        # FastAPI leaves a body undecoded that does not say that it is JSON.
        return problem(415, f"content-type is {content_type or 'missing'!r}; send application/json")
    status = 400 if any(e["type"] == "json_invalid" for e in found) else 422
    details = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in found)
    return problem(status, "; ".join(details))


async def _on_unexpected(_request: Request, _error: Exception) -> Response:
    # The server logs the exception; its text may hold what is nobody's business.
    return problem(500, "unexpected error; the server's log says more")


def install(app: FastAPI) -> None:
    """Have ``app`` answer every error as a problem."""
    app.add_exception_handler(EricError, _on_eric_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(Exception, _on_unexpected)
