"""The readers of event streams against a server that misbehaves by script. Most tests run once for each of the two."""

import asyncio
import signal
import sys
import threading
from contextlib import contextmanager

import httpx2
import pytest
from anyio.from_thread import start_blocking_portal

from eric_sse.clients import AsyncEventSource, EventSource, Gap, StreamLost, StreamState
from eric_sse.exception import ConfigurationError, StreamRefused
from eric_sse.wire.sse import Event, EventTooLarge
from scripted_server import CHUNKED, HEAD, HOLD, RESET, WAIT_LEFT, answer, chunk, serving

QUICK = {"max_retry_s": 0.01, "max_failures": 20}  # back-off, and a bound for tests that go wrong


def read_blocking(url, **options):
    """Read a stream to its end, blocking."""
    with EventSource(url, **QUICK | options) as source:
        return list(source), source


async def read_threaded(url, **options):
    """Read a stream to its end with the blocking reader."""
    return await asyncio.to_thread(read_blocking, url, **options)


async def read_async(url, **options):
    """Read a stream to its end with the asynchronous reader."""
    async with AsyncEventSource(url, **QUICK | options) as source:
        return [event async for event in source], source


@pytest.fixture(params=[read_threaded, read_async], ids=["blocking", "asyncio"])
def read(request):
    """Read a stream to its end, with either reader."""
    return request.param


@contextmanager
def alarms(handler):
    """SIGALRM has this handler, and then the one before."""
    before = signal.signal(signal.SIGALRM, handler)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def event(number):
    """The bytes of the n-th event."""
    return b"id: k-%d\ndata: %d\n\n" % (number, number)


def ids(events):
    """The ids of events, shortened to their numbers."""
    return [int(event.id.removeprefix("k-")) for event in events]


async def test_a_stream_is_resumed_until_204(read):
    """Connections that end are opened again from the last id, and 204 ends the iteration."""
    async with serving([HEAD, event(1), event(2)], [HEAD, event(3)]) as server:
        events, source = await read(server.url)
    assert events == [Event("message", str(n), f"k-{n}") for n in (1, 2, 3)]
    assert server.resumed_from == [None, "k-2", "k-3"]
    assert (source.connected_from, source.reconnects, source.state) == (["", "k-2"], 1, StreamState.CLOSED)


@pytest.mark.parametrize("fault", [[], [RESET]], ids=["ended", "reset"])
@pytest.mark.parametrize(("head", "wrap"), [(HEAD, bytes), (CHUNKED, chunk)], ids=["plain", "chunked"])
async def test_an_event_cut_in_two_comes_once(read, fault, head, wrap):
    """A connection that drops inside a block resumes from before it, and nothing is missed or repeated."""
    cut = [head, wrap(event(1) + event(2)[:9]), *fault]
    async with serving(cut, [HEAD, event(2), event(3)]) as server:
        events, _ = await read(server.url)
    assert (ids(events), server.resumed_from[1]) == ([1, 2, 3], "k-1")


async def test_the_opening_block_counts(read):
    """A client that drops before its first event resumes from the id that the stream opened with."""
    async with serving([HEAD, b"id: k-41\nretry: 1\n\n", RESET], [HEAD, event(42)]) as server:
        events, source = await read(server.url)
    assert (ids(events), source.connected_from) == ([42], ["", "k-41"])


async def test_it_starts_where_it_is_told(read):
    """An id that was kept from another run is sent first, in UTF-8, with the caller's headers."""
    async with serving() as server:
        await read(server.url, last_event_id="ké-7", headers={"Authorization": "Bearer x", "Accept": "*/*"})
    [request] = server.requests
    assert [request[h] for h in ("last-event-id", "authorization", "accept")] == ["ké-7", "Bearer x", "*/*"]


