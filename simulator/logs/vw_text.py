"""Reads the text of Vowpal Wabbit: `--cb_adf` in blocks of lines, and `--cb`.

A block is a decision: perhaps a line `shared`, then one line per action, of which the
chosen one has the label `action:cost:probability`; an empty line ends it. A line of
`--cb` is a decision among actions that are numbered. A cost becomes a reward by its
sign.

References:
    https://github.com/VowpalWabbit/vowpal_wabbit/wiki/Input-format
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from policies.model import Features
from simulator.feedback import Feedback
from simulator.logs.base import ROWS_MAX, LeftOut, LogError
from simulator.logs.building import Building, Reading, name_of
from simulator.logs.lines import Lines

__all__ = ["VwTextReader"]

_CACHED_MAX = 65_536
_SHARED = "shared"


class _Label(NamedTuple):
    """What a line says of an action: its number, its cost, how likely it was."""

    action: int
    cost: float
    probability: float


class _Example(NamedTuple):
    """A line."""

    number: int
    shared: bool
    labels: tuple[_Label, ...]
    features: Features


class _RowError(Exception):
    """A row cannot be read, and why."""


class VwTextReader(Reading):
    """Reads a file of VW text.

    Args:
        path: The file, plain or packed by gzip.
        skip_bad: Whether rows that cannot be read are left out and counted.

    Attributes are those of `Source`.
    """

    format = "vw"

    def __init__(self, path: Path, *, skip_bad: bool = False) -> None:
        super().__init__(path, skip_bad=skip_bad)
        self._features: dict[str, Features] = {}
        self._blocks = self._is_adf()
        self._n_actions = 0 if self._blocks else self._count()

    def parts(
        self, rows_max: int = ROWS_MAX, columns: Collection[str] | None = None
    ) -> Iterator[Feedback]:
        """Yield the decisions; see `Source`."""
        del columns
        self.left_out = LeftOut()
        self._building = Building(self._names)
        for _ in self._rows():
            if len(self._building) >= rows_max:
                yield self._building.part()
                self._building = Building(self._names)
        if len(self._building):
            yield self._building.part()

    def _rows(self) -> Iterator[None]:
        """Add decisions to what is being built, and stop after each."""
        block: list[_Example] = []
        lines = Lines(self.path)
        broken = False
        for number, text, _ in lines:
            self.read = lines.read
            if text.strip():
                try:
                    example = self._example(number, text)
                except (_RowError, UnicodeDecodeError) as error:
                    self._bad(f"line {number}: {error}")
                    broken = self._blocks
                    continue
                block.append(example)
                if self._blocks:
                    continue
            if block and not broken:
                self._add(block)
                yield
            block, broken = [], False
        if block and not broken:
            self._add(block)
            yield

    def _add(self, block: list[_Example]) -> None:
        """Add a decision, or say why it is none."""
        try:
            if self._blocks:
                self._add_block(block)
            else:
                self._add_line(block[0])
        except (_RowError, ValueError) as error:
            self._bad(f"line {block[0].number}: {error}")

    def _add_block(self, block: list[_Example]) -> None:
        context = block[0].features if block[0].shared else ()
        examples = block[1:] if block[0].shared else block
        if any(example.shared for example in examples):
            raise _RowError("shared: must be the first line of its block")
        if not examples:
            raise _RowError("there are no actions")
        labelled = [at for at, example in enumerate(examples) if example.labels]
        if len(labelled) > 1:
            number = examples[labelled[1]].number
            raise _RowError(f"only one action is chosen, but line {number} has a label")
        if not labelled:
            self._unlabelled(block[0].number)
            return
        codes = [
            self._names.offer(name_of(example.features), "", example.features)
            for example in examples
        ]
        label = examples[labelled[0]].labels[0]
        self._building.add(
            block[0].number,
            reward=0.0 - label.cost,
            chosen=codes[labelled[0]],
            propensity=label.probability,
            actions=codes,
            probabilities=_known(len(codes), labelled[0], label.probability),
            context=context,
        )

    def _add_line(self, example: _Example) -> None:
        labels = [label for label in example.labels if not math.isnan(label.cost)]
        if not labels:
            self._unlabelled(example.number)
            return
        if len(labels) > 1:
            raise _RowError("label: only one action has a cost and a probability")
        label = labels[0]
        codes = [
            self._names.offer(str(action + 1)) for action in range(self._n_actions)
        ]
        at = label.action - 1
        self._building.add(
            example.number,
            reward=0.0 - label.cost,
            chosen=codes[at],
            propensity=label.probability,
            actions=codes,
            probabilities=_known(len(codes), at, label.probability),
            context=example.features,
        )

    def _unlabelled(self, number: int) -> None:
        message = f"{self.path}: line {number}: nothing says what was chosen"
        self.left_out.add("unlabelled", message)

    def _example(self, number: int, text: bytes) -> _Example:
        head, bar, rest = text.decode().partition("|")
        words = head.split()
        shared = words[:1] == [_SHARED]
        if shared:
            return _Example(number, shared, (), self._read(bar + rest))
        labels = tuple(
            label for word in words if (label := self._label(word, words)) is not None
        )
        return _Example(number, shared, labels, self._read(bar + rest))

    def _label(self, word: str, words: list[str]) -> _Label | None:
        """Read a label; none for what is none, such as a tag or a weight."""
        parts = word.split(":")
        if len(parts) != 3:
            if len(parts) == 2 and parts[0].isdecimal():
                raise _RowError(f"label {word!r}: has no probability")
            if word is words[0] and self._blocks and not word.startswith("'"):
                raise _RowError(f"label {word!r}: must be action:cost:probability")
            return None
        try:
            label = _Label(int(parts[0]), float(parts[1]), float(parts[2]))
        except ValueError:
            raise _RowError(
                f"label {word!r}: must be action:cost:probability, as 1:0.5:0.25"
            ) from None
        if not self._blocks and label.action < 1:
            raise _RowError(f"label {word!r}: actions are numbered from 1")
        return label

    def _read(self, text: str) -> Features:
        known = self._features.get(text)
        if known is None:
            known = _features_of(text)
            literal = self._names.literal
            literal.update(name for name, _ in known if "=" in name)
            if len(self._features) >= _CACHED_MAX:
                self._features.clear()
            self._features[text] = known
        return known

    def _is_adf(self) -> bool:
        """Say whether decisions are blocks: with `shared`, or with empty lines."""
        for _, text, _ in Lines(self.path):
            if not text.strip():
                return True
            if text.split(b"|")[0].split()[:1] == [_SHARED.encode()]:
                return True
        return False

    def _count(self) -> int:
        """Return the largest number of an action of the file."""
        most = 0
        labelled = False
        for number, text, _ in Lines(self.path):
            for word in text.partition(b"|")[0].split():
                action, _, _ = word.partition(b":")
                if action.isdigit():
                    most = max(most, int(action))
                    labelled = labelled or word.count(b":") == 2
            if number >= 1_000 and not labelled:
                break
        if not labelled:
            raise LogError(
                self.path,
                "line 1: there are no labels action:cost:probability, as of VW's --cb"
                " and --cb_adf",
            )
        return most


def _known(n: int, chosen: int, propensity: float) -> list[float]:
    """Return probabilities of which only one is known."""
    probabilities = [float("nan")] * n
    probabilities[chosen] = propensity
    return probabilities


def _features_of(text: str) -> Features:
    """Return the features of a line from its first bar on.

    Examples:
        >>> _features_of("|User plan=free age:30 |b:2 x | y:0.5")
        (('User^plan=free', 1.0), ('User^age', 30.0), ('b^x', 2.0), ('y', 0.5))
    """
    found: list[tuple[str, float]] = []
    for space in text.split("|")[1:]:
        words = space.split()
        prefix, scale = "", 1.0
        if space[:1] and not space[:1].isspace():
            name, _, weight = words.pop(0).partition(":")
            prefix, scale = f"{name}^", _number(weight) if weight else 1.0
        for word in words:
            name, colon, value = word.rpartition(":")
            if not colon:
                name, value = word, "1"
            found.append((prefix + name, _number(value) * scale))
    return tuple(found)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _RowError(
            f"feature: must have a number behind the colon, not {text!r}"
        ) from None
