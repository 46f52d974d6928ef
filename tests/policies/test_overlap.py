"""Whether a log can tell: verdicts on weights, and a whole diagnosis.

Each fault is put into a log that has none; nothing else is to be found there.
"""

from __future__ import annotations

import numpy as np
import pytest

from policies.diagnostics import (
    Calibration,
    Diagnosis,
    Diagnostics,
    DiagnosticsSettings,
    chi_squared_tail,
)
from policies.model import FloatArray
from policies.overlap import Overlap, OverlapSettings, assess, worse

DAY_MS = 86_400_000


def weights(n: int, share: float, heavy: float) -> FloatArray:
    """So many heavy weights, and light ones that make the mean 1."""
    many = round(n * share)
    light = (n - many * heavy) / (n - many)
    return np.concatenate([np.full(many, heavy), np.full(n - many, light)])


@pytest.mark.parametrize(
    ("log", "verdict", "doubt", "rows_needed"),
    [
        (weights(10_000, 0.1, 2.0), "usable", "", None),
        (weights(100_000, 0.01, 90.0), "weak", "worth 1,234 of this policy", None),
        (weights(4_000, 0.01, 50.0), "weak", "a single decision has 1.3%", 5_000),
        (weights(1_000, 0.01, 90.0), "unusable", "worth 12 decisions", 8_111),
        (np.full(5_000, 0.7), "unusable", "0.700 on average and not 1", None),
        (np.zeros(5_000), "unusable", "worth 0 decisions", None),
    ],
)
def test_a_log_is_judged_by_its_weights(
    log: FloatArray, verdict: str, doubt: str, rows_needed: int | None
) -> None:
    settings = OverlapSettings(ess_share_min=0.0125)
    found = assess(Overlap.of(log), weight_max=log.max(), settings=settings)
    assert found.verdict == verdict
    assert doubt in "; ".join(found.doubts)
    if rows_needed is None:
        assert found.rows_needed is None
    else:
        assert found.rows_needed == pytest.approx(rows_needed, rel=0.01)


def test_few_rewards_and_few_users_are_told_with_how_many_would_do() -> None:
    rewards = np.zeros(2_000)
    rewards[:4] = 1.0
    found = assess(Overlap.of(np.ones(2_000), rewards), weight_max=1.0, users=20)
    assert found.verdict == "unusable"
    assert found.doubts == (
        "4 decisions earned anything, and 10 are needed",
        "the log is of 20 users, and 30 are needed",
    )
    assert found.rows_needed == 5_000


def test_weights_that_may_lack_the_largest_are_not_held_for_wrong() -> None:
    rng = np.random.default_rng(1)
    log = np.where(rng.random(2_000) < 0.5, 0.1, 1.0)
    assert assess(Overlap.of(log), weight_max=2.0).verdict == "unusable"
    assert assess(Overlap.of(log), weight_max=2_000.0).verdict == "usable"


def test_the_figures_of_weights_are_what_they_say() -> None:
    log = weights(10_000, 0.005, 60.0)
    overlap = Overlap.of(log)
    assert overlap.ess == pytest.approx(log.sum() ** 2 / (log**2).sum())
    assert overlap.largest_share == pytest.approx(60 / 10_000)
    # A hundredth is 100 rows: the 50 heavy ones and 50 light ones.
    exact = np.sort(log)[-100:].sum() / log.sum()
    assert overlap.top_share == pytest.approx(exact, rel=0.05)
    assert overlap.mean == pytest.approx(1.0)
    assert overlap.mean_error == pytest.approx(log.std() / 100)
    assert Overlap.of(np.zeros(3)).top_share == 1.0
    assert Overlap.of(np.append(np.zeros(999), 1.0)).top_share == 1.0
    nothing = Overlap.of(np.zeros(0))
    assert (nothing.ess, nothing.ess_share) == (0.0, 0.0)
    assert np.isnan(nothing.mean)
    assert np.isnan(nothing.mean_error)


