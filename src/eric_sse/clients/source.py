"""What the blocking and the asynchronous reader of event streams share: all but waiting and reading."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Generic, TypeVar

from eric_sse.clients.session import StreamSession, StreamState
from eric_sse.exception import ConfigurationError, StreamRefused
from eric_sse.wire.sse import DEFAULT_MAX_EVENT_BYTES

if TYPE_CHECKING:
    import httpx2

MAX_ERROR_BYTES = 16 * 1024
"""How much of an error's body is read for its detail."""

FIRST_ERROR = 400
"""Answers from this status on have a body that says what is wrong."""

_CONNECT_TIMEOUT_S = 10.0
_FOUND = 302

ClientT = TypeVar("ClientT", bound="httpx2.Client | httpx2.AsyncClient")


class Source(ABC, Generic[ClientT]):
    """The constructor of both readers, and what can be asked while they run.

    The arguments are described at :class:`~eric_sse.clients.EventSource`.
    """

    def __init__(
        self,
        url: str,
        *,
        last_event_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        client: ClientT | None = None,
        reconnect: bool = True,
        max_failures: int | None = None,
        max_retry_s: float = 30.0,
        read_timeout_s: float | None = 45.0,
        max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES,
        on_retry: Callable[[str, float], None] | None = None,
    ) -> None:
        self._httpx = _httpx2()
        self._url = url
        self._headers = headers
        self._client = client
        self._owns_client = client is None
        self._timeout = self._httpx.Timeout(_CONNECT_TIMEOUT_S, read=read_timeout_s)
        self._response: httpx2.Response | None = None
        self._session = StreamSession(
            url,
            last_event_id=last_event_id,
            reconnect=reconnect,
            max_failures=max_failures,
            max_retry_s=max_retry_s,
            max_event_bytes=max_event_bytes,
            on_retry=on_retry,
        )
        self._set_up()

    @abstractmethod
    def _set_up(self) -> None:
        """Make what a subclass needs to wait and to be woken."""

    @property
    def last_event_id(self) -> str:
        """The id to resume from after the event that was yielded last; ``""`` before the first id."""
        return self._session.last_event_id

    @property
    def reconnects(self) -> int:
        """How many times the stream was opened again."""
        return max(self._session.connections - 1, 0)

    @property
    def connected_from(self) -> list[str]:
        """The ids that the opened connections began from, of the last hundred; ``""`` where none was sent."""
        return list(self._session.opened_from)

    @property
    def gaps(self) -> int:
        """How many ``eric.gap`` events came."""
        return self._session.gaps

    @property
    def state(self) -> StreamState:
        """What the reader is doing."""
        return self._session.state

    def _request(self, client: ClientT) -> "httpx2.Request":
        headers = self._session.request_headers(self._headers)
        return client.build_request("GET", self._url, headers=headers, timeout=self._timeout)

    @contextlib.contextmanager
    def _failures_reported(self) -> Iterator[None]:
        httpx = self._httpx
        try:
            yield
        except httpx.TooManyRedirects as error:
            self._session.close()
            raise StreamRefused(self._session.url, _FOUND, "it redirects in circles; see where it leads") from error
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL) as error:
            self._session.close()
            raise ConfigurationError(f"{self._session.url!r} cannot be requested: {error}; correct it") from error
        except httpx.RequestError as error:
            self._session.lost(f"{type(error).__name__}: {error}", error)


def _httpx2() -> ModuleType:
    try:
        import httpx2  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        raise ConfigurationError("reading event streams needs httpx2: pip install 'eric-sse[client]'") from error
    return httpx2
