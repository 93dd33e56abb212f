"""The event-stream response, over streams of a service and over what a channel of the library yields."""

import asyncio
import logging

import pytest

from eric_sse.asgi import EventStreamResponse, FieldsStream
from eric_sse.message import Message
from eric_sse.prefabs import SSEChannel
from eric_sse.service import Outgoing
from support.asgi import Exchange


class Library:
    """A channel of the library with one stream."""

    def __init__(self, **times):
        self.channel = SSEChannel(channel_id="c")
        self.listener = self.channel.add_listener()
        self.listener.start()
        self.closed = asyncio.Event()
        self.source = FieldsStream(self._events(), **times)

    async def _events(self):
        stream = self.channel.message_stream(self.listener)
        try:
            async for event in stream:
                yield event
        finally:
            await stream.aclose()
            self.closed.set()

    async def open(self):
        """The answer with its stream, before any event."""
        return Exchange(EventStreamResponse(self.source), "/")

    async def say(self, payload):
        """Broadcast something."""
        self.channel.broadcast(Message("news", payload))

    async def is_let_go(self):
        """Return when the stream's generator is closed."""
        await asyncio.wait_for(self.closed.wait(), 5)


class Served:
    """A channel of a service with one stream."""

    def __init__(self, service):
        self._service = service

    async def open(self):
        """The answer with its stream, before any event."""
        self.source = await self._service.open_stream("c")
        exchange = Exchange(EventStreamResponse(self.source), "/")
        await exchange.reader.chunk()
        return exchange

    async def say(self, payload):
        """Broadcast something."""
        await self._service.publish("c", [Outgoing(payload, "news")])

    async def is_let_go(self):
        """Return when the service has no stream any more."""
        assert self._service._hub.count("c") == 0


@pytest.fixture(params=["library", "service"])
def origin(request, service):
    """Where events come from."""
    return Library() if request.param == "library" else Served(service)


@pytest.fixture
async def exchange(origin):
    """An open stream."""
    exchange = await origin.open()
    yield exchange
    exchange.stalled.set()
    exchange.disconnect()
    await exchange.ended()


async def test_headers(exchange, origin):
    """It is an event stream that nobody on the way is to keep or to hold back."""
    await origin.say(1)
    await exchange.reader.until(1)
    assert exchange.status == 200
    assert exchange.headers == {
        "content-type": "text/event-stream",
        "cache-control": "no-store",
        "x-accel-buffering": "no",
    }


async def test_events(exchange, origin):
    """Events arrive with their type and data, in order."""
    for payload in ({"a": "ä\n"}, None):
        await origin.say(payload)
    assert await exchange.reader.until(2) == ['{"a":"ä\\n"}', "null"]
    assert {event.type for event in exchange.reader.events} == {"news"}


async def test_a_peer_that_goes_away(exchange, origin):
    """A disconnect ends the response, and what feeds it."""
    exchange.disconnect()
    assert await exchange.ended() is None
    await origin.is_let_go()


async def test_a_peer_that_goes_away_while_it_is_sent_to(exchange, origin):
    """The same where the disconnect comes while a chunk is under way."""
    exchange.stalled.clear()
    await origin.say(1)
    await asyncio.sleep(0.01)
    exchange.disconnect()
    exchange.stalled.set()
    assert await exchange.ended() is None
    await origin.is_let_go()


@pytest.mark.parametrize("error", [BrokenPipeError("gone"), RuntimeError("the handler is closed")])
async def test_a_send_that_fails(exchange, origin, error):
    """ASGI lets ``send`` raise OSError when the peer is gone, and uvloop adds its own: that is no error."""
    exchange.broken = error
    await origin.say(1)
    assert await exchange.ended() is None
    await origin.is_let_go()


async def test_a_peer_that_takes_nothing(exchange, origin):
    """Given up, the response ends without its end, so that the server closes the connection."""
    exchange.stalled.clear()
    await origin.say(1)
    await asyncio.sleep(0.01)
    origin.source.abort()
    assert await exchange.ended() is None
    assert not exchange.is_complete
    assert exchange.task.cancelling() == 0
    await origin.is_let_go()


async def test_cancelled_by_somebody_else(exchange, origin):
    """A cancellation that is not its own goes on, also where both come together."""
    await origin.say(1)
    await exchange.reader.until(1)
    origin.source.abort()
    exchange.task.cancel()
    await exchange.ended()
    assert exchange.task.cancelled()
    await origin.is_let_go()


