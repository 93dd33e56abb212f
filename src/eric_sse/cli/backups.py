"""``eric-sse backup``: copy a store while it is in use."""

from pathlib import Path
from typing import Annotated, Protocol, runtime_checkable

import typer

from eric_sse.cli.errors import UsageError
from eric_sse.cli.output import print_line
from eric_sse.cli.target import SQLITE, refuse_absent
from eric_sse.engines import open_engine


@runtime_checkable
class _Copyable(Protocol):
    def backup(self, path: Path, /) -> None:
        """Copy everything to a new file."""


def backup(
    source: Annotated[str, typer.Argument(metavar="SRC", help="The store: `sqlite:///events.db`.", show_default=False)],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.", show_default=False)],
) -> None:
    """Copy a SQLite store to a new file, as it stands at one moment, also while servers use it."""
    if not source.startswith(SQLITE):
        raise UsageError(f"{source!r} is no SQLite store: only those are copied, such as {SQLITE}events.db")
    refuse_absent(source)
    with open_engine(source) as engine:
        if not isinstance(engine, _Copyable):
            raise UsageError(f"{source!r} cannot be copied while it is in use")
        engine.backup(file)
    print_line(file)
