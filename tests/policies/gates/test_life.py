"""Life-states: what they hold back, for how long, and what passes all the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.gates.base import Because, Facts, Gate, Ruling, Situation
from policies.gates.life import (
    SUPPRESSORS,
    ActionLifeState,
    OfferLifeState,
    PlacementLifeState,
)
from policies.model import (
    NO_HISTORY,
    Action,
    History,
    LifeState,
    Opportunity,
    State,
)
from policies.rules import Expression, Rule
from policies.specs import CatalogueSpec, OfferSpec, PlacementSpec, SuppressorSpec
from policies.toml import Duration

HOUR = 3_600_000
DAY = 24 * HOUR
ACTION = Action(1, "more", "default", "home", ())
FREE = OfferSpec(categories=("help",))
PAID = OfferSpec(categories=("billing",), price=900)
INLINE, MODAL = PlacementSpec(), PlacementSpec(kind="modal")
Suppressors = dict[str, SuppressorSpec]


def gates(
    offer: OfferSpec, placement: PlacementSpec, suppressors: Suppressors | None = None
) -> list[Gate]:
    facts = Facts(
        CatalogueSpec(suppressors=suppressors or {}),
        lambda source: Rule(source, {}),
        lambda source: Expression(source, {}),
    )
    of_placement = facts._replace(placement=placement)
    of_offer = facts._replace(offer=offer)
    return [
        *PlacementLifeState.of(of_placement),
        *OfferLifeState.of(of_offer),
        *ActionLifeState.of(of_placement._replace(offer=offer)),
    ]


def living(**life: LifeState) -> History:
    return History(state=State(life=life))


def situation(at_ms: int, user: History, account: History = NO_HISTORY) -> Situation:
    asked = Opportunity("d", at_ms, "ada", ("home",))
    return Situation(asked, user, account)


def ruling(
    life: dict[str, LifeState],
    at_ms: int,
    offer: OfferSpec = PAID,
    placement: PlacementSpec = MODAL,
    suppressors: Suppressors | None = None,
) -> Ruling | None:
    now = situation(at_ms, living(**life))
    rulings = [
        gate.reject(ACTION, now) for gate in gates(offer, placement, suppressors)
    ]
    return next((found for found in rulings if found is not None), None)


def because(life: dict[str, LifeState], at_ms: int) -> Because:
    now = situation(at_ms, living(**life))
    (gate,) = [gate for gate in gates(PAID, MODAL) if gate.reject(ACTION, now)]
    return gate.because(ACTION, now)


def test_nothing_is_held_back_where_nothing_is_going_on() -> None:
    assert ruling({}, 0) is None
    assert ruling({"unheard_of": LifeState(0)}, 0) is None


@pytest.mark.parametrize("offer", [FREE, PAID], ids=["free", "paid"])
@pytest.mark.parametrize("placement", [INLINE, MODAL], ids=["inline", "modal"])
def test_an_open_ticket_holds_everything_back(
    offer: OfferSpec, placement: PlacementSpec
) -> None:
    life = {"support_open": LifeState(0, topics=("billing",))}

    assert ruling(life, 5, offer, placement) == Ruling("SUPPORT_OPEN")


def test_for_a_day_after_a_ticket_only_offers_of_its_topics_are_shown() -> None:
    life = {"support_open": LifeState(0, cleared_ms=HOUR, topics=("billing",))}

    assert ruling(life, HOUR, PAID) is None
    assert ruling(life, HOUR, FREE) == Ruling("SUPPORT_OPEN", HOUR + DAY)
    assert ruling(life, HOUR + DAY - 1, FREE) == Ruling("SUPPORT_OPEN", HOUR + DAY)
    assert ruling(life, HOUR + DAY, FREE) is None


def test_after_a_ticket_that_ended_badly_nothing_is_shown_for_a_day() -> None:
    ended = LifeState(0, cleared_ms=HOUR, topics=("billing",), negative=True)

    assert ruling({"support_open": ended}, HOUR, PAID) == Ruling(
        "SUPPORT_OPEN", HOUR + DAY
    )
    assert ruling({"support_open": ended}, HOUR + DAY, PAID) is None


def test_after_a_ticket_about_nothing_certain_nothing_is_shown_for_a_day() -> None:
    life = {"support_open": LifeState(0, cleared_ms=HOUR)}

    assert ruling(life, HOUR, PAID) == Ruling("SUPPORT_OPEN", HOUR + DAY)


def test_two_weeks_after_a_ticket_an_offer_of_its_topic_is_shown() -> None:
    life = {"support_open": LifeState(0, cleared_ms=HOUR, topics=("billing",))}

    assert ruling(life, 14 * DAY, PAID) is None


def test_a_state_with_an_end_tells_when_the_offer_is_back() -> None:
    ticket = {"support_open": LifeState(0, until_ms=HOUR, topics=("billing",))}

    assert ruling(ticket, 5, PAID) == Ruling("SUPPORT_OPEN", HOUR)
    assert ruling(ticket, 5, FREE) == Ruling("SUPPORT_OPEN", HOUR + DAY)
    assert ruling(ticket, HOUR, PAID) is None


@pytest.mark.parametrize("state", ["payment_failed", "onboarding", "churn_risk"])
def test_some_states_hold_back_what_has_a_price(state: str) -> None:
    life = {state: LifeState(0)}

    assert ruling(life, 5, PAID, INLINE) == Ruling(state.upper())
    assert ruling(life, 5, FREE, MODAL) is None


def test_a_failed_payment_holds_back_for_a_day_after_it_was_mended() -> None:
    life = {"payment_failed": LifeState(0, cleared_ms=HOUR)}

    assert ruling(life, HOUR) == Ruling("PAYMENT_FAILED", HOUR + DAY)
    assert ruling(life, HOUR + DAY) is None


def test_onboarding_holds_nothing_back_once_it_is_over() -> None:
    life = {"onboarding": LifeState(0, cleared_ms=HOUR)}

    assert ruling(life, HOUR - 1) == Ruling("ONBOARDING", HOUR)
    assert ruling(life, HOUR) is None


def test_an_incident_silences_every_placement_and_an_hour_after_it() -> None:
    life = {"incident": LifeState(0)}

    assert ruling(life, 5, FREE, INLINE) == Ruling("INCIDENT")
    over = {"incident": LifeState(0, cleared_ms=HOUR)}
    assert ruling(over, HOUR, FREE, INLINE) == Ruling("INCIDENT", 2 * HOUR)
    assert ruling(over, 2 * HOUR, FREE, INLINE) is None


def test_the_first_session_of_a_trial_is_not_interrupted() -> None:
    life = {"trial_first_session": LifeState(0, until_ms=HOUR)}

    assert ruling(life, 5, FREE, MODAL) == Ruling("TRIAL_FIRST_SESSION", HOUR)
    assert ruling(life, 5, PAID, INLINE) is None


def test_a_state_of_the_account_holds_back_as_one_of_the_user_does() -> None:
    now = situation(5, NO_HISTORY, living(incident=LifeState(0)))
    (gate,) = PlacementLifeState.of(
        Facts(
            CatalogueSpec(),
            lambda source: Rule(source, {}),
            lambda source: Expression(source, {}),
        )
    )

    assert gate.reject(ACTION, now) == Ruling("INCIDENT")
    assert gate.reject(ACTION, situation(5, NO_HISTORY)) is None


def test_a_state_that_has_not_begun_holds_nothing_back() -> None:
    assert ruling({"incident": LifeState(6)}, 5) is None


def test_a_state_that_begins_meanwhile_is_waited_for_too() -> None:
    life = {
        "incident": LifeState(0, cleared_ms=10),
        "trial_first_session": LifeState(HOUR, until_ms=5 * HOUR),
    }

    assert ruling(life, 20, FREE, MODAL) == Ruling("INCIDENT", 5 * HOUR)
    assert ruling(life, 20, FREE, INLINE) == Ruling("INCIDENT", HOUR + 10)


def test_what_holds_back_longest_tells_when_the_offer_is_back() -> None:
    life = {
        "payment_failed": LifeState(0, until_ms=HOUR),
        "onboarding": LifeState(0, until_ms=9 * DAY),
    }

    assert ruling(life, 5) == Ruling("PAYMENT_FAILED", 9 * DAY)
    assert ruling(life | {"churn_risk": LifeState(3 * DAY)}, 5) == Ruling(
        "PAYMENT_FAILED"
    )


def test_a_catalogue_replaces_what_a_state_holds_back() -> None:
    mild: Suppressors = {"incident": SuppressorSpec(blocks="interrupts")}
    life = {"incident": LifeState(0)}

    assert ruling(life, 5, FREE, INLINE, mild) is None
    assert ruling(life, 5, FREE, MODAL, mild) == Ruling("INCIDENT")
    over = {"incident": LifeState(0, cleared_ms=1)}
    assert ruling(over, 5, FREE, MODAL, mild) is None


def test_a_catalogue_adds_states_and_says_which_categories_they_hold_back() -> None:
    own: Suppressors = {
        "exams": SuppressorSpec(categories=("billing", "games"), cool_down=Duration(7))
    }
    life = {"exams": LifeState(0, until_ms=10)}

    assert ruling(life, 5, PAID, INLINE, own) == Ruling("LIFE_STATE", 17)
    assert ruling(life, 5, FREE, MODAL, own) is None


def test_a_state_may_keep_some_categories_from_interrupting() -> None:
    own: Suppressors = {
        "busy": SuppressorSpec(blocks="interrupts", categories=("billing",)),
        "tired": SuppressorSpec(
            blocks="interrupts", topic_matched=True, cool_down=Duration(DAY)
        ),
    }
    busy, tired = (
        {"busy": LifeState(0)},
        {"tired": LifeState(0, until_ms=1, topics=("help",))},
    )

    assert ruling(busy, 5, PAID, MODAL, own) == Ruling("LIFE_STATE")
    assert ruling(busy, 5, PAID, INLINE, own) is None
    assert ruling(busy, 5, FREE, MODAL, own) is None
    assert ruling(tired, 5, FREE, MODAL, own) is None
    assert ruling(tired, 5, PAID, MODAL, own) == Ruling("LIFE_STATE", DAY + 1)


def test_offers_that_fare_alike_have_the_same_gates() -> None:
    facts = Facts(
        CatalogueSpec(suppressors={"support_open": SuppressorSpec()}),
        lambda source: Rule(source, {}),
        lambda source: Expression(source, {}),
    )

    one = list(OfferLifeState.of(facts._replace(offer=PAID)))
    other = OfferSpec(categories=("seats",), price=5)

    assert one == list(OfferLifeState.of(facts._replace(offer=other)))
    assert list(OfferLifeState.of(facts._replace(offer=FREE))) == []


def test_every_known_state_has_its_own_reason() -> None:
    assert set(SUPPRESSORS) == {
        "support_open",
        "payment_failed",
        "incident",
        "onboarding",
        "churn_risk",
        "trial_first_session",
    }


def test_an_open_state_is_told_with_its_beginning() -> None:
    life = {"support_open": LifeState(0, topics=("help",))}

    assert because(life, 5) == Because(
        "support_open since 1970-01-01 00:00:00 UTC",
        "support_open over for 1d; just over, for offers of help",
    )


def test_a_state_that_is_over_is_told_with_its_end() -> None:
    calm = {"support_open": LifeState(0, cleared_ms=HOUR, topics=("help",))}
    bad = {"support_open": LifeState(0, cleared_ms=HOUR, negative=True)}

    assert because(calm, HOUR) == Because(
        "support_open ended at 1970-01-01 01:00:00 UTC",
        "support_open over for 1d; just over, for offers of help",
    )
    assert because(bad, HOUR) == Because(
        "support_open ended badly at 1970-01-01 01:00:00 UTC",
        "support_open over for 1d",
    )
    assert because({"churn_risk": LifeState(0)}, 5).needed == "churn_risk over"


spans = st.integers(0, 40)
lives = st.builds(
    LifeState,
    spans,
    st.none() | spans,
    st.none() | spans,
    st.sampled_from([(), ("billing",), ("help",)]),
    st.booleans(),
)
SHORT: Suppressors = {
    "support_open": SuppressorSpec(cool_down=Duration(9), topic_matched=True),
    "incident": SuppressorSpec(cool_down=Duration(5)),
    "onboarding": SuppressorSpec(blocks="price"),
}


@given(user=st.dictionaries(st.sampled_from(sorted(SHORT)), lives), at_ms=spans)
def test_an_offer_is_back_at_the_first_moment_at_which_nothing_holds_it_back(
    user: dict[str, LifeState], at_ms: int
) -> None:
    for gate in gates(PAID, MODAL, SHORT):
        found = gate.reject(ACTION, situation(at_ms, living(**user)))
        if found is None:
            continue
        back_ms = found.next_eligible_ms
        for later_ms in range(at_ms, 100 if back_ms is None else back_ms):
            assert gate.reject(ACTION, situation(later_ms, living(**user))) is not None
        if back_ms is not None:
            assert gate.reject(ACTION, situation(back_ms, living(**user))) is None
