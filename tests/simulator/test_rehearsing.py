"""A log under other rules: what they would have led to, as far as it can tell."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from policies.model import NO_OFFER, Decision, OutcomeKind
from simulator import Log, Rehearsal, TargetError, evaluate, open_log
from simulator import rehearse as rehearse_log
from simulator.__main__ import app
from simulator.sharded import Sharded
from tests.simulator.worlds import World, segment_of, uniform

DAY_MS = 86_400_000
CAPPED = """
currency = "EUR"
valid_for = "10m"

[features.seats]
type = "number"

[placements.home]

[offers.tea]
placements = ["home"]
caps = [{ limit = 1, window = "7d" }]
"""
LIFTED = CAPPED.replace("limit = 1", "limit = 2")
TIGHTER = CAPPED + "eligible = \"segment != 'team'\"\n"
LONGER = CAPPED.replace('"7d"', '"60d"')
CHANCE = {"free": 0.6, "team": 0.3, "old": 0.1}


def accepts(decision: Decision) -> Sequence[OutcomeKind]:
    """Answer anew at every visit, with the same chance by segment."""
    if decision.chosen == NO_OFFER:
        return ()
    asked = decision.opportunity
    mood = uniform(f"mood {asked.decision_id}")
    if mood < CHANCE[asked.context.segment]:
        return ("shown", "accepted")
    return ("shown", "dismissed" if mood > 0.95 else "ignored")


def lived(path: Path, *, users: int, visits: int, seed: int, text: str) -> World:
    """Return a world in which users come each day, and may see tea once a week."""
    world = World(path)
    world.offer(
        text.replace("[offers.tea]", '[offers.tea]\ndismissal_cool_down = "1s"')
    )
    for _ in range(visits):
        world.now_ms += DAY_MS
        world.visit([f"user-{seed}-{n}" for n in range(users)], answer=accepts)
    world.now_ms += world.rewards.wait
    world.learn()
    return world


@pytest.fixture(scope="module")
def capped(tmp_path_factory: pytest.TempPathFactory) -> World:
    path = tmp_path_factory.mktemp("log") / "opportune.db"
    return lived(path, users=300, visits=2, seed=1, text=CAPPED)


def rehearsed(world: World, path: Path | None = None, **how: Any) -> Rehearsal:
    with Log(world.path) as log:
        return rehearse_log(log, path or "logged", **how)


def written(folder: Path, text: str) -> Path:
    path = folder / "catalogue.toml"
    cool = '[offers.tea]\ndismissal_cool_down = "1s"'
    path.write_text(text.replace("[offers.tea]", cool))
    return path


def add_history(record: dict[str, Any], history: dict[str, Any]) -> None:
    record.setdefault("history", {}).update(history)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_same_rules_lead_to_the_log(tmp_path: Path, seed: int) -> None:
    world = World(tmp_path / "opportune.db")
    world.live(120, every=60, seed=seed)
    world.visit([f"user-{seed}-{n}" for n in range(0, 120, 3)])
    world.now_ms += world.rewards.wait
    world.learn()

    result = rehearsed(world)

    assert rehearsed(world, thorough=True) == result
    with open_log(world.path) as source:
        (logged,) = [
            value
            for value in evaluate(source, ["logged"]).values
            if value.policy == "logged"
        ]
    assert result.coverage == 1.0
    assert (result.known, result.followed, result.changed) == (1.0, 160, 0)
    assert result.diverged == 0
    assert result.effects == ()
    reward = result.figure("reward")
    assert logged.value == pytest.approx(reward.logged, abs=1e-12)
    assert (reward.value, reward.difference) == (reward.logged, 0.0)
    assert (reward.difference_low, reward.difference_high) == (0.0, 0.0)
    assert result.lead == "same"


def test_the_same_rules_folded_anew_lead_to_the_log(
    capped: World, tmp_path: Path
) -> None:
    # A wider window of something that never binds makes histories be folded anew.
    text = CAPPED.replace(
        'window = "7d" }', 'window = "7d" }, { limit = 50, window = "90d" }'
    )

    result = rehearsed(capped, written(tmp_path, text))

    assert (result.coverage, result.changed, result.lead) == (1.0, 0, "same")
    assert any("folded anew" in note for note in result.notes)


def test_a_lifted_cap_newly_allows_what_it_blocked(
    capped: World, tmp_path: Path
) -> None:
    blocked = [d for d in capped.decisions if len(d.actions) == 1]
    assert blocked

    result = rehearsed(capped, written(tmp_path, LIFTED))

    (effect,) = result.effects
    assert (effect.gate, effect.change) == ("offer_cap", "allowed")
    assert effect.decisions == effect.actions == len(blocked) == result.changed
    assert effect.choices == pytest.approx(len(blocked) / 2)
    assert result.known == pytest.approx(1 - len(blocked) / 2 / 600)
    assert 0 < result.diverged < len(blocked)
    assert result.followed == 600 - result.diverged


def test_the_truth_is_in_the_interval_of_a_lifted_cap(
    capped: World, tmp_path: Path
) -> None:
    segments = [segment_of(f"user-1-{n}") for n in range(300)]
    truth = float(np.mean([CHANCE[segment] / 2 for segment in segments]))

    reward = rehearsed(capped, written(tmp_path, LIFTED)).figure("reward")

    assert reward.low is not None
    assert reward.high is not None
    assert reward.value is not None
    assert reward.low < truth < reward.high
    assert abs(reward.value - truth) < 0.05


def test_where_what_was_blocked_is_alike_the_interval_is_narrower(
    capped: World, tmp_path: Path
) -> None:
    # Users answer anew at every visit: what was blocked is like what was not.
    segments = [segment_of(f"user-1-{n}") for n in range(300)]
    truth = float(np.mean([CHANCE[segment] / 8 for segment in segments]))

    reward = rehearsed(capped, written(tmp_path, LIFTED)).figure("reward")

    assert reward.difference_low is not None
    assert reward.difference_high is not None
    assert reward.alike_low is not None
    assert reward.alike_high is not None
    assert reward.alike_low < truth < reward.alike_high
    wide = reward.difference_high - reward.difference_low
    assert reward.alike_high - reward.alike_low < wide / 2


def test_sums_by_shard_are_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulator.sharded._PENDING_MIN", 50)
    rng = np.random.default_rng(1)
    numbers = rng.integers(5, size=1_000)
    keys = rng.integers(900, size=1_000).astype(np.uint64)
    columns = [rng.random(1_000), np.ones(1_000)]
    whole, parts = Sharded(2), Sharded(2)

    whole.add(numbers, keys, columns)
    for at in range(0, 1_000, 70):
        some = slice(at, at + 70)
        parts.add(numbers[some], keys[some], [column[some] for column in columns])

    for number in range(6):
        assert parts.of(number) == pytest.approx(whole.of(number))
        assert parts.of(number)[1].sum() == (numbers == number).sum()


def test_a_new_gate_is_told_with_what_its_choices_earned(
    capped: World, tmp_path: Path
) -> None:
    of_team = [d for d in capped.decisions if d.opportunity.context.segment == "team"]
    lost = [d for d in of_team if d.chosen != NO_OFFER]
    accepted = [d for d in lost if "accepted" in accepts(d)]

    result = rehearsed(capped, written(tmp_path, TIGHTER))

    (effect,) = result.effects
    assert (effect.gate, effect.change) == ("eligible", "blocked")
    assert effect.choices == len(lost)
    assert effect.reward == pytest.approx(len(accepted))
    assert effect.dismissals == sum("dismissed" in accepts(d) for d in lost)
    assert result.known == 1.0
    segments = [segment_of(f"user-1-{n}") for n in range(300)]
    # Half see it at their first visit, and half of the others at their second.
    chances = [0.0 if s == "team" else CHANCE[s] * 0.75 / 2 for s in segments]
    reward = result.figure("reward")
    assert reward.low is not None
    assert reward.high is not None
    assert reward.low < np.mean(chances) < reward.high


def test_a_cap_that_looks_further_back_knows_what_happened(tmp_path: Path) -> None:
    # Given visits forty days apart, which a cap of a week forgets.
    world = World(tmp_path / "opportune.db")
    world.offer(written(tmp_path, CAPPED).read_text())
    for _ in range(2):
        world.now_ms += 40 * DAY_MS
        world.visit([f"user-{n}" for n in range(100)], answer=accepts)
    world.now_ms += world.rewards.wait
    world.learn()
    chosen = [
        {d.opportunity.user_id for d in half if d.chosen}
        for half in (world.decisions[:100], world.decisions[100:])
    ]

    result = rehearsed(world, written(tmp_path, LONGER))

    (effect,) = result.effects
    assert (effect.gate, effect.change) == ("offer_cap", "blocked")
    assert effect.decisions == len(chosen[0])
    assert effect.choices == len(chosen[0] & chosen[1])


def test_where_no_rule_is_another_nothing_has_to_be_asked_again(tmp_path: Path) -> None:
    # Given two placements, with the same users in both.
    two = CAPPED + '[placements.till]\n[offers.jam]\nplacements = ["home", "till"]\n'
    world = World(tmp_path / "opportune.db")
    world.offer(written(tmp_path, two).read_text())
    for place in ("home", "till", "home"):
        world.now_ms += DAY_MS
        world.visit([f"user-{n}" for n in range(50)], (place,), answer=accepts)
    world.now_ms += world.rewards.wait
    world.learn()
    new = written(tmp_path, two.replace("limit = 1", "limit = 2"))

    quick, thorough = rehearsed(world, new), rehearsed(world, new, thorough=True)

    assert quick == thorough
    assert quick.changed > 0
    assert {effect.gate for effect in quick.effects} == {"offer_cap"}


def test_snoozes_can_last_longer(tmp_path: Path) -> None:
    world = lived(
        tmp_path / "opportune.db",
        users=100,
        visits=2,
        seed=2,
        text=CAPPED.replace("limit = 1", "limit = 9"),
    )
    # Given that some had snoozed it for twelve hours at their first visit.
    for position in range(101, 201, 2):
        start = world.decisions[position - 1].opportunity.at_ms - DAY_MS
        history = {"snoozes": {"tea": [start + DAY_MS // 2, 1, start]}}
        world.tamper(position, partial(add_history, history=history))

    same, longer = rehearsed(world), rehearsed(world, snooze=3.0)

    assert same.changed == 0
    (effect,) = longer.effects
    assert (effect.gate, effect.change, effect.decisions) == ("snooze", "blocked", 50)


def test_little_coverage_names_no_winner_and_ends_with_3(
    capped: World, tmp_path: Path
) -> None:
    text = LIFTED + "\n".join(
        f'[offers.new-{n}]\nplacements = ["home"]\n' for n in range(20)
    )
    to = tmp_path / "result.json"

    result = CliRunner().invoke(
        app,
        [
            "rehearse",
            str(capped.path),
            "--catalogue",
            str(written(tmp_path, text)),
            "--json",
            str(to),
        ],
    )

    assert result.exit_code == 3, result.output
    assert "cannot tell" in result.output
    assert "never tried in the log" in result.output
    told = json.loads(to.read_text())
    assert told["verdict"] == "unusable"
    assert told["lead"] == "open"
    assert {figure["value"] for figure in told["figures"]} == {None}
    absent = next(e for e in told["effects"] if e["gate"] == "not in the catalogue")
    assert (absent["decisions"], absent["reward"]) == (600, None)
    assert absent["roots"] == 300


def test_another_policy_decides_everywhere(capped: World, tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text(
        '[policy]\nlearner = { kind = "linucb", dim = 8 }\n'
        'exploration = { kind = "epsilon_greedy", epsilon = 0.5 }\n'
    )

    result = rehearsed(capped, policy=str(settings))

    assert result.known == 1.0
    assert result.changed == 0
    assert result.coverage < 1.0
    assert result.diverged > 0
    # And it is judged by what it has learned
    assert (result.lead, result.verdict) == ("open", "weak")
    assert any("has learned from the rewards" in doubt for doubt in result.doubts)


def test_the_command_tells_the_gates_and_the_figures(
    capped: World, tmp_path: Path
) -> None:
    path = written(tmp_path, TIGHTER)

    result = CliRunner().invoke(
        app, ["rehearse", str(capped.path), "--catalogue", str(path)]
    )

    assert result.exit_code == 0, result.output
    assert "│ eligible │ blocked │" in result.output
    assert "known by the log's probabilities" in result.output
    assert "The new rules earn less." in result.output
    assert "if what was never tried is like" not in result.output


def test_the_command_tells_the_narrower_interval(capped: World, tmp_path: Path) -> None:
    path = written(tmp_path, LIFTED)

    result = CliRunner().invoke(
        app, ["rehearse", str(capped.path), "--catalogue", str(path)]
    )

    assert "reward: +0.0" in result.output
    assert "if what was never tried is like what was" in result.output


@pytest.mark.parametrize(
    ("catalogue", "how", "wrong"),
    [
        ("missing.toml", {}, "is not there"),
        ("logged", {"snooze": 0.0}, "snooze must be above 0, not 0"),
        ("logged", {"confidence": 0.3}, "confidence must be above 0.5, below 1"),
        ("logged", {"policy": "uniform"}, "there must be a settings file"),
    ],
)
def test_what_cannot_be_rehearsed_is_told(
    capped: World, catalogue: str, how: dict[str, Any], wrong: str
) -> None:
    with Log(capped.path) as log, pytest.raises(TargetError, match=wrong):
        rehearse_log(log, catalogue, **how)
