"""Estimators against what other programs make of the same rows, and closed forms."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from policies.estimators import (
    ESTIMATORS,
    SLATES,
    Rows,
    Slates,
    Sums,
    Terms,
    choose_estimator,
    mrdr_weights,
    named,
    parts_of,
    rows_of,
    sums_of,
    target_values,
    tune_by_mse,
    tune_by_slope,
)
from policies.estimators.balancing import balanced_weights
from policies.estimators.calibrating import (
    WeightSums,
    cressie_read,
    cressie_read_calibration,
    mle,
    mle_calibration,
)
from policies.estimators.embedding import cluster_weights, marginal_weights
from policies.estimators.loggers import logger_shares, mixture_propensities, multi_ips
from policies.estimators.matching import rejection
from policies.estimators.slates import pseudo_inverse, pseudo_inverse_weights
from policies.estimators.tuning import mse_bound
from policies.model import FloatArray

DATA = Path(__file__).parent.parent / "data"
KNOWN: Mapping[str, Any] = json.loads((DATA / "known_answers.json").read_text())
OBD = KNOWN["obd"]
NAMES = {
    "ipw": "ips",
    "snipw": "snips",
    "dm": "dm",
    "dr": "dr",
    "sndr": "sndr",
    "ipw_clip": "clipped_ips",
    "dr_clip": "clipped_dr",
    "switch-dr": "switch_dr",
    "dr-os": "dros",
    "sg-ipw": "subgaussian_ips",
    "sg-dr": "subgaussian_dr",
}
"""What Open Bandit Pipeline calls them, and what we do."""

TUNED = {
    "ipw": "clipped_ips",
    "dr": "clipped_dr",
    "switch-dr": "switch_dr",
    "dr-os": "dros",
}


@pytest.fixture(scope="module")
def obd() -> Rows:
    """Rows of the Open Bandit Dataset, and what Thompson sampling would have done."""
    content = gzip.decompress((DATA / "obd_random_to_bts.csv.gz").read_bytes())
    header, *lines = csv.reader(content.decode().splitlines())
    columns = dict(zip(header, np.array(lines, dtype=float).T, strict=True))
    return rows_of(
        columns["reward"],
        columns["propensity"],
        columns["target"],
        logged_values=columns["logged_value"],
        target_values=columns["target_value"],
    )


@pytest.mark.parametrize("name", [key for key in OBD["values"] if "tuned" not in key])
def test_the_open_bandit_dataset(obd: Rows, name: str) -> None:
    kind, _, value = name.partition("@")
    ours = NAMES[kind] + (f"@{value}" if value else "")

    assert pytest.approx(OBD["values"][name], rel=1e-12) == named(ours)(obd).value


@pytest.mark.parametrize("name", [key for key in OBD["values"] if "tuned" in key])
def test_what_is_chosen_on_the_open_bandit_dataset(obd: Rows, name: str) -> None:
    kind, _, how = name.partition("_tuned_")
    tune = {"slope": tune_by_slope, "mse": tune_by_mse}[how]

    choice = tune(TUNED[kind], obd, OBD["lambdas"], delta=0.1)

    assert OBD["chosen_lambda"][name] == choice.value
    assert pytest.approx(OBD["values"][name], rel=1e-12) == choice.terms.value
    for value, score in OBD["mse_scores"].get(name, {}).items():
        assert pytest.approx(score, rel=1e-12) == choice.scores[float(value)]


def test_the_quick_start_of_open_bandit_pipeline(obd: Rows) -> None:
    made = {name: named(NAMES[name])(obd).value for name in KNOWN["obd_quick_start"]}

    assert KNOWN["obd_quick_start"] == pytest.approx(made, abs=5e-7)


def stream(name: str) -> Rows:
    kind, size = name.split(maxsplit=1)[0].split("_n")
    n = int(size)
    first = np.arange(n) % 2 == 0
    if kind.startswith("constant"):
        return rows_of(np.full(n, 0.751), np.full(n, 0.5), np.full(n, 0.5))
    chance = float(kind.removeprefix("alternating_p"))
    targets = np.where(first, chance, 1.0 - chance)
    return rows_of(first.astype(float), np.full(n, 0.5), targets)


@pytest.mark.parametrize("name", KNOWN["vw_estimators"])
@pytest.mark.parametrize("kind", ["ips", "snips", "mle", "cressieread"])
def test_the_estimators_of_vw(obd: Rows, name: str, kind: str) -> None:
    if "slates" in name:
        return
    rows = obd if name.startswith("obd") else stream(name)

    value = named({"cressieread": "cressie_read"}.get(kind, kind))(rows).value

    assert pytest.approx(KNOWN["vw_estimators"][name][kind], abs=1e-9) == value


def test_the_slates_of_vw() -> None:
    n = 1000
    good = np.stack([np.arange(n) % 2 == 0, np.arange(n) // 2 % 2 == 0], axis=1)
    rewards = np.zeros((n, 2))
    rewards[:, 0] = good.all(axis=1)

    slates = Slates(rewards=rewards, weights=np.where(good, 0.2, 0.8) / 0.5)

    expected = KNOWN["vw_estimators"]["slates_pi_n1000"]["pi"]
    assert pytest.approx(expected, abs=1e-9) == pseudo_inverse(slates).value


def hillstrom(reward: str) -> tuple[FloatArray, ...]:
    """Return arm, whether men's goods were bought last, and the reward of everyone."""
    with (DATA / "hillstrom_counts.csv").open() as file:
        rows = list(csv.DictReader(file))
    counts = [int(row["count"]) for row in rows]
    arm, mens, value = (
        np.repeat([float(row[name]) for row in rows], counts)
        for name in ("arm", "mens", reward)
    )
    return arm, mens, value


