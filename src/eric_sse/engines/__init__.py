"""Storage engines, one file or folder each, found by the scheme of a URL."""

from collections.abc import Callable
from importlib.metadata import entry_points
from urllib.parse import urlsplit

from eric_sse.engine import Engine
from eric_sse.exception import ConfigurationError

ENTRY_POINTS = "eric_sse.engines"
"""The entry-point group in which a distribution registers a scheme: a callable that takes the URL, gives an Engine."""


def open_engine(url: str) -> Engine:
    """Open the engine that ``url`` names, such as ``sqlite:///events.db`` or ``memory://``. You close it.

    Example:
        >>> with open_engine("memory://") as engine:
        ...     channel = engine.channels.create({"channel_id": "news"})
        ...     engine.channels.persist(channel)

    Raises:
        ConfigurationError: The URL is wrong, its scheme unknown, or a driver missing.
        RepositoryError: The store cannot be opened.
    """
    scheme = urlsplit(url).scheme
    known = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if scheme not in known:
        raise ConfigurationError(
            f"store URL {url!r} has no known scheme; use one of {', '.join(f'{name}://' for name in sorted(known))}"
        )
    opener: Callable[[str], Engine] = known[scheme].load()
    return opener(url)
