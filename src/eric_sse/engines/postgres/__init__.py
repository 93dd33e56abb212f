"""The ``postgresql://`` engine: one schema of a PostgreSQL database, for any number of machines.

What `append` and `broadcast` have returned from was committed, and survives what the server's commits survive. Messages
may be published in the application's own transactions. Needs the extra ``eric-sse[postgres]``.
"""

from typing import TYPE_CHECKING, Any

from eric_sse.exception import ConfigurationError

if TYPE_CHECKING:
    from eric_sse.engines.postgres.engine import PostgresEngine

__all__ = ["PostgresEngine", "open_postgres"]


def open_postgres(url: str) -> "PostgresEngine":
    """Open the database that ``url`` names, and create or bring forward the engine's tables where that is needed.

    Args:
        url: ``postgresql://user:password@host:port/database``, as libpq takes it, with any of libpq's parameters. The
            engine's own are ``schema`` (the first of the search path by default; created if it is not there),
            ``lock_timeout_ms`` (4000): how long to wait for a row that another transaction holds before
            `StoreUnavailable` is raised, and ``pool_size`` (8): how many connections at most, beside the one that
            listens. ``connect_timeout`` is 5 seconds unless it is given.

    Raises:
        ConfigurationError: The URL is wrong, psycopg is not installed, the server is older than 15 or its database not
            encoded in UTF-8.
        RepositoryError: The server refuses the credentials, a permission is missing, or the tables are of a newer
            version.
        StoreUnavailable: The server does not answer.
    """
    try:
        from eric_sse.engines.postgres.engine import PostgresEngine  # noqa: PLC0415
        from eric_sse.engines.postgres.url import options_of  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            f"postgresql:// needs psycopg and psycopg_pool ({error}): pip install 'eric-sse[postgres]'"
        ) from error
    return PostgresEngine(options_of(url))


def __getattr__(name: str) -> Any:
    # The opener must be importable, to say what is missing, where the driver is not.
    if name == "PostgresEngine":
        from eric_sse.engines.postgres.engine import PostgresEngine  # noqa: PLC0415

        return PostgresEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
