"""The URL of a SQLite engine."""

import os
import sqlite3
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from eric_sse.engines.sqlite.database import Options
from eric_sse.exception import ConfigurationError, RepositoryError

_KNOWN = "synchronous=full|normal, busy_timeout_ms=<milliseconds>"
_OLDEST = (3, 37)


def options_of(url: str) -> Options:
    """How to open the file that ``url`` names.

    Raises:
        ConfigurationError: The URL is wrong, or SQLite too old.
        RepositoryError: There is no such folder, or a folder in the file's place.
    """
    if sqlite3.sqlite_version_info < _OLDEST:
        raise ConfigurationError(f"SQLite is {sqlite3.sqlite_version}; use a Python with 3.37 or newer")
    parts = urlsplit(url)
    if parts.netloc or parts.fragment or not parts.path.startswith("/") or "\0" in unquote(parts.path):
        raise ConfigurationError(
            f"store URL {url!r} names no file: write sqlite:///relative.db or sqlite:////absolute.db, with %23 for #"
        )
    return _with_settings(Options(_path(url, unquote(parts.path[1:]))), url, parts.query)


def _path(url: str, name: str) -> str:
    if name in {"", ":memory:"}:
        raise ConfigurationError(f"store URL {url!r} names no file; for a store in memory use memory://")
    path = Path(os.path.abspath(name))  # noqa: PTH100 - resolve() would follow links, which may change
    if path.is_dir():
        raise RepositoryError(f"{path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise RepositoryError(f"there is no folder {path.parent}; create it first")
    return str(path)


def _with_settings(options: Options, url: str, query: str) -> Options:
    seen = set()
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "synchronous" and value in {"full", "normal"} and name not in seen:
            options = replace(options, synchronous=value)
        elif name == "busy_timeout_ms" and value.isascii() and value.isdigit() and name not in seen:
            options = replace(options, busy_timeout_ms=int(value))
        else:
            raise ConfigurationError(f"store URL {url!r} has the option {name}={value}; use {_KNOWN}")
        seen.add(name)
    return options
