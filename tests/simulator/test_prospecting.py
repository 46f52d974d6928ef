"""Opportunities in a town whose people are known: what is there is found, no more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from policies import specs
from policies.gates import GATES
from policies.model import (
    NO_OFFER,
    Context,
    Decision,
    History,
    OutcomeKind,
    State,
    Usage,
)
from simulator import (
    Opportunities,
    OpportunitySettings,
    open_log,
    opportunities,
)
from simulator.__main__ import app
from simulator.remedies import KEYS, key_of
from tests.simulator import logged
from tests.simulator.worlds import World, uniform

DAY_MS = 86_400_000
USERS = 400
CATALOGUE = """
currency = "EUR"
valid_for = "10m"

[features.shares]
type = "number"

[placements.home]
[placements.attic]

[products.mail]
price = 500
[products.chat]
price = 300
[products.blog]
price = 300
[products.small]
price = 300
limit = 10.0
[products.large]
price = 1500
limit = 100.0

[ladders.storage]
rungs = ["small", "large"]
usage = "gb"
max_step = 10.0

[offers.large]
kind = "upsell"
placements = ["home"]
grants = ["large"]
ladder = "storage"
price = 1500
limit = { usage = "gb", to_share = 3.0, once_per_cycle = false }
eligible = "segment in ['free', 'team']"

[offers.jam]
placements = ["home"]
eligible = "segment != 'barred'"
dismissal_cool_down = "1s"

