"""What outcomes are worth, by default and by settings."""

from __future__ import annotations

import math
from typing import get_args

import msgspec
import pytest

from policies.model import OutcomeKind
from policies.rewards import RewardSettings
from policies.toml import Duration

DEFAULTS = {
    "accepted": 1.0,
    "converted": 1.0,
    "dismissed": -0.2,
    "snoozed": 0.0,
    "opted_out": -1.0,
    "refunded": 0.0,
    "downgraded": 0.0,
    "churned": 0.0,
}


@pytest.mark.parametrize("kind", get_args(OutcomeKind))
def test_every_outcome_has_a_worth_or_settles_nothing(kind: OutcomeKind) -> None:
    assert DEFAULTS.get(kind) == RewardSettings().of(kind)


def test_every_worth_is_a_setting() -> None:
    rewards = RewardSettings({"clicked": 0.5, "accepted": 3.0, "snoozed": -0.1})

    assert [rewards.of(k) for k in ("clicked", "accepted", "snoozed", "dismissed")] == [
        0.5,
        3.0,
        -0.1,
        -0.2,
    ]


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"outcomes": {"shown": 1.0}}, "shown"),
        ({"outcomes": {"not_shown": 1.0}}, "not_shown"),
        ({"outcomes": {"accepted": math.nan}}, "finite"),
        ({"outcomes": {"accepted": math.inf}}, "finite"),
        ({"outcomes": {"accepted": -1.1e12}}, r"from -1e\+12 to 1e\+12, not -11"),
        ({"attention_cost": -0.1}, "attention_cost"),
        ({"attention_cost": math.inf}, "attention_cost"),
        ({"attention_cost": math.nan}, "attention_cost"),
        ({"attention_costs": {"modal": -1.0}}, r"attention_costs\.modal"),
        ({"attention_costs": {"popup": 1.0}}, "popup"),
        ({"wait": Duration(0)}, "wait"),
        ({"wait": Duration(91 * 86_400_000)}, "wait must be above 0 to 90d"),
        ({"default": math.nan}, "default must be finite"),
        ({"aggregate": "last"}, "aggregate"),
        ({"rates": {"euro": 1.1}}, r"rates\.euro must be for three letters"),
        ({"rates": {"EUR": 0.0}}, r"rates\.EUR must be above 0"),
        ({"rates": {"EUR": 1e13}}, r"rates\.EUR must be above 0, to 1e\+12"),
        ({"clip_min": -math.inf}, "clip_min must be finite"),
        ({"clip_min": 1.0, "clip_max": 0.5}, "clip_max must not be below clip_min"),
        ({"clip_quantile": 0.5}, "clip_quantile must be above 0.5 and below 1"),
        ({"clip_quantile": 1.0}, "clip_quantile must be above 0.5 and below 1"),
        ({"attribution": Duration(0)}, "attribution must be above 0"),
        ({"outcomes": {"accepted": {"money": "profit"}}}, "profit"),
        ({"outcomes": {"accepted": {"factor": 1.0}}}, "money"),
        (
            {"outcomes": {"accepted": {"money": "margin", "plus": math.inf}}},
            "plus must be finite",
        ),
        (
            {"outcomes": {"accepted": {"money": "margin", "factor": 1e300}}},
            "factor must be finite, from -1e",
        ),
        ({"outcomes": {"acepted": 1.0}}, "acepted"),
        ({"atention_cost": 1.0}, "atention_cost"),
    ],
)
def test_what_cannot_be_a_reward_is_refused(wrong: object, word: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=word):
        msgspec.convert(wrong, RewardSettings)
