"""``eric-sse publish``: a message from the command line, or a message for each line of standard input."""

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from eric_sse.cli.channels import ChannelArgument
from eric_sse.cli.errors import CommandError, UsageError, tell
from eric_sse.cli.input import STDIN
from eric_sse.cli.output import JsonOption, PlainOption, for_people, print_json, print_line
from eric_sse.cli.publishing import MessageFormat, Publisher
from eric_sse.cli.target import StoreOption, UrlOption, connected

_FROM_STDIN = "-"


def publish(
    channel: ChannelArgument,
    payload: Annotated[
        str | None,
        typer.Argument(
            metavar="PAYLOAD|-",
            help="The payload, as JSON; `-` reads payloads from standard input, one a line.",
            show_default=False,
        ),
    ] = None,
    *,
    message_type: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="The messages' type. Without it, `message`.")
    ] = None,
    to: Annotated[str | None, typer.Option(metavar="LISTENER", help="Send to this listener alone.")] = None,
    id_field: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Take each message's id from this field of its payload: what is published again within five minutes "
            "is then not stored again.",
        ),
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="Payloads are text, not JSON: each becomes a string.")] = False,
    url: UrlOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
    plain: PlainOption = False,
) -> None:
    """Publish a message and print its id, or a message for each line of standard input.

    When it ends, the messages are durable. Of standard input it prints how many there were and the last one's id.
    What has come is published at once, so the input may be a pipe that never ends. A line that is not JSON is
    refused, with those after it; an empty one is skipped.
    """
    if text and id_field is not None:
        raise UsageError("--text and --id-field exclude each other: text has no fields")
    if payload is None and message_type is None:
        raise UsageError("say what to publish: a PAYLOAD in JSON, or - to read payloads from standard input")
    form = MessageFormat(text and payload is not None, message_type, to, id_field)
    one = None if payload == _FROM_STDIN else _encoded(form, payload)
    with connected(url, store) as api:
        publisher = Publisher(api, channel)
        if one is None:
            _publish_input(publisher, form)
        else:
            publisher.publish([one])
    _print_published(publisher, one is not None, as_json=as_json, people=for_people(plain=plain))


def _encoded(form: MessageFormat, payload: str | None) -> bytes:
    try:
        return form.encode(b"null" if payload is None else os.fsencode(payload))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"PAYLOAD cannot be published: {error}; quote JSON for the shell, or use --text") from error


def _publish_input(publisher: Publisher, form: MessageFormat) -> None:
    try:
        with _progress_bar() as progress:
            publisher.publish_lines(form, progress)
    except OSError as error:
        raise CommandError(f"standard input cannot be read: {error.strerror}") from error
    except KeyboardInterrupt:
        tell(f"interrupted: {publisher.count} messages were published")
        raise


def _print_published(publisher: Publisher, single: bool, *, as_json: bool, people: bool) -> None:  # noqa: FBT001
    if as_json:
        print_json({"count": publisher.count, "last_id": publisher.last_id})
    elif single:
        print_line(publisher.last_id)
    elif people:
        print_line(f"published: {publisher.count:,}; the last id: {publisher.last_id or 'none'}")
    else:
        print_line(publisher.count, publisher.last_id)


@contextmanager
def _progress_bar() -> Iterator[Callable[[int, int], None]]:
    if not sys.stderr.isatty() or os.isatty(STDIN):  # nobody looks, or it would disturb who types
        yield lambda _count, _read: None
        return
    columns = (SpinnerColumn(), BarColumn(), TextColumn("{task.fields[count]:,} messages"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=_input_bytes(), count=0)
        yield lambda count, read: bar.update(task, completed=read, count=count)


def _input_bytes() -> int | None:
    """How many bytes there are to read; None where only the end will tell."""
    status = os.fstat(STDIN)
    return status.st_size if stat.S_ISREG(status.st_mode) else None
