"""Says what is wrong with a log, in one pass and bounded memory.

What a log says of itself is held against itself: probabilities must add up, what was
chosen must have been possible, no decision may be there twice, and no clock may be
wrong. Nothing here asks what any other policy would have done.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from simulator.feedback import Feedback
from simulator.logs import Source, Watcher
from simulator.logs.building import hashes_of_texts
from simulator.surveying import REWARD_MAX

__all__ = ["IDS_MAX", "Check", "Finding", "Logger", "check"]

IDS_MAX = 1 << 25
"""Among how many latest ids duplicates are looked for: at most 256 MB of hashes."""

_ROWS_SHOWN = 10
_PLACE = re.compile(r": (?:line|row) (\d+)")
_FUTURE_MS = 300_000
_BACK_MS = 60_000
_FLOOR_SLACK = 1e-9
_Z_MAX = 5.0
_JUMPS_MIN = 30.0

_Severity = Literal["wrong", "note"]

_WHAT: Mapping[str, tuple[_Severity, str]] = {
    "unreadable": ("wrong", "cannot be read"),
    "torn": ("wrong", "the last line is cut off"),
    "empty": ("wrong", "there are no decisions"),
    "zero propensity": ("wrong", "what was chosen had no chance"),
    "propensity": ("wrong", "the propensity is not in (0, 1]"),
    "probability": ("wrong", "a probability is not in [0, 1]"),
    "sum": ("wrong", "probabilities do not add up to 1"),
    "mismatch": ("wrong", "propensity and probability of the chosen action differ"),
    "not eligible": ("wrong", "what was chosen is not among the eligible actions"),
    "action twice": ("wrong", "an action is eligible twice"),
    "floor": ("wrong", "a probability is below the logged floor"),
    "reward": ("wrong", "the reward is not finite, or no number to reckon with"),
    "duplicate": ("wrong", "a decision with this id was there before"),
    "gap": ("wrong", "decisions before this one are missing"),
    "clock back": ("wrong", "the clock went back by more than a minute before it"),
    "future": ("wrong", "it was made in the future"),
    "mean weight": ("wrong", "the mean of 1/p is not the number of actions"),
    "no reward": ("note", "what it earned is not known"),
    "unlabelled": ("note", "nothing says what was chosen; left out"),
    "no time": ("note", "nothing says when it was made"),
}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a log's rows have in common.

    Attributes:
        kind: What, in a word.
        severity: `wrong`, or a `note` that may be as it should.
        meaning: What, in a sentence.
        count: How many rows.
        rows: The first of them: lines, rows or positions, as the log has them.
        detail: Of the first, or of all together, in numbers.
    """

    kind: str
    severity: _Severity
    meaning: str
    count: int
    rows: tuple[int, ...]
    detail: str = ""


