"""The server of a command that works straight on a store: in this process, on a socket that nobody else can reach.

So that a command has one code path, whether a server runs already or not.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from pydantic import ValidationError
from pydantic_settings import SettingsError

from eric_sse.asgi.server import DrainingServer, create_server
from eric_sse.cli.errors import UsageError
from eric_sse.config import Settings, build
from eric_sse.engines import open_engine
from eric_sse.unix_socket import listening

_STOP_TIMEOUT_S = 5.0
_LONGEST_FOLDER = 75


def read_settings(store: str | None) -> Settings:
    """The settings of the environment, with another store where one is given.

    Raises:
        UsageError: An environment variable holds what its setting cannot be.
    """
    try:
        return Settings() if store is None else Settings(store=store)
    except ValidationError as error:
        found = (f"ERIC_SSE_{str(e['loc'][0]).upper()}={e['input']!r}: {e['msg']}" for e in error.errors())
        raise UsageError(f"wrong environment: {'; '.join(found)}") from error
    except SettingsError as error:  # of the one setting that is more than a single value
        raise UsageError(
            'wrong environment: ERIC_SSE_CORS_ORIGINS is no JSON array; write it as ["http://127.0.0.1:9000"]'
        ) from error


@contextlib.contextmanager
def private_server(store: str) -> Iterator[Path]:
    """Serve a store while the block runs. Yields the path of the unix-domain socket.

    In the end the cursors are moved and the store is let go.

    Raises:
        UsageError: The environment is wrong.
        EricError: The store cannot be opened.
    """
    # A command's errors are its answer's; the server's log would say them twice.
    logging.getLogger().addHandler(logging.NullHandler())
    settings = read_settings(store)
    with TemporaryDirectory(prefix="eric_sse-", dir=_short_folder()) as folder, open_engine(store) as engine:
        app, service = build(engine, settings)
        path = Path(folder) / "socket"
        # Resolved when it accepts connections, or with the error where it never does.
        ready: Future[None] = Future()
        server = create_server(app, service, on_started=lambda: ready.set_result(None))
        # A daemon, so that a store that hangs does not keep the command from ending.
        thread = threading.Thread(target=_run, args=(server, path, ready), name="eric_sse server", daemon=True)
        thread.start()
        try:
            ready.result()
            yield path
        finally:
            server.stop()
            thread.join(_STOP_TIMEOUT_S)


def _short_folder() -> str:
    """Where the folder of the socket is made. The path of a socket holds 104 bytes on some systems."""
    folder = gettempdir()
    return folder if len(os.fsencode(folder)) <= _LONGEST_FOLDER else "/tmp"  # noqa: S108 - the folder in it is ours


def _run(server: DrainingServer, path: Path, ready: "Future[None]") -> None:
    try:
        with listening(path) as bound:
            server.run([bound])
    except BaseException as error:
        if ready.done():
            raise
        ready.set_exception(error)
