"""How fast logs are read: dsjson with everything done, and Parquet of any size.

Lines of dsjson are of 10 actions with 20 numbers of context, and of 50 with 50; ours
are read beside a bare decoder into typed structures, in the same run. Parquet is
written until it has `ROWS` rows, and read by an importance-weighted estimate, whose
memory is measured; 100,000,000 rows are extrapolated from it.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np

from simulator.feedback import Contexts, Feedback
from simulator.logs import open_log
from simulator.logs.building import Names, hashes_of
from simulator.logs.parquet import ParquetWriter

__all__ = ["rows"]

ROWS = 10_000_000
"""How many rows of Parquet are measured."""

_FAR = 100_000_000
_LINES = {(10, 20): 20_000, (50, 50): 8_000}
_GOALS = {(10, 20): 100_000, (50, 50): 40_000}
_REPEATS = 3
_PART = 65_536
_ACTIONS = 20
_FEATURES = 5
_DAY_MS = 86_400_000


class _Typed(msgspec.Struct):
    """A line as a bare decoder reads it, without its features' names made ours."""

    c: dict[str, dict[str, float] | list[dict[str, dict[str, float]]]]
    a: list[int]
    p: list[float]
    cost: float = msgspec.field(name="_label_cost")
    probability: float = msgspec.field(name="_label_probability")


def rows(n: int = ROWS) -> list[dict[str, str]]:
    """Measure, and return a row for each: what, the goal, the figure.

    Args:
        n: How many rows of Parquet.
    """
    with TemporaryDirectory() as folder:
        found = [_dsjson(Path(folder) / f"{k}.dsjson", k, d) for k, d in _LINES]
        return found + _parquet(Path(folder) / "log", n)


def _dsjson(path: Path, k: int, d: int) -> dict[str, str]:
    lines = list(_lines(k, d, _LINES[k, d]))
    path.write_text("".join(lines), encoding="utf-8")
    size = sum(map(len, lines)) // len(lines)
    decode = msgspec.json.Decoder(_Typed).decode
    raw = path.read_bytes().splitlines()
    bare = _best(lambda: [decode(line) for line in raw])
    ours = _best(lambda: _read(path))
    rate, floor = len(lines) / ours, len(lines) / bare
    return {
        "what": f"reading dsjson, {k} actions and {d} numbers, {size:,} bytes a line",
        "goal": f"{_GOALS[k, d]:,} lines/s with everything done",
        "figure": f"{rate:,.0f} lines/s; a bare typed decoder {floor:,.0f}, of which"
        f" {rate / floor:.2f}",
    }


def _lines(k: int, d: int, n: int) -> Iterator[str]:
    """Yield decisions of an epsilon-greedy policy, with one uniform action in five."""
    chance = random.Random(k)
    multi = [{"a": {str(action): 1}} for action in range(k)]
    for at in range(n):
        ranks = list(range(1, k + 1))
        chance.shuffle(ranks)
        rest = round(0.2 / k, 4)
        shares = [round(1.0 - rest * (k - 1), 4)] + [rest] * (k - 1)
        numbers = {str(name): round(chance.gauss(0, 1), 4) for name in range(d)}
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


def _parquet(path: Path, n: int) -> list[dict[str, str]]:
    started = time.perf_counter()
    with ParquetWriter(path) as writer:
        for part in _parts(n):
            writer.write(part)
    writing = time.perf_counter() - started
    size = sum(file.stat().st_size for file in path.rglob("*.parquet"))
    before = _peak_mb()
    started = time.perf_counter()
    value = _ips(path)
    reading = time.perf_counter() - started
    narrow_mb = _peak_mb() - before
    started = time.perf_counter()
    _read(path)
    whole = time.perf_counter() - started
    peak = _peak_mb()
    return [
        {
            "what": f"IPS over {n:,} rows of Parquet, three columns of 8 bytes a row",
            "goal": f"{_FAR:,} rows stream within 2 GB",
            "figure": f"{n / reading:,.0f} rows/s in {narrow_mb:,.0f} MB more, value"
            f" {value:.4f}; {_FAR:,} rows: {_FAR / n * reading:,.1f} s and the same"
            " memory, by extrapolation",
        },
        {
            "what": f"all columns of the same, {_ACTIONS} actions and {_FEATURES}"
            f" features a row, {size / n:,.0f} bytes a row on disk",
            "goal": f"{_FAR:,} rows stream within 2 GB",
            "figure": f"{n / whole:,.0f} rows/s, {peak:,.0f} MB in all;"
            f" {_FAR:,} rows: {_FAR / n * whole:,.0f} s by extrapolation",
        },
        {
            "what": f"writing {n:,} such rows as Parquet, a folder per day",
            "goal": "—",
            "figure": f"{n / writing:,.0f} rows/s, made on the way",
        },
    ]


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


def _best(work: Callable[[], Any]) -> float:
    """Return the seconds of one core that the fastest of a few turns took."""
    seconds = []
    for _ in range(_REPEATS):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return min(seconds)


def _peak_mb() -> float:
    """Return the most memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    for row in rows():
        print(f"{row['what']}\n  goal:   {row['goal']}\n  figure: {row['figure']}")
