"""What is ranked by: p^a · c · v · l, each term switched on by itself, and logged."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.catalogue import Catalogue, read
from policies.engine import Past, decide
from policies.errors import CatalogueError
from policies.identity import decision_id, root_key
from policies.model import (
    NO_OFFER,
    Action,
    Context,
    Merits,
    Moment,
    Opportunity,
    ScoreTerms,
)
from policies.objective import ObjectiveSettings
from policies.policy import EpsilonGreedy, LinUCBSettings, Policy, PolicySettings
from policies.records import decode_decision, encode_decision
from policies.splits import SplitSettings
from server.settings import read_settings

SILENCE = Action(NO_OFFER, "", "", "", ())
MERITS = Merits(price=900, margin=300, lever=3.0, moments=(("limit_hit", 2.0),))
TEA = Action(1, "tea", "c", "p", (), merits=MERITS)
JAM = Action(2, "jam", "c", "p", (), merits=Merits(price=100, lever=0.1))
ACTIONS = [SILENCE, TEA, JAM]
HIT = (("constant", 1.0), ("moment=limit_hit", 1.0))
EVERYTHING = ObjectiveSettings(
    exponent=2.0, context=True, value="margin", levers=True, lever_max=2.0
)


@pytest.mark.parametrize(
    ("objective", "scores"),
    [
        (ObjectiveSettings(), [0.1, 0.5, 0.4]),
        (ObjectiveSettings(exponent=2.0), [0.01, 0.25, 0.16]),
        (ObjectiveSettings(exponent=0.0), [1.0, 1.0, 1.0]),
        (ObjectiveSettings(context=True), [0.1, 1.0, 0.4]),
        (ObjectiveSettings(value="price"), [0.1, 4.5, 0.4]),
        (ObjectiveSettings(value="margin"), [0.1, 1.5, 0.4]),
        (ObjectiveSettings(value="margin", value_unit=1.0), [0.1, 150.0, 0.4]),
        (ObjectiveSettings(levers=True), [0.1, 1.0, 0.2]),
        (ObjectiveSettings(levers=True, lever_max=10.0), [0.1, 1.5, 0.04]),
        (EVERYTHING, [0.01, 0.25 * 2 * 3 * 2, 0.16 * 0.5]),
    ],
)
def test_each_term_counts_where_it_is_on(
    objective: ObjectiveSettings, scores: list[float]
) -> None:
    expected = np.array([0.1, 0.5, 0.4])

    weighed = objective.weigh(expected, HIT, ACTIONS)

    assert weighed.tolist() == pytest.approx(scores)
    for at, action in enumerate(ACTIONS):
        terms = objective.terms(float(expected[at]), HIT, action)
        assert (terms is None) == objective.off
        if terms is not None:
            p, c, v, w = msgspec.structs.astuple(terms)
            assert p**objective.exponent * c * v * w == pytest.approx(scores[at])


def test_what_is_free_is_worth_one_by_price_and_nothing_by_its_margin() -> None:
    free = Action(3, "free", "c", "p", (), merits=Merits(price=0, margin=0))

    by_price, by_margin = (
        ObjectiveSettings(value=value).weigh(np.array([0.5]), (), [free]).tolist()
        for value in ("price", "margin")
    )

    assert by_price == [0.5]
    assert by_margin == [0.0]


def test_a_weight_is_for_its_moment_alone() -> None:
    objective = ObjectiveSettings(context=True)

    for context in ((), (("moment=renewal", 1.0),)):
        weighed = objective.weigh(np.array([0.5]), context, [TEA])
        assert weighed.tolist() == [0.5]


@given(
    st.lists(st.floats(-10.0, 10.0), min_size=3, max_size=3),
    st.floats(0.01, 4.0),
    st.sampled_from(["none", "price", "margin"]),
)
def test_a_loss_stays_a_loss_and_a_gain_a_gain(
    expected: list[float], exponent: float, value: str
) -> None:
    objective = ObjectiveSettings(
        exponent=exponent,
        context=True,
        value=value,  # type: ignore[arg-type] # One of the names.
        levers=True,
    )

    weighed = objective.weigh(np.array(expected), HIT, ACTIONS)

    assert np.isfinite(weighed).all()
    for before, after in zip(expected, weighed.tolist(), strict=True):
        assert after >= 0.0 if before > 0.0 else after == before


@given(st.floats(0.01, 10.0), st.floats(0.0, 10.0))
def test_what_is_more_likely_ranks_higher(p: float, more: float) -> None:
    low, high = EVERYTHING.weigh(np.array([p, p + more]), HIT, [TEA, TEA])

    assert low <= high


def test_how_sure_a_score_is_follows_what_it_is_made_of() -> None:
    objective = ObjectiveSettings(value="margin")
    mean, deviation = np.array([0.1, 0.5, -0.5]), np.array([0.05, 0.1, 0.1])

    spread = objective.spread(mean, deviation, (), [SILENCE, TEA, TEA])

    assert spread.tolist() == pytest.approx([0.05, 0.3, 0.1])
    policy = Policy(PolicySettings(objective=objective))
    plain = Policy(PolicySettings())
    assert policy.believe((), [TEA]).deviation == pytest.approx(
        3.0 * plain.believe((), [TEA]).deviation, rel=0.5
    )


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"exponent": -1.0}, "exponent must be from 0 to 4, not -1.0"),
        ({"value": "revenue"}, "revenue"),
        ({"value_unit": 0.0}, "value_unit must be above 0 to 1e12"),
        ({"lever_max": 0.5}, "lever_max must be from 1 to 10"),
    ],
)
def test_what_is_out_of_range_is_refused(wrong: object, word: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=word):
        msgspec.convert({"objective": wrong}, PolicySettings)


def test_it_is_a_part_of_the_settings_of_the_policy(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text('[policy.objective]\nvalue = "margin"\nlevers = true\n')

    policy = read_settings(path).policy

    assert policy.objective == ObjectiveSettings(value="margin", levers=True)
    assert policy.version != PolicySettings().version
    assert msgspec.json.decode(policy.to_json(), type=PolicySettings) == policy


# --- Through the engine -----------------------------------------------------------

SHOP = """
[placements.home]

