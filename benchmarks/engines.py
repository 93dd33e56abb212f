"""The engines to measure side by side, each on a store of its own that is gone at the end."""

import contextlib
import importlib
import tempfile
from collections.abc import Iterator, Sequence

ENGINES = ("sqlite", "redis", "postgres")


@contextlib.contextmanager
def fresh_stores(engines: Sequence[str] = ENGINES) -> Iterator[dict[str, str]]:
    """The URL of an empty store of each engine, by its name; their servers are private, and end with the block.

    They keep what they are told as long as they run: Redis without a file, PostgreSQL without waiting for the disk. So
    what is measured is the engine, and not the disk, which would make two ways to store the same look alike.
    """
    with contextlib.ExitStack() as stack:
        yield {engine: stack.enter_context(_START[engine]()) for engine in engines}


@contextlib.contextmanager
def _sqlite() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/events.db"


# Imported by name: the tests are not typed strictly, and what is checked with the measurements would have to be.
@contextlib.contextmanager
def _redis() -> Iterator[str]:
    with importlib.import_module("tests.support.redis_server").started_redis() as server:
        yield server.fresh_url()


@contextlib.contextmanager
def _postgres() -> Iterator[str]:
    with importlib.import_module("tests.support.postgres_server").postgres_server() as server:
        yield server.fresh_url()


_START = {"sqlite": _sqlite, "redis": _redis, "postgres": _postgres}
