"""What policies earn in every world that comes with the program: `make study-worlds`.

Each world is played by who never shows anything, by chance, by the policy that a server
has by default, which begins knowing nothing, and by who knows everything of the users.
Then one of the worlds is logged by chance with more and more users, and what `best`
would have earned is estimated from the log and compared with the truth.

    python -m benchmarks.worlds --users 100 --days 15 calm small_steps

prints a table, and writes build/bench/worlds.json: for each world and policy

    expected    what a decision earned by the truth, on average, and `regret` what the
                best eligible action would have earned more
    trust       the share of users who neither left nor opted out of anything
    value       what a user paid in all, on average, in minor units

and for each number of users the decisions of a log, on average over seeds, and of the
estimate the root of the mean squared error, how wide its interval is, and how often
that held the truth.

It ends with status 1 if the default policy earns no more than chance in a world.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.machine import describe, summary
from simulator.simulating import player, simulate
from simulator.worlds import presets, read_world

__all__ = ["errors", "played"]

_FOLDER = Path("build/bench")
_POLICIES = ("silent", "uniform", "default", "oracle")
_FIGURES = ("decisions", "shown", "accepts", "expected", "regret", "trust", "value")
_SIZES = (250, 500, 1_000, 2_000)
_LOGGED = "calm"
_LOGGED_DAYS = 5.0
_out = Console(highlight=False, width=120)


def played(
    world: str, users: int | None = None, days: float | None = None
) -> dict[str, dict[str, float]]:
    """Return the figures of each policy in a world.

    Args:
        world: Its name.
        users: How many users there are; as the world says without it.
        days: How many days it lasts; likewise.
    """
    found: dict[str, dict[str, float]] = {}
    for name in _POLICIES:
        figures = simulate(
            read_world(world), player(name), users=users, days=days, estimates=False
        ).result.figures
        found[name] = {figure: float(getattr(figures, figure)) for figure in _FIGURES}
    return found


def errors(
    sizes: Sequence[int], seeds: int, days: float = _LOGGED_DAYS
) -> list[dict[str, float]]:
    """Return how far estimates from logs of more and more users are from the truth.

    Args:
        sizes: How many users there are.
        seeds: How many logs of each size.
        days: How many days each lasts.
    """
    found: list[dict[str, float]] = []
    for users in sizes:
        decisions, squares, widths, held = [], [], [], []
        for seed in range(seeds):
            world = read_world(_LOGGED, seed)
            result = simulate(world, player("uniform"), users=users, days=days).result
            best = next(each for each in result.estimates if each.policy == "best")
            if best.error is None or best.low is None or best.high is None:
                continue
            decisions.append(result.figures.decisions)
            squares.append(best.error**2)
            widths.append(best.high - best.low)
            held.append(best.low <= best.truth <= best.high)
        if squares:
            found.append(
                {
                    "users": users,
                    "decisions": mean(decisions),
                    "logs": len(squares),
                    "rmse": math.sqrt(mean(squares)),
                    "width": mean(widths),
                    "coverage": mean(held),
                }
            )
    return found


def main(
    worlds: Annotated[
        list[str] | None, typer.Argument(help="The worlds; all of them without any.")
    ] = None,
    *,
    users: Annotated[int | None, typer.Option(min=1, help="How many users.")] = None,
    days: Annotated[float | None, typer.Option(help="How many days.")] = None,
    seeds: Annotated[int, typer.Option(min=0, help="How many logs a size.")] = 12,
) -> None:
    """Play worlds, and compare estimates with the truth."""
    named = worlds or list(presets())
    found: dict[str, Any] = {"machine": describe(), "worlds": {}}
    columns = SpinnerColumn(), *Progress.get_default_columns(), TimeElapsedColumn()
    with Progress(*columns, console=_out, transient=True) as progress:
        task = progress.add_task("playing", total=len(named))
        for name in named:
            progress.update(task, description=name)
            found["worlds"][name] = played(name, users, days)
            progress.advance(task)
    found["errors"] = errors(_SIZES, seeds) if seeds else []
    _print_worlds(found["worlds"])
    _print_errors(found["errors"])
    _FOLDER.mkdir(parents=True, exist_ok=True)
    path = _FOLDER / "worlds.json"
    path.write_text(json.dumps(found, indent=2) + "\n")
    _out.print(summary(found["machine"]))
    _out.print(f"Written to {path}.")
    missed = [
        name
        for name, policies in found["worlds"].items()
        if policies["default"]["expected"] <= policies["uniform"]["expected"]
    ]
    if missed:
        _out.print(f"The default learned nothing that pays in: {', '.join(missed)}.")
        raise typer.Exit(1)


def _print_worlds(worlds: dict[str, dict[str, dict[str, float]]]) -> None:
    table = Table("earned a decision, ×1000", *_POLICIES, "trust", box=box.SIMPLE)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, policies in worlds.items():
        earned = [1_000 * policies[policy]["expected"] for policy in _POLICIES]
        trust = policies["default"]["trust"]
        table.add_row(name, *(f"{value:.1f}" for value in earned), f"{trust:.2f}")
    _out.print(table)


def _print_errors(sizes: Sequence[dict[str, float]]) -> None:
    if not sizes:
        return
    table = Table("users", "decisions", "rmse", "width", "held", box=box.SIMPLE)
    for column in table.columns:
        column.justify = "right"
    for row in sizes:
        table.add_row(
            f"{row['users']:,}",
            f"{row['decisions']:,.0f}",
            f"{row['rmse']:.4f}",
            f"{row['width']:.3f}",
            f"{row['coverage']:.0%}",
        )
    _out.print(table)


if __name__ == "__main__":
    typer.run(main)
