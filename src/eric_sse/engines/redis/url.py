"""The URL of a Redis engine."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from eric_sse.exception import ConfigurationError

DEFAULT_PREFIX = "eric_sse"
DEFAULT_WAIT_TIMEOUT_MS = 1000
DEFAULT_TIMEOUT_MS = 5000
_PORT = 6379
_MAX_PORT = 65535
_KNOWN = (
    "prefix=<text>, wait=<replicas>, wait_timeout_ms=<milliseconds>, timeout_ms=<milliseconds>; and with rediss:// "
    "ssl_ca_certs, ssl_certfile, ssl_keyfile=<file>, ssl_cert_reqs=required|optional|none, ssl_check_hostname=yes|no"
)
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


@dataclass(frozen=True)
class Options:
    """What a URL says.

    Attributes:
        hosts: Host and port of each server named.
        connection: What the driver takes for a connection: user, password, db, TLS.
        prefix: What all keys begin with.
        wait: How many replicas must have what was stored.
        wait_timeout_ms: How long to wait for them.
        timeout_ms: How long to wait for a server.
    """

    hosts: tuple[tuple[str, int], ...]
    connection: dict[str, Any] = field(default_factory=dict)
    prefix: str = DEFAULT_PREFIX
    wait: int = 0
    wait_timeout_ms: int = DEFAULT_WAIT_TIMEOUT_MS
    timeout_ms: int = DEFAULT_TIMEOUT_MS


def options_of(url: str) -> Options:
    """How to reach the store that ``url`` names.

    Raises:
        ConfigurationError: The URL is wrong.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigurationError(f"a store URL cannot be read ({error}); write redis://host:6379/0") from error
    shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    if parts.fragment or not parts.netloc:
        raise ConfigurationError(f"store URL {shown!r} names no server: write redis://host:6379/0, with %23 for #")
    credentials, _, servers = parts.netloc.rpartition("@")
    connection = _credentials(credentials) | _database(parts.path, shown)
    if parts.scheme == "rediss":
        connection["ssl"] = True
    hosts = tuple(_host(server, shown) for server in servers.split(","))
    return _with_settings(hosts, connection, parts, shown)


def _credentials(credentials: str) -> dict[str, Any]:
    user, _, password = credentials.partition(":")
    given = {"username": unquote(user), "password": unquote(password)}
    return {name: value for name, value in given.items() if value}


def _database(path: str, shown: str) -> dict[str, Any]:
    number = unquote(path).strip("/")
    if not number:
        return {}
    if not _is_number(number):
        raise ConfigurationError(f"store URL {shown!r}: {number!r} is no database; write its number, or nothing")
    return {"db": int(number)}


def _host(server: str, shown: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{server}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port == 0:
        raise ConfigurationError(
            f"store URL {shown!r}: {server!r} is no server; write host or host:port, up to {_MAX_PORT}"
        )
    return unquote(host), port or _PORT


def _with_settings(
    hosts: tuple[tuple[str, int], ...], connection: dict[str, Any], parts: SplitResult, shown: str
) -> Options:
    settings: dict[str, Any] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        parsed = _parsed(name, value, tls=parts.scheme == "rediss")
        if parsed is None or name in settings or name in connection:
            raise ConfigurationError(f"store URL {shown!r} has the option {name}={value}; use {_KNOWN}, each once")
        if name in _FILES and not Path(value).is_file():
            raise ConfigurationError(f"store URL {shown!r}: there is no file {value} for {name}")
        (connection if name.startswith("ssl_") else settings)[name] = parsed
    return Options(hosts, connection, **settings)


def _parsed(name: str, value: str, *, tls: bool) -> Any:
    if name == "prefix":
        return value or None
    if name in {"wait", "wait_timeout_ms", "timeout_ms"}:
        allowed = _is_number(value) and (name == "wait" or int(value) > 0)
        return int(value) if allowed else None
    if tls and name == "ssl_check_hostname":
        return {"yes": True, "true": True, "no": False, "false": False}.get(value.lower())
    if tls and name == "ssl_cert_reqs":
        return value if value in {"required", "optional", "none"} else None
    return value if tls and name in _FILES else None


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdigit()
