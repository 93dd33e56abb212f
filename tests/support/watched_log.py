"""A log that counts its calls, and fails or hangs where it is told to."""

import asyncio
import threading
from collections import Counter

from eric_sse.log import MessageLog

PATIENCE_S = 10


class Gate:
    """Where calls wait until it is opened."""

    def __init__(self):
        self.reached = threading.Event()
        self._open = threading.Event()

    def pass_through(self):
        """Wait until it is open."""
        self.reached.set()
        assert self._open.wait(PATIENCE_S), "nobody opened the gate"

    def open(self):
        """Let everybody through."""
        self._open.set()

    async def somebody_waits(self):
        """Return when a call has come to it."""
        assert await asyncio.to_thread(self.reached.wait, PATIENCE_S)


class WatchedLog(MessageLog):
    """Another log, watched.

    Attributes:
        calls: How often each method was called.
        errors: What a method raises, by its name.
        gates: Where a method waits first, by its name.
        groups: How many entries each append_group held.
    """

    def __init__(self, log):
        self._log = log
        self.calls = Counter()
        self.errors = {}
        self.gates = {}
        self.groups = []

    def close_gate(self, name):
        """Have a method wait at a new gate."""
        self.gates[name] = Gate()
        return self.gates[name]

    def _call(self, name, *args, **kwargs):
        self.calls[name] += 1
        if name in self.gates:
            self.gates[name].pass_through()
        if name in self.errors:
            raise self.errors[name]
        return getattr(self._log, name)(*args, **kwargs)

    def create(self, *args, **kwargs):
        """See `MessageLog`."""
        return self._call("create", *args, **kwargs)

    def append_group(self, appends):
        """See `MessageLog`."""
        self.groups.append(sum(len(append.entries) for append in appends))
        return self._call("append_group", appends)

    def read(self, *args, **kwargs):
        """See `MessageLog`."""
        return self._call("read", *args, **kwargs)

    def heads(self, *args, **kwargs):
        """See `MessageLog`."""
        return self._call("heads", *args, **kwargs)

    def trim(self, *args, **kwargs):
        """See `MessageLog`."""
        return self._call("trim", *args, **kwargs)

    def drop(self, *args, **kwargs):
        """See `MessageLog`."""
        return self._call("drop", *args, **kwargs)

    def count(self, *args, **kwargs):
        """See `MessageLog`."""
        return self._call("count", *args, **kwargs)
