"""The tables, and how those of an older version are brought forward.

The file may be the application's own: every name begins with ``eric_``, and the version is a row of ``eric_meta``,
since ``PRAGMA user_version`` and ``application_id`` are the application's.
"""

from eric_sse.engines.sqlite.session import Session
from eric_sse.exception import RepositoryError

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE eric_kv (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID",
        # AUTOINCREMENT: the id of a dropped log must not come to mean another one while somebody trims it.
        """CREATE TABLE eric_logs (
            id INTEGER PRIMARY KEY AUTOINCREMENT, channel TEXT NOT NULL UNIQUE, epoch TEXT NOT NULL,
            trimmed INTEGER NOT NULL DEFAULT 0, max_messages INTEGER, max_age_s REAL
        ) STRICT""",
        # `id` counts through all logs: rows go in at the table's end whatever their log is, and it tells the notifier
        # what is new. As PRIMARY KEY (log, offset) WITHOUT ROWID it was 2.5 times as slow with 100 channels, and 25 %
        # larger with messages of 10 kB. A broadcast's receiver is ''. `at` is in milliseconds since 1970.
        """CREATE TABLE eric_messages (
            id INTEGER PRIMARY KEY, log INTEGER NOT NULL, offset INTEGER NOT NULL, receiver TEXT NOT NULL,
            at INTEGER NOT NULL, data BLOB NOT NULL
        ) STRICT""",
        "CREATE UNIQUE INDEX eric_messages_by_log ON eric_messages (log, offset)",
        "CREATE INDEX eric_messages_by_receiver ON eric_messages (log, receiver, offset)",
        """CREATE TABLE eric_keys (
            log INTEGER NOT NULL, receiver TEXT NOT NULL, key TEXT NOT NULL, offset INTEGER NOT NULL,
            at INTEGER NOT NULL, PRIMARY KEY (log, receiver, key)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX eric_keys_by_age ON eric_keys (at)",
        # A cursor's epoch is that of its log, with which it goes.
        """CREATE TABLE eric_cursors (
            log INTEGER NOT NULL, listener TEXT NOT NULL, offset INTEGER NOT NULL, PRIMARY KEY (log, listener)
        ) STRICT, WITHOUT ROWID""",
    ),
    ("ALTER TABLE eric_logs ADD COLUMN removals INTEGER NOT NULL DEFAULT 0",),
)
"""What brings a file from each version to the next. Never edit one that was released: append."""


def is_current(session: Session, path: str) -> bool:
    """Whether the file is of this version.

    Raises:
        RepositoryError: It is of a newer one.
    """
    if session.row("SELECT 1 FROM sqlite_master WHERE name = 'eric_meta'") is None:
        return False
    return _version(session, path) == len(MIGRATIONS)


def migrate(session: Session, path: str) -> None:
    """Bring the file to this version. To be called inside a write transaction.

    Raises:
        RepositoryError: The file is of a newer version.
    """
    session.run(
        "CREATE TABLE IF NOT EXISTS eric_meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID"
    )
    for statements in MIGRATIONS[_version(session, path) :]:
        for statement in statements:
            session.run(statement)
    session.run("INSERT OR REPLACE INTO eric_meta (key, value) VALUES ('schema', ?)", (len(MIGRATIONS),))


def _version(session: Session, path: str) -> int:
    row = session.row("SELECT value FROM eric_meta WHERE key = 'schema'")
    version = int(row[0]) if row else 0
    if version > len(MIGRATIONS):
        raise RepositoryError(
            f"{path} was written by a newer version of eric_sse (schema {version}, this one knows {len(MIGRATIONS)}): "
            "upgrade eric_sse; the file was left as it is"
        )
    return version
