from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.reference.catalogues import NAMES
from tests.reference.machine import Machine, close_loop

_BOUNDS = settings(
    derandomize=True,  # `make machine` is for what is new each time.
    max_examples=6,
    stateful_step_count=30,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module", autouse=True)
def loop() -> Iterator[None]:
    yield
    close_loop()


@pytest.mark.timeout(600)  # Seconds, but to find the shortest history that goes wrong.
@pytest.mark.parametrize("catalogue", NAMES)
def test_server_and_model_say_the_same_of_every_action(catalogue: str) -> None:
    class Started(Machine):
        first = NAMES.index(catalogue)

    run_state_machine_as_test(Started, settings=_BOUNDS)
