"""Kinds of interval: known answers of other programs, and laws.

The answers are those of vw-estimators 0.2.2, to nine digits: a coin that pays every
other time, and a policy that agrees with it in so many of the cases; and a reward that
is always the same.
"""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.estimators import ESTIMATORS, Rows
from policies.intervals import (
    KINDS,
    SHARDS,
    Estimate,
    Kind,
    Sums,
    estimate,
    estimate_sums,
    rate_of,
    shards_of,
    total,
    worst_rows,
)
from policies.intervals.base import Clusters, Row, Worst
from policies.intervals.bernstein import bernstein
from policies.intervals.bootstrap import bootstrap, draws
from policies.intervals.likelihood import Moments, cressie_read
from policies.intervals.mixing import normals
from policies.intervals.rates import clopper_pearson, wilson
from policies.intervals.sequential import gamma_exponential, mixture
from policies.intervals.special import beta_cdf, log_lower_gamma, t_quantile
from policies.intervals.student import gaussian, influence, spread
from policies.model import FloatArray

# By agreement, rows and confidence: gaussian, Clopper–Pearson, Cressie–Read, sequence.
COINS = {
    (0.2, 100, 0.95): (
        (0.16060324157982236, 0.2393967584201775),
        (0.10947067220888482, 0.3204030205689051),
        (0.16597067153776793, 0.3361173138489283),
        (0.10378654718932936, 0.5091165615904736),
    ),
    (0.2, 1000, 0.9): (
        (0.1895918268542454, 0.21040817314575813),
        (0.17397469306005586, 0.2281512292134251),
        (0.19173219795996044, 0.2330712081601583),
        (0.17764707381185332, 0.29088301348789647),
    ),
    (0.2, 10000, 0.95): (
        (0.19607987601983903, 0.20392012398019713),
        (0.19014503295375118, 0.21013571752098698),
        (0.1966283546014087, 0.2134865815943652),
        (0.19245581242807705, 0.23191418080386317),
    ),
    (0.8, 10000, 0.95): (
        (0.7843195040793561, 0.8156804959207885),
        (0.7898642824791051, 0.8098549670463375),
        (0.7865134184056348, 0.8033716453985914),
        (0.7680851115809956, 0.8075448400453181),
    ),
}


