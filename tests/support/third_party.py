"""Engines that the tests bring along, as a third party would: found by an entry point."""

import os
from pathlib import Path

TESTS = Path(__file__).parent.parent


def register_engine(folder: Path, scheme: str, opener: str) -> dict[str, str]:
    """Install an engine for processes that are started with the environment that this returns.

    Args:
        folder: Where the distribution that registers it goes.
        scheme: Of its URLs.
        opener: What opens it, such as ``"e2e.hanging_engine:open_hanging"``.
    """
    info = folder / f"{scheme}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {scheme}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[eric_sse.engines]\n{scheme} = {opener}\n")
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), str(TESTS), os.environ.get("PYTHONPATH")]))}
