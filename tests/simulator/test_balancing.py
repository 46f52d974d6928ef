"""Balanced weights from a log: right where propensities are not."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from policies.errors import OpportuneError
from simulator import Parts, evaluate
from simulator.__main__ import app
from simulator.balancing import sampled
from simulator.batches import Batch
from simulator.logs.writing import write_log
from simulator.targets import Uniform
from tests.simulator.logged import LOGGING, TASTES, cut, log, value

UNIFORM = LOGGING * 0.0 + 1.0 / TASTES.shape[1]


def test_a_policy_is_valued_without_its_propensities() -> None:
    right = log(12_000)
    wrong = msgspec.structs.replace(right, propensities=right.propensities**0.5)

    found = evaluate(right, ["uniform"], estimators=["balanced_ips"]).of("uniform")

    assert found.value == pytest.approx(value(UNIFORM), abs=0.01)
    assert found.verdict == "usable"
    weights = []
    for part in (right, wrong):
        batch = Batch(part)
        names = [*(action.name for action in part.vocabulary), ""]
        (balancing,) = sampled(batch, [Uniform("uniform", "")], names).solve()
        weights.append(balancing.weights(batch))
    assert weights[0].tolist() == weights[1].tolist()
    assert (weights[1] * wrong.rewards).mean() == pytest.approx(found.value)


def test_parts_in_any_order_say_the_same() -> None:
    whole = log(2_000)
    asked = ["uniform", "fixed:jam"]

    once, again = (
        evaluate(source, asked, estimators=["balanced_ips"])
        for source in (whole, Parts(cut(whole, 300, seed=4)))
    )

    for name in asked:
        assert once.of(name).value == pytest.approx(again.of(name).value, rel=1e-9)


def test_the_command_knows_it(tmp_path: Path) -> None:
    write_log(Parts([log(2_000)]), tmp_path / "log.parquet")
    arguments = ["evaluate", str(tmp_path / "log.parquet"), "-p", "uniform"]

    told = CliRunner().invoke(
        app, [*arguments, "-e", "balanced_ips", "--by", "segment"]
    )

    assert told.exit_code in {0, 3}, told.output
    assert told.output.count("balanced_ips") >= 4


def test_a_policy_must_be_known_for_every_action() -> None:
    with pytest.raises(OpportuneError, match="what column:best would do with every"):
        evaluate(log(200), ["column:best"], estimators=["balanced_ips"])
