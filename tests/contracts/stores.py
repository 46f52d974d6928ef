"""What the contracts of stores are tested with: decisions, outcomes, folds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from policies.identity import decision_id, root_key, root_of
from policies.model import (
    NO_HISTORY,
    Context,
    Decision,
    History,
    Opportunity,
    Outcome,
    Reservation,
    Subject,
    Tally,
    Track,
)
from server.stores.base import (
    NO_SETTLEMENT,
    Histories,
    Hold,
    Reported,
    ServingStore,
    Settlement,
    StoredPast,
    Versioned,
)

UNSEEN = StoredPast(Versioned(0, NO_HISTORY), None)
UNSEEN_BOTH = StoredPast(Versioned(0, NO_HISTORY), Versioned(0, NO_HISTORY))
TEA = Subject("tea", "plain", "home", ("drinks",), 1.0)


def decision(
    user: str = "ada",
    request: str = "r",
    *,
    account: str = "",
    slot: int = 0,
    chosen: int = 1,
    at_ms: int = 1_000,
) -> Decision:
    request = f"{request}#{slot}" if slot else request
    name = decision_id(root_key("shop", account, user), user, request)
    context = Context(segment="free", features={"seats": 3.0, "new": True, "x": "y"})
    return Decision(
        opportunity=Opportunity(
            name, at_ms, user, ("home",), account_id=account, context=context
        ),
        catalogue="catalogue",
        policy="policy",
        model="0.0",
        actions=(0, 1),
        probabilities=(400_000_000, 600_000_000),
        chosen=chosen,
        valid_until_ms=at_ms + 600,
        history=History(tracks=(Track(TEA, {"shown": Tally((5,))}),)),
    )


def name_of(made: Decision) -> str:
    return made.opportunity.decision_id


def held(made: Decision) -> History:
    return History(reservations=(Reservation(made.valid_until_ms, name_of(made), TEA),))


def outcome(name: str = "a", kind: Any = "shown", at_ms: int = 1_100) -> Outcome:
    return Outcome(name, kind, at_ms)


async def past(
    store: ServingStore, made: Decision, *, account: bool = False
) -> StoredPast:
    root, user_id = root_of(name_of(made)), made.opportunity.user_id
    return await store.past(root, user_id, account=account)


async def version(store: ServingStore, made: Decision) -> int:
    return (await past(store, made)).user.version


async def put(store: ServingStore, *made: Decision, holds: Sequence[Hold] = ()) -> None:
    """Store one call as it comes, whatever is known of the user."""
    account = bool(made[0].opportunity.account_id)
    call_id = name_of(made[0])
    for one in made:
        seen = await past(store, one, account=account)
        taken = [hold for hold in holds if hold.decision_id == name_of(one)]
        stored = await store.commit(
            one, call_id=call_id, seen=seen, after=None, holds=taken
        )
        assert stored == one


def counting(
    before: Histories, known: Sequence[Outcome], news: Sequence[Outcome]
) -> tuple[Histories, Settlement]:
    """Fold outcomes so that one sees how often it was done, and to whom."""
    del known
    return Histories(*(more(one, len(news)) for one in before)), NO_SETTLEMENT


def more(history: History | None, by: int = 1) -> Any:
    if history is None:
        return None
    return msgspec.structs.replace(history, ignored=history.ignored + by)


def nothing(
    before: Histories, known: Sequence[Outcome], news: Sequence[Outcome]
) -> tuple[Histories, Settlement]:
    """Fold nothing of what was reported."""
    del known, news
    return before, NO_SETTLEMENT


async def tell(
    store: ServingStore, made: Decision, *outcomes: Outcome, account: bool = False
) -> Reported:
    """Report outcomes, and count them in the past."""
    return await store.report(made, outcomes, counting, account=account)