@pytest.mark.parametrize("policy", KNOWN["hillstrom"])
@pytest.mark.parametrize("reward", ["visit", "conversion", "spend"])
def test_hillstrom(policy: str, reward: str) -> None:
    arm, mens, rewards = hillstrom(reward)
    last = np.where(mens == 1, 1.0, 2.0)
    targets = {
        "all_none": np.where(arm == 0, 1.0, 0.0),
        "all_mens": np.where(arm == 1, 1.0, 0.0),
        "all_womens": np.where(arm == 2, 1.0, 0.0),
        "by_last_purchase_det": np.where(arm == last, 1.0, 0.0),
        "by_last_purchase_90/5/5": np.where(arm == last, 0.9, 0.05),
    }[policy]
    rows = rows_of(rewards, np.full(len(arm), 1 / 3), targets)
    known = KNOWN["hillstrom"][policy][reward]

    assert pytest.approx(known["ips"], rel=1e-12) == named("ips")(rows).value
    assert pytest.approx(known["snips"], rel=1e-12) == named("snips")(rows).value
    if "se_ips" in known:
        influence = named("ips")(rows).influence
        error = np.sqrt(influence.var(ddof=1) / len(arm))
        assert pytest.approx(known["se_ips"], rel=1e-4) == error


def test_where_both_policies_are_the_same_nothing_is_weighed() -> None:
    rng = np.random.default_rng(0)
    propensities, rewards = rng.random(50), rng.random(50)
    rows = rows_of(rewards, propensities, propensities)

    for name in ("ips", "snips", "clipped_ips", "switch_ips", "cressie_read", "mle"):
        assert pytest.approx(rewards.mean(), rel=1e-12) == named(name)(rows).value


def test_replay_of_one_choice_on_a_uniform_log_is_snips() -> None:
    rng = np.random.default_rng(0)
    rows = rows_of(rng.random(90), np.full(90, 1 / 3), np.arange(90) % 3 == 0)

    assert named("snips")(rows).value == named("replay")(rows).value


def test_rejection_keeps_a_share_of_one_in_the_largest_weight() -> None:
    rng = np.random.default_rng(0)
    n = 20_000
    chosen = rng.random(n) < 0.2
    targets = np.where(chosen, 0.6, 0.4)
    rows = Rows(
        rewards=chosen.astype(float),
        weights=targets / np.where(chosen, 0.2, 0.8),
        draws=rng.random(n),
    )

    terms = rejection(rows, weight_max=3.0)

    assert pytest.approx(n / 3.0, rel=0.05) == terms.sums.under
    assert pytest.approx(0.6, abs=0.02) == terms.value
    with pytest.raises(ValueError, match="at most"):
        rejection(rows, weight_max=2.0)


def world(n: int, seed: int, n_actions: int = 6) -> dict[str, Any]:
    """A log of which all is known: means of each row and action among it."""
    rng = np.random.default_rng(seed)
    means = rng.random((n, n_actions))
    logging = rng.dirichlet(np.ones(n_actions) * 2, n) * 0.8 + 0.2 / n_actions
    target = rng.dirichlet(np.ones(n_actions), n)
    chosen = (logging.cumsum(axis=1) < rng.random(n)[:, None]).sum(axis=1)
    chosen = chosen.clip(0, n_actions - 1)
    at = np.arange(n), chosen
    return {
        "means": means,
        "logging": logging,
        "target": target,
        "chosen": chosen,
        "rewards": (rng.random(n) < means[at]).astype(float),
        "propensities": logging[at],
        "targets": target[at],
        "truth": float((target * means).sum(axis=1).mean()),
    }


