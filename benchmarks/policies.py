"""How many decisions a second learners make and learn from, beside others.

A decision is: score all actions, take the best, learn what it earned. Each learner is
driven as its users drive it: ours with contexts of names and numbers and with actions,
others with what they take. They take turns, and the figures are medians over the
rounds, of decisions per second of processor time on one core: what else the machine
does in between does not count, though it still slows what does.

    make bench-policies

prints a table, and then each goal with the figure that was reached, and writes both
to build/bench/policies.json. Peers take part where they are installed: vowpalwabbit is,
as ours stands on it; vowpal-wabbit-next, mabwiser, river and gittins may be, and it is
said which are not. What is measured of Vowpal Wabbit beside its own driver is that of
`benchmarks.vowpal`. What is in the table as *vectors* is the arithmetic of `linucb`
alone, on vectors that were made before: what peers get that take no names. `numpy` is
LinUCB in a few lines.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import json
import time
from collections.abc import Callable, Iterator
from operator import truediv
from pathlib import Path
from statistics import median
from typing import Annotated, Any, NamedTuple, Protocol

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import vowpal
from benchmarks.machine import describe, summary
from policies.learners.ridge import Ridges
from policies.model import Action, Features
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

__all__ = [
    "OURS",
    "PEERS",
    "SIZES",
    "Goal",
    "Size",
    "World",
    "goals",
    "goals_table",
    "measure",
    "missing",
    "ours",
    "table",
]

_FILE = Path("build/bench/policies.json")
_CONTEXTS = 64
"""So few that they stay in the processor's cache: that of a request just came there."""
_ALPHA = 0.1
_NEXT = "vowpal-wabbit-next, examples used again"
_out = Console(highlight=False)


class Size(NamedTuple):
    """How many actions there are, and how many features a context has."""

    actions: int
    features: int

    def __str__(self) -> str:
        return f"K={self.actions} d={self.features}"

    @property
    def places(self) -> int:
        """The places to hash so many names to, so that few meet: a power of 2."""
        return 32 if self.features <= 20 else 64


SIZES = [Size(10, 20), Size(10, 50), Size(50, 20), Size(50, 50)]

OURS: dict[str, Callable[[Size], LearnerSettings]] = {
    "linucb": lambda size: LinUCBSettings(dim=size.places, alpha=_ALPHA),
    "linucb, dim=d": lambda size: LinUCBSettings(dim=size.features, alpha=_ALPHA),
    "linear": lambda size: LinearSettings(dim=size.places),
    "linear, shared": lambda _: LinearSettings(dim=128, shape="shared"),
    "linear, hybrid": lambda size: LinearSettings(dim=size.places, shape="hybrid"),
    "linear, forgetting": lambda size: LinearSettings(
        dim=size.places, forgetting=0.999
    ),
    "logistic": lambda size: LogisticSettings(dim=size.places),
    "kernel": lambda _: KernelSettings(),
    "popularity": lambda _: PopularitySettings(),
    "vw": lambda _: VowpalWabbitSettings(),
    "blend": lambda _: BlendSettings(),
}


class World:
    """Contexts, and what each action earns in them: linear, and some noise."""

    def __init__(self, size: Size) -> None:
        rng = np.random.default_rng(0)
        self.size = size
        self.vectors = rng.standard_normal((_CONTEXTS, size.features))
        weights = rng.standard_normal((size.features, size.actions))
        noise = 0.1 * rng.standard_normal((_CONTEXTS, size.actions))
        earned = self.vectors @ weights / size.features + noise
        self.rewards: list[list[float]] = earned.tolist()
        self.contexts: list[Features] = [
            tuple((f"feature-{at}", value) for at, value in enumerate(row))
            for row in self.vectors.tolist()
        ]
        self.actions = [
            Action(
                index,
                f"offer-{index}",
                "text",
                "home",
                (("price", float(price)), (f"kind={index % 5}", 1.0)),
            )
            for index, price in enumerate(rng.random(size.actions), 1)
        ]


class Driver(Protocol):
    """Makes a decision in one of the contexts, and learns from it."""

    def __call__(self, at: int) -> None: ...


