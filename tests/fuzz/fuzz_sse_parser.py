"""Fuzz the event stream parser against the reference, for as long as you like.

    python tests/fuzz/fuzz_sse_parser.py --seconds 60

Random streams are cut at random and fed to a parser; what comes out must be what the reference, which is written the
way the standard is, makes of the whole. A failure prints the seed that repeats it (``--seed N --seconds 0``) and exits
with status 1. Needs nothing but eric_sse.
"""

import argparse
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from eric_sse.wire.sse import EventStreamParser, EventTooLarge
from wire.reference_sse import interpret

PIECES = [
    *b"\n \r \r\n \n\n \r\r \r\n\r\n : :x data data: data:a event event: event:e id id: id:1 id:\0 retry retry:9".split(
        b" "
    ),
    *b"\xef\xbb\xbf \xe2\x82 \xe2\x82\xac \xf0\x9f\x98\x80 \xff \x80 \0 \xc2\x85 Data: \x0b retry:x datadata".split(
        b" "
    ),
    *(b" ", b"  ", b"id: 7\nevent: e\ndata: {}\n\n", b"data: d\n\n", b"id: \n", b"event: \ndata: x\n\n"),
]


def random_stream(rng):
    """Mostly pieces of the grammar, sometimes noise, now and then repeated until it is long."""
    parts = [
        rng.choice(PIECES) if rng.random() < 0.9 else rng.randbytes(rng.randrange(4)) for _ in range(rng.randrange(40))
    ]
    return b"".join(parts) * (rng.randrange(200) if rng.random() < 0.02 else 1)


def random_chunks(rng, stream):
    """``stream`` cut at no, some or all places."""
    cuts = sorted(rng.randrange(len(stream) + 1) for _ in range(rng.choice([0, 1, 2, 5, 20, len(stream)])))
    return [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


def check(seed):
    """Run the case that ``seed`` makes. Raises AssertionError where parser and reference disagree."""
    rng = random.Random(seed)
    stream = random_stream(rng)
    parser = EventStreamParser("seed")
    events = [event for chunk in random_chunks(rng, stream) for event in parser.feed(chunk)]
    found = (events, parser.last_event_id, parser.retry_ms)
    expected = interpret(stream, "seed")
    assert found == (expected.events, expected.last_event_id, expected.retry_ms), (stream, found, expected)
    limit = rng.randrange(1, 40)
    assert outcome([stream], limit) == outcome(random_chunks(rng, stream), limit), (stream, limit)


def outcome(chunks, limit):
    """The events up to the limit, and whether it was exceeded."""
    parser, events = EventStreamParser(max_event_bytes=limit), []
    try:
        for chunk in chunks:
            events += parser.feed(chunk)
    except EventTooLarge as error:
        return [*events, *error.events], True
    return events, False


def main():
    """Check case after case until the time is up."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--seconds", type=float, default=10.0, help="how long; one case at least")
    arguments.add_argument("--seed", type=int, default=0, help="the first case")
    options = arguments.parse_args()
    seed, end = options.seed, time.monotonic() + options.seconds
    while True:
        try:
            check(seed)
        except Exception as error:  # noqa: BLE001 - a crash is a finding like any other
            print(f"seed {seed}: {type(error).__name__}: {error}", file=sys.stderr)
            return 1
        seed += 1
        if time.monotonic() >= end:
            print(f"{seed - options.seed} streams from seed {options.seed}: no difference")
            return 0


if __name__ == "__main__":
    sys.exit(main())
