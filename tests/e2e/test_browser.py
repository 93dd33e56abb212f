"""A real browser's EventSource: it resumes by itself, whatever became of the server."""

import asyncio

import httpx2
import pytest

from support.browser import browsing, site
from support.restarts import Restartable

pytestmark = pytest.mark.usefixtures("stream_path")

CHANNEL = "/channels/news"
EVENTS = f"{CHANNEL}/events"


@pytest.fixture
def page():
    """The site that the page is on."""
    with site() as serving:
        yield serving


@pytest.fixture
async def server(page, tmp_path):
    """A server that the page may use, with a channel."""
    env = {"ERIC_SSE_CORS_ORIGINS": f'["{page.origin}"]'}
    async with Restartable(f"sqlite:///{tmp_path}/events.db", env=env) as server:
        async with httpx2.AsyncClient(base_url=server.url) as http:
            (await http.post("/channels", json={"id": "news", "retry_ms": 300})).raise_for_status()
        yield server


async def publish(server: Restartable, numbers: range) -> None:
    """Publish some numbers."""
    messages = [{"payload": number} for number in numbers]
    async with httpx2.AsyncClient(base_url=server.url) as http:
        (await http.post(f"{CHANNEL}/messages", json=messages)).raise_for_status()


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_a_browser_resumes_by_itself(page, server, tmp_path, end):
    """Restarted, killed or not, the server sends what the browser missed, and none of it twice."""
    with browsing(page, server.url + EVENTS, tmp_path / "profile"):
        await asyncio.to_thread(page.until, "open")
        await publish(server, range(10))
        seen = await asyncio.to_thread(page.until, "message", 10)
        for first in (10, 30):
            await publish(server, range(first, first + 10))  # perhaps on its way when the server ends
            await getattr(server, end)()
            await server.start()
            await publish(server, range(first + 10, first + 20))  # before the browser is back
            seen += await asyncio.to_thread(page.until, "message", first + 20 - len(messages(seen)))
    assert messages(seen) == list(range(50))
    assert [what["type"] for what in seen].count("open") == 2  # since the first


def messages(seen: list[dict]) -> list[object]:
    """What the messages held."""
    return [what["data"] for what in seen if what["type"] == "message"]


async def test_a_browser_resumes_from_before_its_first_event(page, server, tmp_path):
    """The opening id alone lets a browser that has seen no event miss none."""
    with browsing(page, server.url + EVENTS, tmp_path / "profile"):
        await asyncio.to_thread(page.until, "open")
        await server.kill()
        await server.start()
        await publish(server, range(5))
        assert messages(await asyncio.to_thread(page.until, "message", 5)) == list(range(5))


async def test_a_page_sees_gaps(page, server, tmp_path):
    """An id that the channel never gave brings an eric.gap event, then what follows."""
    with browsing(page, f"{server.url}{EVENTS}?last_event_id=ffffffffffff-7", tmp_path / "profile"):
        (*_, gap) = await asyncio.to_thread(page.until, "eric.gap")
        await publish(server, range(1))
        assert messages(await asyncio.to_thread(page.until, "message")) == [0]
    assert gap["data"] == {"reason": "epoch", "resumed_from": "ffffffffffff-7"}


async def test_a_page_sees_that_its_channel_is_gone(page, server, tmp_path):
    """Deleting the channel brings an eric.closed event; the browser asks once more, and gives up."""
    with browsing(page, server.url + EVENTS, tmp_path / "profile"):
        await asyncio.to_thread(page.until, "open")
        async with httpx2.AsyncClient(base_url=server.url) as http:
            await http.delete(CHANNEL)
        types = [what["type"] for what in await asyncio.to_thread(page.until, "gave up")]
    assert types == ["eric.closed", "lost", "gave up"]


async def test_a_page_of_another_origin_is_kept_out(server, tmp_path):
    """Origins that are not in the setting may not read."""
    with site() as stranger, browsing(stranger, server.url + EVENTS, tmp_path / "profile"):
        assert await asyncio.to_thread(stranger.until, "gave up") == [{"type": "gave up"}]
