"""How fast eight estimators are on a large log: `python -m benchmarks.estimators`.

From arrays that are there: rewards, propensities, the target's probability of what was
chosen, and for those that lean on a model, its predictions and the target's
probabilities of all actions. One core, in time of the processor, the best of several
rounds; beside it the same with the whole log at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Annotated

import numpy as np
import typer

from benchmarks.machine import describe, summary
from policies.estimators import ESTIMATORS, parts_of, sums_of
from policies.estimators.values import PART

__all__ = ["EIGHT", "measure", "run"]

EIGHT = ("ips", "clipped_ips", "snips", "dm", "dr", "sndr", "switch_dr", "dros")
"""The estimators that are timed together."""

_FOLDER = Path("build/bench")


def measure(rows: int, actions: int, rounds: int = 5) -> dict[str, float]:
    """Return the seconds that point values take, in parts and all at once."""
    rng = np.random.default_rng(0)
    targets = rng.random((rows, actions))
    targets /= targets.sum(axis=1)[:, None]
    predictions = rng.random((rows, actions))
    chosen = rng.integers(actions, size=rows)
    rewards = (rng.random(rows) < 0.05).astype(float)
    propensities = np.full(rows, 1.0 / actions)
    logged = targets[np.arange(rows), chosen]
    estimators = {name: ESTIMATORS[name] for name in EIGHT}

    def values(part: int) -> dict[str, float]:
        parts = parts_of(
            rewards,
            propensities,
            logged,
            chosen=chosen,
            targets=targets,
            predictions=predictions,
            part=part,
        )
        return {name: sums.value for name, sums in sums_of(estimators, parts).items()}

    return {
        "in_parts": _best(lambda: values(PART), rounds),
        "at_once": _best(lambda: values(rows), rounds),
    }


def _best(work: Callable[[], object], rounds: int) -> float:
    seconds = []
    for _ in range(rounds):
        started = process_time()
        work()
        seconds.append(process_time() - started)
    return min(seconds)


def run(
    *,
    rows: Annotated[int, typer.Option(min=1, help="How many decisions.")] = 1_000_000,
    actions: Annotated[int, typer.Option(min=2, help="How many actions.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="How often.")] = 5,
) -> None:
    """Measure, print, and write build/bench/estimators.json."""
    machine = describe()
    seconds = measure(rows, actions, rounds)
    report = {"machine": machine, "rows": rows, "actions": actions, "seconds": seconds}
    _FOLDER.mkdir(parents=True, exist_ok=True)
    file = _FOLDER / "estimators.json"
    file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(summary(machine))
    for name, value in seconds.items():
        print(f"{name:10} {value:.4f} s")
    print(file)


if __name__ == "__main__":
    typer.run(run)
