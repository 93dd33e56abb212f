"""Room in the write-ahead log, made before it is needed."""

import os
from contextlib import suppress
from pathlib import Path

from eric_sse.engines.sqlite.database import Database
from eric_sse.exception import RepositoryError

# SQLite begins the log anew when a checkpoint has emptied it, which is due at 1,000 pages; and the last commit's.
_BYTES = 4_500_000
# Who publishes once is not to pay for the room, which takes as long as some fifty commits gain by it.
_EVERY_COMMITS = 50


class WalRoom:
    """Makes the log's file as long as it is going to be.

    A commit that makes the file longer has the disk store its length as well, which takes as long again. SQLite keeps
    the file through checkpoints, but the last to close the store removes it. What follows the last commit in it is not
    part of the log: https://www.sqlite.org/fileformat2.html#the_write_ahead_log

    Args:
        database: The file.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._path = Path(f"{database.path}-wal")
        self._commits = 0

    def note_commit(self) -> None:
        """Make room now and then, where it is not there; not inside of a transaction.

        Never raises: without it nothing is lost but time.
        """
        self._commits += 1
        if self._commits % _EVERY_COMMITS == 0:
            with suppress(OSError, RepositoryError):
                self._make_room()

    def _make_room(self) -> None:
        if self._path.stat().st_size >= _BYTES:
            return
        # A transaction: no process writes to the log meanwhile. SQLite's locks are not on this file, so that closing it
        # loses none.
        with self._database.write(), self._path.open("r+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            room = bytes(max(0, _BYTES - size))
            is_complete = False
            try:
                is_complete = file.write(room) == len(room)
                os.fsync(file.fileno())
            finally:
                if not is_complete:
                    file.truncate(size)
