"""Opening a store: a client for what a URL names, and a look at what it is connected to."""

from typing import Any

from eric_sse._util import get_logger
from eric_sse.engines.redis.client import Client
from eric_sse.engines.redis.driver import cluster_node, exceptions, no_retry, redis
from eric_sse.engines.redis.errors import PERMISSION, is_about_credentials, is_about_permission, translate
from eric_sse.engines.redis.keys import Keys
from eric_sse.engines.redis.news import News
from eric_sse.engines.redis.nodes import ClusterNodes, Nodes, OneServer
from eric_sse.engines.redis.requests import Effect, Request, call
from eric_sse.engines.redis.scripts import CHECK
from eric_sse.engines.redis.url import Options
from eric_sse.exception import ConfigurationError, EricError, RepositoryError, StoreUnavailable

logger = get_logger()

LAYOUT_VERSION = 1
"""Of the keys and what they hold. A store of a newer version is refused, not guessed at."""
_OLDEST = (7, 0)


def client_of(options: Options) -> "redis.Redis | redis.RedisCluster":
    """A client for the servers that a URL names. Whoever asks for it closes it.

    Raises:
        ConfigurationError: The servers are not what the URL says, or refuse the password.
        StoreUnavailable: None of them answers.
    """
    mode = _mode(options)
    if mode == "sentinel":
        raise ConfigurationError("the store URL names a Sentinel, which is not supported; name the master")
    if mode != "cluster":
        address, *others = options.hosts
        if others:
            raise ConfigurationError("the store URL names several servers that are no cluster; name one")
        return _server(options, address)
    if options.connection.get("db"):
        raise ConfigurationError(f"a Redis cluster has no database {options.connection['db']}; leave it out of the URL")
    return _cluster(options)


def look_at(client: "redis.Redis | redis.RedisCluster") -> Nodes:
    """The servers behind a client.

    Raises:
        ConfigurationError: It is no client of redis-py that can be used.
    """
    if isinstance(client, redis.RedisCluster):
        return ClusterNodes(client)
    if isinstance(client, redis.Redis):
        return OneServer(client)
    raise ConfigurationError(
        f"a {type(client).__qualname__} is no redis.Redis or redis.RedisCluster; hand in one of them"
    )


def check(client: Client, keys: Keys, news: News, where: str) -> None:
    """Look whether a store can be used, and mark it as one of this version where it is new.

    Raises:
        ConfigurationError: The server is too old, or refuses the password.
        RepositoryError: It cannot be used.
    """
    (reply,) = client.run([Request(keys.version, [("INFO", "server")])])
    if isinstance(reply, RepositoryError):
        cause = reply.__cause__
        raise _why_not(cause, where) if isinstance(cause, Exception) else reply
    server = _info(reply)
    version = server.get("redis_version", "0")
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < _OLDEST:
        raise ConfigurationError(f"{where} is version {version}; 7.0 or newer is needed")
    look = ("GET", keys.version)
    found: bytes | None = client.get(Request(keys.version, [look]))
    if found is None:
        mark = ("SET", keys.version, LAYOUT_VERSION, "NX")
        found = bytes(client.get(Request(keys.version, [mark, look], Effect.REPEATABLE)))
    if not found.isdigit():
        raise RepositoryError(f"{where} holds {found[:80]!r} as the version of its layout; is it damaged?")
    if int(found) > LAYOUT_VERSION:
        raise RepositoryError(
            f"{where} is of layout version {int(found)}, this version reads {LAYOUT_VERSION}: upgrade eric_sse"
        )
    failed = client.get(call(CHECK, [keys.scratch], news.arguments("")))
    if failed is not None and is_about_permission(failed[1].decode()):
        command, reason = (part.decode(errors="replace") for part in failed)
        raise RepositoryError(f"{where} refuses permission for {command} ({reason}): {PERMISSION}")
    memory = _info(client.get(Request(keys.version, [("INFO", "memory")])))
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        logger.warning(
            "%s has maxmemory-policy %s: when memory runs out it removes messages and listeners without a word; "
            "set maxmemory-policy noeviction",
            where,
            policy,
        )


def _mode(options: Options) -> str:
    """What the first server that answers is."""
    problem = StoreUnavailable("the store URL names no server")
    for address in options.hosts:
        # A cluster has no databases to select.
        client = _server(options, address, db=0)
        try:
            return str(client.info("server").get("redis_mode", "standalone"))
        except (exceptions.RedisError, OSError) as error:
            translated = _why_not(error, f"Redis at {address[0]}:{address[1]}")
            if not isinstance(translated, StoreUnavailable):
                raise translated from error
            problem = translated
        finally:
            client.close()
    raise problem


def _why_not(error: Exception, where: str) -> EricError:
    if is_about_credentials(error):
        return ConfigurationError(f"{where} refuses the user or password ({error}); correct them in the store's URL")
    if "SSL" in str(error):
        return ConfigurationError(
            f"TLS with {where} failed ({error}); correct the ssl_ options, or the scheme, of the store's URL"
        )
    return translate(error, where)


def _server(options: Options, address: tuple[str, int], **settings: Any) -> "redis.Redis":
    host, port = address
    return redis.Redis(host=host, port=port, max_connections=2**31, **(_common(options) | settings))


def _cluster(options: Options) -> "redis.RedisCluster":
    nodes: list[Any] = [cluster_node(host, port) for host, port in options.hosts]
    settings = _common(options)
    settings.pop("retry")
    try:
        return redis.RedisCluster(startup_nodes=nodes, require_full_coverage=False, max_connections=2**31, **settings)
    except (exceptions.RedisError, exceptions.RedisClusterException, OSError) as error:
        raise translate(error, "the Redis cluster") from error


def _common(options: Options) -> dict[str, Any]:
    timeout_s = options.timeout_ms / 1000
    settings = {name: value for name, value in options.connection.items() if name != "db" or value}
    return settings | {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": no_retry(),
        "protocol": 2,
        # It shows in CLIENT LIST. And something must be said: else the driver takes what a server with TLS sends by
        # itself for a reply to somebody else.
        "client_name": "eric_sse",
        "driver_info": None,
    }


def _info(reply: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in reply.decode(errors="replace").splitlines())
    return {name: value for name, _, value in lines}
