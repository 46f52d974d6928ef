"""Plays random histories for as long as one likes, or until something is wrong.

`python -m tests.reference --minutes 10`
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import hypothesis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.reference.machine import TALLY, Machine, close_loop


def main(arguments: Sequence[str] | None = None) -> None:
    """Play, and say what was seen."""
    parser = argparse.ArgumentParser(prog="tests.reference", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="for how long")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--steps", type=int, default=60, help="how long a history is")
    parser.add_argument("--raw", action="store_true", help="do not shorten what fails")
    given = parser.parse_args(arguments)
    phases = [Phase.generate] if given.raw else [Phase.generate, Phase.shrink]
    bounds = settings(
        max_examples=25,
        stateful_step_count=given.steps,
        deadline=None,
        database=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
    seed = given.seed
    end_s = time.monotonic() + 60 * given.minutes
    try:
        while time.monotonic() < end_s:
            print(f"seed {seed}", flush=True)  # noqa: T201 - It is a command.
            machine = type(f"Machine{seed}", (Machine,), {})
            seeded = hypothesis.seed(seed)(machine)
            run_state_machine_as_test(seeded, settings=bounds)
            seed += 1
    finally:
        close_loop()
        for name, count in sorted(TALLY.items()):
            print(f"{count:>9,}  {name}")  # noqa: T201 - As above.


if __name__ == "__main__":
    main()
