"""Unix-domain sockets to listen on: what is replaced, what is refused, and what is removed in the end."""

import contextlib
import socket

import pytest

from eric_sse.exception import ConfigurationError
from eric_sse.unix_socket import listening


def claim(path):
    """Listen there for a moment."""
    with listening(path):
        pass


@pytest.fixture
def path(tmp_path):
    """Where to."""
    return tmp_path / "s"


def test_a_dead_servers_socket_is_replaced(path):
    """What a server left behind when it was killed is in nobody's way."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    with listening(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_living_servers_socket_is_not(path):
    """It is refused, and the other goes on."""
    with listening(path) as living:
        with pytest.raises(ConfigurationError, match="a server listens there"):
            claim(path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            living.accept()[0].close()


def test_a_living_server_that_is_overrun(path):
    """One whose backlog is full is alive too."""
    with contextlib.ExitStack() as stack:
        living = stack.enter_context(socket.socket(socket.AF_UNIX))
        living.bind(str(path))
        living.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.settimeout(0)
                client.connect(str(path))
        with pytest.raises(ConfigurationError, match="a server listens there"):
            claim(path)
    assert path.exists()


def test_a_file_is_left_alone(path):
    """What is no socket is never removed."""
    path.write_text("mine")
    with pytest.raises(ConfigurationError, match="no socket"):
        claim(path)
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["no/such/folder", "x" * 200])
def test_what_cannot_be(tmp_path, name):
    """Paths that cannot be bound are refused."""
    with pytest.raises(ConfigurationError, match="cannot listen on"):
        claim(tmp_path / name)


def test_it_is_removed_in_the_end(path):
    """And the socket is closed."""
    with listening(path) as bound:
        assert path.is_socket()
    assert not path.exists()
    assert bound.fileno() == -1


def test_a_successors_socket_is_left(path):
    """A server that ends after the next one has taken its path does not take it from that."""
    with contextlib.ExitStack() as stack:
        with listening(path) as ending:
            ending.close()  # as servers do before they let their clients finish
            stack.enter_context(listening(path))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
