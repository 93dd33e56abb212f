"""Where a stream starts, and when it must say that something is missing."""

from typing import NamedTuple

from eric_sse.log.ports import Head
from eric_sse.message import Message, Position

MESSAGE_TYPE_GAP = "eric.gap"
"""Type of the in-band message that tells a listener that messages are missing before what follows."""


class Gap(NamedTuple):
    """Messages that a stream was to hold may be missing.

    Attributes:
        reason: ``trimmed``: retention removed them; ``epoch``: the id is of another log, which was deleted or lost;
            ``unknown``: the id was never given by this log.
        resumed_from: The id that the stream was to resume from.
    """

    reason: str
    resumed_from: str

    def message(self, position: Position) -> Message:
        """The message that tells it, placed just before what follows."""
        message = Message(MESSAGE_TYPE_GAP, {"reason": self.reason, "resumed_from": self.resumed_from})
        message.position = position
        return message


def resume(head: Head, last_id: str) -> tuple[int, Gap | None]:
    """Where to read on for one who has seen ``last_id``, and whether something is missing.

    An id is good if its epoch is the log's and its offset lies between what was trimmed and the last, whether or not
    that offset exists. Trimmed or of another epoch, the stream goes on from the oldest message kept; malformed or
    ahead of the log, from the latest.
    """
    position = Position.parse(last_id)
    if position is None:
        return head.last, Gap("unknown", last_id)
    if position.epoch != head.epoch:
        return head.trimmed, Gap("epoch", last_id)
    if position.offset > head.last:
        return head.last, Gap("unknown", last_id)
    if position.offset < head.trimmed:
        return head.trimmed, Gap("trimmed", last_id)
    return position.offset, None
