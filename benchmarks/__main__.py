"""Runs the benchmarks: `python -m benchmarks [NAME...]`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn

from benchmarks import changes, engine, gates, get_offer
from benchmarks.machine import describe, summary

__all__ = ["run"]

_FOLDER = Path("build/bench")
_out = Console(highlight=False)


class Benchmark(StrEnum):
    """A benchmark by its name."""

    ENGINE = "engine"
    GATES = "gates"
    GET_OFFER = "get_offer"
    CHANGES = "changes"


_TABLES = {
    Benchmark.ENGINE: engine.tables,
    Benchmark.GATES: gates.tables,
    Benchmark.GET_OFFER: get_offer.tables,
    Benchmark.CHANGES: changes.tables,
}


def run(
    names: Annotated[
        list[Benchmark] | None,
        typer.Argument(help="Which to run; all of them by default."),
    ] = None,
    *,
    rounds: Annotated[
        int, typer.Option(min=1, help="How often each measurement is repeated.")
    ] = 7,
    seconds: Annotated[
        float, typer.Option(min=0.5, help="How long a turn of a server is.")
    ] = 4.0,
    users: Annotated[
        int,
        typer.Option(min=1, help="How many users the largest store has: 3 kB each."),
    ] = 1_000_000,
    show: Annotated[
        bool,
        typer.Option("--show", help="Only show what was measured last, as Markdown."),
    ] = False,
) -> None:
    """Measure, print tables, and write build/bench/NAME.json."""
    for name in names or list(Benchmark):
        file = _FOLDER / f"{name}.json"
        if not show:
            result = _measure(name, rounds, seconds, users)
            _FOLDER.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        elif not file.exists():
            _out.print(f"{file}: nothing was measured yet")
            raise typer.Exit(1)
        result = json.loads(file.read_text(encoding="utf-8"))
        _show(name, result, box.MARKDOWN if show else box.HEAVY_HEAD)
        _out.print(f"{file}\n")


def _measure(
    name: Benchmark, rounds: int, seconds: float, users: int
) -> dict[str, Any]:
    machine = describe()
    columns = (SpinnerColumn(), *Progress.get_default_columns(), TimeElapsedColumn())
    with Progress(*columns, transient=True) as progress:
        match name:
            case Benchmark.ENGINE:
                result = engine.measure(progress, rounds=rounds)
            case Benchmark.GATES:
                result = gates.measure(progress, rounds=rounds, users=users)
            case Benchmark.GET_OFFER:
                result = get_offer.measure(progress, rounds=rounds, seconds=seconds)
            case Benchmark.CHANGES:
                result = changes.measure(progress, rounds=rounds)
    return {"machine": machine, **result}


def _show(name: Benchmark, result: dict[str, Any], style: box.Box) -> None:
    _out.print(summary(result["machine"]), soft_wrap=True)
    for table in _TABLES[name](result):
        table.box = style
        _out.print(table)


if __name__ == "__main__":
    typer.run(run)
