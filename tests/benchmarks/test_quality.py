from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from benchmarks import quality
from benchmarks.problems import SETS, WORLDS, Problem, read_set, set_problem
from benchmarks.quality import OURS, play
from benchmarks.rivals import RIVALS, Chooser, Ours, Rival
from policies.model import Action, Features


class Careful(Ours):
    """One of ours whose propensities are looked at."""

    def choose(
        self, context: Features, actions: Sequence[Action], uniform: float
    ) -> tuple[int, float]:
        probabilities = self.policy.distribution(context, actions)
        assert pytest.approx(probabilities.sum()) == 1.0
        assert probabilities.min() >= 0.01 / len(actions) - 1e-12
        chosen, propensity = super().choose(context, actions, uniform)
        assert probabilities[chosen] == propensity
        return chosen, propensity


def test_the_default_learns_on_a_set_and_its_propensities_are_true() -> None:
    result = play(Careful(OURS["default"]), set_problem("phishing"), seed=0, rows=400)

    assert result.reward > 0.75
    assert 0.005 <= result.least <= 1.0


@pytest.mark.parametrize(
    ("name", "rows", "columns", "labels"),
    [
        ("digits", 1_797, 64, 10),
        ("segment", 2_310, 18, 7),
        ("phishing", 1_250, 9, 2),
        ("satimage", 6_435, 36, 6),
        ("pendigits", 10_992, 16, 10),
        ("letter", 20_000, 16, 26),
    ],
)
def test_the_sets_are_whole_and_scaled(
    name: str, rows: int, columns: int, labels: int
) -> None:
    assert name in SETS
    features, found, count = read_set(name)

    assert (rows, columns) == features.shape
    assert labels == count == len(np.unique(found))
    assert features.mean(axis=0) == pytest.approx(np.zeros(columns), abs=1e-9)
    assert np.isin(features.std(axis=0).round(6), [0.0, 1.0]).all()


def test_a_file_of_ones_own_is_a_set(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("age,shop,label\n1,a,yes\n2,b,no\n3,a,yes\n", encoding="utf-8")

    problem = set_problem(str(file))

    assert problem.name == "mine"
    rounds = list(problem.rounds(0, 10))
    assert len(rounds) == 3
    assert [given.rewards.sum() for given in rounds] == [1.0] * 3
    assert len(rounds[0].context) == 4


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "empty.csv"
    file.write_text("age,label\n", encoding="utf-8")

    with pytest.raises(ValueError, match="there must be rows"):
        read_set(str(file))


@pytest.mark.parametrize("problem", WORLDS, ids=lambda problem: problem.name)
def test_a_world_is_the_same_for_all_policies(problem: Problem) -> None:
    first, again = (
        [(given.context, given.rewards.tolist()) for given in islice(rounds, 20)]
        for rounds in (problem.rounds(3, 20), problem.rounds(3, 20))
    )

    assert first == again
    assert len(first) == 20


@pytest.mark.parametrize("name", ["vw_squarecb", "vw_egreedy"])
def test_a_rival_plays_by_the_same_rules(name: str) -> None:
    result = play(RIVALS[name].make(), set_problem("phishing"), seed=0, rows=200)

    assert 0.5 < result.reward <= 1.0
    assert 0.0 < result.least <= 1.0


@pytest.mark.parametrize("name", list(RIVALS))
def test_every_installed_rival_learns(name: str) -> None:
    rival = RIVALS[name]
    if not rival.installed:
        pytest.skip(f"{rival.package} is not installed")

    result = play(rival.make(), set_problem("phishing"), seed=0, rows=60)

    assert 0.3 < result.reward <= 1.0


def test_ours_and_the_plain_policy_of_the_same_settings_earn_the_same() -> None:
    problem = set_problem("phishing")

    ours, theirs = (
        play(chooser, problem, seed=0, rows=300)
        for chooser in (Ours(OURS["twin_linucb"]), RIVALS["numpy_linucb"].make())
    )

    # They differ in which of equals is taken first.
    assert ours.reward == pytest.approx(theirs.reward, abs=0.02)


class Noted:
    """Notes what another chooses."""

    def __init__(self, chooser: Chooser) -> None:
        self.chooser = chooser
        self.noted: list[tuple[int, float]] = []

    def choose(
        self, context: Features, actions: Sequence[Action], uniform: float
    ) -> tuple[int, float]:
        found = self.chooser.choose(context, actions, uniform)
        self.noted.append(found)
        return found

    def learn(
        self,
        context: Features,
        actions: Sequence[Action],
        chosen: int,
        reward: float,
        propensity: float,
    ) -> None:
        self.chooser.learn(context, actions, chosen, reward, propensity)


@pytest.mark.parametrize("name", [name for name in RIVALS if name.startswith("vw_")])
def test_ours_chooses_what_the_explorer_of_the_same_settings_does(name: str) -> None:
    ours, theirs = (
        Noted(chooser) for chooser in (Ours(OURS[f"twin_{name}"]), RIVALS[name].make())
    )

    for chooser in (ours, theirs):
        play(chooser, set_problem("segment"), seed=0, rows=60)

    assert [chosen for chosen, _ in ours.noted] == [at for at, _ in theirs.noted]
    shares = [share for _, share in theirs.noted]
    assert [share for _, share in ours.noted] == pytest.approx(shares, abs=1e-4)


def test_what_is_not_installed_is_said_and_what_others_earned_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    gone = Rival(RIVALS["gittins"].make, "no_such_package")
    monkeypatch.setitem(RIVALS, "gittins", gone)
    asked = ["twin_linucb", "numpy_linucb", "gittins"]

    for _ in range(2):
        quality.run(
            seeds=1,
            rival_seeds=1,
            rows=20,
            sets="phishing",
            policies=",".join(asked),
            fresh=False,
            worlds=False,
            workers=1,
        )

    folder = tmp_path / "build" / "bench"
    report = json.loads((folder / "quality.json").read_text())
    assert report["gittins"] == {"not_installed": "no_such_package"}
    (pair,) = report["pairs"]
    assert (pair["ours"], pair["theirs"]) == ("twin_linucb", "numpy_linucb")
    assert set(pair["sets"]) == {"phishing"}
    assert len(json.loads((folder / "rivals.json").read_text())) == 1
    assert "gittins (no_such_package)" in capsys.readouterr().out
    assert (folder / "quality.svg").exists()
