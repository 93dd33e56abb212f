"""What commands print: tables for people, tab-separated lines and JSON for machines."""

import json
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.", rich_help_panel="Output")]
PlainOption = Annotated[
    bool,
    typer.Option(
        "--plain", help="Print tab-separated lines, as is done where output is no terminal.", rich_help_panel="Output"
    ),
]


class OutputClosed(Exception):
    """Whoever read the output, as ``head`` does, has enough. That is no failure."""


def for_people(*, plain: bool) -> bool:
    """Whether what is printed is for people."""
    return not plain and sys.stdout is not None and sys.stdout.isatty()


def print_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    print_line(json.dumps(value, ensure_ascii=False))


def print_line(*fields: object) -> None:
    """Print fields, separated by tabs, at once.

    Raises:
        OutputClosed: Nobody reads it any more.
    """
    try:
        print(*map(printable, fields), sep="\t", flush=True)  # noqa: T201 - what a CLI does
    except BrokenPipeError:
        raise OutputClosed from None


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, plain: bool) -> None:
    """Print rows: a table for people, else a line each without a header. Numbers are set to the right."""
    if not for_people(plain=plain):
        for row in rows:
            print_line(*row)
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for number, column in enumerate(columns):
        right = bool(rows) and isinstance(rows[0][number], int)
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(field)) for field in row))
    Console().print(table)


def print_fields(fields: Mapping[str, object], *, plain: bool) -> None:
    """Print one thing's fields, a line each."""
    if not for_people(plain=plain):
        for field in fields.items():
            print_line(*field)
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in fields.items():
        table.add_row(name, Text(printable(value)))
    Console().print(table)


def print_event(event_id: str, event_type: str, data: str) -> None:
    """Print an event for people, on a line."""
    line = Text.assemble(
        (printable(event_id), "dim"), "  ", (printable(event_type), "bold cyan"), "  ", printable(data)
    )
    Console().print(line, soft_wrap=True)
    sys.stdout.flush()


def printable(value: object) -> str:
    """Text without control characters, which would steer a terminal and break lines; in JSON it means the same."""
    text = "-" if value is None else str(value)
    if text.isprintable():
        return text
    return "".join(f"\\u{ord(c):04x}" if unicodedata.category(c) in {"Cc", "Cs"} else c for c in text)
