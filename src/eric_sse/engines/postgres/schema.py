"""The tables, and how those of an older version are brought forward.

They are in a schema that may be the application's own: every name begins with ``eric_``.
"""

from typing import LiteralString

from eric_sse.engines.postgres.session import Session
from eric_sse.exception import RepositoryError

MIGRATIONS: tuple[tuple[LiteralString, ...], ...] = (
    (
        # Keys are the bytes of UTF-8: PostgreSQL's text holds no NUL, and bytes sort by code points.
        "CREATE TABLE {schema}.eric_kv (key bytea PRIMARY KEY, value bytea NOT NULL)",
        # No index on what appends change, and room on each page: an update stays on its page and touches no index.
        # Times are seconds since 1970 by the server's clock. `expires_at`: when the oldest message passes max_age_s;
        # null where there is none, or no bound.
        """CREATE TABLE {schema}.eric_logs (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, channel text COLLATE "C" NOT NULL UNIQUE,
            epoch text NOT NULL, last bigint NOT NULL DEFAULT 0, trimmed bigint NOT NULL DEFAULT 0,
            count bigint NOT NULL DEFAULT 0, removals bigint NOT NULL DEFAULT 0,
            max_messages bigint, max_age_s double precision, expires_at double precision
        ) WITH (fillfactor = 50)""",
        "CREATE INDEX eric_logs_by_expiry ON {schema}.eric_logs (expires_at)",
        # No foreign keys: they would lock the log's row once a message. A broadcast's receiver is null.
        """CREATE TABLE {schema}.eric_messages (
            log bigint NOT NULL, "offset" bigint NOT NULL, receiver text COLLATE "C", at double precision NOT NULL,
            data bytea NOT NULL, PRIMARY KEY (log, "offset")
        )""",
        'CREATE INDEX eric_broadcasts ON {schema}.eric_messages (log, "offset") WHERE receiver IS NULL',
        """CREATE INDEX eric_dispatches ON {schema}.eric_messages (log, receiver, "offset")
            WHERE receiver IS NOT NULL""",
        """CREATE TABLE {schema}.eric_keys (
            log bigint NOT NULL, receiver text COLLATE "C" NOT NULL, key bytea NOT NULL, "offset" bigint NOT NULL,
            at double precision NOT NULL, PRIMARY KEY (log, receiver, key)
        )""",
        "CREATE INDEX eric_keys_by_age ON {schema}.eric_keys (at)",
        # A cursor's epoch is that of its log, with which it goes.
        """CREATE TABLE {schema}.eric_cursors (
            log bigint NOT NULL, listener text COLLATE "C" NOT NULL, "offset" bigint NOT NULL,
            PRIMARY KEY (log, listener)
        ) WITH (fillfactor = 50)""",
    ),
)
"""What brings a schema from each version to the next. Never edit one that was released: append."""

_SCHEMA_EXISTS = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)"
_META_EXISTS = """SELECT EXISTS (
    SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = 'eric_meta'
)"""
_LOCK = "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('eric_sse:' || $1, 0))"
_CREATE_META = "CREATE TABLE IF NOT EXISTS {schema}.eric_meta (key text PRIMARY KEY, value bigint NOT NULL)"
_VERSION = "SELECT value FROM {schema}.eric_meta WHERE key = 'schema'"
_SET_VERSION = """INSERT INTO {schema}.eric_meta (key, value) VALUES ('schema', $1)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value"""


def is_current(session: Session, schema: str) -> bool:
    """Whether the tables are there and of this version. Changes nothing, and needs no permission to.

    Raises:
        RepositoryError: They are of a newer one.
    """
    return bool(session.rows(_META_EXISTS, (schema,))[0][0]) and _version(session, schema) == len(MIGRATIONS)


def migrate(session: Session, schema: str) -> None:
    """Bring the tables to this version. To be called inside a transaction, in which others that do the same wait.

    Raises:
        RepositoryError: They are of a newer version, or a permission is missing.
    """
    session.rows(_LOCK, (schema,))
    # CREATE … IF NOT EXISTS asks for the permission also where there is nothing to create.
    if not session.rows(_SCHEMA_EXISTS, (schema,))[0][0]:
        session.run("CREATE SCHEMA {schema}")
    session.run(_CREATE_META)
    for statements in MIGRATIONS[_version(session, schema) :]:
        for statement in statements:
            session.run(statement)
    session.run(_SET_VERSION, (len(MIGRATIONS),))


def _version(session: Session, schema: str) -> int:
    row = session.row(_VERSION)
    version = int(row[0]) if row else 0
    if version > len(MIGRATIONS):
        raise RepositoryError(
            f"schema {schema!r} was written by a newer version of eric_sse (version {version} of its tables, this one "
            f"knows {len(MIGRATIONS)}): upgrade eric_sse; the tables were left as they are"
        )
    return version
