"""TLS: the files that are none, and streams on a transport that encrypts."""

import contextlib
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from eric_sse.asgi import event_stream
from eric_sse.asgi.tls import server_context
from eric_sse.exception import ConfigurationError
from eric_sse.service import ServiceOptions
from support.certificates import make_certificate
from support.serving import Serving, note_writes, open_stream, publish_and_read_late, read_until


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate; its key is beside it."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def key(certificate):
    """Its key."""
    return certificate.with_name("key.pem")


@pytest.fixture
def serving(certificate, key):
    """A server that speaks TLS."""
    with Serving(ServiceOptions(), certificate, key) as serving:
        yield serving


class TestContext:
    """The files."""

    def test_both_in_one(self, certificate, key, tmp_path):
        """The key may be in the certificate's file."""
        both = tmp_path / "both.pem"
        both.write_bytes(key.read_bytes() + certificate.read_bytes())
        assert isinstance(server_context(both), ssl.SSLContext)

    def test_there_is_none(self, certificate, tmp_path):
        """It says which file cannot be read."""
        with pytest.raises(ConfigurationError, match=r"cannot read .*/nothing.pem: No such file"):
            server_context(certificate, tmp_path / "nothing.pem")

    def test_what_is_no_certificate(self, certificate, key):
        """It says which files are wrong."""
        for files in ((key, key), (Path(__file__), key)):
            with pytest.raises(ConfigurationError, match=rf"{files[0]} holds no certificate in PEM, or "):
                server_context(*files)

    def test_a_key_that_is_not_in_the_same_file(self, certificate):
        """It says how to name another file."""
        with pytest.raises(ConfigurationError, match=r"its private key as well; name the key's file with --ssl-key"):
            server_context(certificate)

    def test_another_s_key(self, certificate, tmp_path):
        """A key that does not belong to the certificate is refused."""
        make_certificate(tmp_path)
        with pytest.raises(ConfigurationError, match="not the private key that belongs to it"):
            server_context(certificate, tmp_path / "key.pem")

    def test_an_encrypted_key(self, certificate, key, tmp_path):
        """Nobody is asked for a password."""
        encrypted = tmp_path / "encrypted.pem"
        command = ["openssl", "ec", "-in", key, "-out", encrypted, "-aes256", "-passout", "pass:x"]
        subprocess.run(command, check=True, capture_output=True)
        with pytest.raises(ConfigurationError, match="is encrypted; store it decrypted"):
            server_context(certificate, encrypted)


class TestStreams:
    """They are written to the transport that encrypts, and to nothing below it."""

    def test_the_connection_is_handed_over(self, serving, monkeypatch):
        """It leaves the request machinery as a plain one does."""
        monkeypatch.delattr(event_stream, "BodyTransport")  # what a stream that is not handed over needs
        written = note_writes(monkeypatch)
        with open_stream(serving) as stream:
            serving.publish("one")
            read_until(stream, b'data: "one"')
            serving.publish("two")
            read_until(stream, b'data: "two"')
        assert written == []

    def test_a_peer_that_reads_late(self, serving):
        """Nobody waits for it, and it gets all of it in order."""
        with open_stream(serving, SO_RCVBUF=4096) as late:
            assert publish_and_read_late(serving, late)

    @pytest.mark.parametrize("way", ["close", "goodbye", "reset"])
    def test_a_peer_that_leaves(self, serving, way, caplog):
        """However it goes, its stream is let go, and nothing is logged as an error."""
        stream = open_stream(serving)
        serving.await_streams(1)
        if way == "goodbye":
            with contextlib.suppress(ssl.SSLError):  # the stream's end comes before the answer
                stream.unwrap()
        if way == "reset":
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        stream.close()
        serving.publish("to nobody")
        serving.await_streams(0)
        assert [record for record in caplog.records if record.levelname == "ERROR"] == []

    def test_one_that_speaks_no_tls(self, serving, caplog):
        """It gets nothing, and the others go on."""
        with socket.create_connection(("127.0.0.1", serving.port), 5) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n")
            assert plain.recv(4096) == b""
        assert serving.streams() == 0
        assert [record for record in caplog.records if record.levelname == "ERROR"] == []
