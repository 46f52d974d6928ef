"""The nouns of a decision. Times are integers: milliseconds since 1970, UTC.

They are frozen, compare by value, and are what the log holds: `policies.records`
writes them as JSON under the names they have here.
"""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ACTIONS_MAX",
    "NO_CONTEXT",
    "NO_HISTORY",
    "NO_MOMENT",
    "NO_OFFER",
    "PROBABILITY_UNITS",
    "Action",
    "Context",
    "Decision",
    "Dismissal",
    "FeatureValue",
    "Features",
    "FloatArray",
    "History",
    "Impression",
    "Moment",
    "Money",
    "Opportunity",
    "Outcome",
    "OutcomeKind",
    "Rejection",
    "Reservation",
    "Resolution",
    "Usage",
]

FloatArray = NDArray[np.float64]

FeatureValue = float | bool | str
"""A number, a flag, or the name of a category."""

Features = tuple[tuple[str, float], ...]
"""What a learner sees: names with numbers; a category is named `key=value`, at 1."""

NO_OFFER = 0
"""The catalogue index of the action that shows nothing."""

ACTIONS_MAX = 30_000
"""How many actions one distribution may be over, so that billionths suffice."""

PROBABILITY_UNITS = 1_000_000_000
"""Probabilities are drawn and logged in billionths, so that they are exact."""

OutcomeKind = Literal[
    "shown",
    "not_shown",
    "viewed",
    "clicked",
    "accepted",
    "converted",
    "dismissed",
    "snoozed",
    "opted_out",
    "ignored",
    "refunded",
    "downgraded",
    "churned",
]


class _Noun(
    msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A value that is written to the log without what is left at its default."""


class Usage(_Noun, frozen=True):
    """How much of something a user has used, in whatever unit the caller counts.

    Attributes:
        value: How much is used, 0 or more.
        limit: What the user's plan allows, above 0; none where nothing limits it.
    """

    value: float
    limit: float | None = None


class Moment(_Noun, frozen=True):
    """What just happened in the product.

    Attributes:
        kind: The name of the kind of the moment.
        features: What is known of this moment.
    """

    kind: str = ""
    features: dict[str, FeatureValue] = {}


NO_MOMENT = Moment()
"""Nothing happened. Defaults are left out of the log by identity, hence the name."""


class Context(_Noun, frozen=True):
    """What is known about user and moment when the product asks.

    Attributes:
        role: What the user may do in the account.
        segment: The segment that the user belongs to.
        usage: How much the user has used of what.
        moment: What just happened in the product.
        features: What else is known of the user.
    """

    role: str = ""
    segment: str = ""
    usage: dict[str, Usage] = {}
    moment: Moment = NO_MOMENT
    features: dict[str, FeatureValue] = {}


NO_CONTEXT = Context()
"""Nothing is known."""


class Opportunity(_Noun, frozen=True):
    """What one request asks: the input of the engine.

    Attributes:
        decision_id: The id of the decision to be made.
        at_ms: The time.
        user_id: The user, as the caller names them.
        placements: The placements that can render now, at least one.
        account_id: The user's account; empty for a user who stands alone.
        session_id: The user's visit.
        offers: The only offers to consider; all where it is empty.
        context: What is known about user and moment.
    """

    decision_id: str
    at_ms: int
    user_id: str
    placements: tuple[str, ...]
    account_id: str = ""
    session_id: str = ""
    offers: tuple[str, ...] = ()
    context: Context = NO_CONTEXT


class Action(msgspec.Struct, frozen=True, cache_hash=True, dict=True):
    """One (offer, creative, placement) that could be shown, or no offer.

    Attributes:
        index: Its place in the catalogue's actions.
        features: What learners know of it beside its name.
    """

    index: int
    offer_id: str
    creative_id: str
    placement_id: str
    features: Features

    @cached_property
    def name(self) -> str:
        """The name under which learners remember it, whatever its index."""
        if self.index == NO_OFFER:
            return "no_offer"
        return f"{self.offer_id}/{self.creative_id}/{self.placement_id}"


class Rejection(msgspec.Struct, frozen=True):
    """Why an offer could not be shown.

    Attributes:
        next_eligible_ms: Before this no gate that looks at the clock lets the
            offer through; none where time alone changes nothing.
    """

    offer_id: str
    reason: str
    next_eligible_ms: int | None = None


class Impression(msgspec.Struct, frozen=True, order=True, array_like=True):
    """An offer that a user was shown."""

    at_ms: int
    offer_id: str
    placement_id: str


class Reservation(msgspec.Struct, frozen=True, order=True, array_like=True):
    """An offer that was decided and may still be shown: it counts as shown."""

    until_ms: int
    offer_id: str
    placement_id: str
    decision_id: str


class Dismissal(msgspec.Struct, frozen=True, array_like=True):
    """How often a user has dismissed an offer, and when last."""

    count: int
    at_ms: int


class History(_Noun, frozen=True):
    """What the gates must remember of a user; `policies.history` folds it.

    Attributes:
        impressions: What the user was shown, the earliest first.
        reservations: What was decided and may still be shown.
        dismissals: By offer, how often it was dismissed.
    """

    impressions: tuple[Impression, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    dismissals: dict[str, Dismissal] = {}


NO_HISTORY = History()
"""The past of a user never seen."""


class Decision(_Noun, frozen=True):
    """The logged choice, with all that is needed to make it again.

    Attributes:
        opportunity: What was asked.
        history: What was known of the user's past, before this decision.
        catalogue: The version of the catalogue.
        policy: The version of the policy.
        model: How far in which training stream the model had learned,
            as `epoch.position`.
        actions: The catalogue indices of the eligible actions, no offer first.
        probabilities: The chance of each of them, in billionths, together one.
        chosen: The catalogue index of the action that was drawn.
        valid_until_ms: Until when the choice may be shown.
    """

    opportunity: Opportunity
    catalogue: str
    policy: str
    model: str
    actions: tuple[int, ...]
    probabilities: tuple[int, ...]
    chosen: int
    valid_until_ms: int
    history: History = NO_HISTORY

    @property
    def propensity(self) -> float:
        """The probability, in (0, 1], with which the chosen action was drawn."""
        units = self.probabilities[self.actions.index(self.chosen)]
        return units / PROBABILITY_UNITS


class Money(_Noun, frozen=True):
    """An amount in the minor units of a currency: cents, pence, yen."""

    currency: str
    minor: int


class Outcome(_Noun, frozen=True):
    """What a user did about one decision.

    Attributes:
        outcome_id: Unique within the decision; a repeat counts once.
        at_ms: When the user did it.
        viewed_ms: For `viewed`, how long the offer was in view.
        snoozed_until_ms: For `snoozed`, until when the user wants silence.
        revenue: What the user paid, or got back where `kind` is `refunded`.
        list_price: What it would have cost without the discount.
        discount: What was taken off.
        margin: What was left of the revenue after its costs.
    """

    outcome_id: str
    kind: OutcomeKind
    at_ms: int
    viewed_ms: int | None = None
    snoozed_until_ms: int | None = None
    revenue: Money | None = None
    list_price: Money | None = None
    discount: Money | None = None
    margin: Money | None = None


class Resolution(_Noun, frozen=True):
    """A row of the training stream: what a decision turned out to earn.

    Attributes:
        revision: 1 for the first reward of a decision, then one more for each
            correction.
    """

    decision_id: str
    reward: float
    revision: int = 1