def ours(world: World, settings: LearnerSettings) -> Driver:
    """Drive a learner of ours by what is public of it."""
    learner = Policy(PolicySettings(settings)).learner
    contexts, actions, rewards = world.contexts, world.actions, world.rewards

    def decide(at: int) -> None:
        context = contexts[at]
        best = int(learner.score(context, actions).argmax())
        learner.learn(context, actions[best], reward=rewards[at][best], propensity=1.0)

    return decide


def vectors(world: World) -> Driver:
    """Drive the arithmetic of `linucb` on vectors that need not be made."""
    ridges = Ridges(world.size.features, 1.0)
    x, actions, rewards = world.vectors, world.actions, world.rewards
    width = np.array(_ALPHA)

    def decide(at: int) -> None:
        best = int(ridges.bounds(actions, x[at], width).argmax())
        ridges.learn(actions[best].name, x[at], rewards[at][best])

    return decide


def plain(world: World) -> Driver:
    """Drive disjoint LinUCB as one writes it in numpy, by Sherman and Morrison."""
    actions, features = world.size
    inverse = np.stack([np.eye(features)] * actions)
    theta = np.zeros((actions, features))
    rewards = world.rewards

    def decide(at: int) -> None:
        x = world.vectors[at]
        bounds = theta @ x + _ALPHA * np.sqrt((inverse @ x) @ x)
        best = int(bounds.argmax())
        u = inverse[best] @ x
        scale = 1.0 + x @ u
        theta[best] += u * ((rewards[at][best] - x @ theta[best]) / scale)
        inverse[best] -= np.outer(u, u) / scale

    return decide


def vowpal_wabbit(world: World) -> Driver:
    """Drive Vowpal Wabbit's epsilon-greedy over actions, by its text format."""
    module = importlib.import_module("vowpalwabbit")
    workspace = module.Workspace(
        "--cb_explore_adf --epsilon 0.05 --interactions ca --quiet"
    )
    shared = [
        "shared |c " + " ".join(f"{name}:{value:.6f}" for name, value in context)
        for context in world.contexts
    ]
    lines = [
        f"|a {action.name} "
        + " ".join(f"{name}:{value:.6f}" for name, value in action.features)
        for action in world.actions
    ]

    def decide(at: int) -> None:
        chances = workspace.predict("\n".join([shared[at], *lines]))
        best = int(np.argmax(chances))
        label = f"0:{-world.rewards[at][best]:.6f}:{chances[best]:.6f} "
        labelled = [*lines[:best], label + lines[best], *lines[best + 1 :]]
        workspace.learn("\n".join([shared[at], *labelled]))

    return decide


def vowpal_wabbit_next(world: World) -> Driver:
    """Drive vowpal-wabbit-next on examples that are parsed once and used again."""
    module = importlib.import_module("vowpal_wabbit_next")
    options = "--cb_explore_adf --epsilon 0.05 --interactions ca --quiet"
    workspace = module.Workspace(options.split())
    parse = module.TextFormatParser(workspace).parse_line
    shared = [
        parse("shared |c " + " ".join(f"{name}:{value:.6f}" for name, value in context))
        for context in world.contexts
    ]
    actions = [
        parse(
            f"|a {action.name} "
            + " ".join(f"{name}:{value:.6f}" for name, value in action.features)
        )
        for action in world.actions
    ]
    unlabelled = module.CBLabel()

    def decide(at: int) -> None:
        examples = [shared[at], *actions]
        best, chance = max(workspace.predict_one(examples), key=lambda pair: pair[1])
        label = module.CBLabel(label=(-world.rewards[at][best], chance))
        actions[best].set_label(label)
        workspace.learn_one(examples)
        actions[best].set_label(unlabelled)

    return decide


def mabwiser(world: World) -> Driver:
    """Drive mabwiser's LinUCB, a row at a time."""
    mab = importlib.import_module("mabwiser.mab")
    arms = list(range(world.size.actions))
    bandit = mab.MAB(arms, mab.LearningPolicy.LinUCB(alpha=_ALPHA))
    bandit.fit(arms, [0.0 for _ in arms], world.vectors[: len(arms)])

    def decide(at: int) -> None:
        x = world.vectors[at : at + 1]
        best = bandit.predict(x)
        bandit.partial_fit([best], [world.rewards[at][best]], x)

    return decide


