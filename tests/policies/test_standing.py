"""What was decided: how it is put into words, and for how long it stands."""

from __future__ import annotations

import msgspec
import pytest

from policies.catalogue import Catalogue, read
from policies.engine import (
    Past,
    eligible,
    message_of,
    standing,
)
from policies.gates import Ruling
from policies.history import reserve
from policies.model import (
    NO_HISTORY,
    NO_OFFER,
    Conditions,
    Context,
    Decision,
    History,
    Outcome,
    Preferences,
    Snooze,
    State,
    Usage,
)
from tests.policies import shops
from tests.policies.shops import DAY, NOW, asked

# --- Messages, and what still stands ------------------------------------------------

WORDED = read(
    """
    [products.disk]
    [placements.home]
    kind = "modal"
    [offers.more]
    placements = ["home"]
    grants = ["disk"]
    limit = { usage = "gb" }
    caps = [{ limit = 1, window = "1d" }]
    [offers.more.creatives.exact]
    parameters = { left = { value = "usage.gb.limit - usage.gb.value" } }
    [offers.more.creatives.vague]
    """
)
FULL = Context(usage={"gb": Usage(9.0, 10.0, since_ms=NOW - DAY)})


def chosen_of(catalogue: Catalogue, index: int, context: Context = FULL) -> Decision:
    """Return a decision that chose a certain action."""
    action = catalogue.actions[index]
    return msgspec.structs.replace(
        shops.decision_of(action, 7, NOW, catalogue),
        opportunity=asked(7, context=context),
    )


def test_a_message_holds_what_the_moment_holds() -> None:
    message = message_of(chosen_of(WORDED, 1), WORDED)
    silent = msgspec.structs.replace(chosen_of(WORDED, 1), chosen=NO_OFFER)

    assert message is not None
    assert message.template == "exact"
    assert message.parameters["left"].value == 1.0
    assert message_of(silent, WORDED) is None


def stands(
    past: Past,
    *,
    seen: bool = False,
    index: int = 1,
    catalogue: Catalogue = WORDED,
    context: Context = FULL,
) -> Ruling | None:
    """Say why an offer that was decided a minute ago does not stand any more."""
    decision = chosen_of(WORDED, index, context)
    now = msgspec.structs.replace(
        decision.opportunity, at_ms=NOW + 60_000, offers=("more",)
    )
    return standing(now, catalogue, past, seen=seen)


def test_a_decision_stands_though_it_has_its_place_in_the_caps() -> None:
    decision = chosen_of(WORDED, 1)
    chosen = WORDED.chosen(WORDED.actions[1])
    held = reserve(NO_HISTORY, chosen, decision, WORDED.memory)
    shown = shops.fold(NO_HISTORY, decision, [Outcome("1", "shown", NOW + 1)], WORDED)

    # Once shown, it is over its cap, and was seen in this cycle.
    actions, _ = eligible(asked(context=FULL), WORDED, Past(shown))
    assert [action.index for action in actions] == [NO_OFFER]
    for past in (Past(), Past(held), Past(shown), Past(held, held)):
        assert stands(past) is None
        assert stands(past, seen=True) is None


def test_a_decision_stands_where_any_of_its_wordings_does() -> None:
    # A text that says how much is left needs to know it; the other does not.
    unknown = Context(usage={"gb": Usage(9.0, 10.0)})
    catalogue = read(WORDED.text.replace("usage.gb.limit -", "usage.mb.limit -"))

    assert stands(Past(), catalogue=catalogue, context=unknown) is None
    bare = read(
        WORDED.text.replace("usage.gb.limit -", "usage.mb.limit -").replace(
            "[offers.more.creatives.vague]", ""
        )
    )
    assert stands(Past(), catalogue=bare) == Ruling("MISSING_PARAMETER")


OWNER = State(owned={"disk": 0})


@pytest.mark.parametrize(
    ("past", "reason", "seen_too"),
    [
        (Past(History(state=OWNER)), "ALREADY_OWNED", True),
        (Past(NO_HISTORY, History(state=OWNER)), "ALREADY_OWNED", True),
        (Past(conditions=Conditions(stopped=("all",))), "STOPPED", True),
        (Past(conditions=Conditions(stopped=("offer:more",))), "STOPPED", True),
        (
            Past(History(preferences=Preferences(opt_outs={"all": NOW}))),
            "OPTED_OUT",
            False,
        ),
        (
            Past(History(snoozes={"more": Snooze(NOW + DAY, 1, NOW)})),
            "SNOOZED",
            False,
        ),
    ],
)
def test_a_decision_does_not_stand_once_something_has_come_between(
    past: Past, reason: str, seen_too: bool
) -> None:
    ruling = stands(past)
    seen = stands(past, seen=True)

    assert ruling is not None
    assert ruling.reason == reason
    assert (seen == ruling) if seen_too else seen is None


@pytest.mark.parametrize("more", ['state = "paused"', 'state = "archived"'])
def test_a_decision_does_not_stand_once_the_offer_is_withdrawn(more: str) -> None:
    limit = 'limit = { usage = "gb" }'
    withdrawn = read(WORDED.text.replace(limit, f"{limit}\n{more}"))
    ended = f"{limit}\nend = 2020-01-01T00:00:00Z"
    over = read(WORDED.text.replace(limit, ended))
    gone = read("[placements.home]")

    for seen in (False, True):
        assert stands(Past(), catalogue=withdrawn, seen=seen) == Ruling("WITHDRAWN")
        assert stands(Past(), catalogue=gone, seen=seen) == Ruling("WITHDRAWN")
        assert stands(Past(), catalogue=over, seen=seen) == Ruling("EXPIRED")
