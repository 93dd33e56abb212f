"""The proof on real data: a server is killed half-way through a stream, and nobody misses or repeats a message.

Run it with ``make demo``, or ``python examples/demo.py``: it takes a few seconds and leaves nothing behind.

There is one server, on a SQLite store in a temporary folder; one publisher, which sends a week of earthquakes; and a
few clients, each a plain loop over an `eric_sse.clients.AsyncEventSource`. Nothing in them knows that the server will
be killed. The exit status is 0 if every client received every quake once, in order, as it was sent; else 1.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from eric_sse.clients import AsyncEventSource
from eric_sse.exception import StreamRefused

QUAKES = Path(__file__).with_name("earthquakes.ndjson")
CHANNEL = "/channels/quakes"
QUAKES_A_REQUEST = 3
PATIENCE_S = 10.0

Quake = dict[str, Any]


class DemoError(Exception):
    """The demo cannot go on."""


class Server:
    """The real server, as a process of its own: what ``eric-sse serve --store URL`` runs."""

    def __init__(self, store: str, log: Path) -> None:
        self.store = store
        self.url = ""
        self._log = log
        self._port = "0"  # any that is free
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, the second time on the same port; returns when it accepts connections."""
        command = [sys.executable, "-m", "eric_sse.cli", "serve", "--store", self.store, "--port", self._port]
        with self._log.open("a") as log:
            self._process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=log)
        assert self._process.stdout is not None
        line = (await self._process.stdout.readline()).decode()
        if not line:
            await self._process.wait()
            raise DemoError(f"the server did not start: {self._log.read_text().strip()}")
        self.url = line.split()[-1]  # "eric-sse serving sqlite:///… on http://127.0.0.1:40123"
        self._port = self.url.rpartition(":")[2]

    async def kill(self) -> None:
        """SIGKILL: it cannot finish a write, flush a buffer or say goodbye."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


class Publisher:
    """Sends the quakes in their order, and sends again what was not answered, until it is."""

    def __init__(self, http: httpx2.AsyncClient, quakes: list[Quake]) -> None:
        self.sent = 0  # and answered, so the server has them on its disk
        self.attempts = 0  # that failed
        self.refused = ""
        self._http = http
        self._quakes = quakes
        self._progressed = asyncio.Condition()

    async def run(self) -> None:
        """Send everything."""
        for start in range(0, len(self._quakes), QUAKES_A_REQUEST):
            first, end = start, start + QUAKES_A_REQUEST
            while not await self._is_stored(self._quakes[first:end]):
                # Who gets no answer cannot know whether the messages were stored. With ids of their own it does not
                # matter: repeating them stores nothing twice. To show it, those before, which were, are repeated too.
                first = max(0, start - QUAKES_A_REQUEST)
                self.attempts += 1
                await asyncio.sleep(0.1)
            if self.refused:
                break
            await self._progress(min(end, len(self._quakes)))
        await self._progress(self.sent)

    async def has_sent(self, number: int) -> None:
        """Return when so many were sent."""
        async with self._progressed:
            await self._progressed.wait_for(lambda: self.sent >= number or self.refused)

    async def _is_stored(self, some: list[Quake]) -> bool:
        lines = [json.dumps({"type": "quake", "id": quake["id"], "payload": quake}) for quake in some]
        try:
            headers = {"Content-Type": "application/x-ndjson"}
            answer = await self._http.post(f"{CHANNEL}/messages", content="\n".join(lines), headers=headers)
        except httpx2.TransportError:  # nobody listens, or the connection broke
            return False
        if answer.is_client_error:
            self.refused = answer.json()["detail"]
        return not answer.is_server_error

    async def _progress(self, sent: int) -> None:
        async with self._progressed:
            self.sent = sent
            self._progressed.notify_all()


class Client:
    """Receives quakes from a stream. To reconnect and to resume is `AsyncEventSource`'s business, not its own."""

    def __init__(self, name: str, url: str, last: Quake) -> None:
        self.name = name
        self.source = AsyncEventSource(url, max_retry_s=1.0)
        self.quakes: list[Quake] = []
        self.refused = ""
        self.finished = asyncio.Event()
        self._last = last
        self._first_at = self._last_at = 0.0

    async def run(self) -> None:
        """Receive, until the server says that there is nothing to come back to."""
        try:
            async with self.source:
                async for event in self.source:
                    if event.type == "quake":
                        self._take(json.loads(event.data))
        except StreamRefused as error:
            self.refused = str(error)
        self.finished.set()

    def _take(self, quake: Quake) -> None:
        self._last_at = time.monotonic()
        self._first_at = self._first_at or self._last_at
        self.quakes.append(quake)
        if quake == self._last:
            self.finished.set()

    async def is_listening(self) -> None:
        """Return when the server has told it where it is: from then on it misses nothing."""
        while not self.source.last_event_id and not self.finished.is_set():  # noqa: ASYNC110 - nothing else tells
            await asyncio.sleep(0.01)

    @property
    def resumed_from(self) -> str:
        """The ids that it reconnected with."""
        return ", ".join(self.source.connected_from[1:]) or "-"

    @property
    def events_per_second(self) -> float:
        """How fast they came; the time without a server counts."""
        return len(self.quakes) / max(self._last_at - self._first_at, 0.001)


