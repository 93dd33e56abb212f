"""One round trip with one server."""

from collections.abc import Iterator, Sequence
from typing import Any

from eric_sse.engines.redis.driver import Connection, Pool, exceptions
from eric_sse.engines.redis.errors import is_about_credentials, is_passing, translate
from eric_sse.engines.redis.nodes import Nodes
from eric_sse.engines.redis.requests import Command, Effect, Request
from eric_sse.exception import OutcomeUnknown, StoreUnavailable


class Job:
    """A request until it has its result.

    Args:
        request: What is asked.
        nodes: The store.

    Attributes:
        done: Whether there is a result.
        result: The reply, or a `RepositoryError`.
        asked: Where a server pointed for this once.
        unknown_script: Whether the server must be given the script first.
    """

    def __init__(self, request: Request, nodes: Nodes) -> None:
        self.request = request
        self.done = False
        self.result: Any = None
        self.asked: Pool | None = None
        self.unknown_script = False
        self._nodes = nodes
        self._in_doubt = False
        self._error: Exception | None = None

    @property
    def is_hopeless(self) -> bool:
        """Whether there is no use in trying for long: no other server takes over, and nothing is in doubt."""
        return not self._in_doubt and not self._nodes.is_cluster and self.asked is None and not self.unknown_script

    @property
    def commands(self) -> Iterator[Command]:
        """What to send."""
        for command in self.request.commands:
            if self.asked is not None:
                yield ("ASKING",)
            yield command

    def answer(self, replies: Sequence[Any]) -> None:
        """Take what the server replied to the commands."""
        error = next((reply for reply in self._flat(replies) if isinstance(reply, Exception)), None)
        self.asked, self.unknown_script = None, False
        if error is None:
            self._finish(replies[-1])
        elif isinstance(error, exceptions.NoScriptError):
            self.unknown_script = True
        elif isinstance(error, exceptions.MovedError):
            self._nodes.moved(error)
            self._error = error
        elif isinstance(error, exceptions.AskError):
            self.asked = self._nodes.pool_asked(error)
            self._error = error
        else:
            self.fail(error)

    def _flat(self, replies: Sequence[Any]) -> Sequence[Any]:
        if self.request.commands[-1][0] == "EXEC" and isinstance(replies[-1], list):
            return [*replies, *replies[-1]]
        return replies

    def fail(self, error: Exception, pool: Pool | None = None) -> None:
        """It was surely not executed, this time. The pool is that of a server which cannot be reached."""
        self._error = error
        if not is_passing(error):
            self.give_up()  # an attempt before this one may have been executed
        elif pool is not None or isinstance(error, exceptions.ReadOnlyError | exceptions.RedisClusterException):
            self._nodes.suspect(pool)

    def lose(self, error: Exception, pool: Pool) -> None:
        """It may have been executed, and nobody knows; the pool is that of the server which did not reply."""
        self._in_doubt = self._in_doubt or self.request.effect is not Effect.NONE
        self._error = error
        self._nodes.suspect(pool)
        if self.request.effect is Effect.ONCE:
            self.give_up()

    def give_up(self) -> None:
        """Come to an error."""
        error = self._error or StoreUnavailable("the server forgets the script again and again")
        if self._in_doubt:
            unknown = OutcomeUnknown(f"{self._nodes.where} did not reply ({error}); stored or not, nobody knows")
            self._finish(_caused(unknown, error))
        else:
            self._finish(_caused(translate(error, self._nodes.where), error))

    def not_replicated(self, acknowledged: int, replicas: int) -> None:
        """It was executed, but too few replicas said so."""
        self._finish(
            OutcomeUnknown(
                f"{self._nodes.where} stored it, and {acknowledged} of the {replicas} replicas that ?wait= asks for "
                "confirmed it in time; it may be lost if the master is"
            )
        )

    def _finish(self, result: Any) -> None:
        self.done, self.result = True, result


