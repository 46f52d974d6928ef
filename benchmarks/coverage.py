"""How often the intervals of the estimators hold the truth.

Each world has 50 segments of users and a truth that is known, and is logged again and
again. An interval that says 95 % should hold the true value in 95 % of the logs; one
that does so in 99 % is wider than it need be, one that does so in 90 % lies. What is
called unusable is not counted: no number is told there.

    python -m benchmarks.coverage --repeats 1000

prints tables and writes build/coverage.json and coverage.svg. A cell is one estimator
with one kind of interval in one world. It fails where so few intervals would hold the
truth by chance once in twenty studies of all our cells (a binomial test, by Holm). The
worlds are synthetic: they show what rare rewards, heavy weights, few rows and users
with many rows do, not what drift or missing outcomes do.

The intervals of others are beside ours: Vowpal Wabbit's Cressie–Read with the largest
weight told and its Clopper–Pearson are its formulas, which ours equal to 1e-9; *obp's
rule* is the percentile bootstrap of rows that Open Bandit Pipeline prints, with the
denominator of SNIPS held fast, written anew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from policies.estimators import ESTIMATORS, Rows
from policies.intervals import Estimate, Kind, Sums, estimate_sums, total
from policies.intervals.bootstrap import bootstrap
from policies.intervals.likelihood import cressie_read
from policies.intervals.rates import clopper_pearson
from policies.intervals.student import gaussian
from policies.intervals.sums import rows_of
from policies.model import FloatArray

__all__ = [
    "GRID",
    "PEERS",
    "Case",
    "Cell",
    "World",
    "holm",
    "main",
    "measure",
    "peeked",
    "write",
]

SEGMENTS = 50
CONFIDENCE = 0.95
DAYS = 20
RESAMPLES = 400

REFERENCES = {
    "clipped_ips": "snips",
    "dm": "dr",
    "switch_dr": "dr",
    "dros": "dr",
}
"""What is biased by design, and what it is measured by."""

NAMES = ("ips", "clipped_ips", "snips", "dm", "dr", "sndr", "switch_dr", "dros")
FEW = ("snips", "dr")


@dataclass(frozen=True)
class Case:
    """A world by its description.

    Attributes:
        name: What it is called.
        n: The number of decisions in a log.
        rate: The smallest and the largest chance of a reward of 1.
        n_actions: The number of actions.
        softmax: The spread of the scores that the logging policy takes a softmax of; 0
            for epsilon-greedy logs with 10 % exploration.
        agreement: The share of the segments where the greedy logging policy likes best
            what the target likes best.
        rows_a_user: How many decisions each user has, all in one segment; users differ
            in how much they like anything.
    """

    name: str
    n: int
    rate: tuple[float, float]
    n_actions: int = 10
    softmax: float = 0.0
    agreement: float = 0.25
    rows_a_user: int = 1


PEERS = [
    Case("CTR 2 %, ε-greedy", 1_000, (0.005, 0.035)),
    Case("CTR 2 %, ε-greedy", 10_000, (0.005, 0.035)),
    Case("mean 0.5, ε-greedy", 10_000, (0.3, 0.7)),
    Case("mean 0.9, ε-greedy", 10_000, (0.8, 1.0)),
    Case("CTR 2 %, softmax", 10_000, (0.005, 0.035), softmax=1.25),
]
"""The worlds in which the intervals of other tools were measured."""

_OVERLAPS: dict[str, dict[str, float]] = {
    "good": {"softmax": 0.5},
    "middling": {"agreement": 0.9},
    "poor": {"agreement": 0.25},
}
_RATES = {
    "1 %": (0.002, 0.018),
    "5 %": (0.02, 0.08),
    "30 %": (0.15, 0.45),
    "90 %": (0.8, 1.0),
}

GRID = [
    replace(Case(f"{overlap} overlap, rate {name}", n, rate), **kind)  # type: ignore[arg-type]
    for overlap, kind in _OVERLAPS.items()
    for name, rate in _RATES.items()
    for n in (1_000, 10_000)
]
"""Overlap by rate by n."""

USERS = [
    Case("10 rows a user, rate 5 %", 10_000, (0.02, 0.08), softmax=0.5, rows_a_user=10),
    Case(
        "50 rows a user, rate 30 %", 10_000, (0.15, 0.45), softmax=0.5, rows_a_user=50
    ),
]
"""Users who come again and are alike with themselves."""


class Log(NamedTuple):
    """One log of a world, and a reward model that was fitted to it."""

    rows: Rows
    keys: NDArray[np.uint64]


class World:
    """A logging and a target policy over segments, and what they really earn."""

    def __init__(self, case: Case, seed: int) -> None:
        rng = np.random.default_rng(seed)
        shape = (SEGMENTS, case.n_actions)
        segments = rng.dirichlet(np.full(SEGMENTS, 5.0))
        rewards = rng.uniform(*case.rate, size=shape)
        best = rewards.argmax(axis=1)
        target = _greedy(best, case.n_actions, epsilon=0.05)
        if case.softmax:
            logging = np.exp(rng.normal(scale=case.softmax, size=shape))
            logging /= logging.sum(axis=1, keepdims=True)
        else:
            agree = rng.random(SEGMENTS) < case.agreement
            other = rng.integers(case.n_actions, size=SEGMENTS)
            liked = np.where(agree, best, other)
            logging = _greedy(liked, case.n_actions, epsilon=0.1)
        self.case = case
        self.value = float((segments[:, None] * target * rewards).sum())
        self.weight_max = float((target / logging).max())
        self._segments = segments.cumsum()
        self._rewards, self._target = rewards, target
        self._weights = target / logging
        self._logging = logging.cumsum(axis=1)

    def log(self, rng: np.random.Generator, n: int | None = None) -> Log:
        """Draw a log, and fit a simple model to it: what actions earn on average.

        The model knows no segments, and each half of the users is predicted by the
        other half.
        """
        n = n or self.case.n
        users = -(-n // self.case.rows_a_user)
        drawn = self._segments.searchsorted(rng.random(users) * self._segments[-1])
        liking = np.ones(users)
        if self.case.rows_a_user > 1:
            liking = rng.choice([0.0, 2.0], size=users)
        user = np.repeat(np.arange(users), self.case.rows_a_user)[:n]
        segment = drawn[user]
        chance = rng.random(n)[:, None]
        action = (self._logging[segment, :-1] < chance).sum(axis=1)
        likely = self._rewards[segment, action] * liking[user]
        rewards = (rng.random(n) < likely).astype(float)
        keys = (user + rng.integers(1 << 62)).astype(np.uint64)
        q = _cross_fitted(user % 2, action, rewards, self.case.n_actions)
        rows = Rows(
            rewards=rewards,
            weights=self._weights[segment, action],
            logged_values=q[user % 2, action],
            target_values=(self._target @ q.T)[segment, user % 2],
        )
        return Log(rows, keys)

    def sums(self, log: Log, names: tuple[str, ...] = NAMES) -> Sums:
        """Return what is kept of a log."""
        return Sums.of(
            {name: ESTIMATORS[name](log.rows) for name in names},
            log.keys,
            weights=log.rows.weights,
            rewards=log.rows.rewards,
            logged_values=log.rows.logged_values,
            target_values=log.rows.target_values,
            weight_max=self.weight_max,
            reward_range=(0.0, 1.0),
        )


def _cross_fitted(
    fold: NDArray[np.int64], action: NDArray[np.int64], rewards: FloatArray, k: int
) -> FloatArray:
    """Return what each half says that the actions earn, for the other half."""
    place = (1 - fold) * k + action
    earned = np.bincount(place, weights=rewards, minlength=2 * k)
    tried = np.bincount(place, minlength=2 * k)
    mean = rewards.mean()
    found: FloatArray = ((earned + 5 * mean) / (tried + 5)).reshape(2, k)
    return found


def _greedy(liked: NDArray[np.int64], n_actions: int, epsilon: float) -> FloatArray:
    policy = np.full((len(liked), n_actions), epsilon / n_actions)
    policy[np.arange(len(liked)), liked] += 1 - epsilon
    return policy


@dataclass
class Cell:
    """What one kind of interval of one estimator did in one world.

    Attributes:
        case: The world.
        n: The rows of a log.
        estimator: Which one.
        interval: Which kind.
        whose: `ours`, or whose rule it is.
        repeats: How many logs were drawn.
        told: In how many of them the interval was told: not called unusable.
        usable: In how many of them it was called usable.
        held: How many of those told held the truth.
        above: How many lay wholly above it.
        width: Their mean width; none where none was told.
        p: How likely so few would hold the truth if 95 % did.
        fails: Whether that is too unlikely, for the number of cells.
    """

    case: str
    n: int
    estimator: str
    interval: str
    whose: Literal["ours", "peer"] = "ours"
    repeats: int = 0
    told: int = 0
    usable: int = 0
    held: int = 0
    above: int = 0
    width: float | None = None
    p: float = 1.0
    fails: bool = False
    widths: list[float] = field(default_factory=list, repr=False)

    def add(self, low: float, high: float, truth: float, verdict: str) -> None:
        """Count an interval."""
        self.repeats += 1
        if verdict == "unusable":
            return
        self.told += 1
        self.usable += verdict == "usable"
        self.held += low <= truth <= high
        self.above += low > truth
        if not math.isnan(high - low):
            self.widths.append(min(high, 1.0) - max(low, 0.0))

    def close(self) -> None:
        """Sum up."""
        self.width = float(np.mean(self.widths)) if self.widths else None
        self.p = _at_most(self.held, self.told, CONFIDENCE) if self.told else 1.0

    @property
    def covered(self) -> float | None:
        """The share of those told that held the truth."""
        return self.held / self.told if self.told else None


def _at_most(held: int, n: int, chance: float) -> float:
    """Return how likely so few of n, or fewer, are by chance."""
    logs = [
        math.lgamma(n + 1)
        - math.lgamma(k + 1)
        - math.lgamma(n - k + 1)
        + k * math.log(chance)
        + (n - k) * math.log1p(-chance)
        for k in range(held + 1)
    ]
    return min(1.0, math.fsum(math.exp(log) for log in logs))


def holm(p_values: list[float], alpha: float = 0.05) -> list[bool]:
    """Say which are too small to be chance, with all of them together.

    Examples:
        >>> holm([0.001, 0.04, 0.9])
        [True, False, False]
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    found = [False] * len(p_values)
    for rank, place in enumerate(order):
        if p_values[place] > alpha / (len(p_values) - rank):
            break
        found[place] = True
    return found


