"""What every request passes."""

import asyncio

import httpx2
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount

from eric_sse.asgi import create_app
from eric_sse.asgi.middleware import BodyLimit, GiveUp, RawPath
from eric_sse.service import Outgoing
from support.asgi import Exchange


def client_of(app):
    """A client of an application."""
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test")


class TestRawPath:
    """The path that routes see."""

    async def path(self, **scope):
        """The path that the application gets."""
        seen = []

        async def app(scope, _receive, _send):
            seen.append(scope["path"])

        await RawPath(app)({"type": "http", "root_path": "", **scope}, None, None)
        return seen[0]

    @pytest.mark.parametrize(
        ("scope", "expected"),
        [
            ({"path": "/a/b", "raw_path": b"/a%2Fb"}, "/a%2Fb"),
            ({"path": "/a", "raw_path": b"/a?x=1"}, "/a"),
            ({"path": "/a b/é"}, "/a%20b/%C3%A9"),
            ({"path": "/m/a/b", "raw_path": b"/m/a%2Fb", "root_path": "/m"}, "/m/a%2Fb"),
            ({"path": "/m x/a/b", "raw_path": b"/m%20x/a%2Fb", "root_path": "/m x"}, "/m x/a%2Fb"),
            ({"path": "/m/n/a", "raw_path": b"/%6D/n/a", "root_path": "/m/n"}, "/m/n/a"),
            ({"path": "/a/b", "raw_path": b"/a%2Fb", "root_path": "/m"}, "/a%2Fb"),
        ],
    )
    async def test_path(self, scope, expected):
        """As it was sent, below where the application is mounted."""
        assert await self.path(**scope) == expected

    @pytest.mark.parametrize("parent", [Starlette, FastAPI])
    @pytest.mark.parametrize("prefix", ["/live", "/a b/é", "/{tenant}"])
    async def test_mounted(self, service, parent, prefix):
        """Mounted in another application under any prefix, ids with slashes work."""
        app = parent(routes=[Mount(prefix, create_app(service))])
        base = prefix.format(tenant="t")
        async with client_of(app) as client:
            assert (await client.post(f"{base}/channels", json={"id": "a/b"})).status_code == 201
            assert (await client.get(f"{base}/channels/a%2Fb")).json()["id"] == "a/b"
            assert (await client.get(f"{base}/channels/a/b")).status_code == 404
            assert (await client.head(f"{base}/channels/a%2Fb/events")).status_code == 200


class TestBodyLimit:
    """How much of a body is taken."""

    async def echo(self, scope, receive, send):
        """Answer with the size of the body."""
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message["body"])
            more = message["more_body"]
        await JSONResponse(size)(scope, receive, send)

    @pytest.mark.parametrize(("size", "status"), [(0, 200), (10, 200), (11, 413)])
    async def test_said(self, size, status):
        """A body that says its size is refused before it is read."""
        async with client_of(BodyLimit(self.echo, 10)) as client:
            assert (await client.post("/", content=b"x" * size)).status_code == status

    @pytest.mark.parametrize("length", ["x", "-1", "", "1e9"])
    async def test_nonsense(self, length):
        """A length that is none is not believed."""
        exchange = Exchange(BodyLimit(self.echo, 10), "/", "POST", headers=[("content-length", length)])
        assert await exchange.ended() is None
        assert exchange.status == 200

    async def test_other_kinds_of_connection(self):
        """What is not HTTP passes."""
        passed = []

        async def app(scope, _receive, _send):
            passed.append(scope)

        await BodyLimit(app, 10)({"type": "lifespan"}, None, None)
        assert passed


class TestGiveUp:
    """What becomes of requests when the server stops."""

    async def hang(self, _scope, _receive, _send):
        """Never answer."""
        await asyncio.Event().wait()

    async def cancelled(self, service):
        """A request that is cancelled while it hangs."""
        exchange = Exchange(GiveUp(self.hang, service), "/")
        await asyncio.sleep(0)
        exchange.task.cancel()
        await exchange.ended()
        return exchange

    async def test_the_server_stops(self, service):
        """A request that is cancelled then is answered."""
        await service.drain()
        exchange = await self.cancelled(service)
        assert exchange.status == 503
        assert exchange.headers["retry-after"] == "1"

    async def test_any_other_cancellation(self, service):
        """It goes on."""
        exchange = await self.cancelled(service)
        assert exchange.task.cancelled()
        assert exchange.messages == []

    async def test_an_answer_that_has_begun(self, service):
        """It is not begun again."""
        stream = Exchange(create_app(service), "/channels/c/events")
        await stream.reader.chunk()
        stream.stalled.clear()
        await service.publish("c", [Outgoing(1)])
        await service.drain(0.01)
        await stream.ended()
        assert [m["type"] for m in stream.messages].count("http.response.start") == 1
