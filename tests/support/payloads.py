"""Payloads that JSON cannot hold."""

import datetime as dt
import decimal
import math
import uuid


def cycle():
    """A list that holds itself."""
    value = []
    value.append(value)
    return value


def deep():
    """A list nested deeper than any parser goes."""
    value = []
    for _ in range(100_000):
        value = [value]
    return value


UNSTORABLE = {
    "NaN": math.nan,
    "infinity": [math.inf],
    "object": object(),
    "class": {"a": dict},
    "cycle": cycle(),
    "too deep": deep(),
    "lone surrogate": "\ud800",
    "lone surrogate in a key": {"\udfff": 1},
    "set": {1},
    "bytes": b"a",
    "date": dt.date(2025, 1, 1),
    "decimal": decimal.Decimal("1.5"),
    "uuid": uuid.UUID(int=1),
    "tuple as a key": {(1,): 1},
    "number as a key": {2: None},
    "too many digits": 10**5000,
}