class _Cells:
    """The cells of a world, made when they are first counted."""

    def __init__(self, case: Case, truth: float) -> None:
        self._case, self._truth = case, truth
        self._cells: dict[tuple[str, str], Cell] = {}

    def add(
        self,
        estimator: str,
        interval: str,
        ends: tuple[float, float],
        verdict: str,
        whose: Literal["ours", "peer"] = "ours",
    ) -> None:
        cell = self._cells.setdefault(
            (estimator, interval),
            Cell(self._case.name, self._case.n, estimator, interval, whose),
        )
        cell.add(*ends, self._truth, verdict)

    def close(self) -> list[Cell]:
        for cell in self._cells.values():
            cell.close()
        return list(self._cells.values())


def told(sums: Sums, name: str, kind: Kind = "default") -> Estimate:
    """Return what is told of an estimator."""
    rows = sums.worst_rows()
    reference = REFERENCES.get(name)
    return estimate_sums(
        sums,
        name,
        worst=ESTIMATORS[name](rows),
        reference=reference,
        reference_worst=None if reference is None else ESTIMATORS[reference](rows),
        confidence=CONFIDENCE,
        kind=kind,
    )


def measure(
    case: Case, *, repeats: int, seed: int, peers: bool = False, slow: int = 0
) -> list[Cell]:
    """Measure the intervals on many logs of one world.

    Args:
        case: The world.
        repeats: How many logs.
        seed: Of world and logs.
        peers: Whether to try all kinds, and those of others.
        slow: On how many of the logs to try those that resample.
    """
    world, rng = World(case, seed), np.random.default_rng([seed, repeats])
    cells = _Cells(case, world.value)
    for repeat in range(repeats):
        log = world.log(rng)
        sums = world.sums(log)
        for name in NAMES:
            found = told(sums, name)
            cells.add(name, "default", (found.low, found.high), found.verdict)
        if not peers:
            continue
        for name, kind, ends, verdict in _other_kinds(sums):
            cells.add(name, kind, ends, verdict)
        for name, kind, ends in _of_others(sums):
            cells.add(name, kind, ends, "usable", "peer")
        if repeat < slow:
            verdict = told(sums, "snips").verdict
            for name, ends in _bootstrapped(sums, seed + repeat):
                cells.add(name, "bootstrap", ends, verdict)
            for name, ends in _by_obp(log.rows, rng):
                cells.add(name, "obp's rule", ends, "usable", "peer")
    return cells.close()


