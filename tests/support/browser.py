"""A real browser, headless, on a page of ours that tells what its EventSource does."""

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import IO
from urllib.parse import quote

PATIENCE_S = 20

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>A plain EventSource</title>
<script>
  let told = Promise.resolve();
  const tell = (what) => {
    told = told.then(() => fetch("/told", {method: "POST", body: JSON.stringify(what)}));
  };
  const source = new EventSource(new URLSearchParams(location.search).get("stream"));
  source.onopen = () => tell({type: "open"});
  source.onerror = () => tell({type: source.readyState === EventSource.CLOSED ? "gave up" : "lost"});
  for (const type of ["message", "eric.gap", "eric.closed"])
    source.addEventListener(type, (event) => tell({type, data: JSON.parse(event.data), id: event.lastEventId}));
</script>
"""

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Site(ThreadingHTTPServer):
    """Serves the page, and takes down what it tells.

    Attributes:
        told: What the page told, in its order, as dicts.
        origin: The page's origin.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.told: Queue[dict] = Queue()
        self.origin = f"http://127.0.0.1:{self.server_port}"

    def until(self, type_: str, number: int = 1) -> list[dict]:
        """What the page tells until the ``number``-th of a type, with it."""
        found: list[dict] = []
        while sum(1 for what in found if what["type"] == type_) < number:
            found.append(self.told.get(timeout=PATIENCE_S))
        return found


class _Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        """The page; browsers ask for an icon too."""
        self._answer(200 if self.path.startswith("/?") else 404, PAGE.encode())

    def do_POST(self) -> None:
        """What the page tells."""
        self.server.told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._answer(204)

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/html")
        if body:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


@contextmanager
def site() -> Iterator[Site]:
    """Serve the page on a free port."""
    with Site() as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield serving
        finally:
            serving.shutdown()
            thread.join()


@contextmanager
def browsing(serving: Site, stream: str, profile: Path) -> Iterator[None]:
    """Have a browser show the page, on the stream of a URL."""
    url = f"{serving.origin}/?stream={quote(stream, safe='')}"
    with (profile.parent / "chromium.log").open("wb") as log, _showing(url, profile, log):
        yield


@contextmanager
def console(url: str, profile: Path) -> Iterator[Iterator[str]]:
    """Have a browser show a page. Yields what the page writes to its console."""
    with _showing(url, profile, subprocess.PIPE, "--enable-logging=stderr") as process:
        lines = (line.decode() for line in process.stderr or ())
        yield (found[1] for line in lines if (found := re.search(r':CONSOLE.*?\] "(.*)", source:', line)))


@contextmanager
def _showing(url: str, profile: Path, log: IO[bytes] | int, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    chromium = shutil.which("chromium")
    if chromium is None:
        raise AssertionError("chromium is missing; install it with: apt-get install -y chromium")
    command = [chromium, *FLAGS, *flags, f"--user-data-dir={profile}", url]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
