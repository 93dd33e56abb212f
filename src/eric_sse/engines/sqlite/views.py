"""The statements that read a log: which messages a view holds, and where the log stands."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from eric_sse.log import Head, Retention, View

LAST = "coalesce((SELECT offset FROM eric_messages WHERE log = l.id ORDER BY offset DESC LIMIT 1), l.trimmed)"
"""The largest offset that log ``l`` gave: an append writes no other row to keep it. Where all is trimmed, that says."""

# quote() gives text that makes the same float again; a JSON number would be cut to 15 digits.
_HEAD = f"json_array(l.epoch, l.trimmed, {LAST}, l.max_messages, quote(l.max_age_s), l.removals)"

HEADS = f"""WITH v (i, channel) AS ({{}})
    SELECT json_group_array(json_array(v.i, {_HEAD})) FROM v
    CROSS JOIN eric_logs l ON l.channel = v.channel"""  # noqa: S608 - all of it is in this file
"""For numbered channel ids: pairs of the number and what `head_from` takes."""


def head_from(values: Sequence[Any]) -> Head:
    """The head in what a packed column holds, decoded."""
    epoch, trimmed, last, max_messages, max_age_s, removals = values
    retention = Retention(max_messages, None if max_age_s == "NULL" else float(max_age_s))
    return Head(epoch, trimmed, last, retention, removals)


def view_parameters(channel_id: str, after: int, view: View | str, limit: int) -> dict[str, object]:
    """What the following statements take."""
    return {"channel": channel_id, "after": after, "listener": None if isinstance(view, View) else view, "limit": limit}


@cache
def page_sql(kind: View | None) -> str:
    """What a view's page holds, without the data: log id, head, and offsets, sizes and receivers as JSON.

    Parameters: `view_parameters`. The kind None is a listener's own.
    """
    source = _source(kind, "offset, length(data) AS size, receiver", "l.id")
    packed = "json_array(json_group_array(offset), json_group_array(size), json_group_array(receiver))"
    return f"SELECT l.id, {_HEAD}, (SELECT {packed} FROM ({source})) FROM eric_logs l WHERE l.channel = :channel"  # noqa: S608


@cache
def data_sql(kind: View | None, *, packed: bool) -> str:
    """The page's data, one after the other in one value, or a row each.

    Parameters: `view_parameters`, and the ``log`` id.
    """
    columns = "CAST(group_concat(data, '') AS BLOB)" if packed else "data"
    return f"SELECT {columns} FROM ({_source(kind, 'offset, data', ':log')})"  # noqa: S608 - as above


@cache
def count_sql(kind: View | None) -> str:
    """How many messages a view holds, up to the limit. Parameters: `view_parameters`."""
    source = _source(kind, "offset", "l.id")
    return f"SELECT (SELECT count(*) FROM ({source})) FROM eric_logs l WHERE l.channel = :channel"  # noqa: S608 - as above


def _source(kind: View | None, columns: str, log: str) -> str:
    # INDEXED BY: no statistics that an application's ANALYZE leaves may talk SQLite into reading what is for others.
    select = f"SELECT {columns} FROM eric_messages INDEXED BY eric_messages_by"  # noqa: S608 - as above
    broadcasts = f"{select}_receiver WHERE log = {log} AND receiver = '' AND offset > :after"
    if kind is View.EVERYTHING:
        union = f"{select}_log WHERE log = {log} AND offset > :after"
    elif kind is View.BROADCASTS:
        union = broadcasts
    else:
        union = (
            f"{broadcasts} UNION ALL {select}_receiver WHERE log = {log} AND receiver = :listener AND offset > :after"
        )
    return f"{union} ORDER BY offset LIMIT :limit"
