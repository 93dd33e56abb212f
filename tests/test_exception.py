"""Errors: one base, a documented tree, messages that say what to do."""

import inspect
import re

import pytest

from eric_sse import exception
from eric_sse.exception import ChannelNotFound, EricError, ItemNotFound, ListenerNotFound

CLASSES = [cls for _, cls in inspect.getmembers(exception, inspect.isclass) if issubclass(cls, EricError)]


def test_the_tree_in_the_docstring_is_the_tree_of_classes():
    """Whoever reads the docstring knows what to catch."""
    drawn, path = set(), []
    for indent, name in re.findall(r"^((?:    |│   )*(?:├── |└── )?)([A-Z]\w+)", exception.__doc__, re.MULTILINE):
        depth = len(indent) // 4 - 1
        if depth >= 0:
            path[depth:] = [name]
            drawn.add((name, path[depth - 1] if depth else "Exception"))
    assert drawn == {(cls.__name__, cls.__base__.__name__) for cls in CLASSES}


@pytest.mark.parametrize("cls", CLASSES)
def test_every_error_has_the_one_base_and_says_when_it_is_raised(cls):
    """`except EricError` catches them all."""
    assert issubclass(cls, EricError)
    assert cls.__doc__


def test_errors_carry_the_ids_they_are_about():
    """Both in the message and as attributes."""
    assert ItemNotFound("k").key == "k"
    assert ItemNotFound(key="k").key in str(ItemNotFound("k"))
    assert ChannelNotFound("c").channel_id == "c"
    error = ListenerNotFound("c", "l")
    assert (error.channel_id, error.listener_id) == ("c", "l")
    assert "'c'" in str(error)
    assert "'l'" in str(error)
