"""Vowpal Wabbit: our learner beside VW's own driver on the same stream, on one core.

For each number of actions K and of features d there is one stream: a context of d
numbers, one of K actions chosen evenly, a reward of 0 or 1. What is compared takes
turns, and a rate is that of the fastest turn, in time of the processor: what else the
machine does reaches it least.

`ours, policy` predicts on all K actions and learns the chosen one, which is what
serving and learning a decision take. `ours, learn` learns alone, by `mtr`; `ours, learn
dr` does with all K actions, and so do the explorers. `driver` is VW reading the
same decisions as text and learning them, `driver, predict` predicting alone; it parses
in a thread of its own, whose time is counted too. `pyvw, text` is what VW's documented
way from Python takes: text for every call, parsed twice.

    python -m benchmarks.vowpal [--decisions 2000] [--rounds 3]
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from vowpalwabbit import Workspace

from benchmarks.machine import describe, summary
from policies.learners.vw import VowpalWabbit, VowpalWabbitSettings
from policies.learners.vw_explorers import VwSquareCB
from policies.model import Action, Features

__all__ = ["SIZES", "measure", "tables"]

SIZES = ((10, 20), (10, 50), (50, 20), (50, 50))
"""Numbers of actions, and of features of the context."""

_FILE = Path("build/bench/vowpal.json")


class _Row(NamedTuple):
    context: Features
    at: int
    reward: float


class _Stream(NamedTuple):
    """The same decisions for all."""

    actions: list[Action]
    rows: list[_Row]
    texts: list[list[str]]
    path: str


def measure(
    *,
    decisions: int = 2_000,
    rounds: int = 3,
    sizes: Sequence[tuple[int, int]] = SIZES,
) -> dict[str, Any]:
    """Return decisions a second: by K and d, as `K10_d20`, then by what was done."""
    with TemporaryDirectory(prefix="opportune-") as folder:
        return {
            f"K{count}_d{dim}": _rates(
                _stream(count, dim, decisions, Path(folder)), rounds
            )
            for count, dim in sizes
        }


def tables(rates: dict[str, Any]) -> list[Table]:
    """Return the rates as a table."""
    table = Table(title="decisions a second", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("what")
    for size in rates:
        table.add_column(size.replace("_", " "), justify="right")
    for name in next(iter(rates.values())):
        table.add_row(name, *(f"{rates[size][name]:,.0f}" for size in rates))
    return [table]


def _stream(count: int, dim: int, decisions: int, folder: Path) -> _Stream:
    generator = np.random.default_rng(count * 1_000 + dim)
    actions = [Action(i + 1, f"offer-{i}", "c", "p", ()) for i in range(count)]
    rows = [
        _Row(
            tuple((f"x{j}", value) for j, value in enumerate(numbers)),
            at,
            float(pleased),
        )
        for numbers, at, pleased in zip(
            generator.normal(size=(decisions, dim)).tolist(),
            generator.integers(count, size=decisions).tolist(),
            generator.random(decisions) < 0.3,
            strict=True,
        )
    ]
    texts = [_text(row, actions) for row in rows]
    path = folder / f"{count}-{dim}"
    path.write_text("\n\n".join("\n".join(lines) for lines in texts) + "\n\n")
    return _Stream(actions, rows, texts, str(path))


def _text(row: _Row, actions: Sequence[Action]) -> list[str]:
    words = " ".join(f"{name}:{value:.6g}" for name, value in row.context)
    label = f"0:{-row.reward}:{1 / len(actions)}"
    return [
        f"shared |c {words}",
        *(
            f"{label if i == row.at else ''} |a @{action.name}"
            for i, action in enumerate(actions)
        ),
    ]


def _rates(stream: _Stream, rounds: int) -> dict[str, float]:
    turns: dict[str, Callable[[], None]] = {
        "ours, policy": _ours(stream, VowpalWabbitSettings()),
        "ours, policy, dr": _ours(stream, VowpalWabbitSettings(cb_type="dr")),
        "ours, policy, squarecb": _ours(
            stream, VowpalWabbitSettings(explorer=VwSquareCB())
        ),
        "ours, predict": _ours(stream, VowpalWabbitSettings(), learns=False),
        "ours, learn": _ours(stream, VowpalWabbitSettings(), predicts=False),
        "ours, learn, dr": _ours(
            stream, VowpalWabbitSettings(cb_type="dr"), predicts=False
        ),
        "driver": _driver(stream),
        "driver, predict": _driver(stream, "--testonly"),
        "pyvw, text": _pyvw(stream),
    }
    best = dict.fromkeys(turns, float("inf"))
    for _ in range(rounds):
        for name, turn in turns.items():
            started = time.process_time()
            turn()
            best[name] = min(best[name], time.process_time() - started)
    return {name: len(stream.rows) / seconds for name, seconds in best.items()}


def _ours(
    stream: _Stream,
    settings: VowpalWabbitSettings,
    *,
    predicts: bool = True,
    learns: bool = True,
) -> Callable[[], None]:
    learner = VowpalWabbit(settings)
    actions, propensity = stream.actions, 1.0 / len(stream.actions)
    ask = learner.score if settings.explorer is None else learner.distribution

    def turn() -> None:
        for context, at, reward in stream.rows:
            if predicts:
                ask(context, actions)
            if learns:
                learner.learn(
                    context,
                    actions[at],
                    reward=reward,
                    propensity=propensity,
                    among=actions,
                )

    return turn


def _driver(stream: _Stream, *more: str) -> Callable[[], None]:
    options = [*VowpalWabbitSettings().options, "--data", stream.path, *more]
    return lambda: Workspace(arg_list=options).finish()


def _pyvw(stream: _Stream) -> Callable[[], None]:
    workspace = Workspace(arg_list=list(VowpalWabbitSettings().options))

    def turn() -> None:
        for lines in stream.texts:
            workspace.predict(lines)
            workspace.learn(lines)

    return turn


def _main(
    *,
    decisions: Annotated[
        int, typer.Option(min=100, help="How many decisions a turn has.")
    ] = 2_000,
    rounds: Annotated[int, typer.Option(min=1, help="How many turns each has.")] = 3,
) -> None:
    """Measure our learner beside VW's own driver, and say it as a table."""
    rates = measure(decisions=decisions, rounds=rounds)
    machine = describe()
    _FILE.parent.mkdir(parents=True, exist_ok=True)
    _FILE.write_text(json.dumps({"machine": machine, "per_s": rates}, indent=1))
    out = Console(highlight=False)
    for table in tables(rates):
        out.print(table)
    out.print(summary(machine))


if __name__ == "__main__":
    typer.run(_main)