def coin(agreement: float, n: int) -> tuple[FloatArray, FloatArray]:
    rewards = np.tile([1.0, 0.0], n // 2)
    return np.tile([agreement, 1 - agreement], n // 2) / 0.5, rewards


@pytest.mark.parametrize(("agreement", "n", "confidence"), list(COINS))
def test_the_intervals_of_a_coin_are_those_of_vowpal_wabbit(
    agreement: float, n: int, confidence: float
) -> None:
    weights, rewards = coin(agreement, n)
    normal, exact, likely, anytime = COINS[agreement, n, confidence]
    clusters = Clusters(np.ones(n), weights * rewards, None, None, weights)
    heaviest = weights.max()

    found = gaussian(clusters, confidence)
    assert found == pytest.approx(normal, abs=1e-9)
    found = clopper_pearson(
        float(clusters.added.sum() / heaviest),  # type: ignore[union-attr]
        n / heaviest,
        confidence,
    )
    assert found == pytest.approx(exact, abs=1e-9)
    found = cressie_read(Moments.of(weights, rewards), confidence)
    assert found == pytest.approx(likely, abs=1e-9)
    found = gamma_exponential(weights, rewards, confidence)
    assert found == pytest.approx(anytime, abs=1e-9)


def test_a_reward_that_is_always_the_same_has_the_intervals_of_vowpal_wabbit() -> None:
    weights, rewards = np.ones(100), np.full(100, 0.751)
    most = (0.0, 0.751)

    found = cressie_read(Moments.of(weights, rewards), 0.95, reward_range=most)
    assert found == pytest.approx((0.7509999985857864, 0.751), abs=1e-9)
    found = gamma_exponential(weights, rewards, 0.95, most)
    assert found == pytest.approx((0.7081299738941058, 0.751), abs=1e-9)
    low, high = clopper_pearson(100, 100, 0.95)
    assert (0.751 * low, 0.751 * high) == pytest.approx(
        (0.7238012638234724, 0.751), abs=1e-9
    )


def test_likelihood_with_the_largest_weight_told_is_narrower() -> None:
    moments = Moments.of(*coin(0.2, 1000))
    wide = cressie_read(moments, 0.95)
    narrow = cressie_read(moments, 0.95, weight_max=2.0)
    assert wide[0] <= narrow[0] < 0.2 < narrow[1] < wide[1]


def test_likelihood_of_nothing_likely_says_nothing() -> None:
    # No weight above 0.1 is on average 1, whatever the row that was not seen is.
    moments = Moments.of(np.full(1000, 0.1), np.ones(1000))
    assert cressie_read(moments, 0.95, weight_max=1.0) == (0.0, 1.0)


def test_quantiles_are_those_of_the_tables() -> None:
    assert t_quantile(0.95, 1) == pytest.approx(12.7062047362)
    assert t_quantile(0.99, 5) == pytest.approx(4.0321429836)
    assert beta_cdf(0.3, 2, 5) == pytest.approx(0.579825)
    assert (beta_cdf(0.0, 2, 5), beta_cdf(1.0, 2, 5)) == (0.0, 1.0)
    assert log_lower_gamma(3.0, 1e-3) == pytest.approx(np.log(1e-9 / 3), rel=1e-3)


def test_rates_end_at_nothing_and_all() -> None:
    assert clopper_pearson(0, 10, 0.95)[0] == 0.0
    assert clopper_pearson(10, 10, 0.95)[1] == 1.0
    assert rate_of(3, 10, kind="clopper_pearson").low < wilson(3, 10, 0.95)[0]


def test_bernstein_of_one_row_is_endless() -> None:
    assert bernstein(0.5, 0.0, 1, 1.0, 0.95) == (-np.inf, np.inf)


def test_an_always_valid_interval_is_narrowest_where_it_is_made_to_be() -> None:
    relative = [mixture(n, 0.95, 1_000) for n in (100, 1_000, 10_000, 100_000)]
    assert min(relative) == relative[1]
    assert all(width > 1.96 for width in relative)


def test_draws_are_of_as_many_as_there_are_and_again_the_same() -> None:
    first = np.concatenate(list(draws(1_000, 700, seed=3)))
    again = np.concatenate(list(draws(1_000, 700, seed=3)))
    other = np.concatenate(list(draws(1_000, 700, seed=4)))
    assert first.shape == (700, 1_000)
    assert (first.sum(axis=1) == 1_000).all()
    assert (first == again).all()
    assert (first != other).any()
    # A count is Poisson with mean 1, nearly: its variance is 1, and columns differ.
    assert first.var() == pytest.approx(1.0, abs=0.01)
    assert abs(np.corrcoef(first[:, 0], first[:, 1])[0, 1]) < 0.15


def test_normal_numbers_are_normal() -> None:
    drawn = normals(5, (2_000, 3))
    assert np.abs(drawn.mean(axis=0)).max() < 0.1
    assert drawn.std() == pytest.approx(1.0, abs=0.03)
    assert (drawn**4).mean() == pytest.approx(3.0, abs=0.4)


def test_shards_are_filled_evenly_whatever_the_keys_are() -> None:
    for keys in (np.arange(200_000), np.arange(200_000) << 40):
        counts = np.bincount(shards_of(keys.astype(np.uint64)), minlength=SHARDS)
        assert counts.min() > 50
        assert counts.max() < 150


# --- Sums ---------------------------------------------------------------------------

NAMES = ("ips", "snips", "dm", "dr", "sndr")


def log(n: int = 6_000, seed: int = 1) -> tuple[Rows, np.ndarray]:
    rng = np.random.default_rng(seed)
    weights = rng.choice([0.1, 0.5, 4.0], p=[0.4, 0.4, 0.2], size=n)
    weights *= 1 / 1.04
    rewards = (rng.random(n) < 0.2 + 0.05 * (weights > 1)).astype(float)
    q = rng.uniform(0.1, 0.3, size=n)
    rows = Rows(
        rewards=rewards, weights=weights, logged_values=q, target_values=q + 0.02
    )
    return rows, rng.integers(n // 3, size=n).astype(np.uint64)


def sums_of(rows: Rows, keys: np.ndarray | None, **known: float) -> Sums:
    return Sums.of(
        {name: ESTIMATORS[name](rows) for name in NAMES},
        keys,
        weights=rows.weights,
        rewards=rows.rewards,
        logged_values=rows.logged_values,
        target_values=rows.target_values,
        **known,  # type: ignore[arg-type]
    )


def told(sums: Sums, name: str, kind: Kind = "default") -> tuple[float, ...]:
    worst = ESTIMATORS[name](sums.worst_rows())
    found = estimate_sums(sums, name, worst=worst, kind=kind)
    return found.value, found.low, found.high, found.standard_error, found.ess


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "sequence"])
def test_a_log_read_in_parts_in_any_order_gives_the_same(kind: Kind) -> None:
    rows, keys = log()
    whole = sums_of(rows, keys)
    order = np.random.default_rng(2).permutation(len(keys))
    parts = [
        sums_of(rows.take(place), keys[place]) for place in np.array_split(order, 7)
    ]
    together = total(Sums.from_bytes(part.to_bytes()) for part in parts)
    for name in NAMES:
        assert told(together, name, kind) == pytest.approx(
            told(whole, name, kind), rel=1e-9
        )
    one, other = together.overlap, whole.overlap
    assert (one.n, one.events, one.counts) == (other.n, other.events, other.counts)
    assert one.top_share == pytest.approx(other.top_share)


def test_in_memory_and_as_sums_it_is_the_same() -> None:
    rows, keys = log()
    sums = sums_of(rows, keys)
    worst = worst_rows(rows, weight_max=sums.weight_max, reward_range=(0.0, 1.0))
    found = estimate(
        ESTIMATORS["dr"](rows),
        keys,
        weights=rows.weights,
        rewards=rows.rewards,
        worst=ESTIMATORS["dr"](worst),
    )
    assert (found.value, found.low, found.high) == told(sums, "dr")[:3]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "sequence"])