async def test_line_ends_and_a_bom(read):
    """A stream may begin with a BOM and end its lines with CRLF or CR."""
    async with serving([HEAD, b"\xef\xbb", b"\xbfid: k-1\r\ndata: a\r", b"\n\r\nid: k-2\rdata: b\r\r"]) as server:
        events, _ = await read(server.url)
    assert [(e.data, e.id) for e in events] == [("a", "k-1"), ("b", "k-2")]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_passing_trouble_is_waited_out(read, status):
    """A server that is overloaded or away is asked again, and the caller is told why."""
    told = []
    problem = answer(
        status, b'{"detail": "the store is away"}', Content_Type="application/problem+json", Retry_After="0"
    )
    async with serving([HEAD, event(1)], [problem], [problem], [HEAD, event(2)]) as server:
        events, source = await read(server.url, on_retry=lambda reason, seconds: told.append((reason, seconds)))
    assert (ids(events), source.reconnects) == ([1, 2], 1)
    assert told[1][0] == told[2][0] == f"it answered {status}: the store is away"
    assert server.resumed_from == [None, "k-1", "k-1", "k-1", "k-2"]


async def test_retry_after_is_waited_for(read):
    """The seconds that the server names are waited for, beyond the longest back-off."""
    told = []
    async with serving([answer(503, Retry_After="1")]) as server:
        await read(server.url, on_retry=lambda _, seconds: told.append(seconds))
    assert 1 <= told[0] < 1.02


@pytest.mark.parametrize(
    ("reply", "status", "detail"),
    [
        (answer(404, b'{"title": "Not Found", "detail": "no channel c"}'), 404, "no channel c"),
        (answer(401, b"who are you?"), 401, "who are you?"),
        (answer(403), 403, "no reason given"),
        (answer(200, b"<p>", Content_Type="text/html"), 200, "content type is 'text/html'"),
        (answer(200, b"data: x\n\n"), 200, "content type is ''"),
        (answer(201, Content_Type="text/event-stream"), 201, "begins with 200"),
        (answer(302, Location="/events"), 302, "redirects in circles"),
        (answer(304), 304, "begins with 200"),
    ],
)
async def test_a_refusal_is_an_error(read, reply, status, detail):
    """What asking again would not mend raises at once, with the server's reason."""
    async with serving(*[[reply]] * 30) as server:
        with pytest.raises(StreamRefused, match=detail) as refused:
            await read(server.url)
    assert (refused.value.status, refused.value.url) == (status, server.url)
    assert len(server.requests) == 1 or status == 302


async def test_the_content_type_may_have_parameters(read):
    """A charset and capitals change nothing."""
    async with serving([answer(200, event(1), Content_Type="Text/Event-Stream; charset=utf-8")]) as server:
        events, _ = await read(server.url)
    assert ids(events) == [1]


async def test_redirects_are_followed(read):
    """A stream that moved is read where it is, with the id."""
    moved = answer(307, Location="/elsewhere")
    async with serving([moved], [HEAD, event(8)]) as server:
        events, _ = await read(server.url, last_event_id="k-7")
    assert ids(events) == [8]
    assert [(r[":path"], r["last-event-id"]) for r in server.requests[:2]] == [
        ("/events", "k-7"),
        ("/elsewhere", "k-7"),
    ]


async def test_silence_is_taken_for_dead(read):
    """A stream that says nothing for longer than it may is opened again."""
    async with serving([HEAD, event(1), HOLD], [HEAD, event(2)]) as server:
        events, _ = await read(server.url, read_timeout_s=0.1)
        await server.left.wait()
    assert (ids(events), server.resumed_from[1]) == ([1, 2], "k-1")


async def test_eric_closed_ends_the_iteration(read):
    """The event that says that the channel is gone is yielded, nothing after it is, and nobody asks again."""
    last = b"event: eric.closed\ndata: {}\n\n"
    async with serving([HEAD, event(1) + last, HOLD]) as server:
        events, _ = await read(server.url)
        await server.left.wait()
    assert [e.type for e in events] == ["message", "eric.closed"]
    assert len(server.requests) == 1


