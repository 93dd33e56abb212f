"""Writing to those who are live, past their transports where these are sockets."""

import contextlib
import socket

import pytest

from eric_sse.service.fan_out import FanOut, chunked
from eric_sse.service.window import Frame, Segment


class Writes(list):
    """A transport that takes note of what is written to it, and writes it to nobody."""

    write = list.append


class SocketPeer:
    """A peer whose transport has a socket, and nothing in its buffer."""

    listener_id = None
    framing = staticmethod(chunked)

    def __init__(self):
        self.here, self.there = socket.socketpair()
        self.here.setblocking(False)
        self.fileno = self.here.fileno()
        self.transport = Writes()

    def fill(self):
        """Have the socket take no more."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.here.send(b"-" * 4096)

    def received(self):
        """What the peer was sent."""
        received = b""
        self.there.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while data := self.there.recv(1 << 20):
                received += data
        return received.lstrip(b"-")


@pytest.fixture
def peers():
    """Three of them."""
    peers = [SocketPeer() for _ in range(3)]
    yield peers
    for peer in peers:
        peer.here.close()
        peer.there.close()


@pytest.fixture
def fan_out(peers):
    """They are live."""
    fan_out = FanOut()
    for peer in peers:
        fan_out.join(peer)
    return fan_out


def segment(data):
    """What is new."""
    return Segment([Frame(1, None, data)], 1)


def test_sockets_are_written_to(fan_out, peers):
    """What the socket takes does not pass the transport."""
    fan_out.push(segment(b"data: 1\n\n"))
    assert [peer.received() for peer in peers] == [b"9\r\ndata: 1\n\n\r\n"] * 3
    assert [peer.transport for peer in peers] == [[]] * 3


def test_a_full_socket(fan_out, peers):
    """What it does not take, the transport is given; nobody else goes short."""
    peers[1].fill()
    fan_out.push(segment(b"data: 1\n\n"))
    assert peers[1].transport == [b"9\r\ndata: 1\n\n\r\n"]
    assert [peer.received() for peer in peers] == [b"9\r\ndata: 1\n\n\r\n", b"", b"9\r\ndata: 1\n\n\r\n"]


def test_a_socket_that_takes_a_part(fan_out, peers):
    """The transport is given the rest."""
    body = b"data: " + b"x" * 1_000_000 + b"\n\n"
    fan_out.push(segment(body))
    [rest] = peers[0].transport
    assert 0 < len(rest) < len(body)
    assert peers[0].received() + rest == chunked(body)


def test_a_peer_that_has_closed(fan_out, peers):
    """Its transport is to find out; the others are written to."""
    peers[1].there.close()
    fan_out.push(segment(b"data: 1\n\n"))
    assert peers[1].transport == [b"9\r\ndata: 1\n\n\r\n"]
    assert peers[2].received() == b"9\r\ndata: 1\n\n\r\n"


def test_who_leaves_is_not_written_to(fan_out, peers):
    """Nor counted."""
    fan_out.leave(peers[1])
    fan_out.leave(peers[1])
    fan_out.push(segment(b"data: 1\n\n"))
    assert (peers[1].received(), peers[1].transport) == (b"", [])
    assert (len(fan_out), list(fan_out.live())) == (2, [peers[0], peers[2]])
