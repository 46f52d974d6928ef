"""VW ends where its own tests say, on their streams, and so does our learner.

The reference's average loss is what its policy would have cost, by inverse propensity
scores, before each row was learned. Our learner gives every action a name, which VW's
tests do not have; where an action is one word that word is its name, and nothing is
left that could differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from vowpalwabbit import Workspace

from policies.learners.vw import VowpalWabbit, VowpalWabbitSettings
from policies.learners.vw_explorers import (
    VwBag,
    VwCover,
    VwEpsilonGreedy,
    VwExplorer,
    VwFirst,
    VwRegCB,
    VwSoftmax,
    VwSynthCover,
)
from policies.model import Action, Features

DATA = Path(__file__).parents[1] / "data" / "vw"
TOLERANCE = 1e-4
KNOWN = {
    each["test"]: each
    for each in json.loads((DATA / "average_loss.json").read_text(encoding="utf-8"))
}


@pytest.mark.parametrize("test", KNOWN)
def test_the_installed_version_ends_with_the_loss_of_the_reference(test: int) -> None:
    known = KNOWN[test]
    words = known["arguments"].split()
    at = words.index("-d") + 1
    words[at] = str(DATA / words[at])

    workspace = Workspace(arg_list=[*words, "--quiet"])

    assert workspace.get_weighted_examples() == known["examples"]
    loss = workspace.get_sum_loss() / known["labelled"]
    assert loss == pytest.approx(known["loss"], abs=TOLERANCE)
    workspace.finish()


class Labelled(NamedTuple):
    """What was chosen, what that cost, and with which chance it was chosen."""

    chosen: int
    cost: float
    propensity: float


def rows_of(name: str) -> Iterator[tuple[Features, list[Action], Labelled | None]]:
    """Read a stream in VW's text format."""
    for block in (DATA / name).read_text(encoding="utf-8").strip().split("\n\n"):
        shared, *lines = block.strip().split("\n")
        label = None
        for at, line in enumerate(lines):
            said = line.partition("|")[0].split(":")
            if len(said) > 1:
                label = Labelled(at, float(said[1]), float(said[2]))
        yield ones(shared), [action_of(line) for line in lines], label


def action_of(line: str) -> Action:
    (name, _), *others = ones(line)
    return Action(1, name, "c", "p", tuple(others))


def ones(line: str) -> Features:
    _, _, said = line.partition("|")
    words = said.split() if said.startswith(" ") else said.split()[1:]
    return tuple([(word, 1.0) for word in words])


REGCB = VwRegCB(mellowness=0.001, reward_min=-1.0, reward_max=0.0)
EXPLORERS: tuple[tuple[int, VwExplorer], ...] = (
    (126, VwEpsilonGreedy(epsilon=0.1)),
    (127, VwSoftmax(inverse_temperature=1.0)),
    (129, VwFirst(rewards=2)),
    (253, VwSynthCover(epsilon=0.01)),
    (628, VwBag(bags=3)),
)
COVER = VowpalWabbitSettings("dr", VwCover(policies=3), (), learning_rate=0.5)
OURS = [
    (318, VowpalWabbitSettings(explorer=VwFirst(rewards=130), learning_rate=0.5)),
    (320, VowpalWabbitSettings(explorer=REGCB, learning_rate=0.5)),
    (137, COVER),
    *[
        (test, VowpalWabbitSettings("mtr", explorer, (), learning_rate=0.5))
        for test, explorer in EXPLORERS
    ],
]


@pytest.mark.parametrize(("test", "settings"), OURS, ids=[test for test, _ in OURS])
def test_our_learner_ends_with_the_loss_of_the_reference(
    test: int, settings: VowpalWabbitSettings
) -> None:
    words = KNOWN[test]["arguments"].split()
    stream = words[words.index("-d") + 1]
    learner = VowpalWabbit(settings)
    costs = []
    for context, actions, label in rows_of(stream):
        chances = learner.distribution(context, actions)
        if label is not None:
            chosen, cost, propensity = label
            costs.append(cost * chances[chosen] / propensity)
            learner.learn(
                context,
                actions[chosen],
                reward=-cost,
                propensity=propensity,
                among=actions,
            )

    assert len(costs) == KNOWN[test]["labelled"]
    loss = sum(costs) / len(costs)
    assert loss == pytest.approx(KNOWN[test]["loss"], abs=TOLERANCE)