@pytest.mark.parametrize("name", NAMES)
def test_every_kind_holds_its_value(kind: Kind, name: str) -> None:
    rows, keys = log()
    value, low, high, *_ = told(sums_of(rows, keys), name, kind)
    assert low <= value <= high
    assert 0.0 < high - low < 1.0


def test_a_reward_of_one_leaves_ratios_no_doubt_of_any_kind() -> None:
    rows, keys = log()
    ones = Rows(rewards=np.ones_like(rows.rewards), weights=rows.weights)
    sums = Sums.of(
        {"snips": ESTIMATORS["snips"](ones)},
        keys,
        weights=ones.weights,
        rewards=ones.rewards,
    )
    for kind in ("default", "bootstrap", "always_valid"):
        found = estimate_sums(sums, "snips", kind=kind)
        assert (found.low, found.value, found.high) == pytest.approx((1.0, 1.0, 1.0))


def test_a_biased_estimate_has_the_interval_of_its_reference_and_holds_itself() -> None:
    rows, keys = log()
    sums = sums_of(rows, keys)
    worst = ESTIMATORS["dr"](sums.worst_rows())
    alone = estimate_sums(sums, "dm")
    found = estimate_sums(sums, "dm", reference="dr", reference_worst=worst)
    by = estimate_sums(sums, "dr", worst=worst)
    assert found.value == alone.value
    assert alone.high - alone.low < by.high - by.low
    assert found.low == min(by.low, found.value)
    assert found.high == max(by.high, found.value)
    again = estimate(
        ESTIMATORS["dm"](rows),
        keys,
        weights=rows.weights,
        rewards=rows.rewards,
        reference=ESTIMATORS["dr"](rows),
        reference_worst=worst,
    )
    assert (again.low, again.high) == pytest.approx((found.low, found.high))


def test_a_biased_estimate_that_its_reference_leaves_out_is_doubted() -> None:
    rows, keys = log()
    off = msgspec.structs.replace(rows, target_values=np.full(len(keys), 0.9))
    assert "it is biased here" in _direct(off, keys).doubts[-1]
    assert _direct(off, keys).verdict == "weak"
    assert _direct(rows, keys).verdict == "usable"