class Verdict(NamedTuple):
    """What a client received, held against what was to be sent."""

    lost: int
    repeated: int
    is_good: bool
    """Everything, once, in order, unchanged."""

    @classmethod
    def of(cls, received: list[Quake], sent: list[Quake]) -> "Verdict":
        """Compare whole payloads, not only how many there are."""
        times = Counter(quake["id"] for quake in received)
        lost = sum(1 for quake in sent if quake["id"] not in times)
        return cls(lost, len(received) - len(times), received == sent)


class Board:
    """What is seen meanwhile: a bar for each in a terminal; elsewhere, as in a log, a line now and then."""

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = (TextColumn("         {task.description:<10}"), BarColumn(40), MofNCompleteColumn())
        self.bars = Progress(*columns, console=console, disable=not console.is_terminal)
        self._followed: dict[TaskID, Client | Publisher] = {}
        self._started = time.monotonic()

    def say(self, what: str) -> None:
        """Tell that something happened."""
        self.console.print(f"[dim]{time.monotonic() - self._started:6.2f} s[/] {what}", soft_wrap=True)

    def follow(self, name: str, whom: "Client | Publisher", total: int) -> None:
        """Give somebody a bar."""
        self._followed[self.bars.add_task(name, total=total)] = whom

    async def run(self) -> None:
        """Keep the bars up to date, until cancelled."""
        told: list[int] = []
        while True:
            counts = self.update()
            if not self.console.is_terminal and counts != told:
                self.say(f"sent {counts[0]:,}; received " + ", ".join(f"{count:,}" for count in counts[1:]))
                told = counts
            await asyncio.sleep(0.05 if self.console.is_terminal else 0.5)

    def update(self) -> list[int]:
        """Show how far everybody is."""
        counts = [whom.sent if isinstance(whom, Publisher) else len(whom.quakes) for whom in self._followed.values()]
        for bar, count in zip(self._followed, counts, strict=True):
            self.bars.update(bar, completed=count)
        return counts


