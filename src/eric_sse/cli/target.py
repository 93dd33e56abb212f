"""Which server or store a command works on."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote

import typer

from eric_sse.cli.api import Api
from eric_sse.cli.errors import CommandError, UsageError

SQLITE = "sqlite:///"
DEFAULT_URL = "http://127.0.0.1:8000"

UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help=f"The server to talk to: `http://host:port`, or `unix:/path` of its socket. "
        f"Without it or --store: `$ERIC_SSE_URL`, else `$ERIC_SSE_STORE`, else `{DEFAULT_URL}`.",
        rich_help_panel="Where",
        show_default=False,
    ),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="Work on this store directly, such as `sqlite:///events.db`. No server needs to run, and one may.",
        rich_help_panel="Where",
        show_default=False,
    ),
]


@contextmanager
def connected(url: str | None, store: str | None, *, may_create: bool = False) -> Iterator[Api]:
    """The server of a command's ``--url``, or a private one for its ``--store``.

    Args:
        url: The server; None: another, or the environment's.
        store: The store; None likewise.
        may_create: Whether a store that is not there is created.

    Raises:
        UsageError: Both are given, or one cannot be.
        EricError: The store cannot be opened.
    """
    if url is not None and store is not None:
        raise UsageError("--url and --store exclude each other: name a running server, or a store to work on directly")
    if url is None and store is None:
        url, store = os.environ.get("ERIC_SSE_URL"), os.environ.get("ERIC_SSE_STORE")
    if url is None and store is not None:
        if not may_create:
            refuse_absent(store)
        with _private(store) as api:
            yield api
    else:
        with Api(url or DEFAULT_URL) as api:
            yield api


def refuse_absent(store: str) -> None:
    """Refuse a SQLite file that is not there, which opening would create: its name must be wrong.

    Raises:
        CommandError: It is not there.
    """
    path = Path(unquote(store.removeprefix(SQLITE).partition("?")[0]))
    if store.startswith(SQLITE) and not path.exists():
        raise CommandError(
            f"there is no store {path.absolute()}; correct the URL, or create it with its first channel: "
            f"eric-sse channel create --store {store}"
        )


@contextmanager
def _private(store: str) -> Iterator[Api]:
    if store.startswith("memory:"):
        raise UsageError("a memory:// store would end with this command; use another, or a server that serves it")
    # Slow to import, and most commands talk to a server that runs already.
    from eric_sse.cli.private_server import private_server  # noqa: PLC0415

    with private_server(store) as path, Api(f"unix:{path}") as api:
        yield api
