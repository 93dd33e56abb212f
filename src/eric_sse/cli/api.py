"""The HTTP interface, as the commands call it; its problems become errors that say what to do."""

import json
import os
import ssl
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import quote

import httpx2

from eric_sse._util import id_problem
from eric_sse.cli.errors import CommandError, UsageError

_TIMEOUT_S = 30.0
_CONNECT_TIMEOUT_S = 5.0
_PAGE = 1000


class Unavailable(CommandError):
    """The server or its store does not answer now; the same request may succeed later."""


class NotRunning(Unavailable):
    """There is no server."""


class Api:
    """A server, as a client sees it. Use it as a context manager.

    Args:
        url: ``http://host:port``, ``https://…``, or ``unix:/path/of/its.socket``.

    Attributes:
        client: What talks to it.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.client = _client(url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.client.close()

    def get(self, path: str, **parameters: str | int) -> Any:
        """What there is at ``path``."""
        return self._call("GET", path, params=parameters)

    def pages(self, path: str, name: str) -> list[Any]:
        """All the items of a list that is served a page at a time."""
        items: list[Any] = []
        after: str | None = ""
        while after is not None:
            page = self.get(path, after=after, limit=_PAGE)
            items += page[name]
            after = page["next"]
        return items

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Send a JSON object; members that are None are left out."""
        return self._call("POST", path, json={name: value for name, value in body.items() if value is not None})

    def delete(self, path: str) -> None:
        """Remove what is at ``path``."""
        self._call("DELETE", path)

    def publish(self, channel: str, body: bytes, idempotency_key: str) -> list[str]:
        """Publish the messages of an NDJSON body; returns their ids, and they are durable."""
        headers = {"content-type": "application/x-ndjson", "idempotency-key": idempotency_key}
        answer = self._call("POST", f"{channel_path(channel)}/messages", content=body, headers=headers)
        return list(answer["ids"])

    def _call(self, method: str, path: str, **request: Any) -> Any:
        try:
            response = self.client.request(method, path, **request)
        except httpx2.ConnectError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise CommandError(
                    f"{self._url} shows a certificate that is not trusted ({error}); name its issuer's file in "
                    "SSL_CERT_FILE"
                ) from error
            raise NotRunning(
                f"no server answers at {self._url} ({error}); start one with 'eric-sse serve', name another with "
                "--url, or work on a store directly with --store"
            ) from error
        except httpx2.TimeoutException as error:
            raise Unavailable(f"{self._url} did not answer within {_TIMEOUT_S:.0f} s; try again") from error
        except httpx2.RequestError as error:
            raise Unavailable(
                f"{self._url}: the connection was lost ({error}); try again, or with https:// where it speaks TLS"
            ) from error
        return self._answer(response)

    def _answer(self, response: httpx2.Response) -> Any:
        if response.status_code == HTTPStatus.NO_CONTENT:
            return None
        try:
            answer = json.loads(response.content)
            if response.is_success:
                return answer
            detail = str(answer["detail"])
        except (ValueError, KeyError, TypeError):
            raise CommandError(
                f"{self._url} answered {response.status_code} {response.reason_phrase}, and not as an eric_sse server "
                "does; see what listens there"
            ) from None
        failure = Unavailable if response.status_code == HTTPStatus.SERVICE_UNAVAILABLE else CommandError
        raise failure(detail)


def _client(url: str) -> httpx2.Client:
    timeout = httpx2.Timeout(_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S)
    # Loading the system's certificates takes as long as a request; without TLS an empty context, which trusts none.
    no_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if url.startswith("unix:"):
        transport = httpx2.HTTPTransport(uds=url.removeprefix("unix:").removeprefix("//"), verify=no_tls)
        # Without trust_env: a proxy of the environment would come before the transport.
        return httpx2.Client(base_url="http://localhost", transport=transport, timeout=timeout, trust_env=False)
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise UsageError(f"{url!r} is no server's URL: {error}") from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise UsageError(f"{url!r} is no server's URL; use http://host:port, https://… or unix:/path/of/its.socket")
    try:
        return httpx2.Client(base_url=parsed, timeout=timeout, verify=no_tls if parsed.scheme == "http" else True)
    except OSError as error:
        raise UsageError(f"SSL_CERT_FILE={os.environ.get('SSL_CERT_FILE')}: {error.strerror or error}") from error


def channel_path(channel: str) -> str:
    """The path of a channel.

    Raises:
        UsageError: The id cannot be one.
    """
    return f"/channels/{_segment(channel)}"


def listener_path(channel: str, listener: str) -> str:
    """The path of a channel's listener.

    Raises:
        UsageError: An id cannot be one.
    """
    return f"{channel_path(channel)}/listeners/{_segment(listener)}"


def _segment(id_: str) -> str:
    if (problem := id_problem(id_)) is not None:
        raise UsageError(problem)
    return quote(id_, safe="")
