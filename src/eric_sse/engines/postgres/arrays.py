"""Arrays as PostgreSQL's text: the driver dumps lists element by element, which takes several times as long."""

from collections.abc import Iterable


def numbers(values: Iterable[int]) -> str:
    """For ``$1::bigint[]``."""
    return f"{{{','.join(map(str, values))}}}"


def texts(values: Iterable[str]) -> str:
    """For ``$1::text[]``; without NUL, which no text holds."""
    elements = [_quoted(value) for value in values]
    return f"{{{','.join(elements)}}}"


def blobs(values: Iterable[bytes]) -> str:
    """For ``$1::bytea[]``."""
    elements = [rf'"\\x{value.hex()}"' for value in values]
    return f"{{{','.join(elements)}}}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