[offers.tea]
placements = ["home"]
price = 2000
margin = 1000

[offers.jam]
placements = ["home"]
price = 300
margin = 100
lever = 2
moment_weights = { limit_hit = 1.5 }

"""


def asked(user: str, shop: Catalogue, policy: Policy) -> ScoreTerms | None:
    """Let the engine decide at a moment; return the terms of what it chose."""
    opportunity = Opportunity(
        decision_id(root_key("shop", "", user), user, "r"),
        1_795_262_400_000,
        user,
        ("home",),
        context=Context(moment=Moment("limit_hit")),
    )
    decision = decide(opportunity, catalogue=shop, past=Past(), policy=policy).decision
    assert decode_decision(encode_decision(decision)) == decision
    return decision.terms


def trained(
    objective: ObjectiveSettings, split: SplitSettings
) -> tuple[Policy, Catalogue]:
    """Return a policy that knows: tea pleases one in five, and jam half of them."""
    shop = read(SHOP)
    settings = PolicySettings(
        LinUCBSettings(alpha=0.0),
        EpsilonGreedy(epsilon=0.0),
        objective=objective,
        split=split,
    )
    policy = Policy(settings)
    context = (("constant", 1.0), ("moment=limit_hit", 1.0))
    for number in range(100):
        tea, jam = shop.actions[1:]
        policy.learn(context, tea, reward=float(number % 5 == 0), propensity=0.5)
        policy.learn(context, jam, reward=float(number % 2 == 0), propensity=0.5)
        policy.learn(context, shop.actions[0], reward=0.0, propensity=0.5)
    return policy, shop


@pytest.mark.parametrize(
    ("objective", "terms"),
    [
        (ObjectiveSettings(), None),
        (ObjectiveSettings(levers=True), (0.5, 1.0, 1.0, 2.0)),
        (ObjectiveSettings(value="margin"), (0.2, 1.0, 10.0, 1.0)),
        (ObjectiveSettings(value="margin", exponent=4.0), (0.5, 1.0, 1.0, 1.0)),
    ],
)
def test_the_engine_ranks_by_it_and_logs_the_terms(
    objective: ObjectiveSettings, terms: tuple[float, ...] | None
) -> None:
    policy, shop = trained(objective, SplitSettings())

    logged = asked("ada", shop, policy)

    if terms is None:
        assert logged is None
    else:
        assert logged is not None
        assert msgspec.structs.astuple(logged) == pytest.approx(terms, abs=0.01)


def test_nothing_that_is_learned_counts_for_who_controls() -> None:
    policy, shop = trained(EVERYTHING, SplitSettings(control=1.0))

    assert asked("ada", shop, policy) is None


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("lever = 11", "lever: is 0.1 to 10, not 11"),
        ("lever = 0", "lever: is 0.1 to 10, not 0"),
        ("moment_weights = { tuesday = 1 }", "tuesday is no known moment"),
        ("moment_weights = { renewal = 0 }", "is above 0 to 10, not 0"),
    ],
)
def test_a_catalogue_with_wrong_merits_is_refused(line: str, problem: str) -> None:
    text = '[placements.home]\n[offers.tea]\nplacements = ["home"]\n' + line

    with pytest.raises(CatalogueError, match=problem):
        read(text)