class Demo:
    """What happens, in the order in which it does."""

    def __init__(self, server: Server, quakes: list[Quake], board: Board, http: httpx2.AsyncClient) -> None:
        self.server, self.quakes, self.board, self.http = server, quakes, board, http
        self.publisher = Publisher(http, quakes)
        self.clients: list[Client] = []

    async def play(self, tasks: asyncio.TaskGroup) -> None:
        """Publish everything, with an accident half-way. Afterwards `clients` hold what each received."""
        say, total = self.board.say, len(self.quakes)
        await self._post("/channels", {"id": "quakes", "retry_ms": 250})
        await self._post(f"{CHANNEL}/listeners", {"id": "observatory"})
        self.board.follow("publisher", self.publisher, total)
        await self._join(tasks, "listener", "/listeners/observatory/events")
        await self._join(tasks, "anonymous", "/events")
        say("a named listener and an anonymous stream are connected; publishing begins")
        publishing = tasks.create_task(self.publisher.run())

        await self.publisher.has_sent(total // 3)
        say("a third is out: a late-comer joins and asks for everything [bold]from the earliest[/]")
        await self._join(tasks, "late-comer", "/events?from=earliest")

        await self.publisher.has_sent(total // 2)
        await self.server.kill()
        say(f"[bold red]SIGKILL:[/] the server is dead, with {self.publisher.sent:,} sent and the next on their way")
        await self.server.start()
        say("[bold green]a new server[/] runs on the same store; neither clients nor publisher were told")

        await publishing
        await self._wait_for_clients()
        await self._join(tasks, "read back", "/events?from=earliest")
        await self._wait_for_clients()
        # The streams end, and their clients with them: "eric.closed" tells that there is nothing to come back to.
        await self.http.delete(CHANNEL)

    async def _join(self, tasks: asyncio.TaskGroup, name: str, path: str) -> None:
        client = Client(name, f"{self.server.url}{CHANNEL}{path}", self.quakes[-1])
        self.clients.append(client)
        self.board.follow(name, client, len(self.quakes))
        tasks.create_task(client.run())
        await client.is_listening()

    async def _wait_for_clients(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                for client in self.clients:
                    await client.finished.wait()

    async def _post(self, path: str, body: dict[str, object]) -> None:
        (await self.http.post(path, json=body)).raise_for_status()


COLUMNS = ("client", "sent", "received", "lost", "repeated", "intact", "resumed from", "events\nper s")


def table(demo: Demo) -> Table:
    """What became of it, a row for each client."""
    shown = Table(box=SIMPLE_HEAD, show_edge=False, collapse_padding=True, pad_edge=False)
    for name in COLUMNS:
        shown.add_column(name, justify="left" if name in {"client", "resumed from"} else "right", overflow="fold")
    for client in demo.clients:
        verdict = Verdict.of(client.quakes, demo.quakes)
        shown.add_row(
            client.name,
            f"{len(demo.quakes):,}",
            f"{len(client.quakes):,}",
            f"{verdict.lost:,}",
            f"{verdict.repeated:,}",
            "yes" if verdict.is_good else "no",
            client.resumed_from,
            f"{client.events_per_second:,.0f}",
            style="green" if verdict.is_good else "red",
        )
    return shown


GOOD = """\
[bold]What happened.[/] The server died without a chance to clean up. The publisher got no answer to what it was just \
sending, and repeated it until the new server took it, after {attempts} attempts, together with messages that had been \
stored. The clients lost their connections, and came back by themselves, each with the id of the last event that it \
had seen.
[bold]What it proves.[/] What the server had answered for was on its disk. Each client was sent exactly what it had \
missed. What was published twice was stored once, since the messages have ids. All of it is the file's, payload by \
payload, in the file's order: "intact".
[bold]Try next.[/] [cyan]make demo ARGS="--store memory://"[/] does the same without a disk, and fails: see \
what is lost. [cyan]make run[/] starts a server for you, and README.md shows each way to use it in ten lines."""

BAD = """\
[bold]What happened.[/] The server was killed and started again, and not every client received every earthquake once, \
in order, as it was sent.{refused}
[bold]What it means.[/] With the store [cyan]memory://[/] that is to be expected: what the server held died with it. \
With a store that lasts it is a bug: please report it."""


async def run(arguments: argparse.Namespace, console: Console) -> bool:
    """Play it and tell; whether all went well."""
    quakes = [json.loads(line) for line in QUAKES.read_text(encoding="utf-8").splitlines()]
    board = Board(console)
    with tempfile.TemporaryDirectory(prefix="eric_sse_demo_") as folder:
        server = Server(arguments.store or f"sqlite:///{folder}/quakes.db", Path(folder, "server.log"))
        try:
            await server.start()
            board.say(f"a server runs at {server.url}, on {server.store}")
            async with httpx2.AsyncClient(base_url=server.url) as http:
                demo = Demo(server, quakes, board, http)
                await play(demo)
        finally:
            await server.kill()
    return tell(demo, console)


async def play(demo: Demo) -> None:
    """Play with everything that goes on beside; when it returns, none of it does."""
    with demo.board.bars:
        async with asyncio.TaskGroup() as tasks:
            showing = tasks.create_task(demo.board.run())
            await demo.play(tasks)
            showing.cancel()
        demo.board.update()


def tell(demo: Demo, console: Console) -> bool:
    """Print the table and what it means; whether all went well."""
    is_good = all(Verdict.of(client.quakes, demo.quakes).is_good for client in demo.clients)
    console.print(table(demo))
    refusals = [demo.publisher.refused, *(client.refused for client in demo.clients)]
    refused = next((f" Somebody was told: {refusal}." for refusal in refusals if refusal), "")
    text = GOOD.format(attempts=demo.publisher.attempts) if is_good else BAD.format(refused=refused)
    console.print(text)
    return is_good


async def main(arguments: argparse.Namespace) -> int:
    """The exit status; SIGTERM ends it as Ctrl-C does, in order."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return 0 if await run(arguments, Console()) else 1
    except* (DemoError, httpx2.HTTPError) as failed:
        sys.stderr.write(f"demo: {failed.exceptions[0]}\n")
    return 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Kill a server half-way through a stream, and count what is lost.")
    parser.add_argument("--store", metavar="URL", help="use this store instead of SQLite in a temporary folder")
    try:
        sys.exit(asyncio.run(main(parser.parse_args())))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.stderr.write("demo: stopped\n")
        sys.exit(130)
