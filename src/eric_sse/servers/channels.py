"""The channels of a program, found by their ids."""

from collections.abc import Iterable

from eric_sse.entities import AbstractChannel
from eric_sse.exception import ChannelExists, ChannelNotFound


class ChannelContainer:
    """Channels by their id."""

    def __init__(self) -> None:
        self._channels: dict[str, AbstractChannel] = {}

    def register(self, channel: AbstractChannel) -> None:
        """Add a channel.

        Raises:
            ChannelExists: There is one of that id.
        """
        if self._channels.setdefault(channel.id, channel) is not channel:
            raise ChannelExists(channel.id)

    def register_iterable(self, channels: Iterable[AbstractChannel]) -> None:
        """Add those channels whose ids are not there yet."""
        for channel in channels:
            self._channels.setdefault(channel.id, channel)

    def get(self, channel_id: str) -> AbstractChannel:
        """The channel of that id.

        Raises:
            ChannelNotFound: There is none.
        """
        try:
            return self._channels[channel_id]
        except KeyError:
            raise ChannelNotFound(channel_id) from None

    def rm(self, channel_id: str) -> None:
        """Remove a channel from the container; the channel itself is left as it is.

        Raises:
            ChannelNotFound: There is none of that id.
        """
        if self._channels.pop(channel_id, None) is None:
            raise ChannelNotFound(channel_id)

    def get_all_ids(self) -> list[str]:
        """The channels' ids, in the order in which they were added."""
        return list(self._channels)
