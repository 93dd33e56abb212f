"""The load client, ``sseload`` (in C, beside this file), and whether a figure of its can be trusted."""

import json
import subprocess
import tempfile
from typing import Any

from benchmarks.peers.processes import SERVER_CORE, Running
from benchmarks.peers.targets import HERE, PeerError

SSELOAD = HERE / "build" / "sseload"

FOREIGN_SHARE = 0.08
FOREIGN_S = 0.05

Figures = dict[str, Any]
"""What ``sseload`` prints; ``sseload --help`` and its source say what each figure is."""


def load(server: Running, paths: list[str] | None, **options: object) -> Figures:
    """Run ``sseload`` against a server.

    Args:
        server: The server.
        paths: A line of ``--paths`` for each connection; None: all ask for the target's stream.
        options: Those of ``sseload``, with underscores for hyphens.

    Raises:
        PeerError: It gave no figures, or none of worth, as no stream opened.
    """
    target = server.target
    command = [str(SSELOAD), "--port", str(server.port), "--path", target.events_path]
    command += ["--pub-path", target.publish_path, "--pub-body", target.body]
    command += ["--pub-header", "Content-Type: application/json", "--cpu", str(SERVER_CORE)]
    command += ["--pid", ",".join(map(str, server.pids()))]
    for name, value in ({"settle": 1000} | options).items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    if paths is None and target.subscribe is not None:
        paths = target.subscribe(server.port, int(str(options["conns"])))
    with tempfile.NamedTemporaryFile("w", suffix=".paths") as file:
        if paths is not None:
            file.write("\n".join(paths))
            file.flush()
            command += ["--paths", file.name]
        return _figures(command)


def _figures(command: list[str]) -> Figures:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if not done.stdout.strip():
        raise PeerError(f"sseload gave no figures: {done.stderr.strip()[-300:]}")
    figures: Figures = json.loads(done.stdout)
    if not figures["ready"]:
        raise PeerError(f"none of {figures['connections']} streams opened: {done.stderr.strip()[-300:]}")
    return figures | {"stderr": done.stderr.strip()[-300:]}


def is_disturbed(figures: Figures) -> bool:
    """Whether other processes used the cores meanwhile, by more than a figure can bear."""
    return bool(figures["foreign_cpu_s"] > max(FOREIGN_S, FOREIGN_SHARE * figures["window_s"]))
