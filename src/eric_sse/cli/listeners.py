"""``eric-sse listener``: add, list and remove named listeners."""

from enum import StrEnum
from typing import Annotated

import typer

from eric_sse.cli.api import channel_path, listener_path
from eric_sse.cli.channels import ChannelArgument
from eric_sse.cli.output import JsonOption, PlainOption, for_people, print_json, print_line, print_table
from eric_sse.cli.target import StoreOption, UrlOption, connected

app = typer.Typer(no_args_is_help=True, help="Add, list and remove a channel's named listeners.")


class Ack(StrEnum):
    """When a listener's cursor moves."""

    AUTO = "auto"
    EXPLICIT = "explicit"


@app.command()
def add(
    channel: ChannelArgument,
    listener: Annotated[
        str | None,
        typer.Argument(metavar="LISTENER", help="Its id; without one it gets a random one.", show_default=False),
    ] = None,
    *,
    ack: Annotated[
        Ack, typer.Option(help="Whether its cursor moves with what was sent to it, or by acknowledgements alone.")
    ] = Ack.AUTO,
    url: UrlOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
    plain: PlainOption = False,
) -> None:
    """Subscribe a named listener, from now on, and print its id. Fails where it exists."""
    with connected(url, store) as api:
        added = api.post(f"{channel_path(channel)}/listeners", {"id": listener, "ack": ack})
    if as_json:
        print_json(added)
    elif for_people(plain=plain):
        print_line(
            f"listener {added['id']} is subscribed; receive with: eric-sse listen {channel} --listener {added['id']}"
        )
    else:
        print_line(added["id"])


@app.command("list")
def list_listeners(
    channel: ChannelArgument,
    *,
    url: UrlOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
    plain: PlainOption = False,
) -> None:
    """List a channel's listeners: id, acknowledgement, cursor, and how many messages wait (up to 1,000)."""
    with connected(url, store) as api:
        listeners = api.pages(f"{channel_path(channel)}/listeners", "listeners")
    if as_json:
        print_json(listeners)
        return
    columns = ("listener", "ack", "cursor", "lag")
    print_table(columns, [(x["id"], x["ack"], x["cursor"], x["lag"]) for x in listeners], plain=plain)


@app.command()
def remove(
    channel: ChannelArgument,
    listener: Annotated[str, typer.Argument(metavar="LISTENER", help="The listener's id.", show_default=False)],
    *,
    url: UrlOption = None,
    store: StoreOption = None,
) -> None:
    """Remove a listener and what waits for it; its streams end. Nothing happens where there is none."""
    with connected(url, store) as api:
        api.delete(listener_path(channel, listener))
