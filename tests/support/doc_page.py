"""Runs a page of the documentation as a reader would: its Python, its commands, and what it says they print.

- A ``python`` block runs, in the page's one namespace; one that begins with ``# name.py`` is saved under that name.
- A ``console`` block holds commands after ``$``, and what each prints. A command whose output ends in ``^C`` is ended
  with Ctrl-C once it has printed that. A server goes on to the next one on its port, or the end of the page, and must
  stop cleanly.
- A ``text`` block right after a ``python`` block is what that prints.
- An ``html`` block begins with ``<!-- name.html -->``, and is saved under that name.

Commands run in a terminal, as a reader's do, but for what is only typography. ``…`` stands for anything within a
line, or, alone on one, for any lines. An epoch is random: where a page shows one
(``8f31c2d6a9e4``), the first output that holds it tells what it is this time. Ports 8000 and 9000 are really free ones.
"""

import contextlib
import io
import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from sybil import Document
from sybil.parsers.myst import CodeBlockParser

DEADLINE_S = 20
SERVERS = ("eric-sse serve", "uvicorn ", "python run.py", "python -m http.server ")
DEFAULT_PORT, PORTS = "8000", ("8000", "9000")
_TYPOGRAPHY = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r+(?=\n)")
_EPOCH = re.compile(r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{12}\b")


class Page:
    """One page and the folder in which it is followed.

    Args:
        path: The page.
        folder: The folder.
        whole_programs: Whether each Python block is a program of its own.
    """

    def __init__(self, path: Path, folder: Path, *, whole_programs: bool = False) -> None:
        languages = {"python": self._python, "console": self._console, "text": self._text, "html": self._html}
        parsers = [CodeBlockParser(language, evaluator) for language, evaluator in languages.items()]
        self._document = Document.parse(str(path), *parsers)
        self._folder = folder
        self._whole_programs = whole_programs
        self._ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
        self._epochs: dict[str, str] = {}
        self._exports: dict[str, str] = {}
        self._printed: str | None = None
        self._servers: dict[str, _Terminal] = {}
        (folder / ".curlrc").write_text("silent\nshow-error\n")  # no progress meter: a terminal shows none either

    def run(self) -> int:
        """Run all examples, in their order. Returns how many there were."""
        with self.followed() as count:
            return count

    @contextlib.contextmanager
    def followed(self) -> Iterator[int]:
        """Run all examples, and leave the page's servers running meanwhile. Yields how many examples there were."""
        examples = list(self._document.examples())
        try:
            for example in examples:
                example.evaluate()
            yield len(examples)
            for port in list(self._servers):
                self._stop_server(port)
        finally:
            for server in self._servers.values():
                server.close()

    def _python(self, example):
        source = self.actual(str(example.parsed))
        self._printed = None
        if name := re.match(r"# (\w+\.py)\n", source):
            (self._folder / name[1]).write_text(source)
            return
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            code = compile("\n" * (example.line + example.parsed.line_offset) + source, example.path, "exec")
            exec(code, {} if self._whole_programs else example.namespace)
        self._printed = printed.getvalue()

    def _html(self, example):
        source = self.actual(str(example.parsed))
        name = re.match(r"<!-- (\w+\.html) -->\n", source)
        assert name, f"{example.path}:{example.line}: an html block says under which name it is saved"
        (self._folder / name[1]).write_text(source)

    def _text(self, example):
        assert self._printed is not None, f"{example.path}:{example.line}: a text block follows no Python that prints"
        self._compare(str(example.parsed), self._printed, f"{example.path}:{example.line}")

    def _console(self, example):
        self._printed = None
        for block in re.split(r"^\$ ", str(example.parsed), flags=re.MULTILINE)[1:]:
            command = re.match(r"(?:.*\\\n)*.*\n?", block)[0]
            self._run_command(command.strip(), block[len(command) :], f"{example.path}:{example.line}: $ {command}")

    def _run_command(self, command: str, expected: str, where: str) -> None:
        if export := re.fullmatch(r"export (\w+)=(\S*)", self.actual(command)):
            (self._exports[export[1]],) = shlex.split(export[2])
            return
        if command.startswith(SERVERS):
            self._start_server(command, expected, where)
            return
        process = _Terminal(self.actual(command), self._folder, self._environment())
        interrupted = expected.rstrip().endswith("^C")
        expected = expected.rstrip().removesuffix("^C") if interrupted else expected
        with contextlib.closing(process):
            printed = self._read_until(process, expected if interrupted else None)
            process.end(signal.SIGINT if interrupted else signal.SIGKILL)
        self._compare(expected, printed, where)

    def _start_server(self, command: str, expected: str, where: str) -> None:
        port = next((port for port in PORTS if port in command), DEFAULT_PORT)
        self._stop_server(port)
        script = f"exec {self.actual(command)}"
        if command.startswith("eric-sse") and port not in command:
            script += f" --port {self._ports[port]}"
        self._servers[port] = process = _Terminal(script, self._folder, self._environment())
        self._compare(expected, self._read_until(process, expected), where)
        self._wait_for_port(process, port, where)

    def _stop_server(self, port: str) -> None:
        server = self._servers.pop(port, None)
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

    def _wait_for_port(self, process: "_Terminal", port: str, where: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while process.is_running() and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._ports[port])):
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
        for line in _tidy(self.actual(expected)).splitlines():
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

    def actual(self, text: str) -> str:
        """What is shown, with the epochs and ports of this time."""
        for shown, actual in (self._epochs | self._ports).items():
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


def _free_ports(count: int) -> list[str]:
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [str(probe.getsockname()[1]) for probe in probes]
