"""How lines become messages, and messages are sent: in batches that may be repeated without harm."""

import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

import msgspec

from eric_sse.cli.api import Api, NotRunning, Unavailable
from eric_sse.cli.errors import CommandError, tell
from eric_sse.cli.input import Line, batches

_RETRIES_S = (0.5, 1.0, 2.0, 4.0, 8.0)


class MessageFormat(msgspec.Struct, frozen=True):
    """How a line becomes a message.

    Attributes:
        text: Whether the line is text; else it is JSON.
        type: The message's type; None: the server's default.
        to: The listener that it is for; None: everybody.
        id_field: Which field of the payload is the message's id; None: it has none.
    """

    text: bool
    type: str | None
    to: str | None
    id_field: str | None

    def encode(self, line: bytes) -> bytes:
        """The message as the server takes it.

        Raises:
            ValueError: It cannot be one; the error says why.
            RecursionError: It is nested too deeply.
        """
        value = line.decode() if self.text else msgspec.json.decode(line)
        # A JSON payload is passed on as it was written, to the last digit.
        payload: Any = value if self.text else msgspec.Raw(line)
        members = {"payload": payload, "type": self.type, "to": self.to, "id": self._id(value)}
        return msgspec.json.encode({name: member for name, member in members.items() if member is not None})

    def _id(self, value: Any) -> str | None:
        if self.id_field is None:
            return None
        id_ = value.get(self.id_field) if isinstance(value, dict) else None
        if isinstance(id_, str | int) and not isinstance(id_, bool):
            return str(id_)
        raise ValueError(f"it has no field {self.id_field!r} with a string or an integer, to be the message's id")


class Publisher:
    """Publishes to a channel, again where the server was away: each batch has a key that makes that harmless.

    Args:
        api: The server.
        channel: The channel's id.

    Attributes:
        count: How many messages were published.
        last_id: The id of the last of them; None where there is none.
    """

    def __init__(self, api: Api, channel: str) -> None:
        self._api = api
        self._channel = channel
        self.count = 0
        self.last_id: str | None = None

    def publish(self, messages: Sequence[bytes]) -> list[str]:
        """Publish messages, all or none, and return their ids; they are durable.

        Raises:
            CommandError: They were refused, or the server stayed away for about a quarter of a minute.
        """
        body, key = b"\n".join(messages), str(uuid4())
        ids = self._repeat(lambda: self._api.publish(self._channel, body, key))
        self.count += len(ids)
        self.last_id = ids[-1]
        return ids

    def publish_lines(self, form: MessageFormat, progress: Callable[[int, int], None]) -> None:
        """Publish a message for each line of standard input.

        Args:
            form: How a line becomes a message.
            progress: Told after each batch how many messages were published and how many bytes were read.

        Raises:
            CommandError: A line cannot be published; those before it were, and the error says how many.
        """
        for batch in batches():
            lines = batch.lines if form.text else [line for line in batch.lines if line.text.strip()]
            self._publish_batch(form, lines)
            progress(self.count, batch.end)

    def _publish_batch(self, form: MessageFormat, lines: Sequence[Line]) -> None:
        messages: list[bytes] = []
        refused: CommandError | None = None
        for line in lines:
            try:
                messages.append(form.encode(line.text))
            except (ValueError, RecursionError) as error:
                refused = CommandError(f"line {line.number} cannot be published: {error}")
                break
        if messages:
            self._publish_or_explain(messages, lines)
        if refused is not None:
            raise CommandError(f"{refused.message}; {self._published()}")

    def _publish_or_explain(self, messages: Sequence[bytes], lines: Sequence[Line]) -> None:
        try:
            self.publish(messages)
        except CommandError as error:
            first, last = lines[0].number, lines[len(messages) - 1].number
            where = f"line {first}" if first == last else f"lines {first} to {last}"
            raise type(error)(f"{where}: {error.format_message()}; {self._published()}") from error

    def _published(self) -> str:
        return f"before that, {self.count} were published" if self.count else "nothing was published"

    def _repeat(self, call: Callable[[], list[str]]) -> list[str]:
        for wait_s in _RETRIES_S:
            try:
                return call()
            except Unavailable as error:
                if isinstance(error, NotRunning) and not self.count:
                    raise  # it never was there
                tell(f"{error.format_message()}; trying again in {wait_s:g} s")
                time.sleep(wait_s)
        return call()
