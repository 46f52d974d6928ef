"""How much policies earn while they learn: `make bench-quality`.

Each policy goes through each problem once, and learns from its own choices alone.
The draws of a seed are the same for all. What counts is the mean reward of all
decisions, the first ones among them. No policy is tuned to a set: one configuration
does them all.

    python -m benchmarks.quality --seeds 1 --rows 1000 --policies default,linucb
    python -m benchmarks.quality --sets mine.csv,other.csv

prints tables, and writes build/bench/quality.json and quality.svg. What other
libraries earned is kept in build/bench/rivals.json, and read from there as long as
neither they nor the problems change.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from hashlib import blake2b
from importlib.metadata import version
from itertools import product
from pathlib import Path
from statistics import mean
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.machine import describe, summary
from benchmarks.problems import SETS, WORLDS, Problem, set_problem
from benchmarks.rivals import RIVALS, Chooser, Ours
from policies.learners.vw_explorers import (
    VwBag,
    VwCover,
    VwEpsilonGreedy,
    VwExplorer,
    VwFirst,
    VwRegCB,
    VwRnd,
    VwSoftmax,
    VwSquareCB,
    VwSynthCover,
)
from policies.policy import (
    UCB,
    BlendSettings,
    EpsilonGreedy,
    LinearSettings,
    LinUCBSettings,
    PolicySettings,
    SquareCB,
    Thompson,
    VowpalWabbitExploration,
    VowpalWabbitSettings,
)

__all__ = ["OURS", "Result", "play"]

_FOLDER = Path("build/bench")
_DEPENDED = ("problems.py", "rivals.py")
_out = Console(highlight=False)
_WORLDS = {problem.name: problem for problem in WORLDS}

_GREEDY = EpsilonGreedy(epsilon=0.0)
# As bayesianbandits has it: 0.1 for a and for b.
_UNSURE = LinearSettings(dim=128, noise=1.0, noise_weight=0.2)
_KNOWN = LinearSettings(dim=128, noise=1.0, noise_weight=1e6)
_MEDIAN_PLUS = 0.4677
"""The 68th of a hundred parts of a normal distribution, in deviations."""


def _vw(explorer: VwExplorer) -> PolicySettings:
    """Return VW's explorer at VW's own rate and number of weights."""
    learner = VowpalWabbitSettings(bits=20, learning_rate=0.5, explorer=explorer)
    return PolicySettings(learner, VowpalWabbitExploration())


_TWINS: dict[str, tuple[PolicySettings, tuple[str, ...]]] = {
    "twin_linucb": (
        PolicySettings(LinUCBSettings(dim=128, alpha=0.1), _GREEDY),
        ("numpy_linucb", "mabwiser_linucb"),
    ),
    "twin_linucb_wide": (
        PolicySettings(LinUCBSettings(dim=128, alpha=1.0), _GREEDY),
        ("contextualbandits_linucb",),
    ),
    # River's bound is of the next reward, whose noise has a deviation of 1.
    "twin_linucb_reward": (
        PolicySettings(LinUCBSettings(dim=128, alpha=1.0, noise=1.0), _GREEDY),
        ("river_linucb",),
    ),
    "twin_lingreedy": (
        PolicySettings(LinUCBSettings(dim=128, alpha=0.0), EpsilonGreedy(epsilon=0.05)),
        ("mabwiser_lingreedy",),
    ),
    "twin_lints": (PolicySettings(_KNOWN, Thompson()), ("mabwiser_lints",)),
    "twin_nig_ts": (PolicySettings(_UNSURE, Thompson()), ("bayesianbandits_ts",)),
    "twin_nig_ucb": (
        PolicySettings(_UNSURE, UCB(alpha=_MEDIAN_PLUS)),
        ("bayesianbandits_ucb",),
    ),
    "twin_vw_egreedy": (_vw(VwEpsilonGreedy()), ("vw_egreedy",)),
    "twin_vw_squarecb": (_vw(VwSquareCB()), ("vw_squarecb",)),
    "twin_vw_squarecb_elim": (_vw(VwSquareCB(elim=True)), ("vw_squarecb_elim",)),
    "twin_vw_regcb": (_vw(VwRegCB()), ("vw_regcb",)),
    "twin_vw_regcbopt": (_vw(VwRegCB(optimistic=True)), ("vw_regcbopt",)),
    "twin_vw_cover": (_vw(VwCover()), ("vw_cover",)),
    "twin_vw_synthcover": (_vw(VwSynthCover()), ("vw_synthcover",)),
    "twin_vw_bag": (_vw(VwBag()), ("vw_bag",)),
    "twin_vw_softmax": (_vw(VwSoftmax()), ("vw_softmax",)),
    "twin_vw_first": (_vw(VwFirst(rewards=500)), ("vw_first",)),
    "twin_vw_rnd": (_vw(VwRnd()), ("vw_rnd",)),
}
"""Our own with the settings of other libraries' policies, and those policies."""

