"""The errors of Redis, as the package's own."""

from eric_sse.engines.redis.driver import exceptions
from eric_sse.exception import RepositoryError, StoreFull, StoreUnavailable

_AGAIN = "nothing was stored; try again"
# What an error's text begins with, where the driver has no class for it, or a script has added something to it.
_BY_TEXT: tuple[tuple[str, type[RepositoryError], str], ...] = (
    ("OOM", StoreFull, "nothing was stored: raise maxmemory, or lower the channels' retention"),
    ("MISCONF", StoreUnavailable, "the server cannot write to its disk and refuses writes; look at its log"),
    ("NOREPLICAS", StoreUnavailable, f"the server wants more replicas before it takes writes; {_AGAIN}"),
    ("BUSY", StoreUnavailable, f"the server runs somebody's long script; {_AGAIN}"),
    ("WRONGTYPE", RepositoryError, "another program uses the same keys; choose another ?prefix="),
)
PERMISSION = "grant the user what the engine's page in the documentation lists under ACL"
"""What to do where a permission is missing."""


def translate(error: Exception, where: str) -> RepositoryError:
    """The package's error for one of the driver's, to be raised ``from`` it.

    Args:
        error: The driver's; of a request that was surely not executed.
        where: The store, without its password.
    """
    text = str(error)
    if isinstance(error, exceptions.OutOfMemoryError):
        text = f"OOM {text}"
    if isinstance(error, exceptions.NoPermissionError) or is_about_permission(text):
        return RepositoryError(f"{where} refuses permission ({text}): {PERMISSION}")
    if is_about_credentials(error):
        return RepositoryError(f"{where} refuses the user or password ({text}); correct them in the store's URL")
    for beginning, kind, advice in _BY_TEXT:
        if text.startswith(beginning):
            return kind(f"{where} answered {text!r}: {advice}")
    if is_passing(error):
        return StoreUnavailable(f"{where} does not answer now ({text or type(error).__name__}); {_AGAIN}")
    return RepositoryError(f"{where} answered {text!r}")


def is_about_permission(text: str) -> bool:
    """Whether the user lacks a permission, by a reply's text: in scripts servers word it in several ways."""
    return any(sign in text for sign in ("NOPERM", "ACL failure in script", "user executing the script can't"))


def is_about_credentials(error: Exception) -> bool:
    """Whether the server refused the user or the password."""
    kinds = (
        exceptions.AuthenticationError,
        exceptions.AuthorizationError,
        exceptions.AuthenticationWrongNumberOfArgsError,
    )
    return isinstance(error, kinds)


def is_passing(error: Exception) -> bool:
    """Whether it may pass by itself: the server, or the part of a cluster, is away or not ready."""
    kinds = (
        OSError,
        exceptions.ConnectionError,
        exceptions.TimeoutError,
        exceptions.ReadOnlyError,
        exceptions.ClusterError,
        exceptions.TryAgainError,
        exceptions.AskError,
        exceptions.RedisClusterException,
    )
    return isinstance(error, kinds) and not is_about_credentials(error)
