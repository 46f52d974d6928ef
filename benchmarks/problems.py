"""Problems that policies are measured on: data sets as bandit feedback, and worlds.

Each is a stream of rounds. What an action would have earned is known to the
benchmark only: a policy learns what its own choice earned.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from policies.model import Action, Features, FloatArray

__all__ = ["SETS", "WORLDS", "Problem", "Round", "read_set", "set_problem"]

_DATA = Path(__file__).parent / "data"
_ROWS = 10_000

SETS = ("digits", "segment", "phishing", "satimage", "pendigits", "letter")
"""The data sets of the benchmark, in `benchmarks/data`."""


@dataclass(frozen=True)
class Round:
    """One decision that is to be made.

    Attributes:
        context: What a policy sees.
        actions: What it chooses from.
        rewards: What each would earn, shape (n_actions,).
        means: What each earns on average; none where that is not known.
    """

    context: Features
    actions: list[Action]
    rewards: FloatArray
    means: FloatArray | None = None


@dataclass(frozen=True)
class Problem:
    """A stream of rounds by its name.

    Attributes:
        rounds: The rounds of a seed, at most as many as asked for.
        delay: How many decisions later each reward is learned.
        what: What is to be seen, in a few words.
        fixed: Whether actions and the names in contexts are the same in all rounds.
    """

    name: str
    rounds: Callable[[int, int], Iterator[Round]]
    delay: int = 0
    what: str = ""
    fixed: bool = False


def set_problem(name: str) -> Problem:
    """Return a data set as a problem: the right label earns 1, any other 0.

    Args:
        name: One of `SETS`, or the path of a CSV file (`.csv` or `.csv.gz`) with one
            line of names and the label in the last column.
    """
    title = Path(name).name.split(".")[0]
    return Problem(title, lambda s, n: _classes(name, s, n), fixed=True)


@cache
def read_set(name: str) -> tuple[FloatArray, NDArray[np.intp], int]:
    """Return the features of a set, centred and scaled, its labels, and how many.

    Columns that are not numbers become one column of 0 and 1 for each value.

    Args:
        name: As for `set_problem`.

    Raises:
        ValueError: If there is no row, or no column beside the label.
    """
    path = _DATA / f"{name}.csv.gz" if name in SETS else Path(name)
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", newline="") as file:
        _, *rows = [row for row in csv.reader(file) if row]
    if not rows or len(rows[0]) < 2:
        raise ValueError(f"{path}: there must be rows, and columns beside the label")
    *columns, labels = zip(*rows, strict=True)
    numbers = np.column_stack([part for c in columns for part in _numbers(c)])
    deviation = numbers.std(axis=0)
    scaled = (numbers - numbers.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    names, found = np.unique(np.array(labels), return_inverse=True)
    return scaled, found, len(names)


def _numbers(column: tuple[str, ...]) -> list[FloatArray]:
    try:
        return [np.array(column, np.float64)]
    except ValueError:
        values = np.array(column)
        return [(values == value).astype(np.float64) for value in np.unique(values)]


def _action(index: int, features: Features = ()) -> Action:
    return Action(index + 1, f"a{index}", "c", "p", features)


def _context(x: FloatArray) -> Features:
    named = ((f"x{at}", value) for at, value in enumerate(x.tolist()))
    return (("constant", 1.0), *named)


def _classes(
    name: str, seed: int, rows: int, *, permute: bool = False
) -> Iterator[Round]:
    """Yield the rows of a set; half-way, each label may become the next one."""
    features, labels, count = read_set(name)
    order = np.random.default_rng(1000 + seed).permutation(len(features))
    order = order[: min(_ROWS, rows)]
    actions = [_action(at) for at in range(count)]
    for at, row in enumerate(order):
        label = labels[row]
        if permute and at >= len(order) // 2:
            label = (label + 1) % count
        rewards = np.zeros(count)
        rewards[label] = 1.0
        yield Round(_context(features[row]), actions, rewards)


def _words(seed: int, rows: int) -> Iterator[Round]:
    """Yield news texts of RCV1 as bags of words: in the class or not."""
    lines = gzip.decompress((_DATA / "rcv1.vw.gz").read_bytes()).decode().splitlines()
    actions = [_action(0), _action(1)]
    for row in np.random.default_rng(1000 + seed).permutation(len(lines))[:rows]:
        label, _, text = lines[row].partition("|")
        # Action, cost and probability of the logged choice; two actions, one right.
        action, cost, _ = label.split(":")
        right = int(action) - 1 if float(cost) == 0.0 else 2 - int(action)
        rewards = np.zeros(2)
        rewards[right] = 1.0
        words = dict.fromkeys(text.split(), 1.0)
        yield Round((("constant", 1.0), *words.items()), actions, rewards)


def _topics(seed: int, rows: int) -> Iterator[Round]:
    """Yield texts of 40 words of 5,000, about one of ten topics."""
    rng = np.random.default_rng(seed)
    usual = 1.0 / np.arange(1, 5_001)
    topics = np.tile(usual, (10, 1))
    for topic in topics:
        topic[rng.choice(5_000, 500, replace=False)] *= 8.0
    topics /= topics.sum(axis=1, keepdims=True)
    actions = [_action(at) for at in range(10)]
    for _ in range(min(rows, 4_000)):
        topic = int(rng.integers(10))
        words = np.unique(rng.choice(5_000, 40, p=topics[topic])).tolist()
        rewards = np.zeros(10)
        rewards[topic] = 1.0
        context = (("constant", 1.0), *((f"w{word}", 1.0) for word in words))
        yield Round(context, actions, rewards)


def _turning(seed: int, rows: int) -> Iterator[Round]:
    """Yield rounds in which what pleases turns slowly into its opposite."""
    rng = np.random.default_rng(seed)
    first, second = rng.standard_normal((2, 8, 5))
    actions = [_action(at) for at in range(8)]
    rows = min(rows, 6_000)
    for at in range(rows):
        x = rng.standard_normal(5)
        turn = np.pi * at / rows
        weights = np.cos(turn) * first + np.sin(turn) * second
        means = _chance(weights @ x)
        yield Round(_context(x), actions, _drawn(rng, means), means)


def _thousand(seed: int, rows: int) -> Iterator[Round]:
    """Yield rounds with 50 of 1,000 actions, which have six features each."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((1_000, 6))
    weights = rng.standard_normal((6, 6)) / 6.0
    actions = [_action(at, _context(x)[1:]) for at, x in enumerate(features)]
    for _ in range(min(rows, 4_000)):
        x = rng.standard_normal(6)
        eligible = rng.choice(1_000, 50, replace=False)
        means = _chance(2.0 * (features[eligible] @ (x @ weights)) - 1.5)
        chosen = [actions[at] for at in eligible]
        yield Round(_context(x), chosen, _drawn(rng, means), means)


