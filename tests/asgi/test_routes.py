"""The HTTP interface, row by row, and what it refuses."""

import asyncio
import json
from urllib.parse import quote

import httpx2
import pytest

from eric_sse.asgi import create_app
from eric_sse.asgi.bodies import MAX_MESSAGES
from eric_sse.exception import OutcomeUnknown, StoreFull, StoreUnavailable
from eric_sse.log import View
from eric_sse.service import Outgoing, Service, ServiceOptions
from eric_sse.testing.chunks import ChunkReader
from support.asgi import Exchange

UNUSUAL_IDS = ["a/b", "/", "a%2Fb", "%", "a b", "é", "日本", "...", "a?b#c", "~+;&=", "{x}", "events", "ö" * 127]
JSON = {"content-type": "application/json"}
NDJSON = {"content-type": "application/x-ndjson"}


def stored(engine, channel="c"):
    """How many messages the channel holds."""
    return len(engine.log.read(channel, 0, View.EVERYTHING).entries)


def assert_problem(response, status, *words):
    """It is a problem of that status, whose detail holds those words."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["status"], problem["type"]) == (status, "about:blank")
    for word in words:
        assert word in problem["detail"]


class TestChannels:
    """``/channels``."""

    async def test_create(self, client):
        """201 with the channel; 409 where it is there."""
        body = {"id": "new", "retry_ms": 50, "retention": {"max_messages": 5, "max_age_s": None}}
        response = await client.post("/channels", json=body)
        assert response.status_code == 201
        answer = response.json()
        assert answer.items() > {**body, "streams": 0}.items()
        assert answer["last_id"] == f"{answer['epoch']}-0"
        assert_problem(await client.post("/channels", json=body), 409, "'new'", "exists")

    async def test_defaults(self, client):
        """An empty object makes a channel with an id of its own and a finite retention."""
        answer = (await client.post("/channels", json={})).json()
        assert len(answer["id"]) == 36
        assert answer["retention"] == {"max_messages": 100_000, "max_age_s": 604_800}

    async def test_show(self, client, service):
        """200 with what it holds; 404 where there is none."""
        ids = await service.publish("c", [Outgoing(1), Outgoing(2)])
        answer = (await client.get("/channels/c")).json()
        assert (answer["oldest_id"], answer["last_id"]) == tuple(ids)
        assert (answer["listeners"], answer["streams"]) == (1, 0)
        assert_problem(await client.get("/channels/nowhere"), 404, "'nowhere'")

    async def test_pages(self, client):
        """``next`` leads from page to page, and ends."""
        for id_ in UNUSUAL_IDS:
            assert (await client.post("/channels", json={"id": id_})).status_code == 201
        found, after = [], ""
        while after is not None:
            page = (await client.get("/channels", params={"after": after, "limit": 3})).json()
            found += [channel["id"] for channel in page["channels"]]
            after = page["next"]
        assert sorted(found) == sorted([*UNUSUAL_IDS, "c"])

    @pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "limit=-1"])
    async def test_pages_that_cannot_be(self, client, query):
        """A limit is 1 to 1,000."""
        assert_problem(await client.get(f"/channels?{query}"), 422, "limit")

    async def test_delete(self, client):
        """204, also when it is not there."""
        for _ in range(2):
            response = await client.delete("/channels/c")
            assert (response.status_code, response.content) == (204, b"")
            assert "content-type" not in response.headers
        assert_problem(await client.get("/channels/c"), 404)

    @pytest.mark.parametrize("id_", UNUSUAL_IDS)
    async def test_ids_in_paths(self, client, id_):
        """An id is percent-encoded as one segment, and decoded once."""
        path = f"/channels/{quote(id_, safe='')}"
        await client.post("/channels", json={"id": id_})
        assert (await client.post(f"{path}/listeners", json={"id": id_})).status_code == 201
        message = {"payload": 1, "to": id_}
        assert (await client.post(f"{path}/messages", json=message)).status_code == 201
        (listener,) = (await client.get(f"{path}/listeners")).json()["listeners"]
        assert (listener["id"], listener["lag"]) == (id_, 1)
        assert (await client.head(f"{path}/listeners/{quote(id_, safe='')}/events")).status_code == 200
        assert (await client.delete(f"{path}/listeners/{quote(id_, safe='')}")).status_code == 204
        assert (await client.get(path)).json()["listeners"] == 0

    @pytest.mark.parametrize(
        "body",
        [
            {"id": ""},
            {"id": "."},
            {"id": ".."},
            {"id": "a\u0000"},
            {"id": "a\u0085"},
            {"id": "x" * 256},
            {"id": 7},
            {"id": ["a"]},
            {"retry_ms": -1},
            {"retry_ms": 1.5},
            {"retry_ms": "10"},
            {"retry_ms": True},
            {"retry_ms": 10**30},
            {"retention": {"max_messages": 0}},
            {"retention": {"max_messages": 2**53}},
            {"retention": {"max_age_s": 0}},
            {"retention": {"max_age_s": "1"}},
            {"retention": {"max_age_s": 1e300}},
            {"retention": None},
            {"unknown": 1},
            [],
            None,
            "c",
        ],
    )
    async def test_what_cannot_be_created(self, client, body):
        """422, and nothing is created."""
        assert_problem(await client.post("/channels", json=body), 422)
        assert [c["id"] for c in (await client.get("/channels")).json()["channels"]] == ["c"]


class TestListeners:
    """``/channels/{c}/listeners``."""

    async def test_add(self, client):
        """201 with the listener; 409 where it is there; 404 without the channel."""
        response = await client.post("/channels/c/listeners", json={"id": "new", "ack": "explicit"})
        assert response.status_code == 201
        assert response.json().items() > {"id": "new", "ack": "explicit", "lag": 0}.items()
        assert_problem(await client.post("/channels/c/listeners", json={"id": "new"}), 409)
        assert_problem(await client.post("/channels/nowhere/listeners", json={}), 404)

    @pytest.mark.parametrize("body", [{"id": "x" * 256}, {"ack": "never"}, {"ack": None}, {"lag": 1}, [], {"id": 1}])
    async def test_what_cannot_be_added(self, client, body):
        """422."""
        assert_problem(await client.post("/channels/c/listeners", json=body), 422)

    async def test_pages(self, client):
        """``next`` leads from page to page; 404 without the channel."""
        for number in range(4):
            await client.post("/channels/c/listeners", json={"id": f"l{number}"})
        first = (await client.get("/channels/c/listeners?limit=3")).json()
        second = (await client.get("/channels/c/listeners", params={"after": first["next"]})).json()
        found = [listener["id"] for page in (first, second) for listener in page["listeners"]]
        assert found == ["l", "l0", "l1", "l2", "l3"]
        assert second["next"] is None
        assert_problem(await client.get("/channels/nowhere/listeners"), 404)

    async def test_remove(self, client):
        """204, also when it is not there, or not even the channel."""
        for path in ("/channels/c/listeners/l", "/channels/c/listeners/l", "/channels/nowhere/listeners/l"):
            assert (await client.delete(path)).status_code == 204
        assert (await client.get("/channels/c/listeners")).json()["listeners"] == []

    async def test_acknowledge(self, client):
        """204, and the cursor has moved."""
        ids = (await client.post("/channels/c/messages", json=[{"payload": 1}, {"payload": 2}])).json()["ids"]
        response = await client.post("/channels/c/listeners/l/ack", json={"id": ids[0]})
        assert (response.status_code, response.content) == (204, b"")
        (listener,) = (await client.get("/channels/c/listeners")).json()["listeners"]
        assert (listener["cursor"], listener["lag"]) == (ids[0], 1)

    async def test_what_cannot_be_acknowledged(self, client, service):
        """422 for an id of another channel or epoch, or none; 404 for what is not there."""
        foreign = (await service.create_channel("other")).last_id
        for id_ in (foreign, "0123456789ab-1", "nonsense", ""):
            assert_problem(await client.post("/channels/c/listeners/l/ack", json={"id": id_}), 422, "not the id")
        for body in ({}, {"id": 1}, {"id": None}, []):
            assert_problem(await client.post("/channels/c/listeners/l/ack", json=body), 422)
        for path in ("/channels/c/listeners/nobody/ack", "/channels/nowhere/listeners/l/ack"):
            assert_problem(await client.post(path, json={"id": "x"}), 404)


class TestPublishing:
    """``POST /channels/{c}/messages``."""

    async def post(self, client, content, headers=JSON, channel="c"):
        """Publish a body as it is."""
        content = content if isinstance(content, bytes) else content.encode()
        return await client.post(f"/channels/{channel}/messages", content=content, headers=headers)

    async def test_one_message(self, client, service):
        """201 with its id; it arrives with its type, its payload as JSON on one line."""
        stream = await service.open_stream("c")
        reader = ChunkReader(stream)
        await reader.next_chunk()
        response = await self.post(client, '{"type": "t", "payload": {"a":\n [1.0, "é"]}}')
        assert response.status_code == 201
        (id_,) = response.json()["ids"]
        assert await reader.next_chunk() == f'id: {id_}\nevent: t\ndata: {{"a":[1.0,"é"]}}\n\n'.encode()
        stream.release()

    async def test_an_array_is_atomic(self, client, engine):
        """All of an array, or nothing."""
        assert len((await self.post(client, '[{"payload": 1}, {"payload": 2}]')).json()["ids"]) == 2
        for bad in ('{"payload": 2, "to": "nobody"}', '{"payload": 2, "type": "eric.x"}', "{}", "7"):
            assert (await self.post(client, f'[{{"payload": 1}}, {bad}]')).status_code in {404, 422}
        assert stored(engine) == 2

    async def test_ndjson(self, client):
        """A message a line, with any line ends, blank lines or none at the end."""
        body = b'{"payload":1}\n\r\n  \n{"payload":2}\r\n{"payload":3}'
        response = await self.post(client, body, {"content-type": "application/x-ndjson; charset=utf-8"})
        assert (response.status_code, len(response.json()["ids"])) == (201, 3)

    async def test_ndjson_is_atomic(self, client, engine):
        """A line that is no message is named, and nothing is stored."""
        assert_problem(await self.post(client, b'{"payload":1}\n\n{"payload":\n', NDJSON), 400, "line 3")
        assert_problem(await self.post(client, b'{"payload":1}\n[]', NDJSON), 422, "line 2")
        assert stored(engine) == 0

    async def test_to(self, client):
        """A message to one listener; 404 where it is not there, 422 where it cannot be."""
        await client.post("/channels/c/listeners", json={"id": "other"})
        assert (await client.post("/channels/c/messages", json={"payload": 1, "to": "l"})).status_code == 201
        listeners = (await client.get("/channels/c/listeners")).json()["listeners"]
        assert {listener["id"]: listener["lag"] for listener in listeners} == {"l": 1, "other": 0}
        assert_problem(await client.post("/channels/c/messages", json={"payload": 1, "to": "nobody"}), 404, "'nobody'")
        assert_problem(await client.post("/channels/c/messages", json={"payload": 1, "to": ""}), 422)

    async def test_message_ids(self, client, engine):
        """The same message id answers the same, and stores nothing."""
        body = [{"payload": 1, "id": "once"}, {"payload": 2, "id": "twice"}]
        answers = [(await client.post("/channels/c/messages", json=body)).json() for _ in range(2)]
        assert answers[0] == answers[1]
        assert stored(engine) == 2

    async def test_idempotency_key(self, client, engine):
        """The same key answers the same, and stores nothing; messages keep ids of their own."""
        headers = {**NDJSON, "idempotency-key": "k"}
        answers = [(await self.post(client, b'{"payload":1}\n{"payload":2}', headers)).json() for _ in range(2)]
        assert answers[0] == answers[1]
        assert stored(engine) == 2

    @pytest.mark.parametrize("key", ["", "x" * 256, "a\x01b"])
    async def test_keys_that_cannot_be(self, client, engine, key):
        """An idempotency key is 1 to 255 bytes without control characters."""
        response = await self.post(client, b'{"payload":1}', {**JSON, "idempotency-key": key})
        assert_problem(response, 422, "Idempotency-Key")
        assert stored(engine) == 0

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"", 400),
            (b"{", 400),
            (b"payload", 400),
            (b'{"payload": NaN}', 400),
            (b'{"payload": Infinity}', 400),
            (b'{"payload": -Infinity}', 400),
            (b'{"payload": 1e999}', 422),
            (b'{"payload": "\\ud800"}', 400),
            (b'{"payload": 1, "type": "\\udc00"}', 400),
            (b'{"payload": "\xff"}', 400),
            (b'{"payload": "\n"}', 400),
            (b'\xef\xbb\xbf{"payload": 1}', 400),
            (b'{"payload": 1} x', 400),
            (b"{}", 422),
            (b"[]", 422),
            (b"null", 422),
            (b"[[]]", 422),
            (b'{"payload": 1, "extra": 2}', 422),
            (b'{"payload": 1, "type": 7}', 422),
            (b'{"payload": 1, "type": null}', 422),
            (b'{"payload": 1, "type": ""}', 422),
            (b'{"payload": 1, "type": "eric.gap"}', 422),
            (b'{"payload": 1, "type": "eric."}', 422),
            (b'{"payload": 1, "type": "a\\nid: 1"}', 422),
            (b'{"payload": 1, "type": "a\\u0000"}', 422),
            (b'{"payload": 1, "id": ""}', 422),
            (b'{"payload": 1, "id": "a\\n"}', 422),
            (b'{"payload": 1, "id": 5}', 422),
            (b'{"payload": 1, "to": ["l"]}', 422),
            (b'{"payload": 1, "to": "a\\u0000"}', 422),
        ],
    )
    async def test_what_is_no_message(self, client, engine, body, status):
        """400 where it is not JSON, 422 where it is no message; nothing is stored."""
        assert_problem(await self.post(client, body), status)
        assert stored(engine) == 0

    async def test_nested_too_deep(self, service, engine):
        """400 where it is nested deeper than any Python's parsers go, the thousands of 3.13's as well."""
        transport = httpx2.ASGITransport(create_app(service))
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            body = b'{"payload": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
            assert_problem(await self.post(client, body), 400, "recursion")
        assert stored(engine) == 0

    @pytest.mark.parametrize(
        "payload", ["null", "true", "0", '""', "[]", "{}", "1e308", "-0.0", str(2**70), r'"\u0000\u2028"']
    )
    async def test_any_json_is_a_payload(self, client, service, payload):
        """What JSON can hold comes back as it was."""
        stream = await service.open_stream("c")
        reader = ChunkReader(stream)
        await reader.next_chunk()
        assert (await self.post(client, f'{{"payload": {payload}}}')).status_code == 201
        chunk = (await reader.next_chunk()).decode()
        assert json.loads(chunk.split("data: ")[1]) == json.loads(payload)
        stream.release()

    @pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
    async def test_other_content_types(self, client, engine, content_type):
        """415: nothing is guessed, so that no page of another origin can publish without being asked."""
        response = await self.post(client, b'{"payload": 1}', {"content-type": content_type})
        assert_problem(response, 415, "application/json")
        assert stored(engine) == 0

    async def test_unknown_channel(self, client):
        """404: publishing makes no channel."""
        assert_problem(await self.post(client, b'{"payload": 1}', channel="nowhere"), 404, "'nowhere'")

    async def test_too_many(self, service, engine):
        """A request carries a bounded number of messages."""
        transport = httpx2.ASGITransport(create_app(service))
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            for separator, begin, end, headers in ((",", "[", "]", JSON), ("\n", "", "", NDJSON)):
                body = begin + separator.join(['{"payload":0}'] * (MAX_MESSAGES + 1)) + end
                assert_problem(await self.post(client, body, headers), 413, str(MAX_MESSAGES))
        assert stored(engine) == 0

    async def test_too_large(self, client, engine):
        """413 for a body that says it is too large, and for one that turns out to be."""

        async def pieces():
            for _ in range(11):
                yield b"x" * 1000

        for content in (b'{"payload":"%b"}' % (b"x" * 10_000), pieces()):
            response = await client.post("/channels/c/messages", content=content, headers=JSON)
            assert_problem(response, 413, "10000")
            response = await client.post("/channels", content=content if isinstance(content, bytes) else pieces())
            assert_problem(response, 413, "10000")
        assert stored(engine) == 0

    async def test_a_body_that_breaks_off(self, app, engine):
        """A client that goes away before it has said everything has said nothing."""
        exchange = Exchange(app, "/channels/c/messages", "POST", [("content-type", "application/json")], body=None)
        exchange.receive(type="http.request", body=b'{"payload":1', more_body=True)
        exchange.disconnect()
        assert await exchange.ended() is None
        assert stored(engine) == 0

    async def test_concurrent_publishers_share_commits(self, client, log):
        """Requests that come together are stored together."""
        responses = await asyncio.gather(
            *(client.post("/channels/c/messages", json={"payload": n}) for n in range(100))
        )
        assert {response.status_code for response in responses} == {201}
        assert log.calls["append_group"] < 50


class TestRawBodies:
    """What the routes that are not ours to parse make of bad bodies."""

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"", 422),
            (b"{", 400),
            (b'{"id": "\xff"}', 400),
            (b'{"id": "\\ud800"}', 422),
            (b'{"\\ud800": 1}', 422),
            (b'{"retention": {"max_age_s": NaN}}', 422),
            (b'{"retention": {"max_age_s": 1e999}}', 422),
            (b'{"retry_ms": ' + b"1" * 5000 + b"}", 400),
            (b"[" * 9000, 400),
        ],
    )
    async def test_bad_bodies(self, client, body, status):
        """Each is a problem, none an error of the server."""
        assert_problem(await client.post("/channels", content=body, headers=JSON), status)

    async def test_content_type(self, client):
        """A body that does not say that it is JSON is refused."""
        response = await client.post("/channels", content=b"{}", headers={"content-type": "text/plain"})
        assert_problem(response, 415, "json")


class TestStreams:
    """``…/events``."""

    async def open(self, app, path, *headers):
        """A stream whose opening was read."""
        exchange = Exchange(app, path, headers=headers)
        await exchange.reader.chunk()
        return exchange

    async def leave(self, exchange):
        """Go away."""
        exchange.disconnect()
        assert await exchange.ended() is None

    async def test_anonymous(self, app, service):
        """Broadcasts, from now on."""
        await service.publish("c", [Outgoing(1)])
        exchange = await self.open(app, "/channels/c/events")
        await service.publish("c", [Outgoing("secret", to="l"), Outgoing(2)])
        assert await exchange.reader.until(1) == ["2"]
        await self.leave(exchange)

    async def test_listener(self, app, service):
        """What was broadcast and what was sent to it, from its cursor."""
        await service.publish("c", [Outgoing(1), Outgoing("mine", to="l")])
        exchange = await self.open(app, "/channels/c/listeners/l/events")
        assert await exchange.reader.until(2) == ["1", '"mine"']
        await self.leave(exchange)

    @pytest.mark.parametrize(
        ("query", "header", "expected"),
        [
            ("", None, []),
            ("?from=latest", None, []),
            ("?from=earliest", None, [0, 1, 2]),
            ("?last_event_id={ids[0]}&from=latest", None, [1, 2]),
            ("?last_event_id={ids[0]}", "{ids[1]}", [2]),
            ("?last_event_id={ids[1]}", "", [2]),
        ],
    )
    async def test_where_it_starts(self, app, service, query, header, expected):
        """The header goes before the parameter, that before ``from``; an empty header is none."""
        ids = await service.publish("c", [Outgoing(n) for n in range(3)])
        headers = [] if header is None else [("last-event-id", header.format(ids=ids))]
        exchange = await self.open(app, f"/channels/c/events{query.format(ids=ids)}", *headers)
        await service.publish("c", [Outgoing("end")])
        assert await exchange.reader.until(len(expected) + 1) == [*map(str, expected), '"end"']
        await self.leave(exchange)

    @pytest.mark.parametrize("query", ["from=middle", "from=", "from=EARLIEST"])
    async def test_starts_that_cannot_be(self, client, query):
        """422."""
        assert_problem(await client.get(f"/channels/c/events?{query}"), 422, "from")

    async def test_what_is_not_there(self, client):
        """404 before anything is sent, for GET and HEAD."""
        for path in ("nowhere/events", "nowhere/listeners/l/events", "c/listeners/nobody/events"):
            assert_problem(await client.get(f"/channels/{path}"), 404)
            assert (await client.head(f"/channels/{path}")).status_code == 404

    @pytest.mark.parametrize("path", ["/channels/c/events", "/channels/c/listeners/l/events"])
    async def test_head(self, client, service, path):
        """HEAD ends, with the stream's headers."""
        response = await client.head(path)
        assert (response.status_code, response.content) == (200, b"")
        assert response.headers["content-type"] == "text/event-stream"
        assert service._hub.count("c") == 0

    async def test_deleted(self, app, client):
        """The stream of a channel that is deleted ends with ``eric.closed``."""
        exchange = await self.open(app, "/channels/c/events")
        await client.delete("/channels/c")
        assert await exchange.reader.rest() == ["eric.closed"]
        await exchange.ended()

    async def test_a_body_that_is_too_large(self, app):
        """What a peer sends after its request does not grow without bound, and harms nobody."""
        exchange = await self.open(app, "/channels/c/events")
        for _ in range(11):
            exchange.receive(type="http.request", body=b"x" * 1000, more_body=True)
        assert await exchange.ended() is None

    async def test_while_the_store_is_away(self, app, log):
        """200 all the same: an EventSource would never come back after a 503."""
        log.errors["heads"] = StoreUnavailable("away")
        exchange = await self.open(app, "/channels/c/events")
        assert exchange.status == 200
        assert exchange.reader.chunks == [b"retry: 3000\n\n"]
        await self.leave(exchange)


