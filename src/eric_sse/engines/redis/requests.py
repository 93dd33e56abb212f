"""What is asked of the server: commands that go together to the node which holds their keys."""

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from eric_sse.engines.redis.scripts import Script

MAX_PATIENCE_S = 30.0
"""How long, in seconds, an engine may be told to repeat what lost its reply."""
REPETITION_US = 120_000_000
"""For how long, in microseconds, a call is known again, by whoever made it: longer than anybody repeats it."""

Argument = bytes | str | int
Command = Sequence[Argument]


class Effect(Enum):
    """What asking twice comes to."""

    NONE = "none"
    """Nothing is changed."""
    REPEATABLE = "repeatable"
    """Doing it twice comes to the same as doing it once, and answers the same."""
    ONCE = "once"
    """The second time it answers something else."""


class Request(NamedTuple):
    """Commands for one slot; the last one's reply is the result.

    Attributes:
        key: Any key of the slot.
        commands: Sent together, in one round trip.
        effect: What asking twice comes to.
        script: What the commands expect the server to know.
        replicated: Whether it is done only when as many replicas have it as were asked for.
    """

    key: bytes
    commands: Sequence[Command]
    effect: Effect = Effect.NONE
    script: Script | None = None
    replicated: bool = False


def call(
    script: Script,
    keys: Sequence[bytes],
    arguments: Sequence[Argument] = (),
    effect: Effect = Effect.REPEATABLE,
    *,
    replicated: bool = False,
) -> Request:
    """A request that runs a script. One that only reads has no effect."""
    name = "EVALSHA" if script.writes else "EVALSHA_RO"
    command = (name, script.sha, len(keys), *keys, *arguments)
    return Request(keys[0], [command], effect if script.writes else Effect.NONE, script, replicated)
