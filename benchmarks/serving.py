"""Servers in processes of their own, and what of the CPU they take."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

__all__ = ["Cores", "Server", "run_echo", "run_opportune", "split_cores"]

_STOP_S = 30.0


class Cores(NamedTuple):
    """Which cores do what; all of them everything where there is only one."""

    serving: frozenset[int]
    rest: frozenset[int]


class Server(NamedTuple):
    """A server that runs.

    Attributes:
        address: Where it listens, as host:port.
        workers: The processes that serve.
        others: What else belongs to it, by name.
    """

    address: str
    workers: list[psutil.Process]
    others: dict[str, psutil.Process]

    def cpu_s(self) -> float:
        """Return the seconds of CPU, user and system, that serving took so far."""
        return sum(map(_cpu_s, self.workers))

    def others_cpu_s(self) -> dict[str, float]:
        """Return the same of the other processes."""
        return {name: _cpu_s(process) for name, process in self.others.items()}


def split_cores() -> Cores:
    """Give serving a core of its own, so that the client takes nothing from it."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        return Cores(frozenset(cores), frozenset(cores))
    return Cores(frozenset(cores[-1:]), frozenset(cores[:-1]))


@contextmanager
def run_opportune(settings: Path, cores: Cores | None = None) -> Iterator[Server]:
    """Run our server; the workers get the core for serving, where there is one."""
    command = ["-m", "server", "serve", "--settings", str(settings)]
    with _run(command, settings.with_name("server.log")) as (address, process):
        children = process.children()
        workers = [child for child in children if "work" in child.cmdline()]
        (learner,) = (child for child in children if "learn" in child.cmdline())
        others = {"supervisor": process, "learner": learner}
        if cores is not None:
            for worker in workers:
                _pin(worker, cores.serving)
            for other in others.values():
                _pin(other, cores.rest)
        yield Server(address, workers, others)


@contextmanager
def run_echo(answer: bytes, folder: Path, cores: Cores) -> Iterator[Server]:
    """Run the empty server, which gives this answer."""
    file = folder / "answer.binpb"
    file.write_bytes(answer)
    command = ["-m", "benchmarks.echo", str(file)]
    with _run(command, folder / "echo.log") as (address, process):
        _pin(process, cores.serving)
        yield Server(address, [process], {})


@contextmanager
def _run(command: list[str], log: Path) -> Iterator[tuple[str, psutil.Process]]:
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line.startswith("serving on "):
            raise RuntimeError(f"no server: {log.read_text(encoding='utf-8')}")
        yield line.split()[-1], psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(_STOP_S)


def _pin(process: psutil.Process, cores: Collection[int]) -> None:
    """Pin every thread; those made later inherit it."""
    for thread in process.threads():
        os.sched_setaffinity(thread.id, cores)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
