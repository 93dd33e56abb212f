"""``python -m eric_sse.cli`` is the command ``eric-sse``."""

from eric_sse.cli import main

if __name__ == "__main__":
    main()
