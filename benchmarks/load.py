"""Puts a server of its own under load with locust, and holds it to its promises.

    make load ARGS='--users 100 --seconds 300'

Ends with status 1 if any request failed, or any promise to a user was broken: a cap,
a cool-down after a dismissal, an equal answer to a retry, an outcome that counts once.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.machine import describe, summary
from benchmarks.promises import catalogue_text
from benchmarks.serving import run_opportune
from benchmarks.workload import SETTINGS

__all__ = ["load"]

_LOCUSTFILE = Path(__file__).with_name("locustfile.py")
_FILE = Path("build/bench/load.json")
_STOP_S = 20
_GRACE_S = 60.0
_LOG_LINES = 40
_PERCENTILES = (50, 90, 99)
_out = Console(highlight=False)


def load(
    *,
    users: Annotated[int, typer.Option(min=1, help="How many users there are.")] = 50,
    seconds: Annotated[int, typer.Option(min=1, help="For how long they come.")] = 60,
    workers: Annotated[
        int, typer.Option(min=1, help="How many processes of the server serve.")
    ] = 2,
) -> None:
    """Run the load test, print what came of it, and write build/bench/load.json."""
    machine = describe()
    with tempfile.TemporaryDirectory(prefix="opportune-load-") as name:
        run = _run(Path(name), users, seconds, workers)
    rows = [_row(entry, seconds) for entry in run.stats]
    _out.print(summary(machine), soft_wrap=True)
    _out.print(_table(rows, f"{users} users, {workers} workers, {seconds} s"))
    result = {
        "machine": machine,
        "users": users,
        "workers": workers,
        "seconds": seconds,
        "calls": rows,
        "failures": run.failures,
    }
    _FILE.parent.mkdir(parents=True, exist_ok=True)
    _FILE.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    _out.print(_FILE)
    if run.status != 0 or not rows or any(row["failures"] for row in rows):
        for failure in run.failures:
            _out.print(failure, markup=False, style="red", soft_wrap=True)
        _out.print(f"Something failed; locust ended with status {run.status}.")
        _out.print(run.log, markup=False, soft_wrap=True)
        raise typer.Exit(1)
    _out.print("Nothing failed, and every promise was kept.")


class _Run(NamedTuple):
    """What locust left behind."""

    status: int
    stats: list[dict[str, Any]]
    failures: list[str]
    log: str


def _run(folder: Path, users: int, seconds: int, workers: int) -> _Run:
    """Let locust run against a server in the folder."""
    settings = folder / "settings.toml"
    text = SETTINGS.replace("[server]", f"[server]\nworkers = {workers}")
    settings.write_text(text, encoding="utf-8")
    (folder / "catalogue.toml").write_text(catalogue_text(), encoding="utf-8")
    log = folder / "locust.log"
    options = {
        "--locustfile": _LOCUSTFILE,
        "--users": users,
        "--spawn-rate": max(users // 2, 1),
        "--run-time": f"{seconds}s",
        "--stop-timeout": _STOP_S,  # What is under way at the end ends.
        "--json-file": folder / "locust",
        "--csv": folder / "locust",
    }
    words = [str(word) for option in options.items() for word in option]
    command = [sys.executable, "-m", "locust", "--headless", "--only-summary", *words]
    with run_opportune(settings) as server, log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--host", server.address], stdout=output, stderr=output
        )
        _wait(process, seconds)
    return _Run(
        process.returncode,
        _stats(folder / "locust.json"),
        _failures(folder / "locust_failures.csv"),
        "\n".join(log.read_text(encoding="utf-8").splitlines()[-_LOG_LINES:]),
    )


def _wait(process: subprocess.Popen[bytes], seconds: int) -> None:
    """Wait for locust to end, and show how far it is."""
    started = time.monotonic()
    with Progress(transient=True) as progress:
        task = progress.add_task("load", total=seconds)
        while process.poll() is None:
            passed = time.monotonic() - started
            progress.update(task, completed=min(passed, seconds))
            if passed > seconds + _GRACE_S:
                process.kill()
            time.sleep(0.2)


def _stats(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    read: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return read


def _failures(file: Path) -> list[str]:
    if not file.exists():
        return []
    with file.open(encoding="utf-8", newline="") as lines:
        return [
            f"{row['Occurrences']} × {row['Method']} {row['Name']}: {row['Error']}"
            for row in csv.DictReader(lines)
        ]


def _row(entry: dict[str, Any], seconds: int) -> dict[str, Any]:
    """Return what is to know of one kind of call."""
    counts = {float(ms): count for ms, count in entry["response_times"].items()}
    times = np.repeat(list(counts), list(counts.values()))
    percentiles = np.percentile(times, _PERCENTILES) if times.size else []
    return {
        "method": entry["method"],
        "name": entry["name"],
        "requests": entry["num_requests"],
        "rate": entry["num_requests"] / seconds,
        "failures": entry["num_failures"],
        **{
            f"p{p}_ms": float(ms)
            for p, ms in zip(_PERCENTILES, percentiles, strict=False)
        },
        "max_ms": entry["max_response_time"],
    }


def _table(rows: list[dict[str, Any]], title: str) -> Table:
    columns = [f"p{p} ms" for p in _PERCENTILES]
    table = Table("call", "all", "a second", *columns, "max", "failures", title=title)
    for row in rows:
        times = [row.get(f"p{p}_ms", 0.0) for p in _PERCENTILES]
        table.add_row(
            row["name"],
            str(row["requests"]),
            f"{row['rate']:.0f}",
            *(f"{ms:.0f}" for ms in times),
            f"{row['max_ms']:.0f}",
            str(row["failures"]),
        )
    return table


if __name__ == "__main__":
    typer.run(load)
