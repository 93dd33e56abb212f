"""``eric-sse channel``: create, list, show and delete channels."""

from typing import Annotated, Any

import typer

from eric_sse.cli.api import channel_path
from eric_sse.cli.output import JsonOption, PlainOption, for_people, print_fields, print_json, print_line, print_table
from eric_sse.cli.target import StoreOption, UrlOption, connected

app = typer.Typer(no_args_is_help=True, help="Create, list, show and delete channels.")

ChannelArgument = Annotated[str, typer.Argument(metavar="CHANNEL", help="The channel's id.", show_default=False)]


@app.command()
def create(
    channel: Annotated[
        str | None,
        typer.Argument(metavar="CHANNEL", help="Its id; without one it gets a random one.", show_default=False),
    ] = None,
    *,
    max_messages: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Keep the last N messages; 0: no bound. Without it, 100,000."),
    ] = None,
    max_age: Annotated[
        float | None,
        typer.Option(min=0, metavar="SECONDS", help="Keep what is younger; 0: no bound. Without it, a week."),
    ] = None,
    retry_ms: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="MILLISECONDS",
            help="How long its clients are told to wait before they come back. Without it, 3,000.",
        ),
    ] = None,
    url: UrlOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
    plain: PlainOption = False,
) -> None:
    """Create a channel and print its id. Fails where it exists.

    A message is trimmed when --max-messages or --max-age no longer keeps it.
    """
    given = {"max_messages": max_messages, "max_age_s": max_age}
    retention = {name: value or None for name, value in given.items() if value is not None}
    with connected(url, store, may_create=True) as api:
        created = api.post("/channels", {"id": channel, "retry_ms": retry_ms, "retention": retention})
    if as_json:
        print_json(created)
    elif for_people(plain=plain):
        print_line(f"channel {created['id']} is ready; publish to it with: eric-sse publish {created['id']} PAYLOAD")
    else:
        print_line(created["id"])


@app.command("list")
def list_channels(
    *, url: UrlOption = None, store: StoreOption = None, as_json: JsonOption = False, plain: PlainOption = False
) -> None:
    """List channels: id, last message's id, open streams, and how many messages and seconds are kept."""
    with connected(url, store) as api:
        channels = api.pages("/channels", "channels")
    if as_json:
        print_json(channels)
        return
    columns = ("channel", "last id", "streams", "keeps messages", "keeps seconds")
    print_table(columns, [(c["id"], c["last_id"], c["streams"], *_kept(c)) for c in channels], plain=plain)


@app.command()
def show(
    channel: ChannelArgument,
    *,
    url: UrlOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
    plain: PlainOption = False,
) -> None:
    """Show a channel as it stands, a field a line."""
    with connected(url, store) as api:
        shown = api.get(channel_path(channel))
    if as_json:
        print_json(shown)
        return
    kept_messages, kept_seconds = _kept(shown)
    fields = {
        "channel": shown["id"],
        "epoch": shown["epoch"],
        "oldest id": shown["oldest_id"],
        "last id": shown["last_id"],
        "listeners": shown["listeners"],
        "open streams": shown["streams"],
        "keeps messages": kept_messages,
        "keeps seconds": kept_seconds,
        "retry ms": shown["retry_ms"],
    }
    print_fields(fields, plain=plain)


@app.command()
def delete(channel: ChannelArgument, *, url: UrlOption = None, store: StoreOption = None) -> None:
    """Delete a channel, its messages and its listeners; its streams end. Nothing happens where there is none."""
    with connected(url, store) as api:
        api.delete(channel_path(channel))


def _kept(channel: dict[str, Any]) -> tuple[object, object]:
    retention = channel["retention"]
    seconds = retention["max_age_s"]
    return retention["max_messages"] or "all", "all" if seconds is None else f"{seconds:g}"
