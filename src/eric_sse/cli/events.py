"""``eric-sse listen``: print a channel's events as they come."""

import json
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlencode

import typer

from eric_sse.cli.api import channel_path, listener_path
from eric_sse.cli.channels import ChannelArgument
from eric_sse.cli.errors import CommandError, UsageError, tell
from eric_sse.cli.output import JsonOption, PlainOption, for_people, print_event, print_json, print_line
from eric_sse.cli.target import StoreOption, UrlOption, connected
from eric_sse.clients import EventSource, Gap
from eric_sse.exception import StreamRefused

if TYPE_CHECKING:
    from eric_sse.wire import Event

_OURS = "eric."


class From(StrEnum):
    """Where a stream starts."""

    EARLIEST = "earliest"
    LATEST = "latest"


def listen(
    channel: ChannelArgument,
    *,
    listener: Annotated[
        str | None,
        typer.Option(metavar="LISTENER", help="Receive as this listener, from its cursor on, what is sent to it too."),
    ] = None,
    start: Annotated[
        From | None, typer.Option("--from", help="Start with the oldest message kept, or after the latest.")
    ] = None,
    last_event_id: Annotated[str | None, typer.Option(metavar="ID", help="Start after the message of this id.")] = None,
    count: Annotated[int | None, typer.Option(min=1, metavar="N", help="End after so many messages.")] = None,
    url: UrlOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
    plain: PlainOption = False,
) -> None:
    """Print a channel's messages as they come, until Ctrl-C: id, type and payload, a line each.

    A lost connection is opened again, and nothing is missed or repeated. Where the server has to leave out messages
    that it no longer keeps, an `eric.gap` event says so.

    A listener of `ack` auto has acknowledged what was sent to it: with --count, that may be more than is printed.
    """
    show = _printer(as_json=as_json, people=for_people(plain=plain))
    events_of = channel_path(channel) if listener is None else listener_path(channel, listener)
    query = "" if start is None else f"?{urlencode({'from': start})}"
    with connected(url, store) as api:
        api.get(channel_path(channel))  # says at once what is wrong, where a stream would try again and again
        stream_url = str(api.client.base_url).rstrip("/") + f"{events_of}/events{query}"
        try:
            source = EventSource(stream_url, client=api.client, last_event_id=last_event_id, on_retry=_tell_retry)
        except ValueError as error:
            raise UsageError(f"--last-event-id: {error}") from error
        with source:
            _print_events(source, show, count)


def _print_events(source: EventSource, show: "Callable[[Event], None]", count: int | None) -> None:
    left = count
    try:
        for event in source:
            show(event)
            _tell_news(event)
            if left is not None and not event.type.startswith(_OURS):
                left -= 1
                if not left:
                    return
    except StreamRefused as error:
        raise CommandError(error.detail) from error


def _printer(*, as_json: bool, people: bool) -> "Callable[[Event], None]":
    if as_json:
        return lambda event: print_json({"id": event.id, "type": event.type, "data": _value(event.data)})
    show = print_event if people else print_line
    return lambda event: show(event.id, event.type, event.data)


def _value(data: str) -> object:
    try:
        return json.loads(data)
    except ValueError:
        return data  # a server that is not ours may send any text


def _tell_news(event: "Event") -> None:
    if (gap := Gap.of(event)) is not None:
        tell(_told_of(gap))
    elif event.type == "eric.closed":
        tell("the channel or listener was removed: nothing more will come")


def _told_of(gap: Gap) -> str:
    if gap.reason == "unknown":
        return f"{gap.resumed_from!r} is not an id that the channel gave: going on after its latest message"
    return f"messages after {gap.resumed_from!r} are missing here ({gap.reason}): the server no longer has them"


def _tell_retry(reason: str, delay_s: float) -> None:
    tell(f"{reason}; connecting again in {delay_s:.1f} s")
