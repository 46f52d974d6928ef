"""How fast the simulator is, beside others in the same run.

    python -m benchmarks.simulator

prints a table of goals and figures and writes build/bench/simulator.json, with seconds
and megabytes by row, peers among them. Seconds are of the processor, on one thread of
BLAS, the median over rounds; what else the machine does moves them less than seconds of
the clock. Megabytes are what was allocated at most above the input, by tracemalloc, in
a run of its own; where it says *in all*, the most memory that a process of its own had,
with Python and all libraries.

A row of the table is a function that returns a `Measured`, in `ROWS`. `plain numpy`
does the same work as one writes it without a library: terms of all rows at once, and
rows drawn again; its thousand draws are taken from twenty. Open Bandit Pipeline and
gittins take part where they are installed, and it is said where they are not.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks import reading, rehearsing, replaying, walking
from benchmarks.machine import describe, summary
from policies.estimators import ESTIMATORS, Rows, parts_of, sums_of
from policies.estimators.values import PART
from policies.intervals import Sums, estimate_sums
from policies.intervals.bootstrap import bootstrap
from policies.intervals.sums import rows_of, total
from policies.model import FloatArray

__all__ = ["ROWS", "Goal", "Measured", "main"]

NAMES = ("ips", "clipped_ips", "snips", "dm", "dr", "sndr", "switch_dr", "dros")
RESAMPLES = 1_000

_OUT = Path("build/bench/simulator.json")
_MB = 1_000_000
_PLAIN_DRAWS = 20


class Goal(msgspec.Struct, frozen=True):
    """What is to be reached; what is none is not asked for.

    Attributes:
        seconds: At most so many.
        peak_mb: At most so many megabytes above the input.
        per_s: At least so many a second.
    """

    seconds: float | None = None
    peak_mb: float | None = None
    per_s: float | None = None


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What a row of the table came to.

    Attributes:
        what: The work, in words.
        goal: What was to be reached.
        seconds: The median; none where it is told a second.
        peak_mb: Megabytes above the input; none where nobody looked.
        per_s: How many a second; none where it is told in seconds.
        peers: Seconds, or how many a second, of others on the same work, by name; none
            where they are not installed.
        further: Other figures, by name.
        in_all: Whether `peak_mb` is all of a process, not what is above the input.
        met: Whether the goal was reached.
    """

    what: str
    goal: Goal
    seconds: float | None = None
    peak_mb: float | None = None
    per_s: float | None = None
    peers: dict[str, float | None] = {}
    further: dict[str, float] = {}
    in_all: bool = False

    @property
    def met(self) -> bool:
        """Whether every part of the goal was reached."""
        goal = self.goal
        return (
            _within(self.seconds, goal.seconds)
            and _within(self.peak_mb, goal.peak_mb)
            and (goal.per_s is None or _within(goal.per_s, self.per_s or 0.0))
        )


def _within(figure: float | None, most: float | None) -> bool:
    return most is None or (figure is not None and figure <= most)


class Size(msgspec.Struct, frozen=True):
    """How much to measure.

    Attributes:
        rows: Of the log.
        actions: Of each decision.
        rounds: How often to measure.
        share: How much of the logs of other rows: 1 is 20,000 and 6,000 decisions of a
            policy that learns, as many lines of dsjson, 5,000,000 rows of Parquet, and
            2,000 and 1,000 decisions that are made again.
    """

    rows: int = 1_000_000
    actions: int = 20
    rounds: int = 5
    share: float = 1.0

    def of(self, most: int) -> int:
        """Return a share of a size, at least 100."""
        return max(round(most * self.share), 100)


class _Log(msgspec.Struct, frozen=True):
    """A log as arrays."""

    rewards: FloatArray
    propensities: FloatArray
    logged_targets: FloatArray
    chosen: NDArray[np.int64]
    targets: FloatArray
    predictions: FloatArray
    keys: NDArray[np.uint64]

    def parts(self, part: int = PART) -> Iterator[Rows]:
        """Yield the rows in parts."""
        return parts_of(
            self.rewards,
            self.propensities,
            self.logged_targets,
            chosen=self.chosen,
            targets=self.targets,
            predictions=self.predictions,
            part=part,
        )