def test_all_that_have_no_bias_find_the_truth() -> None:
    log = world(60_000, seed=1)
    rows = rows_of(
        log["rewards"],
        log["propensities"],
        log["targets"],
        logged_values=np.full(60_000, 0.4),
        target_values=np.full(60_000, 0.4),
    )

    for name in ("ips", "snips", "dr", "sndr", "mrdr", "cressie_read", "mle"):
        terms = named(name)(rows)
        error = np.sqrt((terms.influence**2).mean() / 60_000)
        assert abs(terms.value - log["truth"]) < 4 * error, name


def test_a_log_in_parts_has_the_same_values_as_the_whole() -> None:
    log = world(1_000, seed=2)
    estimators = {
        name: ESTIMATORS[name]
        for name in ("ips", "clipped_ips", "snips", "dm", "dr", "sndr", "dros")
    }
    predictions = np.clip(log["means"] + 0.1, 0, 1)
    whole = rows_of(
        log["rewards"],
        log["propensities"],
        log["targets"],
        logged_values=predictions[np.arange(1_000), log["chosen"]],
        target_values=target_values(log["target"], predictions),
    )

    made = sums_of(
        estimators,
        parts_of(
            log["rewards"],
            log["propensities"],
            log["targets"],
            chosen=log["chosen"],
            targets=log["target"],
            predictions=predictions,
            part=64,
        ),
    )

    for name, estimator in estimators.items():
        assert pytest.approx(estimator(whole).value, rel=1e-12) == made[name].value
    flat = target_values(
        log["target"].ravel(), predictions.ravel(), np.arange(1_001) * 6
    )
    assert whole.target_values == pytest.approx(flat)