OURS: dict[str, PolicySettings] = {
    "default": PolicySettings(),
    "blend_greedy": PolicySettings(BlendSettings(), EpsilonGreedy(epsilon=0.0)),
    "linucb": PolicySettings(LinUCBSettings(dim=64), EpsilonGreedy(epsilon=0.01)),
    "vw_ours": PolicySettings(VowpalWabbitSettings(), EpsilonGreedy(epsilon=0.05)),
    "vw_ours_squarecb": PolicySettings(VowpalWabbitSettings(), SquareCB()),
    **{name: settings for name, (settings, _) in _TWINS.items()},
}
"""Our own policies by name."""

_PEERS = {
    "digits": 0.822,
    "segment": 0.882,
    "phishing": 0.892,
    "satimage": 0.812,
    "pendigits": 0.892,
    "letter": 0.565,
}
"""The best that a library of the field, or a tuned LinUCB, reached by these rules."""


@dataclass(frozen=True)
class Result:
    """What came of one run.

    Attributes:
        reward: The mean reward of a decision; where the means are known, the share
            that it is of what the best choices earn on average.
        least: The smallest propensity of what was chosen.
        microseconds: What a decision took, learning and all.
    """

    reward: float
    least: float
    microseconds: float


def play(chooser: Chooser, problem: Problem, seed: int, rows: int) -> Result:
    """Let a policy go through a problem once.

    Args:
        chooser: The policy, which has learned nothing yet.
        problem: What it goes through.
        seed: Which rows, and which draws.
        rows: How many rounds at the most.
    """
    draws = np.random.default_rng(seed + 77)
    waiting: deque[Callable[[], None]] = deque()
    earned: list[float] = []
    best: list[float] = []
    least = 1.0
    started = perf_counter()
    for given in problem.rounds(seed, rows):
        chosen, propensity = chooser.choose(
            given.context, given.actions, float(draws.random())
        )
        if given.means is None:
            earned.append(float(given.rewards[chosen]))
        else:
            earned.append(float(given.means[chosen]))
            best.append(float(given.means.max()))
        least = min(least, propensity)
        reward = float(given.rewards[chosen])
        waiting.append(_lesson(chooser, given, chosen, reward, propensity))
        if len(waiting) > problem.delay:
            waiting.popleft()()
    spent = perf_counter() - started
    reward = mean(earned) / mean(best) if best else mean(earned)
    return Result(reward, least, spent / max(len(earned), 1) * 1e6)


def _lesson(
    chooser: Chooser, given: Any, chosen: int, reward: float, propensity: float
) -> Callable[[], None]:
    return lambda: chooser.learn(
        given.context, given.actions, chosen, reward, propensity
    )


def _make(policy: str) -> Chooser:
    return Ours(OURS[policy]) if policy in OURS else RIVALS[policy].make()


def _run(policy: str, problem: str, seed: int, rows: int) -> Result:
    """Play in a process of its own, by names, because policies do not travel."""
    found = _WORLDS.get(problem) or set_problem(problem)
    return play(_make(policy), found, seed, rows)


