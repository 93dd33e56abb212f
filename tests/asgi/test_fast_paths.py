"""Usual requests, past the framework: each comes to what it comes to on the framework's routes."""

import re

import pytest

from eric_sse.exception import OutcomeUnknown, StoreUnavailable

JSON = {"content-type": "application/json"}
NDJSON = {"content-type": "application/x-ndjson"}
REQUESTS = {
    "one message": ("POST", "/channels/c/messages", JSON, b'{"payload": {"a": [1, null]}}'),
    "several": ("POST", "/channels/c/messages", JSON, b'[{"payload": 1}, {"payload": 2, "to": "l"}]'),
    "lines": ("POST", "/channels/c/messages", NDJSON, b'{"payload": 1}\n\n{"payload": "\xc3\xa9"}\n'),
    "an id twice": ("POST", "/channels/c/messages", JSON, b'[{"payload": 1, "id": "i"}, {"payload": 1, "id": "i"}]'),
    "no channel": ("POST", "/channels/nowhere/messages", JSON, b'{"payload": 1}'),
    "no listener": ("POST", "/channels/c/messages", JSON, b'{"payload": 1, "to": "nobody"}'),
    "no JSON": ("POST", "/channels/c/messages", JSON, b'{"payload": '),
    "no message": ("POST", "/channels/c/messages", JSON, b"[]"),
    "an unknown field": ("POST", "/channels/c/messages", JSON, b'{"payload": 1, "what": 2}'),
    "a reserved type": ("POST", "/channels/c/messages", JSON, b'{"payload": 1, "type": "eric.gap"}'),
    "another type of content": ("POST", "/channels/c/messages", {"content-type": "text/plain"}, b"1"),
    "no type of content": ("POST", "/channels/c/messages", {}, b"1"),
    "too large": ("POST", "/channels/c/messages", JSON, b'{"payload": "' + b"x" * 10_000 + b'"}'),
    "too many": ("POST", "/channels/c/messages", NDJSON, b"{}\n" * 3000),
    "an encoded id": ("POST", "/channels/%63/messages", JSON, b'{"payload": 1}'),
    "an id that cannot be": ("POST", "/channels/%FF/messages", JSON, b'{"payload": 1}'),
    "another method": ("PUT", "/channels/c/messages", JSON, b'{"payload": 1}'),
    "no channel to stream": ("GET", "/channels/nowhere/events", {}, b""),
    "no listener to stream": ("GET", "/channels/c/listeners/nobody/events", {}, b""),
    "an idempotency key": ("POST", "/channels/c/messages", JSON | {"idempotency-key": "k"}, b'{"payload": 1}'),
}


def answer(response):
    """What a client sees, without what differs from one publish to the next."""
    return response.status_code, response.headers["content-type"], re.sub(r"-\d+", "-n", response.text)


@pytest.mark.parametrize("name", REQUESTS)
async def test_both_ways_come_to_the_same(client, name):
    """A request is answered alike with and without a query, which is what sends it through the framework."""
    method, path, headers, body = REQUESTS[name]
    usual, unusual = [
        await client.request(method, path + query, headers=headers, content=body) for query in ("", "?unknown=1")
    ]
    assert answer(usual) == answer(unusual)


@pytest.mark.parametrize("error", [StoreUnavailable("away"), OutcomeUnknown("who knows")])
async def test_while_the_store_is_away(client, log, error):
    """A publish that cannot be stored is answered with 503 and when to try again."""
    log.errors["append_group"] = error
    response = await client.post("/channels/c/messages", json={"payload": 1})
    assert (response.status_code, response.json()["detail"]) == (503, str(error))
    assert int(response.headers["retry-after"]) > 0