def _direct(rows: Rows, keys: np.ndarray) -> Estimate:
    by = ESTIMATORS["snips"](rows)
    return estimate(
        ESTIMATORS["dm"](rows),
        keys,
        weights=rows.weights,
        rewards=rows.rewards,
        reference=by,
    )


def test_rows_of_few_users_say_less() -> None:
    rng = np.random.default_rng(3)
    users = np.repeat(np.arange(100), 60).astype(np.uint64)
    liking = rng.random(100)
    rewards = (rng.random(6_000) < liking[users.astype(int)]).astype(float)
    rows = Rows(rewards=rewards, weights=np.ones(6_000))

    def width(keys: np.ndarray | None) -> float:
        _, low, high, *_ = told(
            Sums.of(
                {"ips": ESTIMATORS["ips"](rows)},
                keys,
                weights=rows.weights,
                rewards=rewards,
            ),
            "ips",
        )
        return high - low

    assert width(users) > 3 * width(None)


def test_the_likeness_of_a_few_users_is_not_to_be_known() -> None:
    rows, keys = log()
    found = estimate_sums(sums_of(rows, keys % np.uint64(12)), "snips")
    assert found.verdict == "unusable"
    assert any("of 12 users" in doubt for doubt in found.doubts)
    assert found.rows_needed == 15_000


def test_a_propensity_of_almost_nothing_does_not_pass_silently() -> None:
    rows, keys = log()
    weights = rows.weights.copy()
    weights[7] = 0.5 / 1e-9
    broken = Rows(rewards=rows.rewards, weights=weights)
    found = estimate(
        ESTIMATORS["ips"](broken), keys, weights=weights, rewards=rows.rewards
    )
    assert found.verdict == "unusable"


def test_sums_that_do_not_belong_together_are_refused() -> None:
    rows, keys = log()
    sums = sums_of(rows, keys)
    other = Sums.of(
        {"ips": ESTIMATORS["ips"](rows)},
        keys,
        weights=rows.weights,
        rewards=rows.rewards,
    )
    with pytest.raises(ValueError, match="do not add up"):
        _ = sums + other
    with pytest.raises(ValueError, match="no sums to add up"):
        total([])
    with pytest.raises(KeyError, match="mips"):
        sums.clusters("mips")
    with pytest.raises(ValueError, match="keys must be"):
        sums_of(rows, keys[:5])
    for wrong in (b"nothing", b"\x80", sums.to_bytes().replace(b"sums.v1", b"sums.v9")):
        with pytest.raises(ValueError, match=r"not sums|format is"):
            Sums.from_bytes(wrong)


def test_a_sequence_needs_rows() -> None:
    rows, keys = log()
    with pytest.raises(ValueError, match="needs the rows in their order"):
        estimate_sums(sums_of(rows, keys), "ips", kind="sequence")
    found = estimate(
        ESTIMATORS["ips"](rows),
        weights=rows.weights,
        rewards=rows.rewards,
        kind="sequence",
    )
    assert found.low < found.value < found.high
    same = np.ones(500)
    found = estimate(
        ESTIMATORS["snips"](Rows(rewards=same, weights=same)),
        weights=same,
        rewards=same,
        kind="sequence",
    )
    assert (found.low, found.high) == (1.0, 1.0)


def test_a_kind_that_is_none_is_refused() -> None:
    rows, keys = log()
    with pytest.raises(ValueError, match="kind must be one of default, student"):
        estimate_sums(sums_of(rows, keys), "ips", kind="exact")  # type: ignore[arg-type]


