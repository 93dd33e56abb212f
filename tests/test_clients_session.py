"""What a durable reader decides, without a network: back-off, what is final, what it says."""

import email.utils
import time

import pytest

from eric_sse.clients import Gap, StreamLost, StreamState
from eric_sse.clients.session import StreamSession
from eric_sse.exception import StreamRefused
from eric_sse.wire.sse import Event

STREAM = {"content-type": "text/event-stream"}
URL = "http://me:secret@host:8000/events?token=secret"


class Driven(StreamSession):
    """A session whose clock stands still and whose jitter is the longest it may be."""

    def __init__(self, **options):
        self.now = 0.0
        super().__init__(URL, clock=lambda: self.now, jitter=lambda _, longest: longest, **options)

    def open(self, *chunks):
        """Answer the request with a stream and these bytes."""
        self.reconnect()
        self.responded(200, STREAM)
        for chunk in chunks:
            self.received(chunk)

    def fail(self, times=1):
        """Fail to connect, and return the wait after the last time."""
        for _ in range(times):
            self.reconnect()
            self.lost("no route", OSError())
        return self.delay_s


def test_back_off_doubles_up_to_its_limit():
    """The wait starts at the default reconnection time, 3 s, and doubles with each failure in a row."""
    session = Driven(max_retry_s=20)
    assert [session.fail() for _ in range(5)] == [3, 6, 12, 20, 20]


def test_jitter_is_full():
    """The wait is anything between nothing and the back-off, so that a thousand clients spread over it."""
    ranges = []
    session = StreamSession(URL, jitter=lambda *bounds: ranges.append(bounds) or 0.0)
    session.lost("no route", OSError())
    assert ranges == [(0.0, 3.0)]


def test_back_off_starts_from_the_servers_retry():
    """The reconnection time that the server set last is the first wait, on later connections too."""
    session = Driven()
    session.open(b"retry: 500\n\n")
    assert session.fail() == 0.5
    session.open()
    assert session.fail(3) == 4


def test_a_retry_of_nothing_still_backs_off():
    """A server that asks for no wait does not get a busy loop."""
    session = Driven()
    session.open(b"retry: 0\n\n")
    assert (session.fail(), session.fail(7)) == (0.01, 1.28)


def test_an_event_ends_the_failures_in_a_row():
    """Connecting is not success, and neither is an opening block: a server may crash after each. An event is."""
    session = Driven()
    session.fail(3)
    session.open(b"id: 7\n\n")
    assert session.fail() == 24
    session.open(b"data: a\n\n")
    assert session.fail() == 3


def test_a_stream_that_lasted_ends_the_failures_in_a_row():
    """Proxies that cut a quiet stream every few minutes do not drive the wait up."""
    session = Driven(max_retry_s=30)
    session.fail(3)
    session.open()
    session.now = 30.0
    assert session.fail() == 3


def test_a_huge_number_of_failures():
    """Doubling has an end before numbers do."""
    assert Driven().fail(5000) == 30


@pytest.mark.parametrize(("value", "seconds"), [("7", 7), ("0", 0), ("", 0), ("soon", 0), ("-5", 0), ("9" * 400, 3600)])
def test_retry_after_in_seconds(value, seconds):
    """The server's wait is added to the back-off; nonsense is nothing, and an hour is the most."""
    session = Driven()
    session.responded(503, {"retry-after": value})
    assert session.delay_s == seconds + 3


def test_retry_after_as_a_date():
    """A date is waited for; one that is past is now."""
    for ahead, low, high in [(60, 58, 60), (-60, 0, 0)]:
        session = Driven()
        session.responded(429, {"retry-after": email.utils.formatdate(time.time() + ahead, usegmt=True)})
        assert low <= session.delay_s - 3 <= high


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 422, 431])
def test_what_is_final(status):
    """The client's own mistakes are not tried again."""
    session = Driven()
    with pytest.raises(StreamRefused):
        session.responded(status, {})
    assert session.state is StreamState.CLOSED


def test_204_is_the_end():
    """No Content tells a client to stop."""
    session = Driven()
    session.responded(204, {})
    assert (session.state, session.next_event()) == (StreamState.CLOSED, None)


def test_failures_are_counted():
    """The error that ends it says how often it failed and chains the last cause."""
    session = Driven(max_failures=2)
    session.fail(2)
    with pytest.raises(StreamLost, match="no route, failure 3 in a row") as lost:
        session.fail()
    assert isinstance(lost.value.__cause__, OSError)


def test_messages_hold_no_secrets(caplog):
    """What is logged and raised leaves out the credentials and the query of the URL."""
    session = Driven(max_failures=1)
    with caplog.at_level("INFO", "eric_sse"):
        session.fail()
    with pytest.raises(StreamLost) as lost:
        session.fail()
    assert "http://host:8000/events: no route" in caplog.text
    assert "secret" not in caplog.text + str(lost.value)


def test_request_headers():
    """A caller's header replaces a default one, however it is written, but for the id to resume from."""
    session = Driven(last_event_id="7")
    headers = dict(session.request_headers({"Accept-Encoding": "gzip", "Last-Event-ID": "1"}))
    assert headers == {
        b"accept": b"text/event-stream",
        b"accept-encoding": b"gzip",
        b"cache-control": b"no-store",
        b"last-event-id": b"7",
    }


def test_no_id_sends_no_header():
    """An id that was reset, or never set, is not sent."""
    session = Driven(last_event_id="7")
    session.open(b"id\n\n")
    assert b"last-event-id" not in dict(session.request_headers())


def test_an_id_alone_moves_the_position():
    """A block with nothing but an id counts as seen once there is no event before it left to take."""
    session = Driven()
    session.open(b"id: 7\n\n")
    assert session.last_event_id == "7"


def test_a_connection_begins_with_a_fresh_parser():
    """Half a block of one connection is not completed by the next."""
    session = Driven()
    session.open(b"id: 1\n\nid: 2\ndata: lo")
    session.fail()
    session.open(b"st\n\ndata: new\n\n")
    assert (session.next_event(), session.next_event()) == (Event("message", "new", "1"), None)


def test_a_given_up_connection_is_opened_again_without_a_wait():
    """An interrupted read is no failure of the server's."""
    session = Driven()
    session.open()
    session.interrupted()
    assert session.state is StreamState.CONNECTING


@pytest.mark.parametrize(
    "report", [lambda s: s.responded(500, {}), lambda s: s.lost("x"), lambda s: s.received(b"data: a\n\n")]
)
def test_nothing_reopens_a_closed_session(report):
    """Whatever is still reported after closing changes nothing."""
    session = Driven()
    session.open()
    session.close()
    report(session)
    session.reconnect()
    session.interrupted()
    assert (session.state, session.next_event()) == (StreamState.CLOSED, None)


@pytest.mark.parametrize(
    ("data", "gap"),
    [
        ('{"reason": "epoch", "resumed_from": "k-7"}', Gap("epoch", "k-7")),
        ("{}", Gap("unknown", "")),
        ("no JSON", Gap("unknown", "")),
        ("[1]", Gap("unknown", "")),
        ("[" * 100_000, Gap("unknown", "")),
    ],
)
def test_gap_of(data, gap):
    """A gap is a gap, even where what it says cannot be read."""
    assert Gap.of(Event("eric.gap", data, "")) == gap
