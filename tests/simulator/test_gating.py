"""What gating cost, where it is known: of users who answer anew at every visit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from policies.gates import GATES
from policies.model import NO_OFFER, Decision, OutcomeKind
from policies.objective import ObjectiveSettings
from simulator import Gating, Log, LogError, TargetError, compare, gates, open_log
from simulator.__main__ import app
from simulator.gating import ELIGIBILITY
from tests.simulator.worlds import UNIFORM, World, segment_of, uniform

DAY_MS = 86_400_000
USERS = 300
CATALOGUE = """
currency = "EUR"
valid_for = "10m"

[features.seats]
type = "number"

[placements.home]

[offers.tea]
placements = ["home"]
caps = [{ limit = 1, window = "7d" }]
dismissal_cool_down = "1s"
eligible = "segment != 'team'"
lever = 2.0
"""
CHANCE = {"free": 0.6, "team": 0.3, "old": 0.1}


def accepts(decision: Decision) -> Sequence[OutcomeKind]:
    if decision.chosen == NO_OFFER:
        return ()
    asked = decision.opportunity
    mood = uniform(f"mood {asked.decision_id}")
    if mood < CHANCE[asked.context.segment]:
        return ("shown", "accepted")
    return ("shown", "dismissed" if mood > 0.9 else "ignored")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Given users who come twice, and may see tea once: half of the time they do."""
    objective = ObjectiveSettings(levers=True)
    settings = msgspec.structs.replace(UNIFORM, objective=objective)
    world = World(tmp_path_factory.mktemp("log") / "opportune.db", settings)
    world.offer(CATALOGUE)
    for _ in range(2):
        world.now_ms += DAY_MS
        world.visit([f"user-{n}" for n in range(USERS)], answer=accepts)
    world.now_ms += world.rewards.wait
    world.learn()
    return world


@pytest.fixture(scope="module")
def told(world: World) -> Gating:
    with Log(world.path) as log:
        return gates(log)


def segments() -> list[str]:
    return [segment_of(f"user-{n}") for n in range(USERS)]


def test_what_each_gate_rejects_is_counted(world: World, told: Gating) -> None:
    team = segments().count("team")
    capped = [
        d.opportunity.user_id
        for d in world.decisions
        if len(d.actions) == 1 and d.opportunity.context.segment != "team"
    ]

    assert [gate.gate for gate in told.gates] == ["eligible", "offer_cap"]
    eligible, cap = told.gates
    assert (eligible.decisions, eligible.users) == (2 * team, team)
    assert (eligible.actions, eligible.offers) == (2 * team, {"tea": 2 * team})
    assert (cap.decisions, cap.users) == (len(capped), len(set(capped)))
    assert (cap.alone, cap.alone_roots) == (len(capped), len(set(capped)))
    # Half of what is allowed is chosen.
    assert cap.choices == pytest.approx(len(capped) / 2)


def test_the_cost_of_a_cap_is_in_both_intervals(told: Gating) -> None:
    # Without it a quarter of what two visits may show is shown more.
    chances = [0.0 if s == "team" else CHANCE[s] for s in segments()]
    truth = sum(chances) * 0.25

    cost = told.gate("offer_cap").cost

    assert cost is not None
    assert cost.reward is not None
    assert cost.reward_low is not None
    assert cost.reward_high is not None
    assert cost.reward_alike_low is not None
    assert cost.reward_alike_high is not None
    assert cost.reward_low < cost.reward_alike_low < truth
    assert truth < cost.reward_alike_high < cost.reward_high
    assert cost.reward_alike_high - cost.reward_alike_low < 60
    assert cost.dismissals is not None
    assert cost.dismissals > 0


def test_what_was_never_tried_in_a_segment_has_no_narrow_interval(
    told: Gating,
) -> None:
    cost = told.gate("eligible").cost

    assert cost is not None
    assert cost.verdict == "weak"
    assert cost.lead == "open"
    assert (cost.reward_alike_low, cost.reward_alike_high) == (None, None)
    assert any("never tried" in doubt for doubt in cost.doubts)
    # Whatever tea earns there, this interval holds it: from nothing to an accept each.
    truth = 0.3 * segments().count("team")
    assert cost.reward_low is not None
    assert cost.reward_high is not None
    assert cost.reward_low < truth < cost.reward_high


