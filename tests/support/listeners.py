"""Listeners that other processes can import."""

import os
import threading
from pathlib import Path

from eric_sse.listener import MessageQueueListener
from eric_sse.message import MessageContract


class Noting(MessageQueueListener):
    """Leaves an empty file in a folder for each message, of its payload's name."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def on_message(self, msg: MessageContract) -> None:
        """Note that it was processed."""
        (self._folder / str(msg.payload)).touch()


class Worker(MessageQueueListener):
    """Writes into each message where it was processed; ``fail`` and ``die`` do as they say."""

    def on_message(self, msg: MessageContract) -> None:
        """Process a message."""
        if msg.type == "fail":
            raise LookupError("this message cannot be processed")
        if msg.type == "die":
            os._exit(1)
        msg.payload["done_by"] = [os.getpid(), threading.get_ident()]
