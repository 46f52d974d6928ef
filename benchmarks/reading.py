"""How fast logs are read: dsjson with everything done, and Parquet of any size.

Lines of dsjson are of 10 actions with 20 numbers of context, and of 50 with 50; ours
are read beside a bare decoder into typed structures. Parquet is written, read by an
importance-weighted estimate, and read whole, each in a process of its own, whose memory
is measured. All times are of the processor, not of the clock. It is a part of
`python -m benchmarks.simulator`.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import msgspec
import numpy as np

from simulator.feedback import Contexts, Feedback
from simulator.logs import open_log
from simulator.logs.building import Names, hashes_of
from simulator.logs.parquet import ParquetWriter

__all__ = [
    "KINDS",
    "Columns",
    "Lines",
    "Peak",
    "apart",
    "dsjson",
    "measured",
    "parquet",
]

KINDS = {"small": (10, 20), "large": (50, 50)}
"""Of lines of dsjson: how many actions they have, and how many numbers of context."""

_REPEATS = 5
_PART = 65_536
_ACTIONS = 20
_FEATURES = 5
_DAY_MS = 86_400_000


class Lines(NamedTuple):
    """What reading lines of dsjson took.

    Attributes:
        bytes: How long a line is.
        seconds: Of ours, with everything done.
        bare: Of a bare typed decoder.
        peak_mb: The most memory that the process reading them had, in MB.
    """

    bytes: int
    seconds: float
    bare: float
    peak_mb: float


class Peak(NamedTuple):
    """What work in a process of its own took.

    Attributes:
        seconds: Of the processor.
        result: What it returned.
        peak_mb: The most memory that the process had, in MB.
    """

    seconds: float
    result: float
    peak_mb: float


class Columns(NamedTuple):
    """What Parquet took.

    Attributes:
        bytes: How large a row is on disk.
        writing: The rows, a folder for each day.
        ips: An importance-weighted estimate of them, from three columns.
        whole: Reading all columns.
    """

    bytes: float
    writing: Peak
    ips: Peak
    whole: Peak


class _Typed(msgspec.Struct):
    """A line as a bare decoder reads it, without its features' names made ours."""

    c: dict[str, dict[str, float] | list[dict[str, dict[str, float]]]]
    a: list[int]
    p: list[float]
    cost: float = msgspec.field(name="_label_cost")
    probability: float = msgspec.field(name="_label_probability")


def dsjson(kind: str, lines: int) -> Lines:
    """Measure how fast lines are read, beside a bare decoder."""
    k, d = KINDS[kind]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "log.dsjson"
        path.write_text("".join(_lines(k, d, lines)), encoding="utf-8")
        decode = msgspec.json.Decoder(_Typed).decode
        raw = path.read_bytes().splitlines()
        bare, ours = _best(
            lambda: sum(decode(line).cost for line in raw), lambda: _read(path)
        )
        peak = apart(_read, path).peak_mb
        return Lines(path.stat().st_size // lines, ours, bare, peak)


def parquet(n: int) -> Columns:
    """Measure how fast so many rows of Parquet are written and read."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        writing = apart(_write, path, n)
        size = sum(file.stat().st_size for file in path.rglob("*.parquet"))
        return Columns(size / n, writing, apart(_ips, path), apart(_read, path))


def _lines(k: int, d: int, n: int) -> Iterator[str]:
    """Yield decisions of an epsilon-greedy policy, with one uniform action in five."""
    chance = random.Random(k)
    multi = [{"a": {str(action): 1}} for action in range(k)]
    for at in range(n):
        ranks = list(range(1, k + 1))
        chance.shuffle(ranks)
        rest = round(0.2 / k, 4)
        shares = [round(1.0 - rest * (k - 1), 4)] + [rest] * (k - 1)
        numbers = {str(name): round(chance.gauss(0, 1), 9) for name in range(d)}
        event = {
            "_label_cost": -round(chance.random(), 3),
            "_label_probability": shares[0],
            "_label_Action": ranks[0],
            "_labelIndex": ranks[0] - 1,
            "Timestamp": f"2026-03-01T12:{at // 60 % 60:02}:{at % 60:02}.1234567Z",
            "Version": "1",
            "EventId": f"{chance.getrandbits(128):032x}",
            "a": ranks,
            "c": {"s": numbers, "_multi": multi},
            "p": shares,
        }
        yield json.dumps(event, separators=(",", ":")) + "\n"


def _read(path: Path, columns: set[str] | None = None) -> int:
    with open_log(path) as source:
        return sum(len(part) for part in source.parts(columns=columns))


def _write(path: Path, n: int) -> float:
    with ParquetWriter(path) as writer:
        for part in _parts(n):
            writer.write(part)
    return 0.0


def apart(work: Callable[..., float], *about: Any) -> Peak:
    """Do some work in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measured, work, *about).result()


def measured(work: Callable[..., float], *about: Any) -> Peak:
    """Do some work in this process, whose memory may have been larger before."""
    started = time.process_time()
    result = work(*about)
    return Peak(time.process_time() - started, result, _peak_mb())


def _parts(n: int) -> Iterator[Feedback]:
    """Yield decisions among 20 actions, logged by a softmax, for 30 days."""
    names = Names()
    codes = np.array([names.offer(f"offer {at}") for at in range(_ACTIONS)], np.int32)
    features = np.array([names.feature(f"x{at}") for at in range(_FEATURES)], np.int32)
    logger = names.policy("softmax")
    generator = np.random.default_rng(7)
    for begin in range(0, n, _PART):
        m = min(_PART, n - begin)
        shares = generator.dirichlet(np.ones(_ACTIONS), size=m)
        at = (shares.cumsum(axis=1) < generator.random((m, 1))).sum(axis=1)
        at = at.clip(0, _ACTIONS - 1)
        positions = np.arange(begin + 1, begin + m + 1)
        propensities = shares[np.arange(m), at]
        yield Feedback(
            positions=positions,
            times_ms=1_772_323_200_000 + positions * (30 * _DAY_MS // n),
            keys=hashes_of(positions // 10),
            loggers=np.full(m, logger, np.int32),
            rewards=(generator.random(m) < 0.05).astype(np.float64),
            propensities=propensities,
            chosen=codes[at],
            floors=np.zeros(m),
            offsets=np.arange(0, m * _ACTIONS + 1, _ACTIONS),
            actions=np.tile(codes, m),
            probabilities=shares.ravel(),
            contexts=Contexts(
                names.features,
                np.arange(0, m * _FEATURES + 1, _FEATURES),
                np.tile(features, m),
                generator.random(m * _FEATURES),
            ),
            segments=(),
            objectives={},
            vocabulary=names.vocabulary,
            policies=names.policies,
            targets={"uniform": np.full(m, 1.0 / _ACTIONS)},
        )


def _ips(path: Path) -> float:
    total, n = 0.0, 0
    with open_log(path) as source:
        for part in source.parts(_PART, columns={"target:uniform"}):
            weights = part.targets["uniform"] / part.propensities
            total += float((weights * part.rewards).sum())
            n += len(part)
    return total / n


def _best(*works: Callable[[], Any]) -> list[float]:
    """Return the seconds of one core that the fastest turn of each took.

    They take turns, so that what else the machine does meets all alike.
    """
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(_REPEATS):
        for work, taken in zip(works, seconds, strict=True):
            started = time.process_time()
            work()
            taken.append(time.process_time() - started)
    return [min(taken) for taken in seconds]


def _peak_mb() -> float:
    """Return the most memory that this process has had."""
    status = Path("/proc/self/status")
    if status.exists():
        # What getrusage says begins with what whoever started the process had.
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1_024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
