"""What holds for every test."""

import signal


def pytest_configure():
    """Let tests interrupt what they start.

    A shell without job control starts what it puts in the background with SIGINT ignored, and so would be what that
    starts; a handler of Python's own is the default again after an exec.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
