"""What a log tells of a policy that learns: `make study-learning-policies`.

A LinUCB that explores now and then learns to classify pen strokes and patches of
satellite images, told only whether it was right. The truth is known: it is let loose
on the rows themselves, many times, and what it earns in its first T decisions is what
an evaluator that got T updates out of a log has to say. Logs are made by choosing
uniformly, or by favouring one action in each context, with three quarters of the
probability.

    python -m benchmarks.learning_policies --seeds 2 --sets satimage

prints a table, and writes build/bench/learning_policies.json: for each set, log and
evaluator

    updates     how long the run is that it values, and `observed`, how many of its
                rewards were the log's own
    rmse        of its value against the mean of many online runs of that length
    noise       how far one such run is from that mean
    rmse_run    of its value against one such run, `noise` and all
    coverage    how often its interval holds the former, and coverage_run the latter
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.machine import describe, summary
from benchmarks.problems import read_set
from policies.estimators.fitting import cross_fit_smooth
from policies.estimators.learning import (
    Learned,
    Step,
    completed,
    dr_ns,
    explore_eval,
    rejection,
    replay,
)
from policies.model import FloatArray

__all__ = [
    "EVALUATORS",
    "EpsilonLinUCB",
    "Log",
    "logged",
    "online",
    "run",
    "summary_of",
]

_FOLDER = Path("build/bench")
_out = Console(highlight=False, width=140)
_ROWS = 10_000
_SHARE = 0.25
"""How much of the probability a skewed log spreads over all actions."""


class EpsilonLinUCB:
    """A ridge regression for each action; the best upper bound, but for a tenth.

    Args:
        d: How many numbers a context has, a constant among them.
        n_actions: How many actions there are.
        epsilon: How much of the probability is spread over all actions.
        alpha: How many deviations the bound is above what is expected.
    """

    def __init__(
        self, d: int, n_actions: int, *, epsilon: float = 0.1, alpha: float = 1.0
    ) -> None:
        self._inverse = np.tile(np.eye(d), (n_actions, 1, 1))
        self._rewards = np.zeros((n_actions, d))
        self._theta = np.zeros((n_actions, d))
        self._epsilon = epsilon
        self._alpha = alpha

    def distribution(self, context: FloatArray, actions: Sequence[int]) -> FloatArray:
        """Return the probability of each action."""
        n_actions, d = self._theta.shape
        spread = (self._inverse.reshape(-1, d) @ context).reshape(n_actions, d)
        bounds = self._theta @ context + self._alpha * np.sqrt(spread @ context)
        chances = np.full(len(actions), self._epsilon / len(actions))
        chances[bounds.argmax()] += 1.0 - self._epsilon
        return chances

    def learn(
        self,
        context: FloatArray,
        actions: Sequence[int],
        chosen: int,
        *,
        reward: float,
        probability: float,
        weight: float,
    ) -> None:
        """Learn what the chosen action earned."""
        del actions, probability
        inverse = self._inverse[chosen]
        direction = inverse @ context
        inverse -= np.outer(direction, direction) / (1.0 / weight + context @ direction)
        self._rewards[chosen] += weight * reward * context
        self._theta[chosen] = inverse @ self._rewards[chosen]


@dataclass(frozen=True)
class Log:
    """A log, and how to begin what is to be evaluated on it."""

    steps: list[Step]
    make: Callable[[], EpsilonLinUCB]


Evaluator = Callable[[Log, int], Learned]


def _completed(times: float) -> Evaluator:
    def evaluate(log: Log, seed: int) -> Learned:
        least = min(float(step.probabilities.min()) for step in log.steps)
        rate = min(1.0, times * least)
        return completed(log.make, log.steps, rate=rate, seed=seed)

    return evaluate


EVALUATORS: dict[str, Evaluator] = {
    "replay": lambda log, seed: replay(log.make(), log.steps, seed=seed),
    "rejection": lambda log, seed: rejection(log.make(), log.steps, seed=seed),
    "explore_eval": lambda log, seed: explore_eval(log.make(), log.steps, seed=seed),
    "dr_ns": lambda log, seed: dr_ns(log.make(), log.steps, seed=seed),
    "completed x2": _completed(2.0),
    "completed x4": _completed(4.0),
}
"""By name; those that complete keep so many times what rejection does at most."""


def _set(name: str) -> tuple[FloatArray, Any, int]:
    features, labels, n_actions = read_set(name)
    constant = np.ones((len(features), 1))
    return np.concatenate([constant, features], axis=1), labels, n_actions


def online(name: str, seed: int, rows: int) -> FloatArray:
    """Return what the policy earns when it is let loose, decision by decision."""
    contexts, labels, n_actions = _set(name)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(contexts))[:rows]
    policy, actions = EpsilonLinUCB(contexts.shape[1], n_actions), range(n_actions)
    earned = np.zeros(len(order))
    for at, row in enumerate(order):
        chances = policy.distribution(contexts[row], actions)
        chosen = int(rng.choice(n_actions, p=chances))
        earned[at] = float(chosen == labels[row])
        policy.learn(
            contexts[row],
            actions,
            chosen,
            reward=earned[at],
            probability=chances[chosen],
            weight=1.0,
        )
    return earned


def logged(name: str, seed: int, rows: int, *, skewed: bool) -> Log:
    """Return a log of the set with values of a cross-fitted reward model."""
    contexts, labels, n_actions = _set(name)
    rng = np.random.default_rng(1_000 + seed)
    order = rng.permutation(len(contexts))[: min(rows, _ROWS)]
    contexts, labels, n = contexts[order], labels[order], len(order)
    probabilities = np.full((n, n_actions), 1.0 / n_actions)
    if skewed:
        favoured = (
            contexts[:, 1:] @ rng.standard_normal((contexts.shape[1] - 1, n_actions))
        ).argmax(axis=1)
        probabilities[:] = _SHARE / n_actions
        probabilities[np.arange(n), favoured] += 1.0 - _SHARE
    ends = probabilities.cumsum(axis=1)
    chosen = (ends < rng.random(n)[:, None]).sum(axis=1).clip(0, n_actions - 1)
    rewards = (chosen == labels).astype(float)
    folds = rng.integers(5, size=n)
    weights = 1.0 / probabilities[np.arange(n), chosen]
    values = cross_fit_smooth(
        contexts[:, 1:],
        chosen,
        rewards,
        folds,
        n_actions=n_actions,
        weights=weights,
    )
    steps = [
        Step(
            context=contexts[row],
            actions=range(n_actions),
            chosen=int(chosen[row]),
            reward=float(rewards[row]),
            probabilities=probabilities[row],
            values=values[row],
        )
        for row in range(n)
    ]
    return Log(steps, lambda: EpsilonLinUCB(contexts.shape[1], n_actions))


_Job = tuple[str, str, int, int]


def _evaluate(job: _Job) -> list[tuple[str, dict[str, float]]]:
    """Return what each evaluator says of one log; in a process of its own."""
    name, kind, seed, rows = job
    log = logged(name, seed, rows, skewed=kind == "skewed")
    found = []
    for title, evaluate in EVALUATORS.items():
        made = evaluate(log, seed)
        numbers = {
            field: float(getattr(made, field))
            for field in (
                *("value", "low", "high", "run_low", "run_high"),
                *("updates", "observed", "violations"),
            )
        }
        found.append((title, numbers))
    return found


def _online(job: _Job) -> FloatArray:
    name, _, seed, rows = job
    return online(name, seed, rows)


def run(
    *,
    seeds: Annotated[
        int, typer.Option(min=1, max=200, help="How many logs of each kind.")
    ] = 10,
    runs: Annotated[
        int, typer.Option(min=2, max=500, help="How many online runs are the truth.")
    ] = 40,
    rows: Annotated[
        int, typer.Option(min=100, help="How many rows of a set at the most.")
    ] = _ROWS,
    sets: Annotated[
        str, typer.Option(help="Sets of ours or CSV files, label last, by commas.")
    ] = "pendigits,satimage",
    workers: Annotated[
        int, typer.Option(min=0, help="How many processes; 0 for one for each core.")
    ] = 0,
) -> None:
    """Measure, print a table, and write build/bench/learning_policies.json."""
    names = sets.split(",")
    # Threads of BLAS would wait for each other: every process has a core already.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    columns = (SpinnerColumn(), *Progress.get_default_columns(), TimeElapsedColumn())
    jobs = list(product(names, ("uniform", "skewed"), range(seeds), [rows]))
    truths: dict[str, list[FloatArray]] = {name: [] for name in names}
    found: dict[_Job, list[tuple[str, dict[str, float]]]] = {}
    count = workers or len(os.sched_getaffinity(0))
    with (
        Progress(*columns, transient=True) as progress,
        ProcessPoolExecutor(count, mp_context=context) as pool,
    ):
        task = progress.add_task("runs and logs", total=runs * len(names) + len(jobs))
        loose = {
            pool.submit(_online, (name, "", seed, rows)): name
            for name, seed in product(names, range(runs))
        }
        walked = {pool.submit(_evaluate, job): job for job in jobs}
        for ended in as_completed(loose):
            truths[loose[ended]].append(ended.result())
            progress.advance(task)
        for done in as_completed(walked):
            found[walked[done]] = done.result()
            progress.advance(task)
    curves = {
        name: np.array([np.cumsum(run) / np.arange(1, len(run) + 1) for run in all_])
        for name, all_ in truths.items()
    }
    machine = describe()
    report = {
        "machine": machine,
        "seeds": seeds,
        "runs": runs,
        **{
            f"{name} {kind}": {
                title: summary_of(
                    [
                        dict(found[name, kind, seed, rows])[title]
                        for seed in range(seeds)
                    ],
                    curves[name],
                )
                for title in EVALUATORS
            }
            for name, kind in product(names, ("uniform", "skewed"))
        },
    }
    _FOLDER.mkdir(parents=True, exist_ok=True)
    file = _FOLDER / "learning_policies.json"
    file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _out.print(summary(machine), soft_wrap=True)
    _show(report, names)
    _out.print(f"{file}")


def summary_of(made: list[dict[str, float]], curves: FloatArray) -> dict[str, float]:
    """Return how far the values of an evaluator are from the truth."""
    errors, run_errors, held, run_held, noises = [], [], [], [], []
    for seed, numbers in enumerate(made):
        at = min(max(round(numbers["updates"]), 1), curves.shape[1]) - 1
        truth, single = curves[:, at].mean(), curves[seed % len(curves), at]
        noises.append(curves[:, at].std(ddof=1))
        errors.append(numbers["value"] - truth)
        run_errors.append(numbers["value"] - single)
        held.append(float(numbers["low"] <= truth <= numbers["high"]))
        run_held.append(float(numbers["run_low"] <= single <= numbers["run_high"]))
    return {
        "updates": mean(numbers["updates"] for numbers in made),
        "observed": mean(numbers["observed"] for numbers in made),
        "violations": mean(numbers["violations"] for numbers in made),
        "bias": float(np.mean(errors)),
        "rmse": float(np.sqrt(np.mean(np.square(errors)))),
        "noise": float(np.mean(noises)),
        "rmse_run": float(np.sqrt(np.mean(np.square(run_errors)))),
        "coverage": mean(held),
        "coverage_run": mean(run_held),
        "width": mean(numbers["high"] - numbers["low"] for numbers in made),
    }


def _show(report: Any, names: list[str]) -> None:
    table = Table(title="Evaluating a policy that learns", box=box.HEAVY_HEAD)
    fields = ["updates", "observed", "violations", "bias", "rmse", "noise", "rmse_run"]
    rates = ["coverage", "coverage_run", "width"]
    for title in ("log", "evaluator", *fields, *rates):
        table.add_column(title, justify="left" if title == "log" else "right")
    for name, kind in product(names, ("uniform", "skewed")):
        for title, numbers in report[f"{name} {kind}"].items():
            cells = [
                *(f"{numbers[field]:,.0f}" for field in fields[:3]),
                f"{numbers['bias']:+.4f}",
                *(f"{numbers[field]:.4f}" for field in fields[4:]),
                *(f"{numbers[field]:.2f}" for field in rates[:2]),
                f"{numbers['width']:.3f}",
            ]
            table.add_row(f"{name} {kind}", title, *cells)
        table.add_section()
    _out.print(table)


if __name__ == "__main__":
    typer.run(run)
