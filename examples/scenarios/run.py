"""Plays the scenarios, and shows what came.

Run it by `python examples/scenarios/run.py`, or with the names of some of them.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import sys
import tempfile
from pathlib import Path
from typing import Annotated, NoReturn

import grpc.aio
import structlog
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from examples.scenarios.playing import Row, play
from examples.scenarios.script import Scenario, names, read_scenario
from policies.errors import FileError

__all__ = ["main"]

# What the parts of a server tell operators is not about the scenarios.
structlog.configure(
    wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING)
)

_console = Console(highlight=False)
if not _console.is_terminal:
    _console.width = 120


def main(
    scenarios: Annotated[
        list[str] | None,
        typer.Argument(help="The scenarios to play, such as running_out; else all."),
    ] = None,
) -> None:
    """Play scenarios against a real server, and say what was not as expected."""
    known = names()
    unknown = [name for name in scenarios or () if name not in known]
    if unknown:
        _fail(f"there is no {', '.join(unknown)}; there are {', '.join(known)}")
    checked = missed = later = 0
    for name in scenarios or known:
        scenario, rows = _played(name)
        checked += len(rows)
        missed += sum(bool(row.misses) for row in rows)
        later += len(scenario.script.later)
    said = f"{checked} checked, {missed} not as expected; {later} to be completed"
    _console.print(f"\n{said}")
    sys.exit(1 if missed else 0)


def _played(name: str) -> tuple[Scenario, list[Row]]:
    """Play a scenario, and show what came."""
    try:
        scenario = read_scenario(name)
        with tempfile.TemporaryDirectory(prefix="opportune-scenario-") as folder:
            rows = asyncio.run(play(scenario, Path(folder)))
    except FileError as error:
        _fail(str(error))
    except grpc.aio.AioRpcError as error:
        _fail(f"{name}: the server answered {error.code().name}: {error.details()}")
    _console.print(_table(scenario, rows))
    for entry in scenario.script.later:
        needs = f"[yellow]to be completed with {entry.needs}[/]"
        _console.print(f"  ○ {escape(entry.title)}: {needs}. {escape(entry.because)}")
    return scenario, rows


def _fail(said: str) -> NoReturn:
    _console.print(said, style="red", markup=False, soft_wrap=True)
    sys.exit(1)


def _table(scenario: Scenario, rows: list[Row]) -> Table:
    script = scenario.script
    title = f"\n[bold]{scenario.name}[/] · {escape(script.company)}: "
    table = Table(
        title=title + escape(script.pattern), title_justify="left", pad_edge=False
    )
    table.add_column("when", no_wrap=True)
    table.add_column("what happens", ratio=4)
    table.add_column("what comes", ratio=2)
    table.add_column("why", ratio=4)
    table.add_column("")
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: Row) -> list[str]:
    happens = escape(row.title)
    if row.asked:
        happens += f"\n[dim]{escape(row.asked)}[/]"
    why = escape(row.why)
    for miss in row.misses:
        why += f"\n[red]{escape(miss)}[/]"
    mark = "[red]✗[/]" if row.misses else "[green]✓[/]"
    return [_when(row.at_ms), happens, escape(row.came), why.strip(), mark]


def _when(at_ms: int | None) -> str:
    if at_ms is None:
        return ""
    at = dt.datetime.fromtimestamp(at_ms / 1_000, dt.UTC)
    return f"{at:%d %b %H:%M}"


if __name__ == "__main__":
    typer.run(main)
