"""The rule of --explore_eval, with Vowpal Wabbit as the policy, as VW itself prints it.

The logs and the numbers are from the tests of Vowpal Wabbit; `tests/data/README.md`
says more.
"""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from vowpalwabbit import Workspace

from policies.estimators.learning import Step, explore_eval
from policies.model import FloatArray

DATA = Path(__file__).parent.parent / "data"
PRINTED = json.loads((DATA / "known_answers.json").read_text())["explore_eval"]


class VW:
    """A learning policy that is VW, asked and taught in its own text."""

    def __init__(self, options: str) -> None:
        self._vw = Workspace(f"--cb_explore_adf {options} --quiet")

    def distribution(self, context: str, actions: Sequence[str]) -> FloatArray:
        return np.array(self._vw.predict([context, *actions]))

    def learn(
        self,
        context: str,
        actions: Sequence[str],
        chosen: int,
        *,
        reward: float,
        probability: float,
        weight: float,
    ) -> None:
        labelled = list(actions)
        labelled[chosen] = f"0:{-reward}:{probability} {labelled[chosen]}"
        self._vw.learn([context, *labelled])
        del weight


def steps_of(text: str) -> Iterator[Step]:
    """Read VW's text; nothing is said of probabilities but of what was chosen."""
    for block in text.strip().split("\n\n"):
        lines = block.splitlines()
        shared = lines.pop(0) if lines[0].startswith("shared") else ""
        labels = [line.partition("|")[0].split() for line in lines]
        chosen = next((at for at, label in enumerate(labels) if label), None)
        if chosen is None:
            continue
        _, cost, probability = labels[chosen][0].split(":")
        probabilities = np.full(len(lines), np.nan)
        probabilities[chosen] = float(probability)
        yield Step(
            context=shared,
            actions=[f"|{line.partition('|')[2]}" for line in lines],
            chosen=chosen,
            reward=-float(cost),
            probabilities=probabilities,
        )


def draws_of_vw() -> Iterator[float]:
    """Yield what VW's generator draws from seed 0."""
    state = 0
    while True:
        state = (0xEECE66D5DEECE66D * state + 2147483647) % 2**64
        bits = state >> 25 & 0x7FFFFF | 127 << 23
        yield struct.unpack("<f", struct.pack("<I", bits))[0] - 1.0


@pytest.mark.parametrize(
    ("number", "file", "options", "target_rate"),
    [
        ("140", "explore_eval.ldf", "--epsilon 0.2 --noconstant", None),
        ("420", "explore_eval_egreedy.dat.gz", "--coin --epsilon 0.1 -q UA", 0.2),
    ],
)
def test_it_prints_what_vw_prints(
    number: str, file: str, options: str, target_rate: float | None
) -> None:
    printed = PRINTED[number]
    content = (DATA / file).read_bytes()
    text = (gzip.decompress(content) if file.endswith("gz") else content).decode()

    made = explore_eval(
        VW(options), list(steps_of(text)), target_rate=target_rate, draws=draws_of_vw()
    )

    assert float(printed["weighted update count"]) == made.updates
    assert pytest.approx(-printed["average loss"], abs=1e-6) == made.value
    assert pytest.approx(printed["final multiplier"], abs=1e-6) == made.multiplier
    assert made.violations == 0
    assert made.low < made.value < made.high


def test_it_counts_the_violations_that_vw_counts() -> None:
    """VW's Python cannot weigh an example; what is kept is the same without."""
    text = gzip.decompress((DATA / "explore_eval_egreedy.dat.gz").read_bytes())

    made = explore_eval(
        VW("--coin --squarecb -q UA"),
        list(steps_of(text.decode())),
        target_rate=0.2,
        draws=draws_of_vw(),
    )

    assert PRINTED["421"]["violation count"] == made.violations
    assert made.updates > (made.terms.influence != 0).sum() * 0.2