class Exchange:
    """Jobs that go to one server together.

    Args:
        pool: The connections to it.
        replicas: How many replicas must have what is to be replicated.
        replicas_timeout_ms: How long to wait for them.
    """

    def __init__(self, pool: Pool, replicas: int, replicas_timeout_ms: int) -> None:
        self.pool = pool
        self._replicas = replicas
        self._replicas_timeout_ms = replicas_timeout_ms
        self._jobs: list[Job] = []
        self._connection: Connection | None = None
        self._sent = False
        self._received = False

    def add(self, job: Job) -> None:
        """Take a job along."""
        self._jobs.append(job)

    def send(self) -> None:
        """Send the jobs' commands."""
        commands = [*self._scripts(), *(command for job in self._jobs for command in job.commands)]
        if self._waits:
            commands.append(("WAIT", self._replicas, self._replicas_timeout_ms))
        try:
            self._connection = self.pool.get_connection()
        except (exceptions.RedisError, OSError) as error:
            for job in self._jobs:
                job.fail(error, self.pool)
            return
        try:
            self._connection.send_packed_command(self._connection.pack_commands(commands))
        except (exceptions.RedisError, OSError) as error:
            self._lose(self._jobs, error)
        else:
            self._sent = True

    def receive(self) -> None:
        """Take the replies, and give them to the jobs."""
        if not self._sent or self._connection is None:
            return
        waiting: list[tuple[Job, list[Any]]] = []
        left = list(self._jobs)
        try:
            for _ in self._scripts():
                self._reply()
            while left:
                replies = [self._reply() for _ in left[0].commands]
                waiting.append((left.pop(0), replies))
            acknowledged = self._acknowledged()
        except (exceptions.RedisError, OSError) as error:
            self._after_loss(waiting, left, error)
            return
        self._received = True
        for job, replies in waiting:
            job.answer(replies)
            if job.done and self._is_unreplicated(job, acknowledged):
                job.not_replicated(acknowledged, self._replicas)

    def close(self) -> None:
        """Give the connection back; closed, where replies are outstanding on it."""
        if self._connection is not None:
            if not self._received:
                self._connection.disconnect()
            self.pool.release(self._connection)
            self._connection = None

    @property
    def _waits(self) -> bool:
        return self._replicas > 0 and any(job.request.replicated for job in self._jobs)

    def _scripts(self) -> list[Command]:
        unknown = {job.request.script for job in self._jobs if job.unknown_script and job.request.script is not None}
        return [("SCRIPT", "LOAD", script.source) for script in sorted(unknown, key=lambda script: script.sha)]

    def _reply(self, **options: Any) -> Any:
        if self._connection is None:
            return None
        try:
            return self._connection.read_response(disable_decoding=True, **options)
        except exceptions.ResponseError as error:
            return error

    def _acknowledged(self) -> int:
        if not self._waits:
            return 0
        # The server replies when it has waited; what comes on top is for the way.
        reply = self._reply(timeout=self._replicas_timeout_ms / 1000 + 5)
        return 0 if isinstance(reply, Exception) else int(reply)

    def _is_unreplicated(self, job: Job, acknowledged: int) -> bool:
        failed = isinstance(job.result, Exception)
        return self._waits and job.request.replicated and not failed and acknowledged < self._replicas

    def _after_loss(self, waiting: Sequence[tuple[Job, list[Any]]], left: Sequence[Job], error: Exception) -> None:
        for job, replies in waiting:
            if self._waits and job.request.replicated:
                self._lose([job], error)
            else:
                job.answer(replies)
        self._lose(left, error)

    def _lose(self, jobs: Sequence[Job], error: Exception) -> None:
        for job in jobs:
            # A server that is still loading has executed nothing; nor has one that wants to know who asks.
            if isinstance(error, exceptions.BusyLoadingError) or is_about_credentials(error):
                job.fail(error, self.pool)
            else:
                job.lose(error, self.pool)


def _caused(error: Any, cause: Exception) -> Any:
    error.__cause__ = cause
    return error