@pytest.mark.parametrize(
    ("propensities", "message"),
    [
        (np.array([0.5, 0.0]), "propensities must be in .*: row 1 is 0.0"),
        (np.array([0.5, np.nan]), "row 1 is nan"),
        (np.array([0.5]), r"each must be \(n,\)"),
    ],
)
def test_what_is_no_propensity_is_refused(
    propensities: FloatArray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        rows_of(np.ones(2), propensities, np.ones(2))


def test_a_calibration_of_all_parts_makes_parts_add_up(obd: Rows) -> None:
    parts = [obd.take(slice(3_000)), obd.take(slice(3_000, None))]
    sums = WeightSums.of(parts[0].weights) + WeightSums.of(parts[1].weights)

    calibration = cressie_read_calibration(sums)
    added = [cressie_read(part, calibration=calibration).sums for part in parts]

    whole = named("cressie_read")(obd).value
    assert pytest.approx(whole, rel=1e-12) == (added[0] + added[1]).value
    likelihood = mle_calibration(obd.weights)
    added = [mle(part, calibration=likelihood).sums for part in parts]
    assert (
        pytest.approx(named("mle")(obd).value, rel=1e-12) == sum(added, Sums(n=0)).value
    )


def test_a_known_largest_weight_is_used(obd: Rows) -> None:
    for name in ("cressie_read", "mle"):
        estimator = ESTIMATORS[name].terms
        known = estimator(obd, weight_max=20.0).value
        assert known != estimator(obd).value
        assert 0.003 < known < 0.006
    assert mle_calibration(np.array([0.5, 4.0]), weight_max=5.0).missing >= 0
    assert mle_calibration(np.array([1.5, 4.0])).missing == 0.0
    with pytest.raises(ValueError, match="weight_max above"):
        mle_calibration(np.ones(2), weight_max=0.5)


def test_kinds_of_actions_are_weighed_as_their_sums() -> None:
    log = world(400, seed=3)
    kinds = np.array([0, 0, 1, 1, 2, 2])
    one_hot = np.eye(3)[kinds]

    flat = cluster_weights(
        log["target"].ravel(),
        log["logging"].ravel(),
        np.tile(kinds, 400),
        np.arange(401) * 6,
        kinds[log["chosen"]],
    )
    dense = marginal_weights(
        log["target"], log["logging"], one_hot, kinds[log["chosen"]]
    )

    at = np.arange(400), kinds[log["chosen"]]
    assert dense == pytest.approx(
        (log["target"] @ one_hot)[at] / (log["logging"] @ one_hot)[at]
    )
    assert flat == pytest.approx(dense)
    assert flat.std() < (log["targets"] / log["propensities"]).std()


def test_several_loggers_are_weighed_by_what_they_tell() -> None:
    rng = np.random.default_rng(4)
    n = 4_000
    loggers = (np.arange(n) >= n // 2).astype(int)
    # The first logger hardly ever does what the target always does; the second does.
    chance = np.where(loggers == 0, 0.02, 0.9)
    chosen = rng.random(n) < chance
    rewards = np.where(rng.random(n) < 0.5, 1.0, 0.0) * chosen
    rows = Rows(rewards=rewards, weights=chosen / chance, loggers=loggers)
    by_logger = np.where(chosen[:, None], [0.02, 0.9], [0.98, 0.1])

    mixed = mixture_propensities(by_logger, np.array([0.5, 0.5]))
    balanced = named("ips")(Rows(rewards=rewards, weights=chosen / mixed))

    shares = logger_shares(rows)
    assert shares[1] > 0.9
    assert pytest.approx(1.0) == shares.sum()
    plain, weighted = named("ips")(rows), multi_ips(rows)
    assert multi_ips(rows, shares).value == weighted.value
    for better in (weighted, balanced):
        assert (better.influence**2).mean() < 0.3 * (plain.influence**2).mean()
        assert pytest.approx(0.5, abs=0.05) == better.value
    with pytest.raises(ValueError, match="sum to 1"):
        mixture_propensities(by_logger, np.array([0.5, 0.4]))
    with pytest.raises(ValueError, match="must be"):
        mixture_propensities(by_logger, np.array([1.0]))


def test_loggers_that_say_nothing_of_their_noise_count_by_their_rows() -> None:
    rows = Rows(rewards=np.ones(4), weights=np.ones(4), loggers=np.array([0, 0, 0, 1]))

    assert logger_shares(rows).tolist() == [0.75, 0.25]
    assert pytest.approx(1.0) == named("multi_ips")(rows).value


def test_balanced_weights_find_propensities_that_were_not_logged() -> None:
    rng = np.random.default_rng(5)
    n = 4_000
    x = rng.normal(size=n)
    likely = 1 / (1 + np.exp(-x))
    chosen = rng.random(n) < likely

    def features(action: FloatArray) -> FloatArray:
        return np.stack([np.ones(n), action, action * x, x], axis=1)

    both = np.concatenate([features(np.ones(n)), features(np.zeros(n))])
    learned = balanced_weights(
        features(chosen.astype(float)), both, np.full(2 * n, 0.5), ridge=1e-3
    )

    true = 0.5 / np.where(chosen, likely, 1 - likely)
    assert np.corrcoef(learned, true)[0, 1] > 0.85
    assert pytest.approx(1.0, abs=0.1) == learned.mean()
    rows = Rows(rewards=x * chosen, weights=true, balanced_weights=learned)
    balanced, plain = named("balanced_ips")(rows), named("ips")(rows)
    assert abs(balanced.value) < 0.1
    assert pytest.approx(plain.value, abs=0.1) == balanced.value
    with pytest.raises(ValueError, match="must be"):
        balanced_weights(both, both, np.ones(3))
    with pytest.raises(ValueError, match="ridge"):
        balanced_weights(both, both, np.ones(len(both)), ridge=0.0)


def test_what_nothing_tells_apart_is_weighed_alike() -> None:
    features = np.ones((10, 1))

    assert balanced_weights(features, features, np.ones(10)).tolist() == [1.0] * 10


def test_balanced_weights_are_found_where_a_whole_step_would_be_too_far() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        logged, target = np.ones((2, 6, 2))
        logged[:, 1] = rng.normal(size=6) * 10 ** rng.uniform(0, 2)
        target[:, 1] = rng.normal(size=6) * 10 ** rng.uniform(0, 2)
        masses = rng.random(6) * 10 ** rng.uniform(-2, 2)

        weights = balanced_weights(logged, target, masses, ridge=1e-3)

        odds = np.log(weights * masses.sum() / 6)
        slope, constant = np.polyfit(logged[:, 1], odds, 1)
        chances = [
            1 / (1 + np.exp(-constant - slope * part[:, 1]))
            for part in (logged, target)
        ]
        # Where the loss is least the classifier is right on average.
        drawn_back = 1e-3 * constant
        assert pytest.approx(masses.sum(), abs=1e-3) == (
            chances[0].sum() + masses @ chances[1] + drawn_back
        )


def test_weights_of_mrdr_make_the_variance_of_dr_smaller() -> None:
    """A model that can only say one number says the one that is best for DR."""
    log = world(5_000, seed=6)
    target = np.zeros_like(log["target"])
    target[:, 0] = 1.0
    targets = target[np.arange(5_000), log["chosen"]]
    counts = mrdr_weights(targets, log["propensities"])
    plain = log["rewards"].mean() * np.ones(5_000)
    fitted = np.average(log["rewards"], weights=counts) * np.ones(5_000)

    def variance(values: FloatArray) -> float:
        rows = rows_of(
            log["rewards"],
            log["propensities"],
            targets,
            logged_values=values,
            target_values=values,
        )
        return float((named("mrdr")(rows).influence ** 2).mean())

    assert variance(fitted) <= variance(plain)
    for other in (0.0, 0.3, 0.7, 1.0):
        assert variance(fitted) <= variance(np.full(5_000, other)) * 1.001


def test_the_slates_that_depend_on_what_is_above() -> None:
    rewards = np.array([[1.0, 2.0]])
    weights = np.array([[0.5, 4.0]])
    slates = Slates(
        rewards=rewards,
        weights=weights,
        logged_values=np.array([[3.0, 1.0]]),
        target_values=np.array([[2.0, 5.0]]),
    )
    expected = {
        "sips": 2.0 * 3.0,
        "iips": 0.5 + 8.0,
        "rips": 0.5 + 4.0,
        "snsips": 3.0,
        "sniips": 8.5 / 2.25,
        "snrips": 4.5 / 1.25,
        "cascade_dr": 0.5 * (1 - 3) + 2.0 + 2.0 * (2 - 1) + 0.5 * 5.0,
        "pseudo_inverse": (1 - 2 + 4.5) * 3.0,
    }

    assert expected == {
        name: pytest.approx(SLATES[name](slates).value) for name in SLATES
    }
    with pytest.raises(ValueError, match="cascade_dr needs"):
        SLATES["cascade_dr"](Slates(rewards=rewards, weights=weights))


def test_pseudo_inverse_weights_are_sums_where_slots_are_independent() -> None:
    rng = np.random.default_rng(7)
    by_slot = rng.dirichlet(np.ones(3), 2)
    wanted = rng.dirichlet(np.ones(3), 2)
    slates = np.array([(i, j) for i in range(3) for j in range(3)])
    probabilities = by_slot[0][slates[:, 0]] * by_slot[1][slates[:, 1]]
    targets = wanted[0][slates[:, 0]] * wanted[1][slates[:, 1]]

    weights = pseudo_inverse_weights(probabilities, slates, targets, slates, slates)

    ratios = wanted / by_slot
    product = -1.0 + ratios[0][slates[:, 0]] + ratios[1][slates[:, 1]]
    assert weights == pytest.approx(product)


def test_the_estimator_with_the_least_error_is_chosen() -> None:
    """With a model that is right DM is chosen, with one that is wrong it is not."""
    log = world(5_000, seed=8)
    candidates = {name: ESTIMATORS[name] for name in ("ips", "dm", "dr", "switch_dr")}

    def rows(values: FloatArray) -> Rows:
        return rows_of(
            log["rewards"],
            log["propensities"],
            log["targets"],
            logged_values=values[np.arange(5_000), log["chosen"]],
            target_values=target_values(log["target"], values),
        )

    good = choose_estimator(rows(log["means"]), candidates)
    bad = choose_estimator(rows(log["means"] * 0.5), candidates)

    assert good.value == "dm"
    assert bad.value != "dm"
    assert abs(bad.terms.value - log["truth"]) < 0.03
    assert set(good.scores) == set(candidates)
    with pytest.raises(ValueError, match="must be one of"):
        choose_estimator(rows(log["means"]), candidates, unbiased="sndr")


def test_slope_stops_where_estimates_drift_apart() -> None:
    weights = np.tile([0.1, 0.1, 0.1, 3.7], 500)
    rows = Rows(rewards=np.ones(2_000), weights=weights)

    choice = tune_by_slope("clipped_ips", rows)

    assert choice.value not in {1.0, 2.0}
    assert pytest.approx(1.0, abs=0.1) == choice.terms.value


def test_what_cannot_be_tuned_is_refused() -> None:
    rows = Rows(rewards=np.ones(2), weights=np.ones(2), targets=np.ones(2))

    for estimator, candidates, message in (
        ("nothing", None, "no estimator"),
        ("ips", None, "no parameter"),
        ("clipped_ips", [], "a candidate"),
    ):
        with pytest.raises(ValueError, match=message):
            tune_by_slope(estimator, rows, candidates)
    with pytest.raises(ValueError, match="more than weights"):
        mse_bound("exponential", rows, 0.5)


def test_nothing_has_no_value() -> None:
    nothing = np.empty(0)

    assert np.isnan(Terms(added=nothing).value)
    assert np.isnan(Terms(over=np.zeros(2), under=np.zeros(2)).value)
    assert np.isnan(Terms().value)