def _log(size: Size) -> _Log:
    rng = np.random.default_rng(7)
    shape = (size.rows, size.actions)
    logging = rng.random(shape) + 0.05
    logging /= logging.sum(axis=1, keepdims=True)
    targets = rng.random(shape) + 0.05
    targets /= targets.sum(axis=1, keepdims=True)
    chosen = (logging.cumsum(axis=1) < rng.random(size.rows)[:, None]).sum(axis=1)
    chosen = np.minimum(chosen, size.actions - 1)
    each = np.arange(size.rows)
    return _Log(
        rewards=(rng.random(size.rows) < 0.05).astype(float),
        propensities=logging[each, chosen],
        logged_targets=targets[each, chosen],
        chosen=chosen,
        targets=targets,
        predictions=rng.random(shape) * 0.1,
        keys=rng.integers(1 << 63, size=size.rows // 3, dtype=np.uint64)[
            rng.integers(size.rows // 3, size=size.rows)
        ],
    )


def seconds(work: Callable[[], object], rounds: int) -> float:
    """Return the median of processor seconds over some rounds, after a first one."""
    work()
    taken: list[float] = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return statistics.median(taken)


def peak_mb(work: Callable[[], object]) -> float:
    """Return the megabytes that were allocated at most."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        work()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (peak - before) / _MB


def with_intervals(size: Size) -> Measured:
    """Eight estimators with the default interval and a thousand draws of users."""
    log = _log(size)

    def work() -> dict[str, tuple[float, float]]:
        sums = total(
            Sums.of(
                {name: ESTIMATORS[name](rows) for name in NAMES},
                log.keys[start : start + len(rows)],
                weights=rows.weights,
                rewards=rows.rewards,
                logged_values=rows.logged_values,
                target_values=rows.target_values,
                reward_range=(0.0, 1.0),
            )
            for start, rows in _numbered(log)
        )
        worst = {name: ESTIMATORS[name](sums.worst_rows()) for name in NAMES}
        for name in NAMES:
            estimate_sums(sums, name, worst=worst[name])
        drawn = bootstrap(
            [sums.clusters(name) for name in NAMES],
            [rows_of(worst[name], sums.weight_max) for name in NAMES],
            0.95,
            seed=7,
            resamples=RESAMPLES,
        )
        return dict(zip(NAMES, drawn, strict=True))

    plain = seconds(lambda: _plain_draws(log), 1) * RESAMPLES / _PLAIN_DRAWS
    return Measured(
        what=f"8 estimators with intervals, B = {RESAMPLES:,}, {size.rows:,} rows x"
        f" {size.actions} actions",
        goal=Goal(seconds=0.5, peak_mb=64.0),
        seconds=seconds(work, size.rounds),
        peak_mb=peak_mb(work),
        peers={"plain numpy": plain, **_obp(log, RESAMPLES)},
    )


def _numbered(log: _Log) -> Iterator[tuple[int, Rows]]:
    start = 0
    for rows in log.parts():
        yield start, rows
        start += len(rows)


def values_only(size: Size) -> Measured:
    """Eight estimators, point values only."""
    log = _log(size)
    chosen = {name: ESTIMATORS[name] for name in NAMES}

    def work() -> object:
        return {name: sums.value for name, sums in sums_of(chosen, log.parts()).items()}

    return Measured(
        what=f"8 estimators, point values, {size.rows:,} rows x {size.actions} actions",
        goal=Goal(seconds=0.13),
        seconds=seconds(work, size.rounds),
        peak_mb=peak_mb(work),
        peers={
            "plain numpy": seconds(lambda: _plain_values(log), size.rounds),
            **_obp(log, 0),
        },
    )


def _plain_terms(log: _Log) -> FloatArray:
    each = np.arange(len(log.rewards))
    w = log.logged_targets / log.propensities
    v = (log.targets * log.predictions).sum(axis=1)
    rest = log.rewards - log.predictions[each, log.chosen]
    return np.stack(
        [
            w * log.rewards,
            np.minimum(w, 10.0) * log.rewards,
            w,
            v,
            v + w * rest,
            w * rest,
            v + w * (w <= 10.0) * rest,
            v + 100.0 * w / (w * w + 100.0) * rest,
        ]
    )


def _plain_values(log: _Log) -> FloatArray:
    return np.asarray(_plain_terms(log).mean(axis=1))


def _plain_draws(log: _Log) -> list[FloatArray]:
    terms, rng = _plain_terms(log), np.random.default_rng(7)
    n = len(log.rewards)
    return [
        terms @ np.bincount(rng.integers(n, size=n), minlength=n) / n
        for _ in range(_PLAIN_DRAWS)
    ]


def _obp(log: _Log, resamples: int) -> dict[str, float | None]:
    """Return what Open Bandit Pipeline takes for the eight."""
    if importlib.util.find_spec("obp") is None:
        return {"obp": None}
    ope = importlib.import_module("obp.ope")
    estimators = [
        ope.InverseProbabilityWeighting(),
        ope.InverseProbabilityWeighting(lambda_=10.0),
        ope.SelfNormalizedInverseProbabilityWeighting(),
        ope.DirectMethod(),
        ope.DoublyRobust(),
        ope.SelfNormalizedDoublyRobust(),
        ope.SwitchDoublyRobust(lambda_=10.0),
        ope.DoublyRobustWithShrinkage(lambda_=100.0),
    ]
    given = {
        "reward": log.rewards,
        "action": log.chosen,
        "pscore": log.propensities,
        "position": np.zeros(len(log.rewards), dtype=int),
        "action_dist": log.targets[:, :, None],
        "estimated_rewards_by_reg_model": log.predictions[:, :, None],
    }

    def work() -> None:
        for one in estimators:
            if resamples:
                one.estimate_interval(**given, n_bootstrap_samples=resamples)
            else:
                one.estimate_policy_value(**given)

    began = time.process_time()
    work()
    return {"obp": time.process_time() - began}


# --- A policy that learns ---------------------------------------------------------

_WALKED = {"small": (20_000, 60_000.0), "large": (6_000, 18_000.0)}
"""By kind of log, how many rows, and how many a second are the goal."""


def walked(kind: str, size: Size) -> Measured:
    """Replay of a learning LinUCB."""
    rows, goal = _WALKED[kind]
    log = walking.world(kind, size.of(rows))
    few = walking.world(kind, size.of(rows) // 10)
    n, (k, d) = len(log.rewards), walking.KINDS[kind]
    ours: list[float] = []
    plain: list[float] = []
    for _ in range(size.rounds):
        ours.append(walking.ours(log)[0])
        plain.append(walking.plain(log)[0])
    gittins = walking.gittins(few)
    return Measured(
        what=f"replay of a learning LinUCB, K{k} d{d}, {n:,} decisions",
        goal=Goal(per_s=goal),
        per_s=n / statistics.median(ours),
        peak_mb=peak_mb(lambda: walking.ours(log)),
        peers={
            "plain numpy": n / statistics.median(plain),
            "gittins": None if gittins is None else len(few.rewards) / gittins,
        },
    )


# --- Reading ----------------------------------------------------------------------

_READ = {"small": (20_000, 100_000.0), "large": (6_000, 40_000.0)}


def dsjson(kind: str, size: Size) -> Measured:
    """Reading dsjson, with everything done."""
    most, goal = _READ[kind]
    lines, (k, d) = size.of(most), reading.KINDS[kind]
    found = reading.dsjson(kind, lines)
    return Measured(
        what=f"reading dsjson, K{k} d{d}, lines of {found.bytes:,} bytes",
        goal=Goal(per_s=goal),
        per_s=lines / found.seconds,
        peak_mb=found.peak_mb,
        peers={"typed msgspec": lines / found.bare},
        in_all=True,
    )


_FAR = 100_000_000
_PARQUET = 5_000_000


def parquet(size: Size) -> Measured:
    """A log of Parquet, and by extrapolation a hundred million rows of it."""
    n = size.of(_PARQUET)
    found = reading.parquet(n)
    return Measured(
        what=f"IPS over {n:,} rows of Parquet, 20 actions and 5 features a row",
        goal=Goal(peak_mb=2_000.0),
        per_s=n / found.ips.seconds,
        peak_mb=max(found.ips.peak_mb, found.whole.peak_mb),
        further={
            "rows/s of all columns": n / found.whole.seconds,
            "rows/s written": n / found.writing.seconds,
            "MB of IPS": found.ips.peak_mb,
            "MB of all columns": found.whole.peak_mb,
            "MB of writing": found.writing.peak_mb,
            "bytes a row on disk": found.bytes,
            "s for 100,000,000 rows, extrapolated": _FAR / n * found.ips.seconds,
            "s for all their columns, extrapolated": _FAR / n * found.whole.seconds,
        },
        in_all=True,
    )


# --- The engine -------------------------------------------------------------------

_AGAIN: dict[replaying.Kind, int] = {"plain": 2_000, "gated": 1_000}
_SAID: dict[replaying.Kind, str] = {
    "plain": "two caps, a cool-down and rules, new users",
    "gated": "every gate, pasts of a month",
}


def replayed(kind: replaying.Kind, size: Size) -> Measured:
    """Decisions of a log made again through all gates, at three sizes."""
    sizes = [size.of(_AGAIN[kind]) * times for times in (1, 2, 4)]
    found = [replaying.measure(kind, n) for n in sizes]
    largest = found[-1]
    rates = [one.decisions / one.replay.seconds for one in found]
    return Measured(
        what=f"engine replay, 20 actions, {_SAID[kind]}: {largest.eligible:.1f} of them"
        f" eligible, {sizes[-1]:,} decisions",
        goal=Goal(per_s=10_000.0),
        per_s=rates[-1],
        peak_mb=largest.replay.peak_mb,
        peers={"the engine alone": 1.0 / largest.engine},
        further={
            f"{what} at {n:,}": value
            for n, rate, one in zip(sizes, rates, found, strict=True)
            for what, value in (("per s", rate), ("MB", one.replay.peak_mb))
        },
        in_all=True,
    )


_REHEARSED = 2_000


def rehearsed(size: Size) -> Measured:
    """A log under other rules, every gate asked."""
    n = size.of(_REHEARSED)
    found = rehearsing.measure(n)
    return Measured(
        what=f"rehearsing {n:,} decisions, every gate asked again, pasts of a month",
        goal=Goal(per_s=10_000.0),
        per_s=n / found.asked,
        peak_mb=found.peak_mb,
        further={
            "under another cap for all": n / found.other,
            "under another cap of an offer": n / found.one,
            "where the rules are as they were": n / found.same,
        },
        in_all=True,
    )


ROWS: dict[str, Callable[[Size], Measured]] = {
    "intervals": with_intervals,
    "values": values_only,
    "walk_small": partial(walked, "small"),
    "walk_large": partial(walked, "large"),
    "dsjson_small": partial(dsjson, "small"),
    "dsjson_large": partial(dsjson, "large"),
    "replay_plain": partial(replayed, "plain"),
    "replay_gated": partial(replayed, "gated"),
    "parquet": parquet,
    "rehearse": rehearsed,
}
"""What is measured, by name."""


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Which rows; all.")] = None,
    rounds: Annotated[int, typer.Option(help="How often.", min=1)] = 5,
    rows: Annotated[
        int, typer.Option(help="Of the arrays of estimators.", min=1_000)
    ] = 1_000_000,
    share: Annotated[
        float,
        typer.Option(help="How much of the logs of other rows.", min=0.001, max=20.0),
    ] = 1.0,
    out: Annotated[Path, typer.Option(help="Where to write the numbers.")] = _OUT,
) -> None:
    """Measure how fast the simulator is."""
    console = Console()
    wanted: Sequence[str] = names or list(ROWS)
    unknown = [name for name in wanted if name not in ROWS]
    if unknown:
        raise typer.BadParameter(f"there is no {unknown[0]}: {', '.join(ROWS)}")
    machine = describe()
    size = Size(rows=rows, rounds=rounds, share=share)
    out.parent.mkdir(parents=True, exist_ok=True)
    kept = json.loads(out.read_text())["rows"] if out.exists() else {}
    found: dict[str, Measured] = {}
    for name in wanted:
        console.print(f"{name} …")
        one = found[name] = ROWS[name](size)
        kept[name] = msgspec.to_builtins(one) | {"met": one.met}
        out.write_text(json.dumps({"machine": machine, "rows": kept}, indent=1))
    console.print(_table(found))
    console.print(summary(machine))
    console.print(f"written to {out}")


def _table(found: dict[str, Measured]) -> Table:
    table = Table(title="The simulator, in seconds of one core")
    for name in ("what", "goal", "figure", "met", "others"):
        table.add_column(name)
    for one in found.values():
        told = [_told_of(*named) for named in (one.peers | one.further).items()]
        table.add_row(
            one.what,
            _told(one.goal.seconds, one.goal.peak_mb, one.goal.per_s),
            _told(one.seconds, one.peak_mb, one.per_s)
            + (" in all" if one.in_all else ""),
            "yes" if one.met else "no",
            "; ".join(told),
        )
    return table


def _told_of(name: str, value: float | None) -> str:
    return f"{name} not installed" if value is None else f"{name} {_figure(value)}"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _told(seconds: float | None, megabytes: float | None, per_s: float | None) -> str:
    parts = []
    if seconds is not None:
        parts.append(f"{seconds:.3g} s")
    if megabytes is not None:
        parts.append(f"{megabytes:,.0f} MB")
    if per_s is not None:
        parts.append(f"{per_s:,.0f}/s")
    return ", ".join(parts)


if __name__ == "__main__":
    typer.run(main)
