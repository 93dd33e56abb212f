"""Standard input, in batches of whole lines: what has come is taken at once, however much that is."""

import os
from collections.abc import Iterator
from typing import NamedTuple

STDIN = 0
"""Its file descriptor: ``sys.stdin`` is None where it is closed."""

_READ_BYTES = 256 * 1024
_BATCH_LINES = 1000


class Line(NamedTuple):
    """A line without its end.

    Attributes:
        number: Its place, from 1.
        text: Its bytes.
    """

    number: int
    text: bytes


class Batch(NamedTuple):
    """Lines that came together.

    Attributes:
        lines: The lines, at least one.
        end: How many bytes of the input were read when they were complete.
    """

    lines: list[Line]
    end: int


def batches(source: int = STDIN) -> Iterator[Batch]:
    """Read whole lines: of a pipe, what is there; of a file, a quarter of a megabyte at a time. Never waits for more.

    A last line need not have an end. An end may be LF or CR LF.

    Args:
        source: The file descriptor to read from.
    """
    number = read = 0
    rest = b""
    while chunk := os.read(source, _READ_BYTES):
        read += len(chunk)
        *whole, rest = (rest + chunk).split(b"\n")
        for start in range(0, len(whole), _BATCH_LINES):
            yield Batch(_numbered(whole[start : start + _BATCH_LINES], number + start), read)
        number += len(whole)
    if rest:
        yield Batch(_numbered([rest], number), read)


def _numbered(lines: list[bytes], before: int) -> list[Line]:
    return [Line(number, line.removesuffix(b"\r")) for number, line in enumerate(lines, start=before + 1)]