async def test_a_gap_is_told(read):
    """Where the server kept less than was missed, the caller gets to know between which events."""
    gap = b'event: eric.gap\ndata: {"reason": "trimmed", "resumed_from": "k-1"}\n\n'
    async with serving([HEAD, event(1)], [HEAD, gap, event(9)]) as server:
        events, source = await read(server.url)
    assert [Gap.of(e) for e in events] == [None, Gap("trimmed", "k-1"), None]
    assert (source.gaps, events[1].id) == (1, "k-1")


async def test_it_gives_up_when_told_to(read):
    """After the failures in a row that are allowed, the error names the last one."""
    async with serving() as server:
        pass
    with pytest.raises(StreamLost, match=r"ConnectError.*failure 3 in a row") as lost:
        await read(server.url, max_failures=2)
    assert isinstance(lost.value.__cause__, httpx2.ConnectError)


async def test_without_reconnect_it_ends_with_the_stream(read):
    """A reader that is not to reconnect ends where the server ends the stream."""
    async with serving([HEAD, event(1)]) as server:
        events, _ = await read(server.url, reconnect=False)
    assert (ids(events), len(server.requests)) == ([1], 1)


@pytest.mark.parametrize("script", [[CHUNKED, chunk(event(1)), RESET], [answer(503)]])
async def test_without_reconnect_a_failure_raises(read, script):
    """A reader that is not to reconnect says so when the stream broke."""
    async with serving(script) as server:
        with pytest.raises(StreamLost, match="failure 1 in a row"):
            await read(server.url, reconnect=False)


async def test_an_event_that_is_too_large_raises():
    """It raises after the events before it, whose last id is what to skip it from."""
    stream = event(1) + b"data: " + b"x" * 200 + b"\n\n"
    async with serving([HEAD, stream]) as server, AsyncEventSource(server.url, max_event_bytes=100) as source:
        assert ids([await anext(source)]) == [1]
        with pytest.raises(EventTooLarge):
            await anext(source)
        assert [source.last_event_id, [e async for e in source]] == ["k-1", []]


async def test_the_last_id_is_that_of_the_event_taken():
    """Events that were received together and not taken yet do not count as seen."""
    script = [HEAD, event(1) + event(2) + b"id: k-3\n\n", HOLD]
    async with serving(script) as server, AsyncEventSource(server.url) as source:
        seen = [((await anext(source)).id, source.last_event_id) for _ in range(2)]
    assert seen == [("k-1", "k-1"), ("k-2", "k-3")]


async def test_a_cancelled_wait_closes_the_connection_and_the_next_resumes():
    """Waiting with a timeout leaves no socket behind and loses nothing."""
    scripts = [[HEAD, event(1), HOLD], [HEAD, event(2), HOLD]]
    async with serving(*scripts) as server, AsyncEventSource(server.url) as source:
        await anext(source)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(source), 0.05)
        await server.left.wait()
        assert (ids([await anext(source)]), server.resumed_from) == ([2], [None, "k-1"])


@pytest.mark.parametrize("script", [[HEAD, HOLD], [HOLD], [answer(503, Retry_After="60")]])
async def test_closing_from_another_task_ends_any_wait(script):
    """Whether it waits for data, for an answer or for the next attempt, closing ends the iteration at once."""
    waiting = asyncio.Event()
    async with serving(script) as server:
        source = AsyncEventSource(server.url, on_retry=lambda *_: waiting.set())
        task = asyncio.create_task(anext(source, "ended"))
        await (waiting if HOLD not in script else server.holding).wait()
        await source.aclose()
        assert await task == "ended"
        await asyncio.wait_for(server.left.wait() if HOLD in script else asyncio.sleep(0), 1)


@pytest.mark.parametrize("turns", range(5))
async def test_closing_while_it_is_being_closed(turns):
    """However far the other task has come with it, both return and the iteration ends."""
    async with serving([HEAD, b": hello\n\n", HOLD]) as server:
        source = AsyncEventSource(server.url)
        waiting = asyncio.create_task(anext(source, "ended"))
        await server.holding.wait()
        while source.state is not StreamState.OPEN:
            await asyncio.sleep(0)
        closing = asyncio.create_task(source.aclose())
        for _ in range(turns):
            await asyncio.sleep(0)
        await source.aclose()
        await closing
        assert await waiting == "ended"


