"""TLS for the server."""

import ssl
from pathlib import Path

from eric_sse.exception import ConfigurationError


def server_context(certfile: Path, keyfile: Path | None = None) -> ssl.SSLContext:
    """What a server shows to its clients, read once.

    Args:
        certfile: Its certificate, then those of its issuers, in PEM.
        keyfile: The certificate's private key, in PEM and not encrypted; None: it is in the same file.

    Raises:
        ConfigurationError: A file cannot be read, or they are not that; the message says which.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for path in filter(None, (certfile, keyfile)):
        _require_readable(path)
    try:
        # A password that is asked for at the terminal is no good to a server.
        context.load_cert_chain(certfile, keyfile, password=_refuse_password)
    except ssl.SSLError as error:
        advice = f"or {keyfile} not the private key that belongs to it"
        if keyfile is None:
            advice = "or not its private key as well; name the key's file with --ssl-keyfile"
        raise ConfigurationError(f"{certfile} holds no certificate in PEM, {advice}") from error
    return context


def _require_readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror or error}") from error


def _refuse_password() -> str:
    raise ConfigurationError("the private key is encrypted; store it decrypted, where only the server may read it")
