"""Ids that engines have mixed up."""

ODD_IDS = (
    *("a", "ab", "a:b", "a:", ":", "A", "a*", "a?", "[ab]", "a%", "a%3Ab", "a_", "a/b", "a\\b", "{a}", "'a'", '"a"'),
    *("a b", "a\u00e9", "ae\u0301", "\u00e9", "\U0001f600", "a\ud7ff", "a\U0010ffff", "a" * 255, "-1", "0", "null"),
)
"""Ids that are prefixes of one another, hold what some storage gives a meaning, or are not ASCII."""
