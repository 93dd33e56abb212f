"""What processes tell each other by pub/sub: the id of a channel that has something new, and who says so."""

import secrets

from eric_sse.engines.redis.keys import text

_ORIGIN_BYTES = 8


class News:
    """The news that scripts publish with what they store.

    Args:
        channel: The pub/sub channel.

    Attributes:
        channel: The pub/sub channel.
    """

    def __init__(self, channel: bytes) -> None:
        self.channel = channel
        self._origin = secrets.token_bytes(_ORIGIN_BYTES)

    def arguments(self, channel_id: str) -> tuple[bytes, bytes]:
        """What a script takes to publish: the pub/sub channel, and the news."""
        return self.channel, self._origin + text(channel_id)

    def channel_id(self, payload: bytes) -> str | None:
        """The id in what somebody else has told; None for what was told here, and where there is none."""
        if payload.startswith(self._origin):
            return None
        return payload[_ORIGIN_BYTES:].decode(errors="replace") or None