def river(world: World) -> Driver:
    """Drive river's disjoint LinUCB."""
    bandit = importlib.import_module("river.bandit")
    policy = bandit.LinUCBDisjoint(alpha=_ALPHA, seed=0)
    arms = list(range(world.size.actions))
    contexts = [dict(context) for context in world.contexts]

    def decide(at: int) -> None:
        best = policy.pull(arms, context=contexts[at])
        policy.update(best, contexts[at], world.rewards[at][best])

    return decide


def gittins(world: World) -> Driver:
    """Drive gittins, whose clock is the number of decisions."""
    module = importlib.import_module("gittins")
    state = module.create(18, 3600.0)
    contexts = [dict(context) for context in world.contexts]
    actions = [(action.name, dict(action.features)) for action in world.actions]
    now = itertools.count()

    def decide(at: int) -> None:
        time_s = float(next(now))
        record = module.decide(state, contexts[at], actions, time_s, "salt")
        reward = world.rewards[at][record.chosen]
        module.learn(state, record.decision_id, reward, time_s)

    return decide


PEERS: dict[str, tuple[str, Callable[[World], Driver]]] = {
    "vowpalwabbit, text": ("vowpalwabbit", vowpal_wabbit),
    _NEXT: ("vowpal_wabbit_next", vowpal_wabbit_next),
    "mabwiser LinUCB": ("mabwiser", mabwiser),
    "river LinUCBDisjoint": ("river", river),
    "gittins": ("gittins", gittins),
    "numpy": ("numpy", plain),
}
"""By name, the package that must be installed, and what drives it.

Numpy's turn is right before those of `linucb`, which are compared with it.
"""


class Goal(NamedTuple):
    """What is to be reached.

    Attributes:
        what: Of which figure it is.
        unit: The unit of both numbers.
        least: What it is to be at least; none where it is to be at most `most`.
        most: What it is to be at most.
        reached: The figure.
    """

    what: str
    unit: str
    least: float | None
    most: float | None
    reached: float

    @property
    def met(self) -> bool:
        """Whether it is reached."""
        if self.least is not None:
            return self.reached >= self.least
        return self.most is not None and self.reached <= self.most


_SMALL, _LARGE = "K=10 d=20", "K=50 d=50"
_NUMPY = {_SMALL: 67_400.0, _LARGE: 18_600.0}
"""What `numpy` did where the goals were set: they are ratios to it."""

_LINUCB = {_SMALL: 60_000.0, _LARGE: 18_000.0}
_NEXT_RATES = {_SMALL: 18_600.0, _LARGE: 4_700.0}
"""What vowpal-wabbit-next did there: of use where it is not installed."""

_LEARNED = 8_000.0
_PREDICT_RATIO = 1.5
_VOWPAL = "K50_d50"


def goals(result: dict[str, Any], beside: dict[str, Any]) -> list[Goal]:
    """Return every goal with what was reached.

    Args:
        result: The rates and ratios of `measure`.
        beside: The rates of `benchmarks.vowpal.measure`.
    """
    ratios, found = result["ratios"], list[Goal]()
    for size, numpy_rate in _NUMPY.items():
        least = _LINUCB[size] / numpy_rate
        for name in ("linucb, dim=d", "linucb", "linucb, vectors"):
            reached = ratios[size][name]
            found.append(Goal(f"{name}, {size}", "numpy's", least, None, reached))
    for size, numpy_rate in _NUMPY.items():
        unit, least = "numpy's", _NEXT_RATES[size] / numpy_rate
        reached = ratios[size]["vw"]
        if _NEXT in ratios[size]:
            unit, least = "vowpal-wabbit-next's", 1.0
            reached /= ratios[size][_NEXT]
        found.append(Goal(f"vw, {size}", unit, least, None, reached))
    large = beside[_VOWPAL]
    what = f"vw learns, {_LARGE}"
    found.append(Goal(what, "a second", _LEARNED, None, large["ours, learn"]))
    ratio = large["driver, predict"] / large["ours, predict"]
    what = f"vw predicts, {_LARGE}"
    found.append(Goal(what, "times the driver's", None, _PREDICT_RATIO, ratio))
    return found


def missing() -> list[str]:
    """Return the peers that are not installed."""
    return [
        name
        for name, (package, _) in PEERS.items()
        if importlib.util.find_spec(package) is None
    ]