async def test_a_body_that_nobody_asked_for(exchange, origin):
    """What a peer sends after its request is passed over; its disconnect is noticed all the same."""
    for _ in range(3):
        exchange.receive(type="http.request", body=b"x", more_body=True)
    exchange.disconnect()
    assert await exchange.ended() is None


async def test_head(service):
    """HEAD gets the head, at once, and leaves no stream."""
    exchange = Exchange(EventStreamResponse(await service.open_stream("c")), "/", "HEAD")
    assert await exchange.ended() is None
    assert exchange.headers["content-type"] == "text/event-stream"
    assert exchange.messages[1:] == [{"type": "http.response.body", "body": b""}]
    assert service._hub.count("c") == 0


class TestFieldsStream:
    """What a channel of the library yields."""

    async def test_id_and_retry(self):
        """All fields are sent."""

        async def events():
            yield {"event": "e", "data": [1], "id": "7", "retry": 5}

        exchange = Exchange(EventStreamResponse(events()), "/")
        assert await exchange.ended() is None
        assert exchange.messages[1]["body"] == b"id: 7\nretry: 5\nevent: e\ndata: [1]\n\n"
        assert exchange.is_complete

    async def test_heartbeats(self):
        """A silent stream sends comments, and loses nothing by them."""
        library = Library(heartbeat_s=0.01)
        exchange = await library.open()
        assert [await exchange.reader.chunk() for _ in range(3)] == [b":\n\n"] * 3
        await library.say(1)
        assert await exchange.reader.until(1) == ["1"]
        exchange.disconnect()
        await exchange.ended()

    async def test_a_peer_that_takes_nothing(self):
        """It is given up by itself after a while."""
        library = Library(send_timeout_s=0.05)
        exchange = await library.open()
        await library.say(0)
        await exchange.reader.until(1)
        exchange.stalled.clear()
        await library.say(1)
        assert await exchange.ended() is None
        assert not exchange.is_complete
        await library.is_let_go()

    async def test_a_listener_that_stops(self):
        """The response ends with the stream."""
        library = Library()
        exchange = await library.open()
        await library.say(1)
        await exchange.reader.until(1)
        library.listener.stop()
        assert await exchange.ended() is None
        assert exchange.is_complete

    @pytest.mark.parametrize("payload", [float("nan"), object(), "\ud800"])
    async def test_what_cannot_be_sent(self, payload, caplog):
        """It is replaced by an event of type ``error``, logged, and what follows is sent."""
        library = Library()
        exchange = await library.open()
        await library.say(payload)
        await library.say(2)
        assert await exchange.reader.until(2) == ["null", "2"]
        assert [event.type for event in exchange.reader.events] == ["error", "news"]
        assert "cannot be sent" in caplog.text
        exchange.disconnect()
        await exchange.ended()

    async def test_a_durable_channel_that_is_deleted(self, engine, service, caplog):
        """The stream ends, and the log says why; no error is raised through the server."""
        channel = engine.channels.load_one("c")
        listener = channel.get_listener("l")
        listener.start()
        exchange = Exchange(EventStreamResponse(channel.message_stream(listener)), "/")
        with caplog.at_level(logging.WARNING, "eric_sse"):
            await service.delete_channel("c")
            assert await exchange.ended() is None
        assert exchange.is_complete
        assert "an event stream ends" in caplog.text

    async def test_a_durable_channel_is_resumed(self, engine, service):
        """Ids and what waited come through, and the cursor moves."""
        (last,) = await service.publish("c", [Outgoing(1)])
        channel = engine.channels.load_one("c")
        channel.get_listener("l").start()
        exchange = Exchange(EventStreamResponse(channel.message_stream(channel.get_listener("l"))), "/")
        await exchange.reader.until(1)
        assert exchange.reader.last_id == last
        exchange.disconnect()
        await exchange.ended()

    def test_made_without_an_event_loop(self):
        """A response may be made in a thread, as FastAPI does for functions that are not coroutines."""

        async def events():
            yield {"data": 1}

        response = EventStreamResponse(events())
        exchange = asyncio.run(self._run(response))
        assert exchange.is_complete

    @staticmethod
    async def _run(response):
        exchange = Exchange(response, "/")
        await exchange.ended()
        return exchange

    async def test_an_error_in_the_generator(self):
        """What a generator raises goes to the server, and the generator is closed."""

        async def events():
            yield {"data": 1}
            raise LookupError("a bug")

        exchange = Exchange(EventStreamResponse(events()), "/")
        assert isinstance(await exchange.ended(), LookupError)
        assert not exchange.is_complete
