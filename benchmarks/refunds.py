"""How far learners are from the truth where rewards turn out late to be none.

Each learner learns the same decisions twice: with rewards that turn out late to be
none, and are corrected then, and with what was true in the end, known at once. How far
what it then expects differs is in the table, over contexts and actions: the root of the
mean square, and the most. Rewards are 0 or 1, so both are shares of their range.

    make bench-refunds

prints the table and writes build/bench/refunds.json. What is learned anew from the log
(`opportune-server models rebuild`) differs by nothing.
"""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.machine import describe, summary
from policies.model import Action, Features, FloatArray
from policies.policy import (
    BlendSettings,
    KernelSettings,
    LearnerSettings,
    LinearSettings,
    LinUCBSettings,
    LogisticSettings,
    Policy,
    PolicySettings,
    PopularitySettings,
    VowpalWabbitSettings,
)

__all__ = ["LATE", "LEARNERS", "SHARES", "WORLDS", "Off", "World", "off_by", "table"]

_FILE = Path("build/bench/refunds.json")
_PROBES = 200
_out = Console(highlight=False)

SHARES = (0.05, 0.2, 0.5)
LATE = (10, 500, 5_000)
"""By how many decisions corrections are late; at the end all that are left come."""

LEARNERS: dict[str, LearnerSettings] = {
    "blend": BlendSettings(),
    "linucb": LinUCBSettings(),
    "linear": LinearSettings(),
    "linear, hybrid": LinearSettings(shape="hybrid"),
    "kernel": KernelSettings(),
    "logistic": LogisticSettings(),
    "popularity": PopularitySettings(),
    "vw": VowpalWabbitSettings(),
}


class World(NamedTuple):
    """What users are like.

    Attributes:
        segments: How many segments there are, one of which a user is in.
        flags: How many things are so or not of each user.
        described: Whether actions have features, that some of them share.
        actions: How many there are.
    """

    segments: int
    flags: int
    described: bool
    actions: int


WORLDS = {
    "segments": World(segments=6, flags=0, described=False, actions=3),
    "flags": World(segments=0, flags=10, described=False, actions=2),
    "described": World(segments=6, flags=0, described=True, actions=6),
}


class Off(NamedTuple):
    """How far what is expected differs from what the truth would have taught.

    Attributes:
        usual: The root of the mean square, over contexts and actions.
        most: The largest.
    """

    usual: float
    most: float


class _Row(NamedTuple):
    context: Features
    action: Action
    earned: float
    kept: float


def off_by(
    settings: LearnerSettings, world: World, share: float, *, late: int, rows: int
) -> Off:
    """Return how far corrections leave a learner from the truth.

    Args:
        settings: The learner.
        world: What users are like.
        share: Of the rewards, which part turns out to be none.
        late: How many decisions later.
        rows: How many decisions are learned in all.
    """
    learned = _rows(world, share, rows)
    corrected, right = _policy(settings), _policy(settings)
    pending: deque[tuple[int, _Row]] = deque()
    chance = 1.0 / world.actions
    for at, row in enumerate(learned):
        context, action, earned, kept = row
        among = _actions(world)
        corrected.learn(context, action, reward=earned, propensity=chance, among=among)
        right.learn(context, action, reward=kept, propensity=chance, among=among)
        if kept != earned:
            pending.append((at + late, row))
        while pending and (pending[0][0] <= at or at == rows - 1):
            _, (context, action, earned, kept) = pending.popleft()
            corrected.correct(
                context,
                action,
                reward=kept,
                before=earned,
                propensity=chance,
                among=among,
            )
    differences = _expected(corrected, world) - _expected(right, world)
    return Off(
        float(np.sqrt((differences * differences).mean())),
        float(np.abs(differences).max()),
    )


def _policy(settings: LearnerSettings) -> Policy:
    return Policy(PolicySettings(settings))


def _rows(world: World, share: float, rows: int) -> list[_Row]:
    """Return decisions, all actions alike likely, by what they earned and kept."""
    rng = np.random.default_rng(7)
    actions = _actions(world)
    made = []
    for _ in range(rows):
        context = _context(world, rng)
        action = actions[int(rng.integers(world.actions))]
        earned = float(rng.random() < _chance(context, action))
        kept = 0.0 if rng.random() < share else earned
        made.append(_Row(context, action, earned, kept))
    return made


def _actions(world: World) -> list[Action]:
    return [
        Action(
            index,
            f"offer-{index}",
            "text",
            "home",
            ((f"kind={index % 2}", 1.0), ("size", index / world.actions))
            if world.described
            else (),
        )
        for index in range(1, world.actions + 1)
    ]


def _context(world: World, rng: np.random.Generator) -> Features:
    features = [("constant", 1.0), ("x", float(rng.standard_normal()))]
    if world.segments:
        features.append((f"segment={rng.integers(world.segments)}", 1.0))
    features += [(f"flag{at}={rng.integers(2)}", 1.0) for at in range(world.flags)]
    return tuple(features)


def _chance(context: Features, action: Action) -> float:
    """Return how likely an action pleases."""
    known = dict(context)
    chance = (0.35, 0.6, 0.2)[action.index % 3] + 0.1 * float(np.tanh(known["x"]))
    if action.index % 3 == 2 and "segment=0" in known:
        chance += 0.4
    if "flag0=0" in known:
        chance += 0.15 if action.index == 1 else -0.1
    return min(max(chance, 0.02), 0.98)


def _expected(policy: Policy, world: World) -> FloatArray:
    """Return what is expected in many contexts, shape (n_contexts, n_actions)."""
    rng = np.random.default_rng(8)
    contexts = [_context(world, rng) for _ in range(_PROBES)]
    return np.array(
        [policy.believe(context, _actions(world)).mean for context in contexts]
    )


def table(result: dict[str, dict[str, Off]]) -> Table:
    """Show the worst world of each learner: what is usual, and in brackets the most."""
    shown = Table(title="Off by, in shares of the range of rewards")
    shown.add_column("learner")
    for case in next(iter(result.values())):
        shown.add_column(case, justify="right")
    for name, found in result.items():
        shown.add_row(
            name, *(f"{off.usual:.3f} ({off.most:.2f})" for off in found.values())
        )
    return shown


def main(
    *,
    rows: Annotated[int, typer.Option(min=10, help="How many decisions.")] = 6_000,
    learner: Annotated[list[str] | None, typer.Option(help="Only these.")] = None,
) -> None:
    """Measure, print a table, and write build/bench/refunds.json."""
    machine = describe()
    result: dict[str, dict[str, Off]] = {}
    cases = [(share, late) for share in SHARES for late in LATE]
    chosen = {n: s for n, s in LEARNERS.items() if not learner or n in learner}
    with Progress(transient=True) as progress:
        for name, settings in progress.track(chosen.items(), description="learners"):
            result[name] = {}
            for share, late in cases:
                found = [
                    off_by(settings, world, share, late=late, rows=rows)
                    for world in WORLDS.values()
                ]
                result[name][f"{share:.0%}, {late:,} late"] = Off(
                    max(off.usual for off in found), max(off.most for off in found)
                )
    written: dict[str, Any] = {"machine": machine, "rows": rows, "off": result}
    _FILE.parent.mkdir(parents=True, exist_ok=True)
    _FILE.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    _out.print(summary(machine), soft_wrap=True)
    _out.print(table(result))
    _out.print(str(_FILE))


if __name__ == "__main__":
    typer.run(main)