@given(st.integers(1, 60), st.integers(0, 1_000))
def test_a_ratio_to_something_else_has_fiellers_interval(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matched = (rng.random(n) < 0.6).astype(float)
    matched[0] = 1.0
    rewards = rng.random(n)
    rows = Rows(rewards=rewards, weights=np.ones(n), targets=matched)
    terms = ESTIMATORS["replay"](rows)
    found = estimate(terms, weights=rows.weights, rewards=rewards)
    assert found.low <= found.value <= found.high
    assert rewards.min() - 1e-12 <= found.low
    assert found.high <= rewards.max() + 1e-12


# --- Where there is next to nothing ---------------------------------------------------


def one_cluster(**parts: FloatArray) -> Clusters:
    none = {"added": None, "over": None, "under": None, "weights": None}
    return Clusters(n=np.ones(4), **(none | parts))


def test_a_ratio_to_what_may_be_nothing_has_no_ends() -> None:
    matched = np.array([1.0, 0.0, 0.0, 0.0])
    clusters = one_cluster(added=np.ones(4), over=matched, under=matched)
    nothing = Row(1.0, 0.0, 0.0, 0.0)
    assert spread(clusters, Worst(nothing, nothing), 9.0) == (-np.inf, np.inf)
    assert clusters.mean is None
    moved = influence(clusters, controlled=True)
    assert moved == pytest.approx(influence(clusters))
    sums = bootstrap([clusters], [Worst(nothing, nothing)], 0.95, seed=1, resamples=50)
    assert sums == [(2.0, 2.0)]
    never = one_cluster(over=np.zeros(4), under=np.zeros(4))
    (ends,) = bootstrap([never], [Worst(nothing, nothing)], 0.95, seed=1, resamples=9)
    assert np.isnan(ends).all()


def test_weights_that_do_not_vary_explain_nothing() -> None:
    terms = np.array([1.0, 0.0, 2.0, 1.0])
    clusters = one_cluster(added=terms, weights=np.ones(4))
    assert influence(clusters, controlled=True) == pytest.approx([0.0, -1.0, 1.0, 0.0])
    plain = one_cluster(added=terms)
    assert influence(plain, controlled=True) == pytest.approx([0.0, -1.0, 1.0, 0.0])
    row = Row(added=1.0)
    assert spread(plain, Worst(row, row), 1.0)[0] < 1.0


def test_one_user_has_no_interval_that_holds_for_long() -> None:
    rows, keys = log(500)
    found = estimate_sums(
        sums_of(rows, np.zeros_like(keys)), "ips", kind="always_valid"
    )
    assert (found.low, found.high) == (-np.inf, np.inf)


def test_a_ratio_beside_a_mean_has_a_worst_row_too() -> None:
    rows, keys = log()
    sums = sums_of(rows, keys)
    guessed, known = (
        estimate_sums(sums, "sndr", worst=worst)
        for worst in (None, ESTIMATORS["sndr"](sums.worst_rows()))
    )
    assert guessed.value == known.value
    assert guessed.low < guessed.value < guessed.high


def test_sums_without_a_model_have_worst_rows_without_one() -> None:
    rows, keys = log()
    plain = Sums.of(
        {"ips": ESTIMATORS["ips"](rows)},
        keys,
        weights=rows.weights,
        rewards=rows.rewards,
    )
    assert (plain + plain).worst_rows().logged_values is None
    bare = Rows(rewards=rows.rewards, weights=rows.weights)
    two = worst_rows(bare, weight_max=9.0, reward_range=(0.0, 1.0))
    assert two.weights.tolist() == [9.0, 9.0]
    assert two.rewards.tolist() == [0.0, 1.0]


def test_weights_that_are_all_one_leave_likelihood_little_to_say() -> None:
    sure = Moments.of(np.ones(50), np.tile([1.0, 0.0], 25))
    low, high = cressie_read(sure, 0.95, weight_min=0.0, weight_max=1.0)
    assert low < 0.5 < high
    lacking = Moments.of(np.full(50, 0.9), np.tile([1.0, 0.0], 25))
    low, high = cressie_read(lacking, 0.95)
    assert low < 0.45 < high
    all_one = cressie_read(sure, 0.95, weight_min=1.0, weight_max=1.0)
    assert all_one == (0.0, 1.0)


def test_a_sequence_of_sure_rewards_ends_at_the_best() -> None:
    ones = np.ones(3_000)
    low, high = gamma_exponential(ones, ones, 0.5)
    assert low <= 1.0
    assert high == 1.0