def _other_kinds(
    sums: Sums,
) -> Iterator[tuple[str, str, tuple[float, float], str]]:
    kinds: tuple[Kind, ...] = ("likelihood", "bernstein", "always_valid")
    for kind in kinds:
        for name in FEW if kind == "always_valid" else ("ips",):
            found = told(sums, name, kind)
            yield name, kind, (found.low, found.high), found.verdict


def _of_others(sums: Sums) -> Iterator[tuple[str, str, tuple[float, float]]]:
    """Yield what others tell, who call nothing unusable."""
    for name in ("ips", "dr"):
        yield name, "normal", gaussian(sums.clusters(name), CONFIDENCE)
    ends = cressie_read(sums.moments, CONFIDENCE, weight_max=sums.weight_max)
    yield "ips", "VW Cressie–Read", ends
    # Vowpal Wabbit's takes the largest weight seen.
    heaviest = sums.overlap.largest
    weighed, n = sums.moments.wr / heaviest, sums.moments.n / heaviest
    ends = (math.nan, math.nan)
    if weighed <= n:
        ends = clopper_pearson(weighed, n, CONFIDENCE)
    yield "ips", "VW Clopper–Pearson", ends


def _bootstrapped(sums: Sums, seed: int) -> Iterator[tuple[str, tuple[float, float]]]:
    clusters = [sums.clusters(name) for name in FEW]
    rows = sums.worst_rows()
    worst = [rows_of(ESTIMATORS[name](rows), sums.weight_max) for name in FEW]
    found = bootstrap(clusters, worst, CONFIDENCE, seed=seed, resamples=RESAMPLES)
    yield from zip(FEW, found, strict=True)