class TestHealth:
    """``/healthz`` and ``/readyz``."""

    async def test_well(self, client):
        """200, for GET and HEAD."""
        for path in ("/healthz", "/readyz"):
            assert (await client.get(path)).json() == {"status": "ok"}
            assert (await client.head(path)).status_code == 200

    async def test_the_store_is_away(self, client, log):
        """``/readyz`` says so; the process is alive."""
        log.errors["heads"] = StoreUnavailable("it is away")
        response = await client.get("/readyz")
        assert_problem(response, 503, "it is away")
        assert response.headers["retry-after"] == "1"
        assert (await client.get("/healthz")).status_code == 200


class TestFailures:
    """What the store's failures come to."""

    @pytest.mark.parametrize(
        ("error", "status"),
        [(StoreUnavailable("away"), 503), (OutcomeUnknown("who knows"), 503), (StoreFull("no room"), 507)],
    )
    async def test_the_store_fails(self, client, log, error, status):
        """Each failure has its status; what may be tried again says when."""
        log.errors["append_group"] = error
        response = await client.post("/channels/c/messages", json={"payload": 1})
        assert_problem(response, status, str(error))
        assert ("retry-after" in response.headers) == (status == 503)

    async def test_overload(self, engine, log):
        """503 with Retry-After, and all is well when it is over."""
        async with Service(engine, ServiceOptions(max_waiting=1)) as service:
            transport = httpx2.ASGITransport(create_app(service))
            async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
                await service.create_channel("c")
                gate = log.close_gate("append_group")
                first = asyncio.create_task(client.post("/channels/c/messages", json={"payload": 1}))
                await gate.somebody_waits()
                response = await client.post("/channels/c/messages", json={"payload": 2})
                assert_problem(response, 503, "wait to be stored")
                assert response.headers["retry-after"] == "1"
                gate.open()
                assert (await first).status_code == 201

    async def test_a_bug(self, client, log):
        """500, without what is nobody's business."""
        log.errors["heads"] = ZeroDivisionError("the secret")
        response = await client.get("/channels/c/listeners")
        assert_problem(response, 500)
        assert "secret" not in response.text