def test_overlaps_of_parts_add_up() -> None:
    log = np.random.default_rng(2).lognormal(size=5_000)
    whole = Overlap.of(log, np.ones(5_000))
    nothing = Overlap.of(np.zeros(0))
    parts = [Overlap.of(part, np.ones(len(part))) for part in np.array_split(log, 9)]
    together = sum(parts, start=nothing)
    assert together.counts == whole.counts
    assert (together.n, together.events, together.first) == (5_000, 5_000, whole.first)
    assert together.top_share == pytest.approx(whole.top_share)
    assert together.ess == pytest.approx(whole.ess)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ess_min": 1.0}, "ess_min must be 2 or more, not 1.0"),
        ({"events_min": -1}, "events_min must be 0 or more, not -1"),
        ({"users_min": 1}, "users_min must be 2 or more, not 1"),
        ({"weight_z_max": 0.0}, "weight_z_max must be above 0, not 0.0"),
        ({"ess_share_min": 2.0}, "ess_share_min must be 0 to 1, not 2.0"),
        ({"weight_share_max": 0.0}, "weight_share_max must be above 0, to 1, not 0.0"),
    ],
)
def test_settings_of_overlap_are_checked(
    settings: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        OverlapSettings(**settings)  # type: ignore[arg-type]


def test_the_worse_of_two_verdicts_counts() -> None:
    assert worse("weak", "unusable") == "unusable"
    assert worse("usable", "usable") == "usable"


# --- Diagnosis ----------------------------------------------------------------------


class Log:
    """A sound log, of which a test breaks one thing."""

    def __init__(self, n: int = 20_000) -> None:
        rng = np.random.default_rng(3)
        self.n = n
        self.logging = rng.dirichlet([2.0, 2.0, 2.0], size=n) * 0.7 + 0.1
        ends = self.logging.cumsum(axis=1)
        self.chosen = (ends[:, :2] < rng.random(n)[:, None]).sum(axis=1)
        self.weights = (1 / 3) / self.logging[np.arange(n), self.chosen]
        self.segments = rng.choice(["free", "pro"], size=n)
        self.days = rng.integers(10, size=n) * DAY_MS
        self.expected = rng.uniform(0.1, 0.4, size=n)
        self.rewards = (rng.random(n) < self.expected).astype(float)
        self.untried = np.zeros(n)

    def part(self, place: slice) -> Diagnostics:
        chances = self.logging[place]
        return Diagnostics.of(
            self.weights[place],
            self.rewards[place],
            weight_max=float(self.weights.max()),
            segments=list(self.segments[place]),
            times_ms=self.days[place],
            untried=self.untried[place],
            propensities=Calibration.of_chances(
                chances, np.arange(3) == self.chosen[place][:, None]
            ),
            model=Calibration.of_rewards(
                self.expected[place], self.rewards[place], (0.0, 1.0)
            ),
        )

    def diagnose(self) -> Diagnosis:
        return self.part(slice(None)).diagnose()


def test_a_sound_log_is_found_sound() -> None:
    found = Log().diagnose()
    assert found.verdict == "usable"
    assert found.doubts == found.notes == ()
    assert found.figures["propensities_gap"] < 0.05
    assert found.figures["weights_by_day_p_value"] > 1e-3


def test_diagnostics_of_parts_add_up() -> None:
    log = Log(5_000)
    whole = log.part(slice(None)).diagnose()
    together = log.part(slice(2_000)) + log.part(slice(2_000, None))
    found = together.diagnose()
    assert found[:4] == whole[:4]
    assert found.figures == pytest.approx(whole.figures)


def test_propensities_that_do_not_come_true_make_a_log_unusable() -> None:
    log = Log()
    log.logging = log.logging[:, ::-1]
    found = log.diagnose()
    assert found.verdict == "unusable"
    assert "logged propensities are off by" in found.doubts[-1]


@pytest.mark.parametrize(
    ("share", "verdict"), [(0.0005, "usable"), (0.01, "weak"), (0.2, "unusable")]
)
def test_what_was_never_tried_is_told(share: float, verdict: str) -> None:
    log = Log()
    log.untried = np.full(log.n, share)
    found = log.diagnose()
    assert found.verdict == verdict
    assert found.figures["untried"] == pytest.approx(share)
    assert any("never tries" in doubt for doubt in found.doubts) == (share > 0.001)


def test_a_segment_of_which_the_log_says_nothing_is_named() -> None:
    log = Log()
    some = log.segments == "pro"
    log.weights[some] = 0.0
    log.weights[np.flatnonzero(some)[:20]] = some.sum() / 20
    log.segments[:3] = "tiny"
    found = log.diagnose()
    assert found.verdict != "usable"
    assert any("in segment pro" in doubt for doubt in found.doubts)
    assert not any("tiny" in doubt for doubt in found.doubts)


def test_a_day_with_wrong_weights_is_found() -> None:
    log = Log()
    log.weights[log.days == 4 * DAY_MS] *= 1.3
    log.weights[log.days == 5 * DAY_MS] *= 0.7
    found = log.diagnose()
    assert found.verdict == "weak"
    assert "not 1 on average on every day" in found.doubts[0]


def test_a_day_without_heavy_weights_is_not_held_for_wrong() -> None:
    log = Log()
    heavy = log.weights > 2.0
    log.days[heavy & (log.days == 4 * DAY_MS)] = 5 * DAY_MS
    log.weights[0] = 800.0
    few = log.days == 4 * DAY_MS
    log.days[np.flatnonzero(few)[300:]] = 6 * DAY_MS
    found = log.part(slice(None))
    assert found.days[4].mean_weight < 1.0
    day = found.days[4]
    assert day.weight + found.weight_max > day.n


def test_a_model_that_is_off_and_days_that_differ_are_noted() -> None:
    log = Log()
    log.expected = log.expected + 0.2
    log.rewards[log.days == 4 * DAY_MS] = 1.0
    found = log.diagnose()
    assert found.verdict == "usable"
    assert "the reward model is off by" in found.notes[0]
    assert "rewards differ by day" in found.notes[1]


def test_a_diagnosis_of_weights_alone_is_one_too() -> None:
    alone = Diagnostics.of(np.ones(500), np.tile([2.0, 0.0], 250), weight_max=1.0)
    found = alone.diagnose()
    assert found.verdict == "usable"
    assert "model_gap" not in found.figures
    assert alone.segments[""].mean_reward == 1.0
    nothing = Diagnostics.of(np.zeros(0), np.zeros(0), weight_max=1.0)
    assert (nothing.untried, nothing.rewards_by_day) == (0.0, 1.0)
    assert (alone + nothing).overlap.n == 500
    refused = alone.diagnose(overlap=OverlapSettings(ess_min=1_000))
    assert refused.rows_needed == 1_000


def test_calibrations_of_nothing_and_of_what_is_certain() -> None:
    certain = Calibration.of_chances(np.array([1.0, 0.0]), np.array([True, False]))
    assert (certain.p_value, certain.gap) == (1.0, 0.0)
    same = Calibration.of_rewards(np.zeros(3), np.zeros(3), (0.0, 0.0))
    assert (same.p_value, same.gap) == (1.0, 0.0)


def test_the_tail_of_chi_squared_is_that_of_the_tables() -> None:
    assert chi_squared_tail(18.307, 10) == pytest.approx(0.05, abs=1e-5)
    assert chi_squared_tail(0.0, 10) == 1.0
    assert chi_squared_tail(1e4, 3) == 0.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"untried_max": 0.2}, "untried_max and untried_refused must be 0 to 1"),
        ({"segment_share_min": 2.0}, "segment_share_min must be 0 to 1, not 2.0"),
        ({"segment_ess_min": -1.0}, "segment_ess_min must be 0 or more, not -1.0"),
        ({"p_min": 0.0}, "p_min must be above 0, to 1, not 0.0"),
        ({"gap_max": -1.0}, "gap_max must be 0 or more, not -1.0"),
    ],
)
def test_settings_of_diagnostics_are_checked(
    settings: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        DiagnosticsSettings(**settings)


@pytest.mark.parametrize(
    ("usual", "rare"), [(0.0, 1.0), (1.0, 0.0), (-0.01, 0.99)], ids=str
)
def test_what_is_rare_is_counted_whatever_the_rest_earned(
    usual: float, rare: float
) -> None:
    # Given a log in which all but nine decisions earned the same
    def of(many: int) -> Overlap:
        rewards = np.full(5_000, usual)
        rewards[:many] = rare
        return Overlap.of(np.ones(5_000), rewards)

    few, enough = assess(of(9), weight_max=1.0), assess(of(10), weight_max=1.0)

    assert few.verdict == "unusable"
    assert few.doubts[0].startswith("9 decisions earned anything")
    assert few.rows_needed == 5_556
    assert enough.verdict == "usable"


def test_a_log_in_which_all_earned_the_same_names_no_winner() -> None:
    found = assess(Overlap.of(np.ones(5_000), np.full(5_000, 1.0)), weight_max=1.0)

    assert found.verdict == "weak"
    assert found.doubts[0].startswith("every decision earned 1:")


def test_what_a_decision_costs_that_nothing_came_of_tells_nothing() -> None:
    # Given decisions for an offer, which cost attention, and for none
    rewards = np.tile([-0.01, 0.0], 2_500)
    rewards[:5] = 0.99
    quiet = rewards <= 0.0

    found = assess(Overlap.of(np.ones(5_000), rewards, quiet), weight_max=1.0)

    assert found.verdict == "unusable"
    assert found.doubts[0] == "5 decisions earned anything, and 10 are needed"


def test_amounts_are_counted_alike_in_every_order() -> None:
    rng = np.random.default_rng(3)
    for amounts in (3, 64, 65, 1_000):
        rewards = rng.integers(amounts, size=9_000) / 7.0
        whole = Overlap.of(np.ones(9_000), rewards)
        parts = [Overlap.of(np.ones(30), part) for part in rewards.reshape(300, 30)]
        forth, back = parts[0], parts[-1]
        for one, other in zip(parts[1:], parts[-2::-1], strict=True):
            forth, back = forth + one, back + other
        assert forth.amounts == back.amounts == whole.amounts
        assert (whole.amounts is None) == (amounts > 64)
        assert whole.telling <= whole.events


def test_one_decision_is_not_several() -> None:
    rewards = np.zeros(1_000)
    rewards[3] = 1.0

    found = assess(Overlap.of(np.ones(1_000), rewards), weight_max=1.0)

    assert found.doubts == ("1 decision earned anything, and 10 are needed",)
