"""Where a stream starts, and when it must say that something is missing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eric_sse.log import Gap, Head, Retention, resume
from eric_sse.message import Position

HEAD = Head(epoch="e", trimmed=10, last=20, retention=Retention())


@pytest.mark.parametrize("offset", [10, 11, 15, 20])
def test_an_id_between_what_was_trimmed_and_the_last_is_good(offset):
    """Whether or not that offset exists: offsets need not be consecutive."""
    assert resume(HEAD, f"e-{offset}") == (offset, None)


@pytest.mark.parametrize(
    ("last_id", "goes_on_after", "reason"),
    [
        ("e-9", 10, "trimmed"),
        ("e-0", 10, "trimmed"),
        ("f-15", 10, "epoch"),
        ("f-99", 10, "epoch"),
        ("e-21", 20, "unknown"),
        ("", 20, "unknown"),
        ("15", 20, "unknown"),
        ("e-015", 20, "unknown"),
        ("E-15", 20, "unknown"),
    ],
)
def test_any_other_id_is_a_gap(last_id, goes_on_after, reason):
    """Trimmed or of another epoch: from the oldest kept. Malformed or ahead of the log: from the latest."""
    assert resume(HEAD, last_id) == (goes_on_after, Gap(reason, last_id))


def test_an_empty_log_is_resumed_from_its_beginning():
    """Its offset 0 is before the first message."""
    assert resume(Head("e", 0, 0, Retention()), "e-0") == (0, None)


@given(st.text())
def test_any_text_resumes_somewhere_within_what_is_kept(last_id):
    """And says so where it is no id of the log's."""
    offset, gap = resume(HEAD, last_id)
    assert HEAD.trimmed <= offset <= HEAD.last
    assert gap is None or gap.resumed_from == last_id


def test_a_gap_is_told_by_a_message_just_before_what_follows():
    """Its place is where the stream goes on."""
    message = Gap("trimmed", "e-1").message(Position("e", 10))
    assert (message.type, message.payload) == ("eric.gap", {"reason": "trimmed", "resumed_from": "e-1"})
    assert str(message.position) == "e-10"