def _by_obp(
    rows: Rows, rng: np.random.Generator
) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yield the percentiles of means of rows drawn again; equal rows count at once."""
    terms, counts = np.unique(rows.weights * rows.rewards, return_counts=True)
    n = len(rows.rewards)
    drawn = rng.multinomial(n, counts / n, size=RESAMPLES) @ terms / n
    low, high = np.percentile(drawn, [2.5, 97.5])
    mean = rows.weights.mean()
    yield "ips", (float(low), float(high))
    yield "snips", (float(low / mean), float(high / mean))


def peeked(case: Case, *, repeats: int, seed: int) -> list[Cell]:
    """Measure how often intervals hold the truth on all days at once.

    A log grows by a part every day, and is looked at each of them. `always_valid` is to
    hold on all; the default is beside it, which is made for one look.
    """
    world, rng = World(case, seed), np.random.default_rng([seed, repeats, DAYS])
    cells = _Cells(replace(case, name=f"{case.name}, {DAYS} looks"), world.value)
    kinds: tuple[Kind, ...] = ("always_valid", "default")
    for _ in range(repeats):
        days: list[Sums] = []
        ends: dict[tuple[str, Kind], list[tuple[float, float]]] = {}
        for _ in range(DAYS):
            days = [total([*days, world.sums(world.log(rng, case.n // DAYS), FEW)])]
            for name in FEW:
                for kind in kinds:
                    found = told(days[0], name, kind)
                    if found.verdict != "unusable":
                        ends.setdefault((name, kind), []).append(
                            (found.low, found.high)
                        )
        for name in FEW:
            for kind in kinds:
                seen = ends.get((name, kind), [])
                if not seen:
                    cells.add(name, kind, (0.0, 0.0), "unusable")
                    continue
                # It held if no day left the truth out; its width is the last day's.
                missed = [e for e in seen if not e[0] <= world.value <= e[1]]
                whose: Literal["ours", "peer"] = (
                    "ours" if kind == "always_valid" else "peer"
                )
                cells.add(name, kind, missed[0] if missed else seen[-1], "weak", whose)
    return cells.close()


def study(
    *, repeats: int, slow: int, seed: int, watch: Callable[[list[Case]], Iterable[Case]]
) -> list[Cell]:
    """Measure all worlds, and judge the cells together."""
    cells: list[Cell] = []
    for case in watch([*PEERS, *GRID, *USERS]):
        peers = case in PEERS
        cells += measure(case, repeats=repeats, seed=seed, peers=peers, slow=slow)
    for case in watch([replace(PEERS[4], n=20_000), replace(PEERS[2], n=20_000)]):
        # A log that is looked at every day costs as much as twenty.
        cells += peeked(case, repeats=-(-repeats // 4), seed=seed)
    ours = [cell for cell in cells if cell.whose == "ours"]
    for cell, fails in zip(ours, holm([c.p for c in ours]), strict=True):
        cell.fails = fails
    return cells


def main(
    repeats: Annotated[int, typer.Option(help="Logs per world.", min=1)] = 1_000,
    slow: Annotated[
        int, typer.Option(help="On how many of them to resample.", min=0)
    ] = 200,
    seed: Annotated[int, typer.Option(help="Of worlds and logs.")] = 7,
    out: Annotated[Path, typer.Option(help="Where to write the numbers.")] = Path(
        "build/coverage.json"
    ),
) -> None:
    """Measure how often 95 % intervals hold the truth."""
    console = Console()
    cells = study(
        repeats=repeats,
        slow=slow,
        seed=seed,
        watch=lambda cases: track(cases, "logging", console=console),
    )
    _print(console, cells)
    write(cells, out, repeats=repeats, seed=seed)
    _plot(cells, out.with_suffix(".svg"))
    console.print(f"written to {out} and {out.with_suffix('.svg')}")


def write(cells: list[Cell], out: Path, *, repeats: int, seed: int) -> None:
    """Write the cells as JSON."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(
        json.dumps(
            {
                "confidence": CONFIDENCE,
                "repeats": repeats,
                "seed": seed,
                "failed": sum(cell.fails for cell in cells),
                "cells": [_plain(cell) for cell in cells],
            }
        )
    )


