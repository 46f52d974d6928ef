"""Signs of collapse and drift."""

from __future__ import annotations

import math

import numpy as np
import pytest

from policies.drift import PSI_MAX, collapsed, entropy_of, psi, stability


def test_entropy_is_what_its_formula_says() -> None:
    found = entropy_of({"a": 90, "b": 10}, eligible=4)

    assert found == pytest.approx(
        -(0.9 * math.log(0.9) + 0.1 * math.log(0.1)) / math.log(4)
    )


def test_where_there_is_no_choice_nothing_has_collapsed() -> None:
    assert entropy_of({"a": 9}, eligible=1) == 1.0
    assert entropy_of({}, eligible=5) == 1.0
    assert not collapsed({"a": 9}, 1, {}, entropy_min=0.2)
    assert not collapsed({}, 5, {}, entropy_min=0.2)


def test_one_action_alone_is_a_collapse_unless_it_is_certainly_better() -> None:
    # Given that hardly anything but one action is chosen
    chosen = {"tea": 980, "jam": 20}
    generator = np.random.default_rng(1)
    many = list(generator.random(980))

    # When nothing is known of the others, or they earn the same, it is a collapse
    same = {"tea": many, "jam": many[:20]}
    assert collapsed(chosen, 3, {"tea": many}, entropy_min=0.2)
    assert collapsed(chosen, 3, same, entropy_min=0.2)
    assert collapsed(chosen, 3, {"tea": many, "jam": many[:40]}, entropy_min=0.2)

    # Then it is none where they earn less, or where others are tried
    worse = [value - 1.0 for value in many[:40]]
    assert not collapsed(chosen, 3, {"tea": many, "jam": worse}, entropy_min=0.2)
    assert not collapsed({"tea": 600, "jam": 400}, 3, same, entropy_min=0.2)


def test_the_index_is_what_its_formula_says() -> None:
    assert psi([50, 30, 20], [30, 30, 40]) == pytest.approx(
        (0.3 - 0.5) * math.log(0.3 / 0.5) + (0.4 - 0.2) * math.log(0.4 / 0.2)
    )
    assert math.isfinite(psi([1, 0], [0, 1]))


def test_numbers_drift_when_they_are_spread_otherwise() -> None:
    generator = np.random.default_rng(2)
    before = list(generator.normal(0.0, 1.0, 1_000))

    assert stability(before, list(generator.normal(0.0, 1.0, 1_000))) < 0.05
    assert stability(before, list(generator.normal(1.0, 1.0, 1_000))) > PSI_MAX


def test_categories_and_flags_drift_when_their_shares_do() -> None:
    before = ["free"] * 80 + ["pro"] * 20

    assert stability(before, before) == 0.0
    assert stability(before, ["free"] * 20 + ["pro"] * 80) > PSI_MAX
    assert stability(before, ["free"] * 50 + ["team"] * 50) > PSI_MAX
    assert stability([True] * 50 + [False] * 50, [True] * 100) > PSI_MAX
    assert stability([], before) == 0.0
    assert stability(before, []) == 0.0