def test_intervals_hold_at_once(world: World, told: Gating) -> None:
    # Two gates, eligibility only, and no levers.
    assert told.intervals == 4
    assert told.rewarded == 2 * USERS
    assert [note[:28] for note in told.notes] == ["the policy has learned from "]
    with Log(world.path) as log:
        looser = gates(log, confidence=0.8)
    narrow, wide = looser.gate("offer_cap").cost, told.gate("offer_cap").cost

    assert narrow is not None
    assert wide is not None
    assert narrow.reward_alike_low is not None
    assert wide.reward_alike_low is not None
    assert narrow.reward_alike_low > wide.reward_alike_low


def test_eligibility_only_keeps_to_who_may_see_it(told: Gating) -> None:
    alternative = told.alternatives[0]
    cap = told.gate("offer_cap").cost

    assert alternative.name == "eligibility only"
    assert cap is not None
    assert alternative.cost is not None
    # Of the two gates, the one that says who may see it stays.
    assert alternative.cost.reward == pytest.approx(cap.reward)
    assert {gate.name for gate in GATES} > ELIGIBILITY


def test_levers_are_compared_where_they_count(world: World, told: Gating) -> None:
    with open_log(world.path) as source:
        result = compare(source, ["latest", "no_levers"], confidence=1 - 0.05 / 4)
    (apart,) = [d for d in result.differences if d.objective == "reward"]

    levers = told.alternatives[1]

    assert (levers.name, levers.untold) == ("no levers", "")
    assert levers.cost is not None
    assert apart.value is not None
    assert levers.cost.reward == pytest.approx(apart.value * told.rewarded)
    assert levers.cost.known == 1.0


def test_without_levers_there_is_nothing_to_compare(tmp_path: Path) -> None:
    world = World(tmp_path / "opportune.db")
    world.live(200)

    with Log(world.path) as log:
        result = gates(log)
        with pytest.raises(TargetError, match="levers do not count in policy"):
            compare(log, ["latest", "no_levers"])

    assert result.gates == ()
    assert result.alternatives[0].cost is not None
    assert result.alternatives[0].cost.lead == "nothing"
    assert result.alternatives[1].cost is None
    assert "levers do not count" in result.alternatives[1].untold
    assert result.verdict == "usable"


def test_opt_outs_are_counted_and_not_switched_off(
    world: World, tmp_path: Path
) -> None:
    # Given that some had opted out of all.
    copy = world.copied(tmp_path / "opportune.db")
    at = [p for p, d in enumerate(copy.decisions, start=1) if d.chosen == NO_OFFER][:30]

    def opt_out(record: dict[str, object]) -> None:
        record["history"] = {"preferences": {"opt_outs": {"all": 1}, "version": 1}}
        record["actions"], record["probabilities"] = [[0, 1]], [1_000_000_000]

    for position in at:
        copy.tamper(position, opt_out)
    with Log(copy.path) as log:
        result = gates(log)

    gate = result.gate("opt_out")
    assert gate.decisions == 30
    assert gate.cost is None


def test_the_command_ends_with_3_where_the_log_cannot_tell_of_one(
    world: World, told: Gating, tmp_path: Path
) -> None:
    to = tmp_path / "gates.json"

    result = CliRunner().invoke(app, ["gates", str(world.path), "--json", str(to)])

    assert result.exit_code == 3, result.output
    assert "│ offer_cap │" in result.output
    assert "never tried" in result.output
    assert "Weak: eligible:" in result.output
    assert msgspec.json.decode(to.read_bytes(), type=Gating) == told


def test_the_command_ends_with_0_where_it_can(tmp_path: Path) -> None:
    world = World(tmp_path / "opportune.db")
    world.live(200)

    result = CliRunner().invoke(app, ["gates", str(world.path)])

    assert result.exit_code == 0, result.output


def test_what_cannot_be_asked_is_told(world: World, tmp_path: Path) -> None:
    empty = World(tmp_path / "empty.db")

    with (
        Log(world.path) as log,
        pytest.raises(TargetError, match="confidence must"),
    ):
        gates(log, confidence=0.4)
    with Log(empty.path) as log, pytest.raises(LogError, match="no decision"):
        gates(log)
