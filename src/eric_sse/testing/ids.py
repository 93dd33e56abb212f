"""Ids that engines have mixed up."""

import string

ODD_IDS = (
    *("a", "ab", "a:b", "a:", ":", "A", "a*", "a?", "[ab]", "a%", "a%3Ab", "a_", "a/b", "a\\b", "{a}", "'a'", '"a"'),
    *("a b", "a\u00e9", "ae\u0301", "\u00e9", "\U0001f600", "a\ud7ff", "a\U0010ffff", "a" * 255, "-1", "0", "null"),
)
"""Ids that are prefixes of one another, hold what some storage gives a meaning, or are not ASCII."""

ASCII_IDS = tuple(
    f"{character}{character}x" for character in f"{string.digits}{string.ascii_letters}{string.punctuation} "
)
"""An id for every printable character of ASCII, which it begins with, twice."""
