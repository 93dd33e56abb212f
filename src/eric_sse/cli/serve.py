"""``eric-sse serve``: the server."""

import ipaddress
import logging
import socket
import ssl
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from eric_sse.cli.errors import UsageError, tell
from eric_sse.engines import open_engine
from eric_sse.unix_socket import listening


class LogLevel(StrEnum):
    """What is worth a line in the log."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def serve(
    *,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            show_default=False,
            envvar="ERIC_SSE_STORE",
            help="Where channels are kept: `sqlite:///events.db` for a file in the working folder, "
            "`sqlite:////srv/events.db` for an absolute path, `memory://` for nothing that lasts. "
            "Without it, `sqlite:///eric_sse.db`.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on. Beyond loopback, anybody may connect.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes any that is free.")] = (
        8000
    ),
    uds: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Listen on this unix-domain socket instead of a port.")
    ] = None,
    ssl_certfile: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Speak TLS, with this certificate: its own and then its issuers', in one PEM file."
        ),
    ] = None,
    ssl_keyfile: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="The certificate's private key; without it, in the same file."),
    ] = None,
    log_level: Annotated[LogLevel, typer.Option(help="What is logged, on standard error.")] = LogLevel.WARNING,
    access_log: Annotated[bool, typer.Option("--access-log", help="Log each request too, at the level info.")] = False,
) -> None:
    """Serve channels over HTTP until SIGTERM or Ctrl-C.

    Prints one line on standard output when it accepts connections, such as
    `eric-sse serving sqlite:///events.db on http://127.0.0.1:8000`, whose last word is the server's URL.

    More settings are environment variables: ERIC_SSE_CORS_ORIGINS, ERIC_SSE_MAX_BODY_BYTES, ERIC_SSE_HEARTBEAT_S,
    ERIC_SSE_SEND_TIMEOUT_S, ERIC_SSE_RETRY_MS, ERIC_SSE_MAX_WAITING and ERIC_SSE_GATHER_MS.
    """
    # Slow to import, and no other command needs them.
    from eric_sse.asgi.server import bind  # noqa: PLC0415
    from eric_sse.asgi.server import serve as serve_asgi  # noqa: PLC0415
    from eric_sse.cli.private_server import read_settings  # noqa: PLC0415
    from eric_sse.config import build  # noqa: PLC0415

    _configure_logging(log_level, access_log=access_log)
    settings = read_settings(store)
    tls = _tls(ssl_certfile, ssl_keyfile, uds)
    binding = bind(host, port) if uds is None else listening(uds)
    with binding as bound, open_engine(settings.store) as engine:
        url = url_of(bound, is_tls=tls is not None)
        _warn_if_public(bound, url)
        app, service = build(engine, settings)
        line = f"eric-sse serving {without_password(settings.store)} on {url}"
        serve_asgi(
            app,
            service,
            [bound],
            tls=tls,
            access_log=access_log,
            on_started=lambda: print(line, flush=True),  # noqa: T201
        )


def url_of(bound: socket.socket, *, is_tls: bool) -> str:
    """The URL of a server that listens on a socket: ``http://host:port``, ``https://host:port``, or ``unix:/path``."""
    address = bound.getsockname()
    if bound.family == socket.AF_UNIX:
        return f"unix:{Path(address).absolute()}"
    host = f"[{address[0]}]" if bound.family == socket.AF_INET6 else address[0]
    return f"{'https' if is_tls else 'http'}://{host}:{address[1]}"


def _tls(certfile: Path | None, keyfile: Path | None, uds: Path | None) -> ssl.SSLContext | None:
    from eric_sse.asgi.tls import server_context  # noqa: PLC0415

    if certfile is None:
        if keyfile is not None:
            raise UsageError("--ssl-keyfile is of no use without --ssl-certfile")
        return None
    if uds is not None:
        raise UsageError("a unix-domain socket needs no TLS: use --uds or --ssl-certfile, not both")
    return server_context(certfile, keyfile)


def _warn_if_public(bound: socket.socket, url: str) -> None:
    if bound.family == socket.AF_UNIX:
        return
    if not ipaddress.ip_address(bound.getsockname()[0].partition("%")[0]).is_loopback:
        tell(
            f"warning: {url} can be reached from other machines, and there is no authentication yet: "
            "whoever connects may read, publish and delete; put a proxy in front, or use --host 127.0.0.1"
        )


def without_password(store: str) -> str:
    """The URL of a store, to be shown."""
    parts = urlsplit(store)
    return store if parts.password is None else store.replace(f":{parts.password}@", ":***@", 1)


def _configure_logging(level: LogLevel, *, access_log: bool) -> None:
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s", datefmt="%Y-%m-%d %H:%M:%S"
    )
    if access_log:
        logging.getLogger("uvicorn.access").setLevel(logging.INFO)