[offers.ghost]
placements = ["attic"]
suitable = "segment == 'nobody'"
"""
SEGMENTS = ("free", "team", "old", "barred")
JAM = {"free": 0.5, "team": 0.1, "old": 0.5, "barred": 0.5}
PLAIN = {"free": 0.3, "team": 0.3, "old": 0.3, "barred": 0.3}


class Town(World):
    """A world of people who own and use things.

    Attributes:
        tastes: By segment, how likely jam is accepted.
        plain: Whether nothing goes along with anything.
    """

    tastes = JAM
    plain = False

    def context_of(self, user_id: str) -> Context:
        usage = (
            {"gb": Usage(gb(user_id), 10.0)} if "small" in self.owned(user_id) else {}
        )
        return Context(
            segment=segment(user_id),
            usage=usage,
            features={"shares": float(uniform(f"shares {user_id}") < 0.5)},
        )

    def told_of(self, user_id: str, history: History) -> History:
        state = State(owned=dict.fromkeys(self.owned(user_id), 1))
        return msgspec.structs.replace(history, state=state)

    def owned(self, user_id: str) -> list[str]:
        mail = uniform(f"mail {user_id}") < 0.5
        chat = uniform(f"chat {user_id}") < (
            0.5 if self.plain else 0.9 if mail else 0.1
        )
        blog = uniform(f"blog {user_id}") < 0.5
        small = uniform(f"small {user_id}") < 0.9 and not self.plain
        has = {"mail": mail, "chat": chat, "blog": blog, "small": small}
        return [name for name, told in has.items() if told]

    def answer(self, decision: Decision) -> Sequence[OutcomeKind]:
        if decision.chosen == NO_OFFER:
            return ()
        asked = decision.opportunity
        user_id = asked.user_id
        offer_id = self.catalogue.actions[decision.chosen].offer_id
        kinds: list[OutcomeKind] = ["shown"]
        chance = self.tastes[segment(user_id)] if offer_id == "jam" else 0.8
        mood = uniform(f"mood {asked.decision_id}")
        kinds.append("accepted" if mood < chance else "ignored")
        if not stays(self, decision):
            kinds.append("churned")
        return kinds


def segment(user_id: str) -> str:
    shares = ("free", "free", "free", "team", "team", "team", "old", "barred")
    return shares[int(uniform(f"segment {user_id}") * len(shares))]


def gb(user_id: str) -> float:
    return uniform(f"gb {user_id}") * 30.0


def near(town: Town, user_id: str) -> bool:
    return "small" in town.owned(user_id) and gb(user_id) >= 8.0


def stays(town: Town, decision: Decision) -> bool:
    """Say whether a user stays: who leaves takes back what was earned."""
    user_id = decision.opportunity.user_id
    return uniform(f"leaves {user_id}") >= (0.4 if near(town, user_id) else 0.02)


def people() -> list[str]:
    return [f"user-{number}" for number in range(USERS)]


def settle(town: Town, *, visits: int) -> Town:
    town.offer(CATALOGUE)
    for _ in range(visits):
        town.now_ms += DAY_MS
        town.visit(people(), ("home", "attic"), answer=town.answer)
    town.now_ms += town.rewards.wait
    town.learn()
    return town


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Town:
    path = tmp_path_factory.mktemp("town") / "opportune.db"
    return settle(Town(path), visits=2)


@pytest.fixture(scope="module")
def found(town: Town) -> Opportunities:
    return opportunities(town.path)


def test_what_is_used_together_without_a_bundle_is_found(
    town: Town, found: Opportunities
) -> None:
    both = [u for u in people() if {"mail", "chat"} <= set(town.owned(u))]

    (pair,) = found.of("together")

    assert pair.what.startswith("product chat and product mail are used together")
    assert (pair.users, pair.roots) == (len(both), len(both))
    assert pair.share == len(both) / USERS
    assert pair.evidence["lift"] == pytest.approx(1.8, abs=0.2)
    assert pair.adjusted is not None
    assert pair.adjusted < 1e-6
    assert (pair.worth, pair.untold != "") == (None, True)
    assert pair.next.endswith("chat, mail")
    assert pair.keys == ("offers.NEW.grants",)


def test_a_bundle_of_both_answers_it(town: Town, tmp_path: Path) -> None:
    # Given that the last decision was made under a catalogue that has a bundle.
    path = tmp_path / "opportune.db"
    other = town.copied(path)
    assert isinstance(other, Town)
    other.offer(
        CATALOGUE
        + '[offers.pair]\nkind = "bundle"\nplacements = ["home"]\n'
        + 'grants = ["mail", "chat"]\n'
    )
    other.visit(["late"], answer=other.answer)

    assert opportunities(path).of("together") == []


def test_features_count_as_uses_where_it_is_said(
    town: Town, found: Opportunities
) -> None:
    settings = OpportunitySettings(uses=("shares",))

    more = opportunities(town.path, settings)

    # There are five more pairs with shares, and none of them is anything.
    assert more.tests == found.tests + 5
    assert len(more.of("together")) == 1


def test_low_adoption_is_found_with_what_it_may_be_worth(
    town: Town, found: Opportunities
) -> None:
    offered, accepted, others = set(), set(), set()
    for decision in town.decisions:
        user_id = decision.opportunity.user_id
        if town.catalogue.actions[decision.chosen].offer_id != "jam":
            continue
        if segment(user_id) != "team":
            others.add(user_id)
            continue
        offered.add(user_id)
        if "accepted" in town.answer(decision):
            accepted.add(user_id)

    low = [each for each in found.of("adoption") if "segment team" in each.what]

    assert len(low) == 1
    (team,) = low
    assert team.what == "offer jam is taken less by users of segment team"
    assert team.evidence["offered"] == team.roots == len(offered)
    assert team.evidence["accepted"] == len(accepted)
    assert team.evidence["others_offered"] == len(others)
    assert team.evidence["could_buy"] >= len(offered)
    assert team.worth is not None
    mine, theirs = (
        [
            JAM[segment(d.opportunity.user_id)] * stays(town, d)
            for d in town.decisions
            if town.catalogue.actions[d.chosen].offer_id == "jam"
            and d.opportunity.user_id in of
        ]
        for of in (offered, others)
    )
    truth = (sum(theirs) / len(others) - sum(mine) / len(offered)) * len(offered)
    assert 0 < team.worth.low < truth < team.worth.high
    assert team.worth.confidence > 0.95
    assert "offers.jam.creatives" in team.keys


def test_users_between_plans_are_counted(town: Town, found: Opportunities) -> None:
    between = [u for u in people() if near(town, u)]

    (gap,) = found.of("gap")

    assert gap.roots == len(between)
    assert gap.evidence["price_ratio"] == 5.0
    assert gap.evidence["price_per_unit_ratio"] == pytest.approx(0.5)
    assert gap.evidence["middle_limit"] == pytest.approx(1000**0.5)
    assert gap.worth is None
    assert "ladders.storage.rungs" in gap.keys


def test_a_step_that_is_small_is_no_gap(town: Town) -> None:
    # Of 5 times as much for ten times as much, nobody gets less for their money.
    assert opportunities(town.path, OpportunitySettings(price_step=6.0)).of("gap") == []


def test_limits_that_hurt_are_found_with_who_gets_nothing(
    town: Town, found: Opportunities
) -> None:
    mine = [u for u in people() if near(town, u)]
    without = [u for u in mine if segment(u) in ("old", "barred")]

    (limit,) = found.of("limit")

    assert limit.roots == len(mine)
    assert limit.evidence["nothing_fits"] == len(without)
    assert limit.evidence["over"] == sum(gb(u) >= 10.0 for u in mine)
    assert limit.evidence["left_rate"] > 5 * limit.evidence["others_left_rate"]
    assert "nothing that fits is offered" in limit.what
    assert "more of them leave" in limit.what
    assert limit.adjusted is not None
    assert limit.adjusted < 0.05
    (held,) = limit.held
    assert (held.gate, held.share, held.offers) == ("eligible", 1.0, ("large",))
    assert limit.keys == ("offers.large.eligible",)


def test_showing_what_fits_is_worth_what_it_would_earn(
    town: Town, found: Opportunities
) -> None:
    # Given who may see what fits: it earns 0.8, and else they see one of three.
    decisions = [
        decision
        for decision in town.decisions
        if near(town, decision.opportunity.user_id)
        and any(town.catalogue.actions[a].offer_id == "large" for a in decision.actions)
    ]
    truth = sum(
        (0.8 - (0.8 + JAM[segment(d.opportunity.user_id)]) / len(d.actions))
        * stays(town, d)
        for d in decisions
    )

    (limit,) = found.of("limit")

    assert limit.worth is not None
    assert limit.worth.low < truth < limit.worth.high
    assert limit.worth.low > 0


def test_who_is_never_reached_is_told_with_the_gate(
    town: Town, found: Opportunities
) -> None:
    barred = [u for u in people() if segment(u) == "barred"]

    told = {each.what: each for each in found.of("unserved")}

    assert set(told) == {
        "users of segment barred are never reached: no offer is ever eligible",
        "placement attic is never reached: no offer is ever eligible",
        "offer ghost is never eligible",
    }
    segments = told[next(what for what in told if "barred" in what)]
    assert (segments.roots, segments.decisions) == (len(barred), 2 * len(barred))
    gates = {held.gate: held for held in segments.held}
    assert gates["eligible"].share == 1.0
    assert "offers.jam.eligible" in gates["eligible"].keys
    ghost = told["offer ghost is never eligible"]
    assert ghost.keys == ("offers.ghost.suitable",)
    assert ghost.held[0].offers == ("ghost",)
    assert {each.worth for each in told.values()} == {None}


def test_where_nothing_goes_along_nothing_is_found(tmp_path: Path) -> None:
    town = Town(tmp_path / "opportune.db")
    town.plain, town.tastes = True, PLAIN

    result = opportunities(settle(town, visits=1).path)

    assert result.tests >= 5
    assert result.found == tuple(result.of("unserved"))


def test_luck_is_corrected_for() -> None:
    # Given twenty logs with segments that mean nothing: about nine tests in each.
    told = tests = 0
    for seed in range(20):
        log = logged.log(500, seed, users=250)
        keys, whose = np.unique(log.keys, return_inverse=True)
        drawn = np.random.default_rng(seed + 100).integers(4, size=len(keys))
        names = [SEGMENTS[at] for at in drawn[whose]]
        result = opportunities(msgspec.structs.replace(log, segments=names))
        told += bool(result.of("adoption"))
        tests += result.tests

    assert tests > 100
    assert told <= 1


def test_no_group_of_a_few_is_told_of(town: Town) -> None:
    result = opportunities(town.path, OpportunitySettings(users_min=130))

    assert all(each.roots >= 130 for each in result.found)
    assert not any("segment" in each.what for each in result.found)
    assert result.small > 0


@pytest.mark.parametrize(
    ("how", "wrong"),
    [
        ({"users_min": 4}, "users_min must be from 5 to 1000000, not 4"),
        ({"confidence": 0.5}, "confidence must be above 0.5, below 1, not 0.5"),
        ({"lift_min": 0.5}, "lift_min must be from 1 to 100, not 0.5"),
        ({"near": 0.0}, "near must be above 0, to 1, not 0"),
        ({"price_step": 1.0}, "price_step must be above 1, to 100, not 1"),
        ({"sample": 0}, "sample must be from 1 to 100000, not 0"),
    ],
)
def test_settings_out_of_range_are_refused(how: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        OpportunitySettings(**how)


def test_the_command_writes_what_it_shows(
    town: Town, found: Opportunities, tmp_path: Path
) -> None:
    to = tmp_path / "found.json"

    result = CliRunner().invoke(
        app, ["opportunities", str(town.path), "--json", str(to)]
    )

    assert result.exit_code == 0, result.output
    for title in ("Used together", "Adopted less", "Gaps", "Limits", "Never reached"):
        assert title in result.output
    assert "Benjamini-Hochberg" in result.output
    told = msgspec.json.decode(to.read_bytes(), type=Opportunities)
    assert told == found


def test_a_log_of_too_few_users_ends_with_3(tmp_path: Path) -> None:
    town = Town(tmp_path / "opportune.db")
    town.offer(CATALOGUE)
    town.visit(people()[:10], answer=town.answer)

    result = CliRunner().invoke(app, ["opportunities", str(town.path)])

    assert result.exit_code == 3, result.output
    assert "Too few to tell" in result.output


def test_a_log_that_is_none_ends_with_2(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["opportunities", str(tmp_path / "none.db")])

    assert result.exit_code == 2


def test_other_logs_tell_who_adopts_what(
    town: Town, found: Opportunities, tmp_path: Path
) -> None:
    to = tmp_path / "log.parquet"
    converted = CliRunner().invoke(app, ["convert", str(town.path), str(to)])
    assert converted.exit_code == 0, converted.output

    result = opportunities(to)

    assert (result.decisions, result.roots) == (found.decisions, found.roots)
    (mine,) = [e for e in result.of("adoption") if "segment team" in e.what]
    (theirs,) = [e for e in found.of("adoption") if "segment team" in e.what]
    assert mine.evidence == theirs.evidence
    (barred,) = [e for e in result.of("unserved") if "barred" in e.what]
    assert barred.held == ()
    assert any("only a server's log" in what for what in result.unchecked)


def test_rows_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    path = tmp_path / "visits.csv"
    rows = [f"{user},tea,{user % 2},0.5,free" for user in range(30)]
    rows[3] = "3,tea,1,none,free"
    path.write_text("user,action,reward,propensity,segment\n" + "\n".join(rows))
    mapping = tmp_path / "visits.toml"
    mapping.write_text(
        'action = "action"\nreward = "reward"\npropensity = "propensity"\n'
        'user = "user"\nsegment = "segment"\n'
    )

    with open_log(path, mapping=mapping, skip_bad=True) as source:
        result = opportunities(source)

    assert result.roots == 29
    assert "bad rows: 1" in result.unchecked


def test_large_logs_are_read_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    log = logged.log(3_000, users=400)
    whole = opportunities(log)
    monkeypatch.setattr("simulator.visits._ROWS_AT_ONCE", 700)

    turned = opportunities(log)

    assert turned.roots == whole.roots == len(np.unique(log.keys))
    assert [each.evidence for each in turned.found] == [
        each.evidence for each in whole.found
    ]


def test_the_holdout_is_left_out() -> None:
    log = logged.log(2_000, users=300)
    held = log.keys % np.uint64(2) == 0
    splits = ["holdout" if each else "train" for each in held]
    part = msgspec.structs.replace(log, splits=splits)

    assert opportunities(part).roots == len(np.unique(log.keys[~held]))


def test_every_gate_has_a_key_that_catalogues_know() -> None:
    assert {gate.name for gate in GATES} == KEYS.keys()
    for gate in KEYS:
        spec = specs.CatalogueSpec(offers={"tea": specs.OfferSpec()})
        key = key_of(gate, spec, "tea", "home")
        kind: Any = specs.CatalogueSpec
        for name in [
            part for part in key.split(".") if part not in ("tea", "home", "")
        ]:
            fields = {f.name: f.type for f in msgspec.structs.fields(kind)}
            assert name in fields, key
            kind = {
                "offers": specs.OfferSpec,
                "placements": specs.PlacementSpec,
                "holdout": specs.HoldoutSpec,
                "spacing": specs.SpacingSpec,
                "attention": specs.AttentionSpec,
                "contacts": specs.ContactSpec,
            }.get(name, kind)
