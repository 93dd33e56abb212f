"""The command line: parse, call, print. ``main`` is what the command ``eric-sse`` runs.

A module for each noun: ``serve``, ``channels``, ``listeners``, ``messages`` (publish), ``events`` (listen),
``backups``. Every command but ``serve`` and ``backup`` is a client of the HTTP interface (``api``): of a running
server, or of a private one in this process (``private_server``), so that there is one way to do a thing.
"""

import sys

_NEEDED = frozenset({"fastapi", "httpx2", "pydantic", "pydantic_settings", "rich", "starlette", "typer", "uvicorn"})


def main() -> None:
    """Run the command line and exit: 0 for success, 2 for wrong usage, 1 for every other failure."""
    try:
        from eric_sse.cli.app import run  # noqa: PLC0415 - what it needs is optional

        sys.exit(run())
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _NEEDED:
            raise
        sys.exit(f"eric-sse: {error.name} is not installed; run: pip install 'eric-sse[server]'")