def _arriving(seed: int, rows: int) -> Iterator[Round]:
    """Yield rounds in which new actions come and old ones go, 15 at a time."""
    rng = np.random.default_rng(seed)
    count, rows = 40, min(rows, 4_000)
    kinds = rng.random((count, 8)) < 0.3
    shared = 0.8 * rng.standard_normal((6, 8))
    own = 0.5 * rng.standard_normal((count, 6))
    weights = kinds @ shared.T + own
    actions = [
        _action(at, tuple((f"kind{kind}", 1.0) for kind in np.flatnonzero(has)))
        for at, has in enumerate(kinds)
    ]
    for at in range(rows):
        last = min(count, 5 + at * count // rows)
        eligible = slice(max(0, last - 15), last)
        x = 1.5 * rng.standard_normal(6) / np.sqrt(6.0)
        means = _chance(weights[eligible] @ x - 1.0)
        yield Round(_context(x), actions[eligible], _drawn(rng, means), means)


def _offers(seed: int, rows: int) -> Iterator[Round]:
    """Yield moments at which one of twelve offers can be made, or none.

    An accept is rare, earns the offer's price, and each offer costs attention.
    """
    rng = np.random.default_rng(seed)
    count, segments, moments = 12, 5, 3
    base = -4.2 + 0.4 * rng.standard_normal(count)
    by_segment = 0.9 * rng.standard_normal((count, segments))
    by_moment = 0.7 * rng.standard_normal((count, moments))
    by_usage = 0.8 * rng.standard_normal(count)
    prices = rng.choice([0.5, 1.0, 2.0, 5.0], count)
    silence = Action(0, "", "", "", ())
    offers = [
        _action(at, (("price", float(prices[at]) / 5.0), (f"kind=k{at % 3}", 1.0)))
        for at in range(count)
    ]
    for _ in range(min(rows, 20_000)):
        segment, moment = int(rng.integers(segments)), int(rng.integers(moments))
        usage, noise = rng.random(2).tolist()
        taste = base + by_segment[:, segment] + by_moment[:, moment]
        chances = _chance(taste + by_usage * (2.0 if usage > 0.8 else 0.0))
        eligible = np.flatnonzero(rng.random(count) < 0.8)
        accepted = _drawn(rng, chances)[eligible]
        context = (
            ("constant", 1.0),
            (f"segment=s{segment}", 1.0),
            (f"moment=m{moment}", 1.0),
            ("usage", usage),
            ("noise", noise),
        )
        earned = np.concatenate([[0.0], accepted * prices[eligible] - 0.02])
        means = np.concatenate([[0.0], (chances * prices)[eligible] - 0.02])
        yield Round(context, [silence, *(offers[at] for at in eligible)], earned, means)


def _chance(log_odds: FloatArray) -> FloatArray:
    chance: FloatArray = 1.0 / (1.0 + np.exp(-log_odds))
    return chance


def _drawn(rng: np.random.Generator, chances: FloatArray) -> FloatArray:
    return (rng.random(len(chances)) < chances).astype(np.float64)


WORLDS = (
    Problem("rcv1", _words, what="1,000 news texts, sparse words, 2 classes"),
    Problem("topics", _topics, what="4,000 texts of 5,000 words, 10 topics"),
    Problem(
        "permuted",
        lambda s, n: _classes("pendigits", s, min(n, 6_000), permute=True),
        what="pendigits; half-way each label becomes the next",
        fixed=True,
    ),
    Problem(
        "turning", _turning, what="what pleases turns into its opposite", fixed=True
    ),
    Problem(
        "delayed",
        lambda s, n: _classes("pendigits", s, min(n, 5_000)),
        delay=500,
        what="pendigits; rewards come 500 decisions late",
        fixed=True,
    ),
    Problem("thousand", _thousand, what="50 of 1,000 actions, with features"),
    Problem("arriving", _arriving, what="actions come and go, with features"),
    Problem("offers", _offers, what="accepts of 1 to 5 %, prices, silence"),
)
"""Where a ridge regression on dense features is not at home."""
