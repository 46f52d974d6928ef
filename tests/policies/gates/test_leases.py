"""Leases: nobody is disturbed in a critical workflow, for as long as it is on."""

from __future__ import annotations

from policies.gates.base import Because, Ruling
from policies.gates.leases import CriticalWorkflow
from policies.model import Lease
from policies.specs import PlacementSpec
from tests.policies.gates.pasts import TEA, ask, gates, past, rule_out

MODAL = gates(CriticalWorkflow, placement=PlacementSpec(kind="modal"))
INLINE = gates(CriticalWorkflow, placement=PlacementSpec(kind="inline"))


def test_nothing_is_shown_while_a_workflow_is_on() -> None:
    paying = past(leases={"payment": Lease(100)})

    for made in (MODAL, INLINE):
        assert rule_out(made, ask(99, paying)) == Ruling("CRITICAL_WORKFLOW", 100)
        assert rule_out(made, ask(100, paying)) is None
        assert rule_out(made, ask(99)) is None


def test_a_workflow_may_allow_what_interrupts_nothing() -> None:
    editing = past(leases={"edit": Lease(100, inline=True)})

    assert rule_out(MODAL, ask(0, editing)) == Ruling("CRITICAL_WORKFLOW", 100)
    assert rule_out(INLINE, ask(0, editing)) is None


def test_the_longest_of_several_counts() -> None:
    busy = past(leases={"a": Lease(100), "b": Lease(300, inline=True), "c": Lease(200)})

    assert rule_out(MODAL, ask(0, busy)) == Ruling("CRITICAL_WORKFLOW", 300)
    assert rule_out(INLINE, ask(0, busy)) == Ruling("CRITICAL_WORKFLOW", 200)


def test_an_accounts_workflow_is_one_of_all_its_users() -> None:
    account = past(leases={"payment": Lease(100)})
    mine = past(leases={"payment": Lease(50)})

    assert rule_out(MODAL, ask(0, past(), account)) == Ruling("CRITICAL_WORKFLOW", 100)
    assert rule_out(MODAL, ask(0, mine, account)) == Ruling("CRITICAL_WORKFLOW", 100)
    assert rule_out(MODAL, ask(0, account, mine)) == Ruling("CRITICAL_WORKFLOW", 100)


def test_critical_offers_do_not_go_past_it() -> None:
    assert not CriticalWorkflow.bypassed


def test_it_says_what_is_on() -> None:
    busy = past(leases={"payment": Lease(2_000), "call": Lease(1_000)})

    assert MODAL[0].because(TEA, ask(0, busy)) == Because(
        "in call, payment, until 1970-01-01 00:00:02 UTC at the latest", "no workflow"
    )
    assert INLINE[0].because(TEA, ask(1_500, busy)) == Because(
        "in payment, until 1970-01-01 00:00:02 UTC at the latest",
        "no workflow, or one that allows inline offers",
    )
