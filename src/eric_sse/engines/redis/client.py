"""Runs requests: together where they go to the same server, again where that is harmless, for a bounded time."""

import time
from collections.abc import Sequence
from typing import Any

from eric_sse.engines.redis.driver import exceptions
from eric_sse.engines.redis.exchange import Exchange, Job
from eric_sse.engines.redis.nodes import Nodes
from eric_sse.engines.redis.requests import Request
from eric_sse.exception import RepositoryError, StoreUnavailable

_PAUSES_S = (0.0, 0.01, 0.02, 0.05, 0.1)


class Client:
    """Runs requests. May be used by many threads.

    Args:
        nodes: Where the keys are.
        replicas: How many replicas must have what is to be replicated.
        replicas_timeout_ms: How long to wait for them.
        patience_s: For how long requests whose connection is lost are made again.
    """

    def __init__(self, nodes: Nodes, replicas: int, replicas_timeout_ms: int, patience_s: float) -> None:
        self._nodes = nodes
        self._replicas = replicas
        self._replicas_timeout_ms = replicas_timeout_ms
        self._patience_s = patience_s
        self._closed = False

    def run(self, requests: Sequence[Request]) -> list[Any]:
        """The results of requests, in their order; a `RepositoryError` in the place of one that failed.

        Those for one server take one round trip together.
        """
        if self._closed:
            raise StoreUnavailable(f"the engine on {self._nodes.where} is closed; open another")
        jobs = [Job(request, self._nodes) for request in requests]
        deadline = time.monotonic() + self._patience_s
        attempt = 0
        while pending := [job for job in jobs if not job.done]:
            self._attempt(pending)
            self._pause(attempt, [job for job in pending if not job.done], deadline)
            attempt += 1
        return [job.result for job in jobs]

    def get(self, request: Request) -> Any:
        """The result of one request.

        Raises:
            RepositoryError: It failed.
        """
        (result,) = self.get_all([request])
        return result

    def get_all(self, requests: Sequence[Request]) -> list[Any]:
        """The results of requests.

        Raises:
            RepositoryError: One of them failed.
        """
        results = self.run(requests)
        for result in results:
            if isinstance(result, RepositoryError):
                raise result
        return results

    def close(self) -> None:
        """Refuse whatever is asked from now on."""
        self._closed = True

    def _attempt(self, jobs: Sequence[Job]) -> None:
        exchanges = self._exchanges(jobs)
        try:
            # All servers work at the same time.
            for exchange in exchanges:
                exchange.send()
            for exchange in exchanges:
                exchange.receive()
        finally:
            for exchange in exchanges:
                exchange.close()

    def _pause(self, attempt: int, pending: Sequence[Job], deadline: float) -> None:
        pause = _PAUSES_S[min(attempt, len(_PAUSES_S) - 1)]
        is_late = self._closed or time.monotonic() + pause >= deadline
        for job in pending:
            if is_late or (attempt > 0 and job.is_hopeless):
                job.give_up()
        if any(not job.done for job in pending):
            time.sleep(pause)

    def _exchanges(self, jobs: Sequence[Job]) -> list[Exchange]:
        exchanges: dict[int, Exchange] = {}
        for job in jobs:
            try:
                pool = job.asked or self._nodes.pool_of(job.request.key)
            except (exceptions.RedisError, exceptions.RedisClusterException, OSError) as error:
                job.fail(error)
                continue
            if id(pool) not in exchanges:
                exchanges[id(pool)] = Exchange(pool, self._replicas, self._replicas_timeout_ms)
            exchanges[id(pool)].add(job)
        return list(exchanges.values())
