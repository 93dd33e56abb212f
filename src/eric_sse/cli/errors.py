"""How a command fails: one line on stderr, which says what was wrong and what to do, and a status."""

import sys

import typer

FAILED = 1
WRONG_USAGE = 2
INTERRUPTED = 130
"""What a shell reports for a command that Ctrl-C ended."""
TERMINATED = 143
"""What a shell reports for a command that SIGTERM ended."""


class CommandError(typer.TyperException):
    """A command failed; the message says why and what to do."""

    exit_code = FAILED


class UsageError(CommandError):
    """A command was called wrongly; the message says how to call it."""

    exit_code = WRONG_USAGE


def tell(message: str) -> None:
    """Print a line on stderr: an error, or what a person should know while a command goes on."""
    print("eric-sse:", " ".join(message.split()), file=sys.stderr, flush=True)  # noqa: T201 - what a CLI does
