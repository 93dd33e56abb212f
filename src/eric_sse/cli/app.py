"""Puts the commands together, and turns every error into one line on stderr and an exit status."""

import contextlib
import io
import os
import signal
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from eric_sse.cli import channels, listeners
from eric_sse.cli.backups import backup
from eric_sse.cli.errors import FAILED, INTERRUPTED, TERMINATED, tell
from eric_sse.cli.events import listen
from eric_sse.cli.messages import publish
from eric_sse.cli.output import OutputClosed
from eric_sse.cli.serve import serve
from eric_sse.exception import EricError

app = typer.Typer(
    name="eric-sse",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it
    if wanted:
        typer.echo(f"eric-sse {version('eric-sse')}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Durable Server-Sent-Events channels: a client that reconnects gets exactly what it missed."""


app.command()(serve)
app.add_typer(channels.app, name="channel")
app.add_typer(listeners.app, name="listener")
app.command()(publish)
app.command()(listen)
app.command()(backup)


def run(arguments: list[str] | None = None) -> int:
    """Run a command line, by default this process's, and return its exit status."""
    signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal's encoding is no reason to fail
    try:
        return app(arguments, prog_name="eric-sse", standalone_mode=False) or 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except ModuleNotFoundError:
        raise  # an extra is missing: `main` says which
    except Exception as error:  # noqa: BLE001 - no error ends in a traceback
        return _failed(error)


def _failed(error: Exception) -> int:
    """Say what went wrong, and return the exit status."""
    if isinstance(error, OutputClosed):
        _forget_stdout()
        return 0
    if isinstance(error, typer.TyperException):
        if message := error.format_message():  # none where a command without arguments has shown its help
            tell(message)
        return error.exit_code
    if isinstance(error, EricError | OSError):
        tell(str(error))
        return FAILED
    if "ERIC_SSE_DEBUG" in os.environ:
        raise error
    tell(f"{type(error).__name__}: {error}; this is a defect: please report it, with what ERIC_SSE_DEBUG=1 shows")
    return FAILED


def _terminate(_signal: int, _frame: object) -> None:
    """End by unwinding, so that cursors are moved and temporary files removed. ``serve`` has a way of its own."""
    sys.exit(TERMINATED)


def _forget_stdout() -> None:
    """Let nothing more be written, not even at exit."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