def run(
    *,
    seeds: Annotated[
        int, typer.Option(min=1, max=100, help="How often, each time on other rows.")
    ] = 5,
    rival_seeds: Annotated[
        int, typer.Option(min=1, max=100, help="The same for all but the default.")
    ] = 1,
    rows: Annotated[
        int, typer.Option(min=10, help="How many rows of a set at the most.")
    ] = 10_000,
    sets: Annotated[
        str,
        typer.Option(help="Sets of ours or CSV files, label last, parted by commas."),
    ] = ",".join(SETS),
    policies: Annotated[
        str, typer.Option(help="Which policies, parted by commas; all by default.")
    ] = "",
    fresh: Annotated[
        bool, typer.Option(help="Whether to measure again what is kept of others.")
    ] = False,
    worlds: Annotated[
        bool, typer.Option(help="Whether to go where a ridge is not at home too.")
    ] = True,
    workers: Annotated[
        int, typer.Option(min=0, help="How many processes; 0 for one for each core.")
    ] = 0,
) -> None:
    """Measure, print tables, and write build/bench/quality.json and quality.svg."""
    everyone = [*OURS, *RIVALS]
    names = policies.split(",") if policies else everyone
    for name in names:
        if name not in everyone:
            raise typer.BadParameter(f"{name} is none of {', '.join(everyone)}")
    chosen = [name for name in sets.split(",") if name]
    for name in chosen:
        if name not in SETS and not Path(name).is_file():
            raise typer.BadParameter(f"{name} is no file, and none of {SETS}")
    problems = [*chosen, *(_WORLDS if worlds else [])]
    absent = {name: RIVALS[name].package for name in names if _absent(name)}
    asked, names = names, [name for name in names if name not in absent]
    jobs = [
        (policy, problem, seed, rows)
        for policy, problem in product(names, problems)
        if _plays(policy, problem)
        for seed in range(seeds if policy == "default" else min(seeds, rival_seeds))
    ]
    found = _measure(jobs, workers or len(os.sched_getaffinity(0)), fresh=fresh)
    titles = {name: _title(name) for name in chosen}
    machine = describe()
    report: dict[str, Any] = {
        "machine": machine,
        "seeds": seeds,
        "rows": rows,
        **{name: _summary(found, name, titles) for name in names},
        **{name: {"not_installed": package} for name, package in absent.items()},
        "pairs": _pairs(found, asked, titles),
    }
    _FOLDER.mkdir(parents=True, exist_ok=True)
    file = _FOLDER / "quality.json"
    file.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _out.print(summary(machine), soft_wrap=True)
    _show("Mean reward of a decision", names, list(titles.values()), "sets", report)
    if worlds:
        _show("Away from home", names, list(_WORLDS), "worlds", report)
    _show_pairs(report["pairs"], list(titles.values()))
    if absent:
        _out.print(
            "Not installed, and not measured:"
            f" {', '.join(f'{name} ({package})' for name, package in absent.items())}."
            " See benchmarks/README.md."
        )
    _plot(report, names, list(titles.values()), worlds=worlds)
    _out.print(f"{file}\n{_FOLDER / 'quality.svg'}")


_Job = tuple[str, str, int, int]


def _absent(policy: str) -> bool:
    return policy in RIVALS and not RIVALS[policy].installed


def _plays(policy: str, problem: str) -> bool:
    """Return whether a policy can go through a problem at all."""
    if policy.startswith("twin_"):
        return problem not in _WORLDS
    fixed = problem not in _WORLDS or _WORLDS[problem].fixed
    return fixed or policy not in RIVALS or not RIVALS[policy].fixed


def _measure(
    jobs: list[_Job], workers: int, *, fresh: bool = False
) -> dict[_Job, Result]:
    """Return what came of each job; what others earned is kept for the next time."""
    file = _FOLDER / "rivals.json"
    kept: dict[str, Any] = {}
    if file.exists() and not fresh:
        kept = json.loads(file.read_text(encoding="utf-8"))
    keys = {job: _key(job) for job in jobs if job[0] in RIVALS}
    found = {job: Result(**kept[key]) for job, key in keys.items() if key in kept}
    for job, result in _played([job for job in jobs if job not in found], workers):
        found[job] = result
        if job in keys:
            kept[keys[job]] = asdict(result)
            _FOLDER.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return found


def _key(job: _Job) -> str:
    """Return what the result of another library's policy depends on, as a digest."""
    policy, problem, _, _ = job
    digest = blake2b(repr(job).encode(), digest_size=12)
    package = RIVALS[policy].package
    digest.update(f"{package} {version(package)}".encode())
    for file in (*map(Path(__file__).with_name, _DEPENDED), Path(problem)):
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _played(jobs: list[_Job], workers: int) -> Iterator[tuple[_Job, Result]]:
    """Yield what came of each job, as soon as it has been played."""
    columns = (SpinnerColumn(), *Progress.get_default_columns(), TimeElapsedColumn())
    # Threads of BLAS would wait for each other: every process has a core already.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    with (
        Progress(*columns, transient=True) as progress,
        ProcessPoolExecutor(workers, mp_context=context) as pool,
    ):
        task = progress.add_task("policies", total=len(jobs))
        pending = {pool.submit(_run, *job): job for job in jobs}
        for done in as_completed(pending):
            progress.advance(task)
            yield pending[done], done.result()


def _title(name: str) -> str:
    return set_problem(name).name


def _summary(
    found: dict[_Job, Result], policy: str, titles: dict[str, str]
) -> dict[str, Any]:
    """Return the means of a policy over seeds, by set and by world."""
    results: dict[str, list[Result]] = {}
    for (who, problem, _, _), result in found.items():
        if who == policy:
            results.setdefault(problem, []).append(result)
    rewards = {name: mean(r.reward for r in all_) for name, all_ in results.items()}
    sets = {titles[name]: rewards[name] for name in titles}
    return {
        "mean": mean(sets.values()) if sets else None,
        "sets": sets,
        "worlds": {name: rewards[name] for name in _WORLDS if name in rewards},
        "seeds": max(len(all_) for all_ in results.values()),
        "least_propensity": min(r.least for all_ in results.values() for r in all_),
        "microseconds": {
            titles.get(name, name): mean(r.microseconds for r in all_)
            for name, all_ in results.items()
        },
    }


