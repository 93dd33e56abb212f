"""The demo: what a newcomer runs first. It proves what it says, and fails where messages are really lost."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"
WITHIN_S = 20
ROW = re.compile(r"^(listener|anonymous|late-comer|read back)" + r" +(\S+)" * 6 + r" +\S+$", re.MULTILINE)


def command(*options: str) -> list[str]:
    """How it is run."""
    return [sys.executable, str(DEMO), *options]


def environment(folder: Path) -> dict[str, str]:
    """Where temporary folders are made in this one; and tables are as wide as on the narrowest terminals."""
    return {**os.environ, "TMPDIR": str(folder), "COLUMNS": "80"}


class Run:
    """The demo, run to its end.

    Attributes:
        status: Its exit status.
        output: All it printed.
        rows: Its table, by client.
        left: What it left behind.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        ended = subprocess.run(
            command(*options), check=False, capture_output=True, text=True, timeout=WITHIN_S, env=environment(folder)
        )
        self.status = ended.returncode
        self.output = ended.stdout + ended.stderr
        self.rows = {name: cells for name, *cells in ROW.findall(ended.stdout)}
        self.left = list(folder.iterdir())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The demo, as ``make demo`` runs it."""
    return Run(tmp_path_factory.mktemp("demo"))


def test_nothing_is_lost_or_repeated_and_the_status_says_so(run):
    """Each client received what was sent, once and intact."""
    assert run.status == 0, run.output
    assert list(run.rows) == ["listener", "anonymous", "late-comer", "read back"]
    assert all(row[:5] == ["1,707", "1,707", "0", "0", "yes"] for row in run.rows.values())


def test_clients_resume_from_the_id_of_the_kill(run):
    """Those that were connected came back with an id from about half-way; the one that came later had none to send."""
    *resumed, fresh = (row[5] for row in run.rows.values())
    assert all(re.fullmatch(r"[0-9a-f]{12}-\d+", id_) for id_ in resumed)
    assert all(800 < int(id_.partition("-")[2]) < 900 for id_ in resumed)
    assert fresh == "-"


def test_it_leaves_nothing_behind(run):
    """Its temporary folder is gone."""
    assert run.left == []


def test_progress_is_told_where_there_is_no_terminal(run):
    """A line now and then says how far everybody is, with nothing that moves a cursor."""
    assert len(re.findall(r"^ +[\d.]+ s sent [\d,]+; received [\d, ]+$", run.output, re.MULTILINE)) >= 3
    assert "\x1b" not in run.output


def test_it_fails_where_messages_are_really_lost(tmp_path):
    """On a store that dies with the server, the table says what is lost, and the status is not 0."""
    run = Run(tmp_path, "--store", "memory://")
    assert run.status == 1, run.output
    assert all(int(row[2].replace(",", "")) >= 800 and row[4] == "no" for row in run.rows.values())
    assert run.rows["read back"][:2] == ["1,707", "0"]
    assert "Traceback" not in run.output


def test_it_says_why_it_cannot_start(tmp_path):
    """A store that cannot be opened is one line on standard error."""
    run = Run(tmp_path, "--store", "nonsense://")
    assert run.status == 1
    assert run.output.startswith("demo: the server did not start: "), run.output
    assert "Traceback" not in run.output


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing_behind(tmp_path, ended_by):
    """Neither its folder nor its server outlives it."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command(), env=environment(tmp_path), **pipes) as process:
        assert any("publishing begins" in line for line in process.stdout)
        (server,) = psutil.Process(process.pid).children()
        process.send_signal(ended_by)
        _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (130, "demo: stopped\n")
    assert not server.is_running()
    assert list(tmp_path.iterdir()) == []
