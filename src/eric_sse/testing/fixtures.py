"""The fixtures of all suites, made of the one that an engine's author gives: ``new_store``."""

from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, settings

from eric_sse.engine import Engine
from eric_sse.testing.leaks import leaving_nothing

Opener: TypeAlias = Callable[[], Engine]
"""Opens an engine on one store, each time it is called."""
NewStore: TypeAlias = Callable[[], Opener]
"""Gives the opener of another fresh, empty store, each time it is called."""

_SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large)
MACHINE_SETTINGS = settings(max_examples=20, stateful_step_count=30, deadline=None, suppress_health_check=_SLOW)
"""How long state machines run: twenty examples of up to thirty steps."""


class StoreFixtures:
    """Makes of ``new_store`` what the suites ask for. The bundles have it; a single suite takes it as a second base."""

    @pytest.fixture
    def machine_settings(self) -> settings:
        """How long state machines run. Override it for more, or less."""
        return MACHINE_SETTINGS

    @pytest.fixture(autouse=True)
    def nothing_left(self, new_store: NewStore) -> Iterator[None]:  # noqa: ARG002 - what it starts is no leak
        """Fails where an engine leaves a thread, file or socket open."""
        with leaving_nothing():
            yield

    @pytest.fixture
    def opener(self, new_store: NewStore) -> Opener:
        """Opens the test's one store."""
        return new_store()

    @pytest.fixture
    def engine(self, opener: Opener) -> Iterator[Engine]:
        """An engine on the test's store, closed at the end."""
        with opener() as engine:
            yield engine

    @pytest.fixture
    def other(self, opener: Opener, engine: Engine) -> Iterator[Engine]:
        """A second engine on the same store, closed at the end."""
        with opener() as other:
            assert other is not engine, "the opener gave the same engine twice; each is closed by its own user"
            yield other
