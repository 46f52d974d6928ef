"""Rewards by settings and catalogue, as the learner writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from policies.catalogue import read
from policies.errors import CatalogueError
from policies.model import Money, Outcome
from policies.rewards import Amount, RewardSettings
from policies.toml import Duration
from server.settings import read_settings
from tests.server.till import CATALOGUE, DAY_MS, MINUTE_MS, Till

SETTINGS = """
[rewards]
default = -0.05
aggregate = "sum"
attention_costs = { modal = 0.1 }
late = "30d"
clawback = "14d"
clip_min = -2
clip_max = 50.0
clip_quantile = 0.99
rates = { EUR = 1.08, JPY = 0.64 }

[rewards.outcomes]
accepted = { money = "margin", factor = 0.01, unknown = 1.0 }
viewed = 0.01
refunded = { money = "revenue" }
churned = -1
"""

PATIENT = """
[offers.coffee]
placements = ["list"]
reward_wait = "30d"
reward_default = -0.3
reward_aggregate = "max"
rewards = { dismissed = -0.9, accepted = { money = "price" } }
price = 1200
"""


def test_every_key_is_read_from_the_file(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(SETTINGS)

    rewards = read_settings(path).rewards

    assert rewards == RewardSettings(
        outcomes={
            "accepted": Amount("margin", unknown=1.0),
            "viewed": 0.01,
            "refunded": Amount("revenue"),
            "churned": -1.0,
        },
        default=-0.05,
        aggregate="sum",
        attention_costs={"modal": 0.1},
        late=Duration(30 * DAY_MS),
        clawback=Duration(14 * DAY_MS),
        rates={"EUR": 1.08, "JPY": 0.64},
        clip_min=-2.0,
        clip_max=50.0,
        clip_quantile=0.99,
    )


def test_each_offer_waits_as_long_as_its_catalogue_says(tmp_path: Path) -> None:
    # Given two offers, of which one may take a month
    rewards = RewardSettings(attention_cost=0.0)
    till = Till(tmp_path / "till.db", rewards, catalogue=CATALOGUE + PATIENT)
    tea, coffee = till.sold("shown"), till.sold("shown", offer_id="coffee")

    # When ten minutes are over, and when the month is
    names = []
    for wait_ms in (10 * MINUTE_MS, 29 * DAY_MS, DAY_MS):
        till.now_ms += wait_ms
        till.learn()
        names.append([(r.decision_id, r.reward) for r in till.stream()])

    # Then each has earned its default when its own wait is over
    first = (tea.opportunity.decision_id, 0.0)
    second = (coffee.opportunity.decision_id, -0.3)
    assert names == [[first], [first], [first, second]]


def test_an_offer_is_judged_by_its_own_rewards(tmp_path: Path) -> None:
    rewards = RewardSettings(attention_cost=0.0)
    till = Till(tmp_path / "till.db", rewards, catalogue=CATALOGUE + PATIENT)
    till.sold("shown", "dismissed", offer_id="coffee")
    till.sold("shown", "dismissed", "accepted", offer_id="coffee")
    till.sold("shown", "dismissed")
    till.learn()

    assert till.rewards_learned() == [-0.9, 12.0, -0.2]


def test_more_rewards_are_corrections_of_the_first(tmp_path: Path) -> None:
    till = Till(
        tmp_path / "till.db", RewardSettings(attention_cost=0.0, aggregate="sum")
    )
    decision = till.sold("shown", "dismissed")
    till.learn()

    till.report((decision, till.said("accepted", after_ms=5_000)))
    till.learn()

    assert till.rewards_learned() == [-0.2, 0.8]


def test_what_is_clipped_does_not_depend_on_when_the_learner_was_there(
    tmp_path: Path,
) -> None:
    # Given the same purchases, told to a learner at once and to one bit by bit
    rewards = RewardSettings(
        {"accepted": Amount("revenue")}, attention_cost=0.0, clip_quantile=0.95
    )
    once, often = (Till(tmp_path / f"{n}.db", rewards) for n in ("once", "often"))
    for till in (once, often):
        reports = []
        for number in range(160):
            revenue = Money("USD", 100_000 if number > 154 else 100 + number)
            outcome = Outcome("buy", "accepted", till.now_ms + 1, revenue=revenue)
            reports.append((till.decide(), [*till.said("shown"), outcome]))
        for at in range(0, 160, 160 if till is once else 40):
            till.report(*reports[at : at + (160 if till is once else 40)])
            till.learn()

    # Then both have learned the same rewards, and no outlier as it was
    learned = [resolution.reward for resolution in once.stream()]
    assert learned == often.rewards_learned()
    assert max(learned) < 3.0
    assert {r.earned for r in once.stream() if r.earned} >= {1_000.0}

    # And one that is told again without news is not corrected because limits moved
    once.now_ms += DAY_MS
    outlier = reports[-1][0]
    once.report((outlier, once.said("clicked")))
    once.learn()
    assert len(once.stream()) == 160


def test_where_all_money_comes_late_it_is_not_clipped_to_none(tmp_path: Path) -> None:
    # Given offers that nobody pays for within the wait
    rewards = RewardSettings(
        {"accepted": Amount("revenue")}, attention_cost=0.0, clip_quantile=0.95
    )
    till = Till(tmp_path / "late.db", rewards)
    shown = [(till.decide(), till.said("shown")) for _ in range(120)]
    till.report(*shown)
    till.now_ms += DAY_MS
    till.learn()
    assert set(till.rewards_learned()) == {0.0}

    # When one in four pays later, and the learner is started again now and then
    for at in range(0, 120, 4):
        outcome = Outcome(
            "buy", "accepted", till.now_ms, revenue=Money("USD", 400 + at)
        )
        till.report((shown[at][0], [outcome]))
        if at % 40 == 0:
            till.learn()
    till.learn()

    # Then the first few are clipped, and from then on what they pay is learned
    corrections = till.rewards_learned()[120:]
    assert len(corrections) == 30
    assert corrections[:3] == [0.0, 0.0, 0.0]
    assert all(reward > 3.9 for reward in corrections[10:])


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('reward_wait = "30s"', "reward_wait: is 1m to 90d, not 30s"),
        ('reward_wait = "91d"', "reward_wait: is 1m to 90d, not 91d"),
        ("reward_default = nan", "reward_default: is finite, not nan"),
        ("rewards = { shown = 1 }", "shown is no outcome that earns a reward"),
        ("rewards = { accepted = inf }", "accepted must be finite"),
        ('reward_aggregate = "last"', "reward_aggregate"),
        ('rewards = { accepted = { money = "profit" } }', "profit"),
    ],
)
def test_what_cannot_be_a_reward_of_an_offer_is_refused(
    line: str, problem: str
) -> None:
    text = f'{CATALOGUE}\n[offers.bad]\nplacements = ["list"]\n{line}\n'

    with pytest.raises(CatalogueError, match=problem):
        read(text)
