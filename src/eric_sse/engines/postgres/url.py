"""The URL of a PostgreSQL engine: libpq's, with some parameters of our own."""

import os
from dataclasses import dataclass, replace
from urllib.parse import unquote

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from eric_sse.exception import ConfigurationError

_OURS = ("schema", "lock_timeout_ms", "pool_size")
_KNOWN = "schema=<name>, lock_timeout_ms=<1 or more>, pool_size=<1 to 1000>, or a connection parameter of libpq"
_MAX_NAME_BYTES = 63
_MAX_POOL = 1000
_MAX_PORT = 65_535
_MAX_MS = 2**31 - 1
# A server that vanished without a word is noticed after some 20 s, rather than after two hours.
_DEFAULTS = {
    "connect_timeout": "5",
    "fallback_application_name": "eric_sse",
    "keepalives_idle": "5",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}


@dataclass(frozen=True)
class Options:
    """How to open a database.

    Args:
        conninfo: What libpq connects with; `""` for a pool that was handed in.
        schema: Where the tables are; None: the first schema of the search path.
        lock_timeout_ms: How long to wait for a row that another transaction holds.
        pool_size: How many connections at most, beside the notifier's.
    """

    conninfo: str = ""
    schema: str | None = None
    lock_timeout_ms: int = 4000
    pool_size: int = 8

    def __post_init__(self) -> None:
        if self.schema is not None and not _is_name(self.schema):
            raise ConfigurationError(
                f"schema {self.schema!r} cannot be one: give 1 to {_MAX_NAME_BYTES} bytes that do not begin with pg_"
            )
        if not 0 < self.lock_timeout_ms <= _MAX_MS or not 0 < self.pool_size <= _MAX_POOL:
            raise ConfigurationError(
                f"lock_timeout_ms={self.lock_timeout_ms} or pool_size={self.pool_size} is out of range; use {_KNOWN}"
            )


def options_of(url: str) -> Options:
    """How to open the database that ``url`` names.

    Raises:
        ConfigurationError: The URL is wrong.
    """
    base, _, query = url.partition("?")
    ours: dict[str, str] = {}
    theirs = []
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        if name not in _OURS:
            theirs.append(part)
        elif name in ours:
            raise ConfigurationError(f"the store URL has the option {name} twice")
        else:
            ours[name] = unquote(value)
    return _with_ours(Options(_conninfo(f"{base}?{'&'.join(theirs)}")), ours)


def _conninfo(url: str) -> str:
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        # Not the URL itself: it may hold a password.
        raise ConfigurationError(f"the store URL is wrong: {str(error).strip()}; use {_KNOWN}") from error
    for port in str(given.get("port", "")).split(","):
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) <= _MAX_PORT):
            raise ConfigurationError(f"the store URL has the port {port!r}; give a number from 1 to {_MAX_PORT}")
    defaults = {name: value for name, value in _DEFAULTS.items() if name not in given}
    if "PGCONNECT_TIMEOUT" in os.environ:
        defaults.pop("connect_timeout", None)
    return make_conninfo("", **defaults, **given)


def _with_ours(options: Options, given: dict[str, str]) -> Options:
    if "schema" in given:
        options = replace(options, schema=given["schema"])
    if "lock_timeout_ms" in given:
        options = replace(options, lock_timeout_ms=_number("lock_timeout_ms", given["lock_timeout_ms"]))
    if "pool_size" in given:
        options = replace(options, pool_size=_number("pool_size", given["pool_size"]))
    return options


def _number(name: str, value: str) -> int:
    if not value.isascii() or not value.isdigit():
        raise ConfigurationError(f"the store URL has the option {name}={value}; use {_KNOWN}")
    return int(value)


def _is_name(name: str) -> bool:
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return False
    return 0 < size <= _MAX_NAME_BYTES and "\0" not in name and not name.startswith("pg_")
