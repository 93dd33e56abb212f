"""The statements that read a log: which messages a view holds, and where the log stands."""

from collections.abc import Sequence
from typing import LiteralString

from eric_sse.engines.postgres.session import Row
from eric_sse.log import Head, Retention, View

_HEAD: LiteralString = "l.epoch, l.trimmed, l.last, l.max_messages, l.max_age_s, l.removals"

HEADS: LiteralString = f"SELECT l.channel, {_HEAD} FROM {{schema}}.eric_logs l WHERE l.channel = ANY ($1::text[])"  # noqa: S608 - all here
"""For channel ids: the id, and what `head_from` takes."""


def head_from(row: Row) -> Head:
    """The head in a row's columns."""
    epoch, trimmed, last, max_messages, max_age_s, removals = row
    return Head(epoch, trimmed, last, Retention(max_messages, max_age_s), removals)


HEAD_COLUMNS = 6
"""How many columns of a page's row come first, and are the head's."""

# Each source is limited by itself, and read in order by its own index, so that what is for others is not scanned; nor
# what was trimmed, which stays in the index until it is vacuumed.
_FROM: LiteralString = """SELECT "offset", receiver, data FROM {schema}.eric_messages
    WHERE log = l.id AND "offset" > greatest($2, l.trimmed)"""
_ORDER: LiteralString = 'ORDER BY "offset" LIMIT $3'
_BROADCASTS: LiteralString = f"{_FROM} AND receiver IS NULL {_ORDER}"
_EVERYTHING: LiteralString = f"{_FROM} {_ORDER}"
_OWN: LiteralString = f"""SELECT * FROM (
    ({_BROADCASTS}) UNION ALL ({_FROM} AND receiver = $5 {_ORDER})
) own {_ORDER}"""  # noqa: S608 - all of it is in this file


def _page(source: LiteralString) -> LiteralString:
    # The sizes are known without reading the data; only what is wanted is read and sent.
    return f"""SELECT {_HEAD}, m."offset", m.receiver, m.data FROM {{schema}}.eric_logs l LEFT JOIN LATERAL (
        SELECT "offset", receiver, data FROM (
            SELECT *, sum(octet_length(data)) OVER (ORDER BY "offset") - octet_length(data) AS before FROM ({source}) s
        ) sized WHERE $4::bigint IS NULL OR before < $4
    ) m ON true WHERE l.channel = $1 ORDER BY m."offset" """  # noqa: S608 - as above


def _count(source: LiteralString) -> LiteralString:
    return f"SELECT (SELECT count(*) FROM ({source}) s) FROM {{schema}}.eric_logs l WHERE l.channel = $1"  # noqa: S608 - as above


_SOURCES: dict[View | None, LiteralString] = {
    View.EVERYTHING: _EVERYTHING,
    View.BROADCASTS: _BROADCASTS,
    None: _OWN,
}
_PAGES: dict[View | None, LiteralString] = {kind: _page(source) for kind, source in _SOURCES.items()}
_COUNTS: dict[View | None, LiteralString] = {
    kind: _count(source.replace("$5", "$4")) for kind, source in _SOURCES.items()
}


def page_statement(
    channel_id: str, after: int, view: View | str, limit: int, max_bytes: int | None
) -> tuple[LiteralString, Sequence[object]]:
    """A statement, with its parameters, that gives the head and, in order, a page's messages: offset, receiver, data.

    The head comes with every row, and alone, with nulls, where there is no message.
    """
    if isinstance(view, View):
        return _PAGES[view], (channel_id, after, limit, max_bytes)
    return _PAGES[None], (channel_id, after, limit, max_bytes, view)


def count_statement(
    channel_id: str, after: int, view: View | str, limit: int
) -> tuple[LiteralString, Sequence[object]]:
    """A statement, with its parameters, that counts a view's messages up to ``limit``."""
    if isinstance(view, View):
        return _COUNTS[view], (channel_id, after, limit)
    return _COUNTS[None], (channel_id, after, limit, view)
