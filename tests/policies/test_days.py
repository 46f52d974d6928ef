"""Weights of sound logs are seldom taken for wrong on some day."""

from __future__ import annotations

import numpy as np
import pytest

from policies.diagnostics import Diagnostics

_DAY_MS = 86_400_000


def diagnosed(seed: int, days: int, per_day: int, least: float) -> Diagnostics:
    """Judge a sound log, whose propensities reach from `least` to 0.6."""
    rng = np.random.default_rng(seed)
    n = days * per_day
    propensities = np.exp(rng.uniform(np.log(least), np.log(0.6), n))
    weights = (rng.random(n) < propensities) / propensities
    return Diagnostics.of(
        weights,
        np.ones(n),
        weight_max=1 / least,
        times_ms=np.repeat(np.arange(days), per_day) * _DAY_MS,
    )


@pytest.mark.parametrize("per_day", [40, 300])
@pytest.mark.parametrize("least", [0.3, 0.05, 0.005])
def test_sound_logs_raise_no_alarm(per_day: int, least: float) -> None:
    alarms = sum(
        any("every day" in doubt for doubt in found.diagnose().doubts)
        for found in (diagnosed(seed, 20, per_day, least) for seed in range(100))
    )

    assert alarms <= 1


def test_a_day_whose_propensities_are_wrong_is_doubted_with_its_chance() -> None:
    sound = diagnosed(1, 20, 300, 0.3)
    days = dict(sound.days)
    days[7] = days[7] + days[8]
    wrong = type(sound)(
        overlap=sound.overlap,
        weight_max=sound.weight_max,
        segments=sound.segments,
        days={day: found for day, found in days.items() if day != 8}
        | {8: type(days[7])(n=300, weight=600.0, squares=2_000.0)},
    )

    diagnosis = wrong.diagnose()

    assert diagnosis.verdict == "weak"
    assert any("or it is a chance of" in doubt for doubt in diagnosis.doubts)
