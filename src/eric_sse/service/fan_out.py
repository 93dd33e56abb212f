"""Who follows a channel in this process. Those who are up to date are written to, the others are woken."""

import os
import time
from asyncio import Transport
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Protocol

from eric_sse.service.window import Segment

Framing = Callable[[bytes], bytes]
"""What a connection is to be written for some bytes of the stream; for none, what ends it."""


def chunked(data: bytes) -> bytes:
    """A chunk of an HTTP/1.1 body; of no bytes, the last one (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def unframed(data: bytes) -> bytes:
    """The bytes as they are: whoever carries them frames them."""
    return data


class Follower(Protocol):
    """Whoever is woken."""

    def wake(self) -> None:
        """There may be something new, or the channel is gone."""
        ...


class Peer(Follower, Protocol):
    """A connection that is written to. While it is, it has been sent all that its channel's window holds for it."""

    transport: Transport
    listener_id: str | None
    fileno: int | None
    """The transport's socket, where it may be written past the transport; None where it may not. The transport holds
    nothing while the peer is live, and closes the socket after that."""

    @property
    def framing(self) -> Framing:
        """`chunked` or `unframed`."""
        ...

    def fall_behind(self) -> None:
        """Leave, at what the channel's window reaches now."""
        ...


class FanOut:
    """The followers of one channel. Belongs to one event loop.

    Attributes:
        waiting: Those to wake.
        told: The last offset that all who are live were told as an id.
        pushed_at: When something was last written to all of them (`time.monotonic`).
        has_changed: Whether somebody became live, ceased to be, or was written to, since this was last set to False.
    """

    def __init__(self) -> None:
        self.waiting: set[Follower] = set()
        self.told = 0
        self.pushed_at = 0.0
        self.has_changed = False
        self._live: dict[Framing, _Peers] = {chunked: _Peers(), unframed: _Peers()}

    def __len__(self) -> int:
        """How many follow."""
        return len(self.waiting) + sum(map(len, self._live.values()))

    def join(self, peer: Peer) -> None:
        """Write what is new to a peer from now on."""
        self._live[peer.framing].add(peer)
        self.has_changed = True

    def leave(self, peer: Peer) -> None:
        """Write to it no more."""
        self._live[peer.framing].discard(peer)
        self.has_changed = True

    def live(self) -> Iterator[Peer]:
        """Those who are written to. They may leave meanwhile."""
        for peers in self._live.values():
            yield from tuple(peers)

    def push(self, segment: Segment) -> None:
        """Write what is new to those who are live: the same bytes to all but those who have some of their own."""
        self.has_changed = True
        for framing, peers in self._live.items():
            if segment.receivers:
                _push_own(segment, framing, peers)
            elif segment.shared and peers:
                peers.write(framing(segment.shared))
        if segment.shared:
            self.told = segment.through
            self.pushed_at = time.monotonic()

    def wake(self) -> None:
        """Wake those who are not live."""
        for follower in tuple(self.waiting):
            follower.wake()

    def wake_all(self) -> None:
        """Wake everybody."""
        for follower in (*self.waiting, *self.live()):
            follower.wake()


class _Peers:
    """Those who are live, and want it framed in one way."""

    def __init__(self) -> None:
        self._by_fileno: dict[int, Peer] = {}
        self._others: set[Peer] = set()

    def __len__(self) -> int:
        return len(self._by_fileno) + len(self._others)

    def __iter__(self) -> Iterator[Peer]:
        yield from self._by_fileno.values()
        yield from self._others

    def add(self, peer: Peer) -> None:
        if peer.fileno is None:
            self._others.add(peer)
        else:
            self._by_fileno[peer.fileno] = peer

    def discard(self, peer: Peer) -> None:
        if peer.fileno is None:
            self._others.discard(peer)
        else:
            self._by_fileno.pop(peer.fileno, None)

    def write(self, data: bytes) -> None:
        """Write the same to all of them.

        The loop runs once for every event and connection, and each time the kernel has put all else out of the
        processor's cache. To go through the objects of a thousand transports costs 5 to 25 % more: by how much depends
        on who else uses the cache. A number is at hand.
        """
        # Copies: a transport that has enough says so meanwhile, and its peer leaves.
        for fileno in tuple(self._by_fileno):
            try:
                taken = os.write(fileno, data)
            except OSError:  # full, or closed by the peer: the transport finds out, and tells its protocol
                taken = 0
            if taken < len(data):
                _write(self._by_fileno[fileno].transport, data[taken:])
        for peer in tuple(self._others):
            _write(peer.transport, data)


def _push_own(segment: Segment, framing: Framing, peers: _Peers) -> None:
    shared = framing(segment.shared) if segment.shared else b""
    for peer in tuple(peers):
        own = peer.listener_id in segment.receivers
        if data := framing(segment.for_listener(peer.listener_id)) if own else shared:
            _write(peer.transport, data)


def _write(transport: Transport, data: bytes) -> None:
    with suppress(RuntimeError):  # closed this moment, as uvloop says it; its protocol is about to hear
        transport.write(data)
