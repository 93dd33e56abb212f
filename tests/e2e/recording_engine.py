"""An engine for the tests: another one, which writes down what is read from it.

``recording:<URL of the other>`` appends each answer of storage, log and cursors, and what was asked, to the file that
the environment variable ``ERIC_SSE_TEST_RECORD`` names.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

from eric_sse.engine import Engine
from eric_sse.engines import open_engine

FILE = "ERIC_SSE_TEST_RECORD"


def _recording(call: Callable[..., Any]) -> Callable[..., Any]:
    def record(*arguments: object, **options: object) -> Any:
        answer = call(*arguments, **options)
        answer = list(answer) if isinstance(answer, Iterator) else answer
        with open(os.environ[FILE], "a") as file:  # noqa: PTH123 - one small write, whole, from several threads
            file.write(f"{call.__name__} {arguments} {options} {answer}\n")
        return answer

    return record


def open_recording(url: str) -> Engine:
    """Open the engine."""
    engine = open_engine(url.removeprefix("recording:"))
    for part, names in (
        (engine.storage, ("fetch_by_prefix", "fetch_all", "fetch_one", "fetch_many", "fetch_page")),
        (engine.log, ("read", "heads", "count")),
        (engine.cursors, ("get",)),
    ):
        for name in names:
            setattr(part, name, _recording(getattr(part, name)))
    return engine
