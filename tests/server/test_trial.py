"""A trial compares a catalogue with the one in use, whatever decided back then."""

from __future__ import annotations

from collections import Counter

from policies import catalogue as catalogues
from policies.catalogue import Catalogue
from policies.engine import Past, decide
from policies.identity import decision_id, root_key
from policies.model import NO_HISTORY, Decision, Opportunity
from policies.policy import Policy, PolicySettings
from server.trial import Trial, try_out
from tests.server import kit

BEFORE = catalogues.read(
    """
[placements.home]
[offers.tea]
placements = ["home"]
[offers.jam]
placements = ["home"]
state = "paused"
"""
)
AFTER = catalogues.read(
    """
[placements.home]
[placements.side]
[offers.tea]
placements = ["home"]
state = "paused"
"""
)


def decided(catalogue: Catalogue, *placements: str) -> list[Decision]:
    policy = Policy(PolicySettings())
    root = root_key("shop", "", "ada")
    asked = [
        Opportunity(
            decision_id(root, "ada", f"request-{number}"),
            kit.NOON_MS,
            "ada",
            placements,
        )
        for number in range(5)
    ]
    past = Past(NO_HISTORY)
    return [
        decide(each, catalogue=catalogue, past=past, policy=policy).decision
        for each in asked
    ]


def test_what_would_be_lost_is_gained_on_the_way_back() -> None:
    there = try_out(decided(BEFORE, "home"), AFTER, BEFORE)
    back = try_out(decided(BEFORE, "home"), BEFORE, AFTER)

    assert there == Trial(5, 0, 5, gained=Counter(), lost=Counter(tea=5))
    assert back == Trial(5, 0, 0, gained=Counter(tea=5), lost=Counter())


def test_what_one_of_them_cannot_be_asked_is_only_counted() -> None:
    made = decided(AFTER, "home", "side")

    assert try_out(made, BEFORE, AFTER) == Trial(
        5, 5, 0, gained=Counter(), lost=Counter()
    )
