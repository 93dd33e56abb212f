"""Runs a page of the documentation as a reader would: its Python, its commands, and what it says they print.

- A ``python`` block runs, in the page's one namespace; one that begins with ``# name.py`` is saved under that name.
- A ``console`` block holds commands after ``$``, and what each prints. A command whose output ends in ``^C`` is ended
  with Ctrl-C once it has printed that. A server goes on to the next one, or the end of the page, and must stop cleanly.
- A ``text`` block right after a ``python`` block is what that prints.

Commands run in a terminal, as a reader's do, but for what is only typography. ``…`` stands for anything within a
line, or, alone on one, for any lines. An epoch is random: where a page shows one
(``8f31c2d6a9e4``), the first output that holds it tells what it is this time. Port 8000 is really a free one.
"""

import contextlib
import io
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from sybil import Document
from sybil.parsers.myst import CodeBlockParser

DEADLINE_S = 20
SERVERS = ("eric-sse serve", "uvicorn ")
_TYPOGRAPHY = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r+(?=\n)")
_EPOCH = re.compile(r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{12}\b")


class Page:
    """One page and the folder in which it is followed."""

    def __init__(self, path: Path, folder: Path) -> None:
        languages = {"python": self._python, "console": self._console, "text": self._text}
        parsers = [CodeBlockParser(language, evaluator) for language, evaluator in languages.items()]
        self._document = Document.parse(str(path), *parsers)
        self._folder = folder
        self._port = _free_port()
        self._epochs: dict[str, str] = {}
        self._exports: dict[str, str] = {}
        self._printed: str | None = None
        self._server: _Terminal | None = None
        (folder / ".curlrc").write_text("silent\nshow-error\n")  # no progress meter: a terminal shows none either

    def run(self) -> int:
        """Run all examples, in their order. Returns how many there were."""
        examples = list(self._document.examples())
        try:
            for example in examples:
                example.evaluate()
            self._stop_server()
        finally:
            if self._server is not None:
                self._server.close()
        return len(examples)

    def _python(self, example):
        source = self._actual(str(example.parsed))
        self._printed = None
        if name := re.match(r"# (\w+\.py)\n", source):
            (self._folder / name[1]).write_text(source)
            return
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            code = compile("\n" * (example.line + example.parsed.line_offset) + source, example.path, "exec")
            exec(code, example.namespace)
        self._printed = printed.getvalue()

    def _text(self, example):
        assert self._printed is not None, f"{example.path}:{example.line}: a text block follows no Python that prints"
        self._compare(str(example.parsed), self._printed, f"{example.path}:{example.line}")

    def _console(self, example):
        self._printed = None
        for block in re.split(r"^\$ ", str(example.parsed), flags=re.MULTILINE)[1:]:
            command = re.match(r"(?:.*\\\n)*.*\n?", block)[0]
            self._run_command(command.strip(), block[len(command) :], f"{example.path}:{example.line}: $ {command}")

    def _run_command(self, command: str, expected: str, where: str) -> None:
        if export := re.fullmatch(r"export (\w+)=(\S*)", self._actual(command)):
            self._exports[export[1]] = export[2]
            return
        is_server = command.startswith(SERVERS)
        if is_server:
            self._stop_server()
        script = f"{'exec ' if is_server else ''}{self._actual(command)}"
        if is_server and "8000" not in command:  # it is the default
            script += f" --port {self._port}"
        process = _Terminal(script, self._folder, self._environment())
        if is_server:
            self._server = process
            self._compare(expected, self._read_until(process, expected), where)
            self._wait_for_port(process, where)
            return
        interrupted = expected.rstrip().endswith("^C")
        expected = expected.rstrip().removesuffix("^C") if interrupted else expected
        with contextlib.closing(process):
            printed = self._read_until(process, expected if interrupted else None)
            process.end(signal.SIGINT if interrupted else signal.SIGKILL)
        self._compare(expected, printed, where)

    def _stop_server(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            with contextlib.closing(server):
                status = server.end(signal.SIGTERM)
            # uvicorn, once it has shut down, dies of the signal that it got.
            assert status in {0, -signal.SIGTERM}, f"a server ended with status {status}"

    def _read_until(self, process: "_Terminal", expected: str | None) -> str:
        """What it prints, to its end, or until it has printed what is expected."""
        printed, deadline = b"", time.monotonic() + DEADLINE_S
        while expected is None or not self._pattern(expected).fullmatch(_tidy(printed.decode(errors="ignore"))):
            chunk = process.read(deadline)
            if not chunk:
                break
            printed += chunk
        return printed.decode()

    def _wait_for_port(self, process: "_Terminal", where: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while process.is_running() and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port)):
                return
            time.sleep(0.02)
        raise AssertionError(f"{where}: no server answers")

    def _compare(self, expected: str, printed: str, where: str) -> None:
        match = self._pattern(expected).fullmatch(_tidy(printed))
        assert match, f"{where}\nshould print\n{expected}\nand printed\n{printed}"
        self._epochs |= {name[1:]: value for name, value in match.groupdict().items()}

    def _pattern(self, expected: str) -> re.Pattern[str]:
        lines = []
        seen: set[str] = set()
        for line in _tidy(self._actual(expected)).splitlines():
            if line == "…":
                lines.append("(?:.*\n)*?")
            else:
                text = re.escape(line).replace("…", ".*?")
                lines.append(_EPOCH.sub(lambda found: self._group(found[0], seen), text) + "\n")
        return re.compile("".join(lines))

    def _group(self, epoch: str, seen: set[str]) -> str:
        if epoch in self._epochs.values():
            return epoch
        again = epoch in seen
        seen.add(epoch)
        return f"(?P=e{epoch})" if again else f"(?P<e{epoch}>[0-9a-f]{{12}})"

    def _actual(self, text: str) -> str:
        for shown, actual in {**self._epochs, "8000": str(self._port)}.items():
            text = re.sub(rf"\b{shown}\b", actual, text)
        return text

    def _environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return (
            os.environ
            | {"PATH": path, "CURL_HOME": str(self._folder), "COLUMNS": "100", "TERM": "dumb"}
            | (self._exports)
        )


class _Terminal:
    """A shell command in a terminal of its own."""

    def __init__(self, script: str, folder: Path, environment: dict[str, str]) -> None:
        self._fd, theirs = os.openpty()
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", script],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def read(self, deadline: float) -> bytes:
        """What it has printed; nothing where it ended or the deadline passed."""
        readable, _, _ = select.select([self._fd], [], [], max(0, deadline - time.monotonic()))
        try:
            return os.read(self._fd, 65536) if readable else b""
        except OSError:  # EIO: nobody has the other end open
            return b""

    def is_running(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def end(self, number: int) -> int:
        """Send it a signal, and return its exit status."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)
        return self._process.wait(DEADLINE_S)

    def close(self) -> None:
        """Make sure that it is gone."""
        self.end(signal.SIGKILL)
        os.close(self._fd)


def _tidy(text: str) -> str:
    """Without what a reader does not see: line ends of the network, and blanks at the end."""
    lines = [line.rstrip() for line in _TYPOGRAPHY.sub("", text).rstrip().splitlines()]
    return "".join(f"{line}\n" for line in lines)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
