"""Converted logs: the same answers, and the same features for others' models."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner
from vowpalwabbit import Workspace

from policies.model import Action
from simulator import Feedback, TargetError, evaluate, open_log
from simulator.__main__ import app
from simulator.logs import write_log
from simulator.memory import Parts
from tests.simulator import logged

FEATURES = (("constant", 1.0), ("plan=free user", 1.0), ("User^tag=a b", 1.0))


def of_product(n: int = 600) -> Feedback:
    """Return a log among offers with placements, or none, whose actions differ."""
    part = logged.log(n, users=n // 4)
    actions = [
        Action(at, offer, "big" if offer else "", "home" if offer else "", features)
        for at, (offer, features) in enumerate(
            zip(logged.OFFERS, _of_actions(), strict=True)
        )
    ]
    contexts = [
        (*FEATURES, *features, ("User^tag=c", 1.0)) for features in part.contexts
    ]
    return msgspec.structs.replace(
        part,
        vocabulary=actions,
        contexts=contexts,
        splits=["train", "eval"] * (n // 2),
    )


def _of_actions() -> list[tuple[tuple[str, float], ...]]:
    return [(), *[((f"offer={name}", 1.0), ("cheap", 0.5)) for name in "abc"]]


def trained(path: Path, model: Path) -> str:
    """Train a model of Vowpal Wabbit on dsjson as its command line does."""
    learner = Workspace("--cb_explore_adf --epsilon 0.1 --dsjson --quiet -q ::")
    for line in path.read_text(encoding="utf-8").splitlines():
        examples = learner.parse(line)
        learner.learn(examples)
        learner.finish_example(examples)
    learner.save(str(model))
    learner.finish()
    return f"vw:{model}"


def by_hand(path: Path, model: str) -> float:
    """Return what the model is expected to earn, as Vowpal Wabbit reads the file."""
    asked = Workspace(f"-i {model.removeprefix('vw:')} --dsjson -t --quiet")
    earned = []
    for line in path.read_text(encoding="utf-8").splitlines():
        event = msgspec.json.decode(line)
        examples = asked.parse(line)
        share = asked.predict(examples)[event["_labelIndex"]]
        asked.finish_example(examples)
        earned.append(-event["_label_cost"] * share / event["_label_probability"])
    return float(np.mean(earned))


@pytest.mark.parametrize("suffix", [".parquet", ".dsjson", ".csv", ".npz"])
def test_no_offer_and_offers_stay_what_they_are(tmp_path: Path, suffix: str) -> None:
    # Given a log that sometimes offered nothing
    part = of_product()
    path = tmp_path / f"log{suffix}"

    # When it is written as something else
    write_log(Parts([part]), path)

    # Then each policy would have done the same in what is read
    names = ["fixed:no_offer", "fixed:jam", "uniform"]
    before = evaluate(part, names, estimators=["ips"])
    after = evaluate(path, names, estimators=["ips"])
    for one, other in zip(before.values, after.values, strict=True):
        assert other.ess == pytest.approx(one.ess)
        assert other.value == pytest.approx(one.value)
    with open_log(path) as log:
        found = {(a.index == 0, a.offer_id) for p in log.parts() for a in p.vocabulary}
    assert found == {(not offer, offer) for offer in logged.OFFERS}


@pytest.mark.parametrize("suffix", [".dsjson", ".csv", ".npz"])
def test_a_name_that_looks_like_several_stays_one(tmp_path: Path, suffix: str) -> None:
    part = logged.log(200)
    names = ["https://x/y", "no_offer", "a/b/c", "plain"]
    actions = [Action(1 + at, name, "", "", ()) for at, name in enumerate(names)]
    path = tmp_path / f"log{suffix}"

    write_log(Parts([msgspec.structs.replace(part, vocabulary=actions)]), path)

    with open_log(path) as log:
        found = {(a.offer_id, bool(a.index)) for p in log.parts() for a in p.vocabulary}
    assert found == {(name, True) for name in names}


@pytest.mark.parametrize(
    ("suffix", "told"),
    [
        (".parquet", ()),
        (".csv", ("features of actions",)),
        (".dsjson", ("of one user", "splits", "target:best", "objective:accepted")),
        (".npz", ("of one user", "splits", "target:best", "times")),
    ],
)
def test_what_a_format_has_no_place_for_is_told(
    tmp_path: Path, suffix: str, told: tuple[str, ...]
) -> None:
    whole, path = tmp_path / "whole.parquet", tmp_path / f"log{suffix}x"
    write_log(Parts([of_product()]), whole)
    path = path.with_suffix(suffix) if suffix != ".parquet" else tmp_path / "b.parquet"

    done = CliRunner().invoke(app, ["convert", str(whole), str(path)])

    assert done.exit_code == 0
    said = " ".join(done.output.split())
    assert ("Not in it" in said) == bool(told)
    for name in told:
        assert name in said


def test_a_model_of_vowpal_wabbit_gets_what_it_reads_from_the_same_log(
    tmp_path: Path,
) -> None:
    # Given a model that was trained on a log as dsjson
    part = of_product()
    path = tmp_path / "log.dsjson"
    write_log(Parts([part]), path)
    model = trained(path, tmp_path / "model.vw")

    # When it is judged by that file, and by the log that this was made from
    values = [evaluate(log, [model], estimators=["ips"]) for log in (path, part)]

    # Then it decides as Vowpal Wabbit itself would
    wanted = by_hand(path, model)
    assert wanted != pytest.approx(np.mean(part.rewards), abs=0.01)
    for found in values:
        assert found.of(model, "ips").value == pytest.approx(wanted, abs=1e-5)


def test_numbers_that_are_named_like_categories_are_read_as_vowpal_wabbit_does(
    tmp_path: Path,
) -> None:
    # Given dsjson in which `offer=a` is the name of a number
    path = tmp_path / "log.dsjson"
    write_log(Parts([of_product()]), path)
    text = path.read_text(encoding="utf-8")
    for name, value in (("offer", "a"), ("offer", "b"), ("segment", "old")):
        text = text.replace(f'"{name}":"{value}"', f'"{name}={value}":1.0')
    path.write_text(text, encoding="utf-8")
    model = trained(path, tmp_path / "model.vw")

    found = evaluate(path, [model], estimators=["ips"]).of(model, "ips").value

    assert found == pytest.approx(by_hand(path, model), abs=1e-5)


def test_a_model_that_knows_none_of_the_features_is_refused(tmp_path: Path) -> None:
    # Given a model that has learned from a log with other features
    part = of_product()
    path = tmp_path / "log.dsjson"
    write_log(Parts([part]), path)
    model = trained(path, tmp_path / "model.vw")
    stranger = msgspec.structs.replace(
        part,
        contexts=[(("other", 1.0),)] * len(part),
        vocabulary=[
            msgspec.structs.replace(action, features=((f"item={at}", 1.0),))
            for at, action in enumerate(part.vocabulary)
        ],
    )

    with pytest.raises(
        TargetError, match=r"none of the features.*those here are other"
    ):
        evaluate(stranger, [model])
