"""What is measured: ours, the peers and the yardsticks, and how each of them is run."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from pathlib import Path

HERE = Path(__file__).parent
APPS = HERE / "apps"
VENVS = HERE / ".venvs"
CHANNEL = "bench"

COMMITS = "commits"
"""The file, in a server's folder, that holds how many times it committed, where it counts."""

OURS_EVENTS = f"/channels/{CHANNEL}/events"
OURS_MESSAGES = f"/channels/{CHANNEL}/messages"


class PeerError(Exception):
    """A peer could not be run or measured."""


class NotStarted(PeerError):
    """A peer does not even accept connections."""


Subscribe = Callable[[int, int], list[str]]
"""Registers as many listeners as are asked for at the server on a port, and gives the path of each one's stream."""


@dataclass(frozen=True)
class Target:
    """A server to measure.

    Attributes:
        name: What ``--targets`` calls it.
        title: What the table calls it.
        command: The command that serves on a port, given that and an empty folder.
        scenarios: What it is measured in, unless something else is asked for.
        events_path: Where streams are.
        publish_path: Where to publish.
        body: What is published: ``%MSG%`` for the message, ``%JMSG%`` for it as the inside of a JSON string.
        environment: Set for it.
        prepare: Called with the port when it accepts connections.
        subscribe: For servers that know their listeners.
        rounds: Of how many rounds at most it takes part in; fewer where no bound is against it, and it is slow.
    """

    name: str
    title: str
    command: Callable[[int, Path], list[str]]
    scenarios: str = "abcrm"
    events_path: str = "/events"
    publish_path: str = "/pub"
    body: str = "%MSG%"
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[int], None] | None = None
    subscribe: Subscribe | None = None
    rounds: int = 99


def call(port: int, method: str, path: str, body: object = None) -> object:
    """The JSON that a server answers to a request.

    Raises:
        PeerError: It answers no 2xx.
    """
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        headers = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        answer = response.read()
    finally:
        connection.close()
    if response.status // 100 != 2:
        raise PeerError(f"{method} {path} answers {response.status}: {answer[:200]!r}")
    return json.loads(answer) if answer else None


def _create_channel(port: int) -> None:
    call(port, "POST", "/channels", {"id": CHANNEL})


def _subscribe_to_eric(port: int, count: int) -> list[str]:
    call(port, "PUT", f"/create?channel_id={CHANNEL}")
    paths = []
    for _ in range(count):
        answer = call(port, "POST", f"/subscribe?channel_id={CHANNEL}")
        if not isinstance(answer, dict):
            raise PeerError(f"eric-api answers {answer!r} to a subscription, not an object with a listener_id")
        paths.append(f"/stream/{CHANNEL}/{answer['listener_id']}")
    return paths


def _uvicorn(python: str, app: str, *options: str) -> Callable[[int, Path], list[str]]:
    """One worker, uvloop and httptools, no access log."""

    def command(port: int, _: Path) -> list[str]:
        bound = ["--host", "127.0.0.1", "--port", str(port), "--app-dir", str(APPS), "--backlog", "4096"]
        fast = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
        return [python, "-m", "uvicorn", app, *bound, *fast, *options]

    return command


def _venv(name: str) -> str:
    return str(VENVS / name / "bin" / "python")


def _nginx(port: int, folder: Path) -> list[str]:
    configuration = (APPS / "nginx.conf.in").read_text().replace("@PORT@", str(port))
    (folder / "nginx.conf").write_text(configuration)
    return ["/usr/sbin/nginx", "-p", str(folder), "-c", "nginx.conf"]


def _ours(store: str) -> Callable[[int, Path], list[str]]:
    def command(port: int, folder: Path) -> list[str]:
        serve = [sys.executable, "-m", "eric_sse.cli", "serve", "--port", str(port)]
        return [*serve, "--store", store.format(folder=folder)]

    return command


def ours(name: str, title: str, store: str, scenarios: str) -> Target:
    """``eric-sse serve`` on a store, whose URL may hold ``{folder}``."""
    return Target(
        name,
        title,
        _ours(store),
        scenarios,
        OURS_EVENTS,
        OURS_MESSAGES,
        '{"payload":%MSG%}',
        prepare=_create_channel,
    )


def _counted(port: int, folder: Path) -> list[str]:
    server = [sys.executable, str(APPS / "counted_server.py"), str(folder / COMMITS)]
    return [*server, "serve", "--port", str(port), "--store", SQLITE.format(folder=folder)]


SQLITE = "sqlite:///{folder}/events.db?synchronous=full"

GATHER_CAPS_MS = (0, 1, 2, 5, 10, 20, 50)


def gathering(cap_ms: int) -> Target:
    """Ours, in memory, which gathers for so long at most."""
    target = ours(f"ours_gather_{cap_ms}", f"eric_sse, ERIC_SSE_GATHER_MS={cap_ms}", "memory://", "gh")
    return replace(target, environment={"ERIC_SSE_GATHER_MS": str(cap_ms)})


TARGETS = (
    Target("raw_c", "C loop (yardstick)", lambda port, _: [str(HERE / "build" / "raw_c"), str(port)]),
    Target(
        "purepy",
        "asyncio loop (yardstick)",
        lambda port, _: [sys.executable, str(APPS / "purepy.py"), str(port)],
        "abcr",
        rounds=2,
    ),
    ours("ours", "eric_sse, in memory", "memory://", "abcrmisp"),
    ours("ours_sqlite", "eric_sse, SQLite FULL", SQLITE, "abcsn"),
    replace(ours("ours_counted", "eric_sse, SQLite FULL, commits counted", SQLITE, "p"), command=_counted),
    Target(
        "ours_portable",
        "eric_sse under plain uvicorn",
        _uvicorn(sys.executable, "portable_app:app"),
        "abcrmi",
        OURS_EVENTS,
        OURS_MESSAGES,
        '{"payload":%MSG%}',
        {"ERIC_SSE_STORE": "memory://"},
        _create_channel,
    ),
    ours("ours_redis", "eric_sse, Redis", "redis", "p"),
    ours("ours_postgres", "eric_sse, PostgreSQL", "postgres", "p"),
    *map(gathering, GATHER_CAPS_MS),
    Target("nchan", "nginx + nchan", _nginx, "abcrm", f"/events?id={CHANNEL}", f"/pub?id={CHANNEL}"),
    Target("sse_starlette", "sse-starlette", _uvicorn(_venv("sse_starlette"), "sse_starlette_app:app")),
    Target(
        "better_sse",
        "better-sse",
        lambda port, _: ["node", str(APPS / "better_sse" / "server.js"), str(port)],
        rounds=2,
    ),
    Target("fastapi", "FastAPI's SSE", _uvicorn(_venv("fastapi"), "fastapi_app:app"), rounds=1),
    Target(
        "django",
        "django-eventstream",
        _uvicorn(_venv("django"), "django_app:app", "--lifespan", "off"),
        events_path="/events/",
        rounds=1,
    ),
    Target(
        "eric",
        "eric-api",
        _uvicorn(_venv("eric"), "eric_api:app"),
        "abc",
        publish_path=f"/broadcast?channel_id={CHANNEL}",
        body='{"type":"message","payload":"%JMSG%"}',
        environment={"LOGLEVEL": "WARNING"},
        subscribe=_subscribe_to_eric,
        rounds=1,
    ),
)
BY_NAME = {target.name: target for target in TARGETS}