def _plain(cell: Cell) -> dict[str, object]:
    biased = cell.estimator in REFERENCES
    made = asdict(cell) | {"covered": cell.covered, "biased": biased}
    del made["widths"]
    return made


def _print(console: Console, cells: list[Cell]) -> None:
    table = Table(title="Coverage and width of 95 % intervals")
    for name in ("world", "estimator", "interval"):
        table.add_column(name, no_wrap=True)
    for name in ("n", "told", "held", "above", "width", ""):
        table.add_column(name, justify="right")
    for cell in cells:
        covered = "" if cell.covered is None else f"{cell.covered:.1%}"
        table.add_row(
            cell.case,
            cell.estimator,
            cell.interval,
            f"{cell.n:,}",
            f"{cell.told / cell.repeats:.0%}",
            covered,
            f"{cell.above / cell.told:.1%}" if cell.told else "",
            "" if cell.width is None else f"{cell.width:.3f}",
            "fails" if cell.fails else "",
        )
    console.print(table)


def _plot(cells: list[Cell], path: Path) -> None:
    """Draw coverage against width, of the worlds that others were measured in."""
    import matplotlib as mpl  # noqa: PLC0415 - half a second that --help need not wait

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "opportune"
    from matplotlib import pyplot as plt  # noqa: PLC0415 - as above

    figure, axes = plt.subplots(1, len(PEERS), figsize=(16, 4), sharey=True)
    for axis, case in zip(axes, PEERS, strict=True):
        for cell in cells:
            if (cell.case, cell.n) != (case.name, case.n) or cell.covered is None:
                continue
            ours = cell.whose == "ours"
            axis.plot(
                cell.width,
                100 * cell.covered,
                "o" if ours else "x",
                color="tab:blue" if ours else "tab:orange",
            )
            axis.annotate(
                f"{cell.estimator} {cell.interval}",
                (cell.width, 100 * cell.covered),
                fontsize=5,
            )
        axis.axhline(95, color="grey", linewidth=0.8)
        axis.set_title(f"{case.name}, n = {case.n:,}", fontsize=8)
        axis.set_xlabel("width")
    axes[0].set_ylabel("held the truth, %")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    typer.run(main)