class TestAround:
    """What every request passes."""

    async def test_no_such_route(self, client):
        """404 and 405 are problems too, and say where to look."""
        assert_problem(await client.get("/nothing"), 404, "GET /nothing", "/docs")
        assert_problem(await client.get("/channels/"), 404)

    @pytest.mark.parametrize(
        ("path", "allowed"),
        [("", "GET, POST"), ("/c", "GET, DELETE"), ("/c/messages", "POST"), ("/c/events", "GET, HEAD")],
    )
    async def test_no_such_method(self, client, path, allowed):
        """405 names the methods that there are."""
        response = await client.put(f"/channels{path}", json={})
        assert_problem(response, 405, f"PUT /channels{path}")
        assert response.headers["allow"] == allowed

    @pytest.mark.parametrize("segment", ["%FF", "%C3%28", "%ED%A0%80"])
    async def test_paths_that_are_not_utf8(self, client, segment):
        """422."""
        assert_problem(await client.get(f"/channels/{segment}"), 422)

    async def test_openapi(self, client):
        """It lists every row, and errors as problems."""
        document = (await client.get("/openapi.json")).json()
        assert len(document["paths"]) == 10
        for path in document["paths"].values():
            for operation in path.values():
                assert "application/problem+json" in operation["responses"]["4XX"]["content"]
        assert "HTTPValidationError" not in json.dumps(document)
        assert (await client.get("/docs")).status_code == 200

    async def test_cors(self, service):
        """Pages of the origins that were named may use everything; others get no permission."""
        transport = httpx2.ASGITransport(create_app(service, cors_origins=["https://page.test"], max_body_bytes=10))
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            preflight = {"access-control-request-method": "DELETE", "access-control-request-headers": "last-event-id"}
            for origin, allowed in (("https://page.test", "https://page.test"), ("https://other.test", None)):
                headers = {"origin": origin}
                response = await client.options("/channels/c", headers={**headers, **preflight})
                assert response.headers.get("access-control-allow-origin") == allowed
                for answer in (
                    await client.get("/channels/nowhere", headers=headers),
                    await client.head("/channels/c/events", headers=headers),
                    await client.post("/channels/c/messages", content=b"x" * 11, headers=headers),
                ):
                    assert answer.headers.get("access-control-allow-origin") == allowed

    async def test_no_cors_unless_asked_for(self, client):
        """Without origins, no page of another origin may read an answer."""
        response = await client.get("/healthz", headers={"origin": "https://page.test"})
        assert "access-control-allow-origin" not in response.headers
