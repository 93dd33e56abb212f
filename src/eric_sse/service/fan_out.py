"""Who follows a channel in this process. Those who are up to date are written to, the others are woken."""

import time
from asyncio import Transport
from typing import Protocol

from eric_sse.service.window import Segment


def chunked(data: bytes) -> bytes:
    """``data`` as a chunk of an HTTP/1.1 body (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Follower(Protocol):
    """Whoever is woken."""

    def wake(self) -> None:
        """There may be something new, or the channel is gone."""
        ...


class Peer(Follower, Protocol):
    """A connection that is written to. While it is, it has been sent all that its channel's window holds for it."""

    transport: Transport
    listener_id: str | None

    def fall_behind(self) -> None:
        """Leave, at what the channel's window reaches now."""
        ...


class FanOut:
    """The followers of one channel. Belongs to one event loop.

    Attributes:
        waiting: Those to wake.
        live: Those to write to.
        told: The last offset that all who are live were told as an id.
        pushed_at: When something was last written to all of them (`time.monotonic`).
    """

    def __init__(self) -> None:
        self.waiting: set[Follower] = set()
        self.live: set[Peer] = set()
        self.told = 0
        self.pushed_at = 0.0

    def __len__(self) -> int:
        """How many follow."""
        return len(self.waiting) + len(self.live)

    def push(self, segment: Segment) -> None:
        """Write what is new to those who are live: the same bytes to all but those who have some of their own."""
        if segment.receivers:
            self._push_own(segment)
        elif segment.shared:
            shared = chunked(segment.shared)
            # A copy: a transport that has enough says so meanwhile, and its peer leaves.
            for peer in tuple(self.live):
                try:
                    peer.transport.write(shared)
                except RuntimeError:  # closed this moment, as uvloop says it; its protocol is about to hear
                    continue
        if segment.shared:
            self.told = segment.through
            self.pushed_at = time.monotonic()

    def _push_own(self, segment: Segment) -> None:
        shared = chunked(segment.shared) if segment.shared else b""
        for peer in tuple(self.live):
            own = peer.listener_id in segment.receivers
            data = chunked(segment.for_listener(peer.listener_id)) if own else shared
            try:
                if data:
                    peer.transport.write(data)
            except RuntimeError:  # as above
                continue

    def wake(self) -> None:
        """Wake those who are not live."""
        for follower in tuple(self.waiting):
            follower.wake()

    def wake_all(self) -> None:
        """Wake everybody."""
        for follower in (*self.waiting, *self.live):
            follower.wake()
