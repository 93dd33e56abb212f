"""The driver, redis-py, as far as the engine uses it: pools, connections, and errors.

The engine speaks through the driver's connections rather than its commands: so it knows whether a request has left, and
what it sends together stays together.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from eric_sse.exception import ConfigurationError

if TYPE_CHECKING:
    import redis.backoff
    import redis.cluster
    import redis.retry
    from redis import exceptions
else:
    try:
        import redis.backoff
        import redis.cluster
        import redis.retry
        from redis import exceptions
    except ModuleNotFoundError:
        # The package can be imported without its drivers; `require_driver` says so where one is needed.
        redis = exceptions = None

__all__ = ["Connection", "Pool", "cluster_node", "exceptions", "no_retry", "redis", "require_driver"]


def require_driver() -> None:
    """Say what to install where redis-py is missing.

    Raises:
        ConfigurationError: It is missing, or older than 8.
    """
    if redis is None:
        raise ConfigurationError("the driver redis-py is not installed; run: pip install 'eric-sse[redis]'")
    if int(redis.__version__.partition(".")[0]) < 8:  # noqa: PLR2004 - a version
        raise ConfigurationError(
            f"redis-py is {redis.__version__}, and 8 or newer is needed; run: pip install --upgrade 'eric-sse[redis]'"
        )


def no_retry() -> Any:
    """One attempt only: the engine repeats what is harmless, and knows what is not."""
    return redis.retry.Retry(redis.backoff.NoBackoff(), 0)


def cluster_node(host: str, port: int) -> Any:
    """A node of a cluster to begin with."""
    build: Any = redis.cluster.ClusterNode
    return build(host, port)


class Connection(Protocol):
    """One connection to one server."""

    def connect(self) -> None:
        """Open it, unless it is open."""
        ...

    def disconnect(self) -> None:
        """Close it; from any thread."""
        ...

    def pack_commands(self, commands: Sequence[Sequence[Any]]) -> list[bytes]:
        """The bytes to send."""
        ...

    def send_packed_command(self, command: list[bytes]) -> None:
        """Send them."""
        ...

    def send_command(self, *args: Any) -> None:
        """Send one command."""
        ...

    def read_response(self, disable_decoding: bool = ..., **options: Any) -> Any:  # noqa: FBT001 - the driver's
        """The next reply. Options: ``timeout`` in seconds, ``disconnect_on_error``."""
        ...


class Pool(Protocol):
    """The connections to one server."""

    connection_class: Any
    connection_kwargs: Mapping[str, Any]

    def get_connection(self) -> Connection:
        """Take one that is open."""
        ...

    def release(self, connection: Connection) -> None:
        """Give it back."""
        ...