def _pairs(
    found: dict[_Job, Result], names: list[str], titles: dict[str, str]
) -> list[dict[str, Any]]:
    """Return ours and others' of the same name and settings, on the same rounds."""
    pairs = []
    for ours, (_, theirs) in _TWINS.items():
        for their in theirs:
            if ours not in names or their not in names or _absent(their):
                continue
            sets = {}
            for problem, title in titles.items():
                both = [
                    (result.reward, found[their, *job[1:]].reward)
                    for job, result in found.items()
                    if job[:2] == (ours, problem) and (their, *job[1:]) in found
                ]
                sets[title] = [mean(rewards) for rewards in zip(*both, strict=True)]
            pairs.append({"ours": ours, "theirs": their, "sets": sets})
    return pairs


def _show_pairs(pairs: list[dict[str, Any]], columns: list[str]) -> None:
    """Print ours beside the others' of the same name and settings."""
    if not pairs or not columns:
        return
    title = "The same policy, ours / theirs"
    table = Table(title=title, box=box.HEAVY_HEAD, title_justify="left")
    table.add_column("theirs", no_wrap=True)
    for column in (*columns, "mean"):
        table.add_column(column, justify="right")
    for pair in pairs:
        cells = [pair["sets"][column] for column in columns]
        cells.append([mean(side) for side in zip(*cells, strict=True)])
        table.add_row(pair["theirs"], *(f"{a:.3f} / {b:.3f}" for a, b in cells))
    _out.print(table)


def _show(
    title: str, names: list[str], columns: list[str], part: str, report: Any
) -> None:
    """Print a table, the policy that earns the most first."""
    if not columns:
        return
    table = Table(title=title, box=box.HEAVY_HEAD, title_justify="left")
    table.add_column("policy")
    for column in (*columns, "mean", "seeds"):
        table.add_column(column, justify="right")
    rows = {
        name: [report[name][part].get(column, -math.inf) for column in columns]
        for name in names
        if report[name][part]
    }
    best = [max(values) for values in zip(*rows.values(), strict=True)]
    for name in sorted(rows, key=lambda name: -mean(rows[name])):
        cells = [
            f"[bold]{value:.3f}[/]" if value == top else _cell(value)
            for value, top in zip(rows[name], best, strict=True)
        ]
        seeds = str(report[name]["seeds"])
        table.add_row(name, *cells, _cell(mean(rows[name])), seeds)
    if part == "sets" and set(columns) <= set(_PEERS):
        goals = [_PEERS[column] for column in columns]
        goal = [f"{value:.3f}" for value in goals]
        table.add_row("best of the field", *goal, f"{mean(goals):.3f}", "")
    _out.print(table)


def _cell(value: float) -> str:
    """Return a reward as text; none where a policy cannot go."""
    return f"{value:.3f}" if math.isfinite(value) else "–"


def _plot(report: Any, names: list[str], columns: list[str], *, worlds: bool) -> None:
    """Draw what each policy earned, problem by problem."""
    import matplotlib as mpl  # noqa: PLC0415 - half a second that --help need not wait

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "opportune"
    from matplotlib import pyplot as plt  # noqa: PLC0415 - as above

    panels: Iterable[tuple[str, list[str]]] = [("sets", columns)]
    if worlds:
        panels = [*panels, ("worlds", list(_WORLDS))]
    panels = [panel for panel in panels if panel[1]]
    figure, axes = plt.subplots(
        len(panels), figsize=(10, 4.2 * len(panels)), squeeze=False
    )
    for axis, (part, problems) in zip(axes[:, 0], panels, strict=True):
        for name in names:
            if name in _TWINS:
                continue
            values = [report[name][part].get(problem, math.nan) for problem in problems]
            ours = name == "default"
            axis.plot(
                problems,
                values,
                "o-" if ours else ".:",
                label=name,
                linewidth=2.5 if ours else 1.0,
                color="tab:red" if ours else None,
                zorder=3 if ours else 2,
            )
        axis.set_ylabel("mean reward")
        axis.grid(alpha=0.3)
    axes[0, 0].legend(bbox_to_anchor=(1.01, 1.0), loc="upper left", fontsize="small")
    figure.tight_layout()
    figure.savefig(_FOLDER / "quality.svg", metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    typer.run(run)
