"""An ASGI server of few lines: one request, whose peer reads, stalls and goes away as it is told."""

import asyncio

from support.streams import PATIENCE_S, Reader


class Exchange:
    """A request to an application, and what it answers.

    With None as its body, the body is what the application is given with :meth:`receive`.

    Attributes:
        task: The application at work.
        messages: What it sent until now.
        stalled: Cleared, the peer takes nothing.
        broken: What sending raises, where it does.
    """

    def __init__(self, app, path, method="GET", headers=(), body=b"", **scope):
        self.messages = []
        self.stalled = asyncio.Event()
        self.stalled.set()
        self.broken = None
        self._incoming = asyncio.Queue()
        if body is not None:
            self.receive(type="http.request", body=body, more_body=False)
        self._chunks = asyncio.Queue()
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers],
            "server": ("test", 80),
            "client": ("test", 1),
            **scope,
        }
        self.reader = Reader(self)
        self.task = asyncio.create_task(app(scope, self._incoming.get, self._send))
        self.task.add_done_callback(lambda _: self._chunks.put_nowait(None))

    def receive(self, **message):
        """Give the application a message."""
        self._incoming.put_nowait(message)

    def disconnect(self):
        """The peer goes away."""
        self.receive(type="http.disconnect")

    async def _send(self, message):
        await self.stalled.wait()
        if self.broken is not None:
            raise self.broken
        self.messages.append(message)
        if message["type"] == "http.response.body":
            self._chunks.put_nowait(message["body"] if message.get("more_body") else None)

    async def next_chunk(self):
        """The next chunk of the body; None at the end of it, or of the application."""
        return await self._chunks.get()

    async def ended(self):
        """Return when the application has, with what it raised."""
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait([self.task])
        return None if self.task.cancelled() else self.task.exception()

    @property
    def status(self):
        """The answer's status."""
        return self.messages[0]["status"]

    @property
    def headers(self):
        """The answer's headers."""
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def is_complete(self):
        """Whether the answer has its end."""
        return self.messages[-1]["type"] == "http.response.body" and not self.messages[-1].get("more_body")
