"""``eric-sse`` on SQLite, counting the appends that it commits: ``python counted_server.py FILE serve ...``."""

import mmap
import sys
from collections.abc import Sequence
from pathlib import Path

from eric_sse.cli import main
from eric_sse.engines.sqlite.log import SqliteLog
from eric_sse.exception import EricError
from eric_sse.log import Append, Appended

_SIZE = 8


def count_into(path: Path) -> None:
    """Have the file hold the number of commits, as eight bytes, from now on."""
    path.write_bytes(bytes(_SIZE))
    with path.open("r+b") as file:
        counted = mmap.mmap(file.fileno(), _SIZE)
    append_group = SqliteLog.append_group

    def counting(log: SqliteLog, appends: Sequence[Append]) -> Sequence[Appended | EricError]:
        counted[:] = (int.from_bytes(counted[:], "little") + 1).to_bytes(_SIZE, "little")
        return append_group(log, appends)

    SqliteLog.append_group = counting  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    count_into(Path(sys.argv.pop(1)))
    main()
