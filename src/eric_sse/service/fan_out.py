"""Who follows a channel in this process. Those who are up to date are written to, the others are woken."""

import time
from asyncio import Transport
from collections.abc import Callable, Iterator
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
    """

    def __init__(self) -> None:
        self.waiting: set[Follower] = set()
        self.told = 0
        self.pushed_at = 0.0
        # Each with its transport: to fetch that from the peer at each write takes a tenth of the time.
        self._live: dict[Framing, dict[Peer, Transport]] = {chunked: {}, unframed: {}}

    def __len__(self) -> int:
        """How many follow."""
        return len(self.waiting) + sum(map(len, self._live.values()))

    def join(self, peer: Peer) -> None:
        """Write what is new to a peer from now on."""
        self._live[peer.framing][peer] = peer.transport

    def leave(self, peer: Peer) -> None:
        """Write to it no more."""
        self._live[peer.framing].pop(peer, None)

    def live(self) -> Iterator[Peer]:
        """Those who are written to. They may leave meanwhile."""
        for peers in self._live.values():
            yield from tuple(peers)

    def push(self, segment: Segment) -> None:
        """Write what is new to those who are live: the same bytes to all but those who have some of their own."""
        for framing, peers in self._live.items():
            if segment.receivers:
                _push_own(segment, framing, peers)
            elif segment.shared and peers:
                _push_shared(framing(segment.shared), peers)
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


def _push_shared(data: bytes, peers: dict[Peer, Transport]) -> None:
    # A copy: a transport that has enough says so meanwhile, and its peer leaves.
    for transport in tuple(peers.values()):
        try:
            transport.write(data)
        except RuntimeError:  # closed this moment, as uvloop says it; its protocol is about to hear
            continue


def _push_own(segment: Segment, framing: Framing, peers: dict[Peer, Transport]) -> None:
    shared = framing(segment.shared) if segment.shared else b""
    for peer, transport in tuple(peers.items()):
        own = peer.listener_id in segment.receivers
        data = framing(segment.for_listener(peer.listener_id)) if own else shared
        try:
            if data:
                transport.write(data)
        except RuntimeError:  # as above
            continue