def drivers(world: World) -> dict[str, Driver]:
    """Return all that can take part."""
    return {
        **{
            name: drive(world)
            for name, (package, drive) in PEERS.items()
            if importlib.util.find_spec(package) is not None
        },
        "linucb, vectors": vectors(world),
        **{name: ours(world, settings(world.size)) for name, settings in OURS.items()},
    }


def measure(
    progress: Progress, *, rounds: int, seconds: float, sizes: list[Size] = SIZES
) -> dict[str, Any]:
    """Let all take turns at each size.

    Args:
        progress: Shows how far it is.
        rounds: How many turns each has.
        seconds: About how long a turn is.
        sizes: The sizes.

    Returns:
        Per size and name, decisions per second, and how many times numpy's in the same
        round: medians over the rounds.
    """
    rates: dict[str, dict[str, float]] = {}
    ratios: dict[str, dict[str, float]] = {}
    for size in sizes:
        turns = {
            name: _turns(driver, seconds)
            for name, driver in drivers(World(size)).items()
        }
        measured: dict[str, list[float]] = {name: [] for name in turns}
        for _ in progress.track(range(rounds), description=str(size)):
            for name, turn in turns.items():
                measured[name].append(next(turn))
        rates[str(size)] = {name: median(found) for name, found in measured.items()}
        ratios[str(size)] = {
            name: median(map(truediv, found, measured["numpy"]))
            for name, found in measured.items()
        }
    return {"rates": rates, "ratios": ratios, "rounds": rounds}


def _turns(driver: Driver, seconds: float) -> Iterator[float]:
    """Yield decisions per second of processor time, a turn at a time."""
    at = itertools.cycle(range(_CONTEXTS))
    for _ in range(200):
        driver(next(at))
    while True:
        count = 0
        began = time.process_time()
        while (spent := time.process_time() - began) < seconds:
            for _ in range(20):
                driver(next(at))
            count += 20
        yield count / spent


def table(result: dict[str, Any]) -> Table:
    """Show decisions per second, and in brackets how many times numpy's."""
    shown = Table(title="Decisions per second of one core: score all, learn one")
    shown.add_column("learner")
    for size in result["rates"]:
        shown.add_column(size, justify="right")
    for name in next(iter(result["rates"].values())):
        cells = [
            f"{found[name]:,.0f} ({result['ratios'][size][name]:.2f})"
            for size, found in result["rates"].items()
        ]
        shown.add_row(name, *cells)
    return shown


def goals_table(found: list[Goal]) -> Table:
    """Show what was to be reached, and what was."""
    shown = Table("goal", "", "reached", "of", "", title="Goals")
    for goal in found:
        bound, word = goal.least, "least"
        if bound is None:
            bound, word = goal.most, "most"
        verdict = "met" if goal.met else "missed"
        limit, reached = f"at {word} {bound:,.2f}", f"{goal.reached:,.2f}"
        shown.add_row(goal.what, limit, reached, goal.unit, verdict)
    return shown


def main(
    *,
    rounds: Annotated[int, typer.Option(min=1, help="How many turns each has.")] = 9,
    seconds: Annotated[
        float, typer.Option(min=0.01, help="How long a turn is, in processor time.")
    ] = 0.1,
) -> None:
    """Measure, print a table, and write build/bench/policies.json."""
    machine = describe()
    with Progress(transient=True) as progress:
        result = {
            "machine": machine,
            **measure(progress, rounds=rounds, seconds=seconds),
        }
        progress.add_task("beside VW's own driver", total=None)
        result["vowpal"] = vowpal.measure(decisions=1_000, sizes=[(50, 50)])
    found = goals(result, result["vowpal"])
    result["goals"] = [{**goal._asdict(), "met": goal.met} for goal in found]
    result["missing"] = missing()
    _FILE.parent.mkdir(parents=True, exist_ok=True)
    _FILE.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    _out.print(summary(machine), soft_wrap=True)
    _out.print(table(result))
    _out.print(goals_table(found))
    if result["missing"]:
        _out.print(f"Not installed: {'; '.join(result['missing'])}.")
    _out.print(str(_FILE))


if __name__ == "__main__":
    typer.run(main)
