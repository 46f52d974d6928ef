"""Snoozes: an offer comes back when the user said, and not before."""

from __future__ import annotations

from policies.gates.base import Because, Ruling
from policies.gates.dismissal import Dismissal
from policies.gates.snooze import Snoozed
from policies.model import Snooze
from tests.policies.gates.pasts import DAY, TEA, action, ask, gates, past, rule_out

MADE = gates(Snoozed)
HISTORY = past(snoozes={"tea": Snooze(3 * DAY, 1, DAY)})


def test_a_snoozed_offer_stays_away_until_the_user_said() -> None:
    assert rule_out(MADE, ask(2 * DAY, HISTORY)) == Ruling("SNOOZED", 3 * DAY)
    assert rule_out(MADE, ask(3 * DAY, HISTORY)) is None


def test_other_offers_do_not() -> None:
    assert rule_out(MADE, ask(2 * DAY, HISTORY), action("jam")) is None
    assert rule_out(MADE, ask(2 * DAY)) is None


def test_an_offer_may_be_snoozed_again_three_times_in_all() -> None:
    for count, back_ms in ((1, 3 * DAY), (2, 3 * DAY), (3, 3 * DAY), (4, 8 * DAY)):
        history = past(snoozes={"tea": Snooze(3 * DAY, count, DAY, returned=True)})
        found = [gates(Dismissal)[0].reject(TEA, ask(2 * DAY, history))]
        found += [MADE[0].reject(TEA, ask(2 * DAY, history))]
        ends = [ruling.next_eligible_ms or 0 for ruling in found if ruling]
        assert max(ends) == back_ms


def test_an_accounts_other_users_did_not_snooze_it() -> None:
    assert rule_out(MADE, ask(2 * DAY, past(), HISTORY)) is None


def test_it_says_until_when() -> None:
    assert MADE[0].because(TEA, ask(2 * DAY, HISTORY)) == Because(
        "snoozed at 1970-01-02 00:00:00 UTC", "1970-01-04 00:00:00 UTC or later"
    )