class Logger(msgspec.Struct, frozen=True, kw_only=True):
    """A policy that logged part of it.

    Attributes:
        policy: Its name; empty where the log has none.
        rows: How many decisions are its.
        first: The first of them: a line, a row or a position.
        last: The last one.
    """

    policy: str
    rows: int
    first: int
    last: int


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a log.

    Attributes:
        format: The version of these fields.
        log: Its path.
        log_format: What it is.
        rows: How many decisions were read.
        actions: How many different actions there are.
        first_ms: The earliest time, Unix ms; 0 unknown.
        last_ms: The latest time.
        findings: What was found, what is wrong first.
        loggers: Who logged it, in the order of their first rows.
        unchecked: What could not be looked at, and why.
    """

    format: str = "opportune.check.v1"
    log: str
    log_format: str
    rows: int
    actions: int
    first_ms: int
    last_ms: int
    findings: tuple[Finding, ...]
    loggers: tuple[Logger, ...]
    unchecked: tuple[str, ...]

    @property
    def wrong(self) -> bool:
        """Whether anything is wrong."""
        return any(finding.severity == "wrong" for finding in self.findings)


def check(
    source: Source,
    *,
    now_ms: int,
    tolerance: float = 1e-4,
    watcher: Watcher | None = None,
) -> Check:
    """Read a log once and say what is wrong with it.

    Args:
        source: The log; opened with `skip_bad`, all that cannot be read is counted.
        now_ms: The time, Unix ms.
        tolerance: By how much sums of probabilities may differ from 1, and the
            propensity from the probability; in (0, 1). Logs often have 32 bits.
        watcher: Is told how far it is.

    Raises:
        LogError: If the log cannot be read at all.
    """
    checking = _Checking(now_ms, tolerance)
    for part in source.parts():
        checking.look(part)
        if watcher is not None:
            known = source.rows is not None
            done = checking.rows if known else getattr(source, "read", 0)
            total = source.rows if known else source.bytes
            watcher("checking", done, max(total or 1, 1))
    return checking.done(source)


class _Checking:
    """A check under way.

    Attributes:
        rows: How many rows were looked at.
    """

    def __init__(self, now_ms: int, tolerance: float) -> None:
        self.rows = 0
        self._now_ms = now_ms
        self._tolerance = tolerance
        self._counts: Counter[str] = Counter()
        self._first: dict[str, list[int]] = {}
        self._details: dict[str, str] = {}
        self._ids = _Seen(IDS_MAX)
        self._weights = _Weights()
        self._loggers: dict[str, tuple[int, int, int]] = {}
        self._time_ms = self._first_ms = self._last_ms = 0
        self._position = 0
        self._in_order = True
        self._least: int | None = None
        self._gaps: list[tuple[int, int]] = []
        self._columns: set[str] = set()
        self._actions = 0

    def look(self, part: Feedback) -> None:
        """Look at a part."""
        self.rows += len(part)
        self._actions = len(part.vocabulary)
        self._look_at_rows(part)
        if len(part.offsets) and len(part.actions):
            self._columns.add("actions")
            self._look_at_actions(part)
        self._look_at_times(part)
        self._look_at_positions(part)
        self._look_at_ids(part)
        self._look_at_loggers(part)

    def _look_at_rows(self, part: Feedback) -> None:
        p = part.propensities
        self._found("zero propensity", part, p == 0.0)
        outside = ~((p > 0.0) & (p <= 1.0 + self._tolerance)) & (p != 0.0)
        self._found("propensity", part, outside, p)
        self._found("reward", part, np.abs(part.rewards) > REWARD_MAX, part.rewards)
        self._found("no reward", part, np.isnan(part.rewards))

    def _look_at_actions(self, part: Feedback) -> None:
        probabilities = part.probabilities
        n = len(part)
        sizes = np.diff(part.offsets)
        rows = np.repeat(np.arange(n), sizes)
        known = np.bincount(rows, np.isnan(probabilities), n) == 0
        known &= sizes > 0
        outside = (probabilities < 0.0) | (probabilities > 1.0 + self._tolerance)
        self._found("probability", part, np.bincount(rows, outside, n) > 0)
        sums = np.bincount(rows, np.nan_to_num(probabilities), n)
        self._found("sum", part, known & (abs(sums - 1.0) > self._tolerance), sums)
        at = part.actions == part.chosen[rows]
        times = np.bincount(rows, at, n)
        self._found("not eligible", part, (times == 0) & (sizes > 0))
        order = np.lexsort((part.actions, rows))
        twice = (np.diff(part.actions[order]) == 0) & (np.diff(rows[order]) == 0)
        several = np.bincount(rows[order][1:][twice], minlength=n) > 0
        self._found("action twice", part, several)
        of_chosen = np.bincount(rows, np.where(at, np.nan_to_num(probabilities), 0), n)
        differ = abs(of_chosen - part.propensities) > self._tolerance
        self._found("mismatch", part, known & (times == 1) & differ, of_chosen)
        if len(part.floors) and part.floors.any():
            below = probabilities < part.floors[rows] - _FLOOR_SLACK
            self._found("floor", part, np.bincount(rows, below, n) > 0)
        sound = known & (times == 1) & ~differ & (abs(sums - 1.0) <= self._tolerance)
        partly = ~known & (sizes > 0)
        self._weights.add(part, rows, sound, partly)

    def _look_at_times(self, part: Feedback) -> None:
        times = part.times_ms
        if not len(times):
            return
        self._found("no time", part, times == 0)
        told = times > 0
        if not told.any():
            return
        self._columns.add("times")
        self._found("future", part, times > self._now_ms + _FUTURE_MS)
        # One that is in the future is found as such, and all after it are not.
        sane = told & (times <= self._now_ms + _FUTURE_MS)
        if sane.any():
            run = np.concatenate([[self._time_ms or times[sane][0]], times[sane]])
            back = np.zeros(len(part), np.bool_)
            back[sane] = -np.diff(run) > _BACK_MS
            self._found("clock back", part, back)
            self._time_ms = int(run[-1])
        known = times[told]
        self._last_ms = max(self._last_ms, int(known.max()))
        self._first_ms = min(self._first_ms or int(known[0]), int(known.min()))

    def _look_at_positions(self, part: Feedback) -> None:
        positions = part.positions
        if not len(positions):
            return
        first = int(positions.min())
        self._least = first if self._least is None else min(self._least, first)
        before = self._position or positions[0] - 1
        steps = np.diff(positions, prepend=before)
        self._in_order &= bool((steps >= 0).all())
        for at in np.flatnonzero(steps > 1)[:_ROWS_SHOWN]:
            if len(self._gaps) < _ROWS_SHOWN:
                self._gaps.append((int(positions[at]), int(steps[at] - 1)))
        self._position = max(self._position, int(positions.max()))

    def _look_at_ids(self, part: Feedback) -> None:
        if not len(part.ids) or not any(part.ids):
            return
        self._columns.add("ids")
        hashes = hashes_of_texts(part.ids)
        named = np.array([bool(name) for name in part.ids], np.bool_)
        again = np.zeros(len(part), np.bool_)
        again[named] = self._ids.again(hashes[named])
        self._found("duplicate", part, again)
        if again.any() and "duplicate" not in self._details:
            self._details["duplicate"] = part.ids[int(np.flatnonzero(again)[0])]

    def _look_at_loggers(self, part: Feedback) -> None:
        if not len(part.loggers):
            return
        for code in np.unique(part.loggers):
            rows = np.flatnonzero(part.loggers == code)
            positions = part.positions[rows] if len(part.positions) else rows + 1
            name = part.policies[code]
            count, first, _ = self._loggers.get(name, (0, int(positions[0]), 0))
            self._loggers[name] = (count + len(rows), first, int(positions[-1]))

    def _found(
        self,
        kind: str,
        part: Feedback,
        which: NDArray[np.bool_],
        values: NDArray[Any] | None = None,
    ) -> None:
        """Count rows, and keep the first of them."""
        count = int(np.count_nonzero(which))
        if not count:
            return
        rows = np.flatnonzero(which)
        positions = part.positions[rows] if len(part.positions) else rows + 1
        kept = self._first.setdefault(kind, [])
        kept += [int(at) for at in positions[: _ROWS_SHOWN - len(kept)]]
        if values is not None and kind not in self._details:
            self._details[kind] = f"{values[rows[0]]:.9g}"
        self._counts[kind] += count

    def done(self, source: Source) -> Check:
        """Return what was found."""
        self._add_left_out(source)
        self._add_gaps(source)
        wrong_mean = self._weights.verdict()
        if wrong_mean:
            self._counts["mean weight"] = self._weights.rows
            self._details["mean weight"] = wrong_mean
        if not self.rows:
            self._counts["empty"] = 1
        findings = [
            Finding(
                kind=kind,
                severity=severity,
                meaning=meaning,
                count=self._counts[kind],
                rows=tuple(self._first.get(kind, ())),
                detail=self._details.get(kind, ""),
            )
            for kind, (severity, meaning) in _WHAT.items()
            if self._counts[kind]
        ]
        return Check(
            log=str(source.path),
            log_format=source.format,
            rows=self.rows,
            actions=self._actions,
            first_ms=self._first_ms,
            last_ms=self._last_ms,
            findings=tuple(findings),
            loggers=tuple(
                Logger(policy=name, rows=count, first=first, last=last)
                for name, (count, first, last) in self._loggers.items()
            ),
            unchecked=tuple(self._unchecked()),
        )

    def _add_left_out(self, source: Source) -> None:
        kinds = {"bad": "unreadable", "torn": "torn", "unlabelled": "unlabelled"}
        for reason, count in source.left_out.reasons.items():
            kind = kinds[reason]
            self._counts[kind] += count
            messages = source.left_out.firsts.get(reason, [])
            if messages:
                self._details.setdefault(kind, messages[0])
            places = [_PLACE.search(message) for message in messages[:_ROWS_SHOWN]]
            self._first[kind] = [int(place[1]) for place in places if place]

    def _add_gaps(self, source: Source) -> None:
        """Say which positions are missing, where positions are without gaps."""
        if source.format not in ("server", "parquet") or self._least is None:
            return
        missing = self._position - self._least + 1 - self.rows
        missing -= sum(source.left_out.reasons.values())
        if missing <= 0:
            return
        self._counts["gap"] = missing
        if self._in_order:
            self._first["gap"] = [position for position, _ in self._gaps]
            self._details["gap"] = f"{self._gaps[0][1]:,} before the first of these"

    def _unchecked(self) -> list[str]:
        said = []
        if "ids" not in self._columns:
            said.append("duplicates: decisions have no ids")
        elif self._ids.forgot:
            said.append(f"duplicates further apart than {IDS_MAX // 2:,} decisions")
        if "times" not in self._columns:
            said.append("clocks: decisions have no times")
        if "actions" not in self._columns:
            said.append("probabilities: the log does not say what was eligible")
        elif not self._weights.rows:
            said.append("the mean of 1/p: no row has all that it takes")
        elif self._weights.too_few:
            said.append("the mean of 1/p: too few rows for so small probabilities")
        return said


class _Seen:
    """Which hashes there were, in sorted runs, each twice as long as the next.

    Args:
        most: How many are remembered; when there are more, the oldest go.

    Attributes:
        forgot: Whether any have gone.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._runs: list[NDArray[np.uint64]] = []
        self.forgot = False

    def again(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Say which of them were there before, and remember all."""
        order = np.argsort(hashes, kind="stable")
        ordered = hashes[order]
        again = np.zeros(len(hashes), np.bool_)
        again[order[1:]] = ordered[1:] == ordered[:-1]
        for run in self._runs:
            at = np.minimum(np.searchsorted(run, ordered), len(run) - 1)
            again[order] |= run[at] == ordered
        self._runs.append(ordered)
        while len(self._runs) > 1 and len(self._runs[-2]) <= 2 * len(self._runs[-1]):
            last = self._runs.pop()
            self._runs[-1] = np.sort(np.concatenate([self._runs[-1], last]))
        while sum(map(len, self._runs)) > self._most and len(self._runs) > 1:
            self._runs.pop(0)
            self.forgot = True
        if len(self._runs[0]) > self._most:
            self._runs = []
            self.forgot = True
        return again


class _Weights:
    """Whether 1/p is as large on average as it must be.

    Over the draws of a decision among K actions that have a chance, the mean of 1/(K·p)
    is 1, whatever the probabilities; its variance is (Σ 1/p)/K² − 1 where all of them
    are known, and is taken from the rows where they are not.

    Attributes:
        rows: How many rows it is about.
        too_few: Whether so few that nothing follows.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.too_few = False
        self._sum = self._variance = self._squares = self._most = 0.0

    def add(
        self,
        part: Feedback,
        rows: NDArray[np.intp],
        sound: NDArray[np.bool_],
        partly: NDArray[np.bool_],
    ) -> None:
        """Add the rows of a part.

        Args:
            part: The part.
            rows: Of which row each of its actions is.
            sound: The rows whose probabilities are all known, and add up.
            partly: The rows of which only some probabilities are known.
        """
        n = len(part)
        probabilities = part.probabilities
        possible = probabilities > 0.0
        inverse = np.divide(1.0, probabilities, where=possible, out=np.zeros(len(rows)))
        # Where only one probability is known, all actions are taken to have a chance.
        sizes = np.where(sound, np.bincount(rows, possible, n), np.diff(part.offsets))
        p = part.propensities
        use = (sound | partly) & (p > 0.0) & (p <= 1.0) & (sizes > 0)
        if not use.any():
            return
        k = sizes[use]
        weights = 1.0 / (k * p[use])
        self.rows += len(weights)
        self._sum += float((weights - 1.0).sum())
        self._squares += float(((weights - 1.0) ** 2)[~sound[use]].sum())
        inverses = np.bincount(rows, inverse, n)[use]
        theirs = (inverses / k**2 - 1.0)[sound[use]].clip(0.0)
        self._variance += float(theirs.sum())
        largest = np.zeros(n)
        np.maximum.at(largest, rows, np.nan_to_num(inverse))
        most = np.where(sound[use], largest[use] / k, weights)
        self._most = max(self._most, float(most.max()))

    def verdict(self) -> str:
        """Say what is wrong; nothing where nothing is, or too little is known."""
        if not self.rows:
            return ""
        variance = self._variance + self._squares
        mean = 1.0 + self._sum / self.rows
        if variance <= 1e-12 * self.rows:
            exact = abs(mean - 1.0) <= 1e-3
            return "" if exact else f"it is {mean:.4g} times as large, in every row"
        # A sum of few, large jumps is far from normal.
        self.too_few = variance < _JUMPS_MIN * (self._most - 1.0) ** 2
        z = self._sum / math.sqrt(variance)
        if self.too_few or abs(z) <= _Z_MAX:
            return ""
        return f"it is {mean:.4g} times as large, {abs(z):.1f} standard errors off"