async def test_closing_from_another_thread_ends_a_read():
    """A blocking reader that waits for data ends at once when another thread closes it."""
    async with serving([HEAD, event(1), HOLD]) as server:
        source = EventSource(server.url)
        await asyncio.to_thread(next, source)
        task = asyncio.create_task(asyncio.to_thread(next, source, "ended"))
        while not source._lock.locked():
            await asyncio.sleep(0)
        await asyncio.to_thread(source.close)
        assert await asyncio.wait_for(task, 5) == "ended"


async def test_closing_from_another_thread_ends_a_wait():
    """A blocking reader that waits for its next attempt ends at once when another thread closes it."""
    waiting = threading.Event()
    async with serving([answer(503, Retry_After="60")]) as server:
        source = EventSource(server.url, on_retry=lambda *_: waiting.set())
        task = asyncio.create_task(asyncio.to_thread(next, source, "ended"))
        await asyncio.to_thread(waiting.wait)
        source.close()
        assert await asyncio.wait_for(task, 5) == "ended"


def test_an_interrupted_read_resumes():
    """A signal handler that raises, as Ctrl-C does, closes the connection and is no end: reading on resumes."""

    def interrupt(*_):
        raise KeyboardInterrupt

    scripts = [[HEAD, event(1), HOLD], [HEAD, event(2)]]
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serving(*scripts)) as server,
        EventSource(server.url, reconnect=False) as source,
        alarms(interrupt),
    ):
        next(source)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            next(source)
        portal.call(server.left.wait)
        assert (ids([next(source)]), server.resumed_from) == ([2], [None, "k-1"])


async def test_an_error_without_end_is_left(read):
    """No more of an error is read than tells what it says; its connection is closed before the next attempt."""
    reasons = []
    endless = [b"HTTP/1.1 503 Because\r\n\r\n" + b"x" * 20_000, HOLD]
    async with serving(endless, [HEAD, event(1), WAIT_LEFT]) as server:
        await read(server.url, on_retry=lambda reason, _: reasons.append(reason))
    assert reasons[0] == "it answered 503: " + "x" * 200


async def test_closing_in_a_callback():
    """The callback that tells of a retry may end the iteration, from inside it."""
    async with serving([HEAD, event(1)], [HEAD, event(2)]) as server:
        source = EventSource(server.url, on_retry=lambda *_: source.close())
        assert ids(await asyncio.to_thread(list, source)) == [1]
    assert len(server.requests) == 1


async def test_what_was_not_taken_is_dropped_by_closing():
    """After closing nothing more is yielded, and what was received does not count as seen."""
    async with serving([HEAD, event(1) + event(2), HOLD]) as server, AsyncEventSource(server.url) as source:
        await anext(source)
        await source.aclose()
        assert [source.last_event_id, [e async for e in source]] == ["k-1", []]


async def test_a_client_that_was_handed_in_stays_open():
    """You close what you open."""
    async with serving([HEAD, event(1)]) as server, httpx2.AsyncClient(headers={"X-Who": "me"}) as client:
        async with AsyncEventSource(server.url, client=client) as source:
            await anext(source)
        assert (client.is_closed, server.requests[0]["x-who"]) == (False, "me")


@pytest.mark.parametrize("url", ["events", "ftp://127.0.0.1/", "http://[::1"])
async def test_a_url_that_cannot_be_requested(read, url):
    """A URL that leads nowhere is the caller's to correct, not to be tried again."""
    with pytest.raises(ConfigurationError, match="cannot be requested"):
        await read(url)


def test_an_id_that_cannot_be_sent():
    """An id that would forge a header is refused before anything is asked."""
    with pytest.raises(ValueError, match="holds"):
        EventSource("http://127.0.0.1/", last_event_id="7\r\nX: y")


def test_without_httpx2_the_extra_is_named(monkeypatch):
    """A missing driver names the extra to install."""
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'eric-sse\[client\]'"):
        AsyncEventSource("http://127.0.0.1/")
