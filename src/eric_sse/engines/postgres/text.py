"""What text PostgreSQL can hold."""


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can carry it: it holds no lone surrogate."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_storable(text: str) -> bool:
    """Whether a column of type text can hold it: UTF-8 can, and there is no NUL in it."""
    return "\0" not in text and is_unicode(text)
