"""The nouns of a decision. Times are integers: milliseconds since 1970, UTC.

They are frozen, compare by value, and are what the log holds: `policies.records`
writes them as JSON under the names they have here.
"""

from __future__ import annotations

from functools import cached_property
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ACTIONS_MAX",
    "NO_CONDITIONS",
    "NO_CONTEXT",
    "NO_HISTORY",
    "NO_MERITS",
    "NO_MOMENT",
    "NO_OFFER",
    "NO_PREFERENCES",
    "NO_STATE",
    "NO_TRAFFIC",
    "PROBABILITY_UNITS",
    "Action",
    "Conditions",
    "Context",
    "Decision",
    "EventKind",
    "FeatureColumns",
    "FeatureTable",
    "FeatureValue",
    "Features",
    "FloatArray",
    "History",
    "Lease",
    "LifeState",
    "Merits",
    "Moment",
    "Money",
    "Opportunity",
    "Outcome",
    "OutcomeKind",
    "Preferences",
    "QuietHours",
    "Rejection",
    "Reservation",
    "Resolution",
    "ScoreTerms",
    "Session",
    "Snooze",
    "Split",
    "State",
    "Stuck",
    "Subject",
    "Tally",
    "Track",
    "Traffic",
    "Usage",
]

FloatArray = NDArray[np.float64]

FeatureValue = float | bool | str
"""A number, a flag, or the name of a category."""

Features = tuple[tuple[str, float], ...]
"""What a learner sees: names with numbers; a category is named `key=value`, at 1."""


class FeatureColumns(NamedTuple):
    """Features of many moments that have the same names.

    Attributes:
        names: The names.
        values: Of each moment, shape (n, n_names).
    """

    names: tuple[str, ...]
    values: FloatArray


@runtime_checkable
class FeatureTable(Protocol):
    """Features of many moments, which may be known as columns."""

    def table(self) -> FeatureColumns | None:
        """Return them as columns; none where their names differ."""
        ...


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

Split = Literal["train", "eval", "control", "holdout"]
"""Which part of the users somebody belongs to: only `train` teaches."""

EventKind = Literal["decided", "shown", "clicked", "accepted", "dismissed"]
"""What histories remember the times of, and caps count."""


class _Noun(
    msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A value that is written to the log without what is left at its default."""


class Usage(_Noun, frozen=True):
    """How much of something a user has used, in whatever unit the caller counts.

    Attributes:
        value: How much is used, 0 or more.
        limit: What the user's plan allows, above 0; none where nothing limits it.
        per_day: How fast it grows of late, per day; none where the caller cannot say.
        since_ms: When the cycle that is counted began; none where there are no cycles.
        until_ms: When the count starts anew; none where it does not.
    """

    value: float
    limit: float | None = None
    per_day: float | None = None
    since_ms: int | None = None
    until_ms: int | None = None


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
        cart: The products in the user's cart.
    """

    role: str = ""
    segment: str = ""
    usage: dict[str, Usage] = {}
    moment: Moment = NO_MOMENT
    features: dict[str, FeatureValue] = {}
    cart: tuple[str, ...] = ()


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
        earlier: What the same call has chosen already: offers and placements, in the
            order of its decisions.
        most: How many offers its call wants at the most, those of `earlier` too; it
            changes no decision.
    """

    decision_id: str
    at_ms: int
    user_id: str
    placements: tuple[str, ...]
    account_id: str = ""
    session_id: str = ""
    offers: tuple[str, ...] = ()
    context: Context = NO_CONTEXT
    earlier: tuple[tuple[str, str], ...] = ()
    most: int = 1


class Traffic(msgspec.Struct, frozen=True):
    """How often an offer is to be chosen; the policy's settings where nothing is said.

    Attributes:
        least: The least share of the decisions in which it is eligible, 0 to 1.
        most: The most share, 0 to 1.
        new_outcomes: Until how many of its rewards are learned it is new.
        new_least: The least share while it is new.
        new_most: The most share while it is new.
    """

    least: float | None = None
    most: float | None = None
    new_outcomes: int | None = None
    new_least: float | None = None
    new_most: float | None = None


NO_TRAFFIC = Traffic()
"""Nothing is said."""


class Merits(msgspec.Struct, frozen=True):
    """What an offer is worth to the product, beside what is learned of it.

    Attributes:
        price: What it costs, in minor units.
        margin: What is left of the price after its costs; none where nobody knows.
        lever: By how much people favour it, above 0.
        moments: By how much it is for a moment, above 0; 1 for those not named.
    """

    price: int = 0
    margin: int | None = None
    lever: float = 1.0
    moments: tuple[tuple[str, float], ...] = ()


NO_MERITS = Merits()
"""Those of silence, and of an offer that costs nothing."""


class ScoreTerms(msgspec.Struct, frozen=True, array_like=True):
    """What the score of an action was made of.

    Attributes:
        expected: What the learner expected of it.
        context: How much it was for the moment; 1 where that did not count.
        value: What it was worth when accepted; 1 where that did not count.
        lever: By how much it was favoured; 1 where that did not count.
    """

    expected: float
    context: float
    value: float
    lever: float


class Action(msgspec.Struct, frozen=True, cache_hash=True, dict=True):
    """One (offer, creative, placement) that could be shown, or no offer.

    Attributes:
        index: Its place in the catalogue's actions.
        features: What learners know of it beside its name.
        priority: Which goes first where nothing else tells actions apart: the higher.
        traffic: How often its offer is to be chosen.
        merits: What its offer is worth to the product.
        like: The names of the actions that it is like, the nearest first: learners
            that know nothing of it begin with what they know of those.
        doubt: How unsure what it begins with is, 0 to 1.
    """

    index: int
    offer_id: str
    creative_id: str
    placement_id: str
    features: Features
    priority: int = 0
    traffic: Traffic = NO_TRAFFIC
    merits: Merits = NO_MERITS
    like: tuple[str, ...] = ()
    doubt: float = 0.0

    @cached_property
    def name(self) -> str:
        """The name under which learners remember it, whatever its index."""
        if self.index == NO_OFFER:
            return "no_offer"
        return f"{self.offer_id}/{self.creative_id}/{self.placement_id}"


class Rejection(msgspec.Struct, frozen=True):
    """Why an action could not be chosen.

    Attributes:
        gate: The name of the gate that rejected it first.
        next_eligible_ms: Before this no gate that looks at the clock lets the
            action through; none where time alone changes nothing.
    """

    offer_id: str
    creative_id: str
    placement_id: str
    reason: str
    gate: str
    next_eligible_ms: int | None = None


class Subject(msgspec.Struct, frozen=True, array_like=True):
    """What was shown, as it was when it was: later catalogues change none of it.

    Attributes:
        categories: The categories of the offer.
        weight: How much attention its placement takes.
    """

    offer_id: str
    creative_id: str
    placement_id: str
    categories: tuple[str, ...] = ()
    weight: float = 0.0


class Tally(msgspec.Struct, frozen=True, array_like=True):
    """When something happened, and how often before that.

    Attributes:
        times: The latest times, ascending.
        past: How many times before them are known by number only.
        past_ms: The last of those; all of them count as if they had been then.
    """

    times: tuple[int, ...] = ()
    past: int = 0
    past_ms: int = 0


class Track(msgspec.Struct, frozen=True, array_like=True):
    """What happened around one subject.

    Attributes:
        tallies: By kind, when it happened.
    """

    subject: Subject
    tallies: dict[EventKind, Tally]


class Reservation(msgspec.Struct, frozen=True, array_like=True):
    """What was decided and may still be shown: it counts as shown.

    Attributes:
        until_ms: When it ends by itself.
    """

    until_ms: int
    decision_id: str
    subject: Subject


class Snooze(msgspec.Struct, frozen=True, array_like=True):
    """A wish to see an offer later.

    Attributes:
        until_ms: When it may come back.
        count: How often the user has snoozed it.
        at_ms: When the user did so last.
        returned: Whether it has come back since.
    """

    until_ms: int
    count: int
    at_ms: int
    returned: bool = False


class Session(msgspec.Struct, frozen=True, array_like=True):
    """A visit: its id, and when the first decision in it was made."""

    session_id: str
    since_ms: int


class Stuck(msgspec.Struct, frozen=True, array_like=True):
    """A decision that its placement keeps to for a while."""

    placement_id: str
    decision_id: str
    until_ms: int


class Lease(msgspec.Struct, frozen=True, array_like=True):
    """A critical workflow that is not to be interrupted.

    Attributes:
        until_ms: When it ends by itself.
        inline: Whether offers that interrupt nothing may be shown meanwhile.
    """

    until_ms: int
    inline: bool = False


class LifeState(msgspec.Struct, frozen=True, array_like=True):
    """Something that is going on with a user or an account, like an open ticket.

    Attributes:
        since_ms: When it began.
        until_ms: When it ends by itself; none for not.
        cleared_ms: When it was said to be over; none where it was not.
        topics: The categories that it is about.
        negative: Whether it ended badly.
    """

    since_ms: int
    until_ms: int | None = None
    cleared_ms: int | None = None
    topics: tuple[str, ...] = ()
    negative: bool = False


class State(_Noun, frozen=True):
    """What the product has told of a user or an account.

    Attributes:
        role: What the user may do in the account; a request's own role goes before.
        engagement: `low`, `normal` or `high`; empty where the rules decide.
        value_discovered: Whether the user has found what the product is good for.
        owned: The products they have, and since when.
        pending: The products they are about to have, and until when that is believed.
        life: What is going on, by name.
    """

    role: str = ""
    engagement: str = ""
    value_discovered: bool = False
    owned: dict[str, int] = {}
    pending: dict[str, int] = {}
    life: dict[str, LifeState] = {}


NO_STATE = State()
"""Nothing was told."""


class QuietHours(msgspec.Struct, frozen=True, array_like=True):
    """From when to when, in minutes after midnight; over midnight if end <= start."""

    start_minute: int
    end_minute: int


class Preferences(_Noun, frozen=True):
    """What a user has asked for.

    Attributes:
        opt_outs: What is not to be shown any more, and since when: `category:NAME`,
            `offer:NAME`, or `all`.
        zone: The IANA name of their time zone; empty for the catalogue's.
        quiet: When not to be disturbed; none for the catalogue's.
        version: How often they have been changed: the consent that a decision
            relied on.
    """

    opt_outs: dict[str, int] = {}
    zone: str = ""
    quiet: QuietHours | None = None
    version: int = 0


NO_PREFERENCES = Preferences()
"""Nothing was asked for."""


class History(_Noun, frozen=True):
    """What the gates must remember of a user or an account; `policies.history` folds.

    Attributes:
        tracks: What was shown, and what they did then; the first seen first.
        reservations: What was decided and may still be shown.
        snoozes: By offer, until when they want to hear nothing of it.
        sessions: The latest visits.
        ignored: How many offers in a row were shown without any interest.
        stuck: The decisions that placements keep to.
        leases: By key, the workflows that are not to be interrupted.
        contacts: By category, when people or other channels last made contact.
        negative_ms: When they last complained, or rated badly; none for never.
        state: What the product has told.
        preferences: What they have asked for.
    """

    tracks: tuple[Track, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    snoozes: dict[str, Snooze] = {}
    sessions: tuple[Session, ...] = ()
    ignored: int = 0
    stuck: tuple[Stuck, ...] = ()
    leases: dict[str, Lease] = {}
    contacts: dict[str, int] = {}
    negative_ms: int | None = None
    state: State = NO_STATE
    preferences: Preferences = NO_PREFERENCES


NO_HISTORY = History()
"""The past of a user never seen."""


class Conditions(_Noun, frozen=True):
    """What holds for everybody at a moment.

    Attributes:
        stopped: What was switched off: `all`, `category:NAME`, `offer:NAME`,
            `placement:NAME`; sorted.
        exhausted: The inventories and budgets that nothing is left of:
            `inventory:OFFER`, `budget:NAME` and `budget:NAME:DAY` (UTC); with `>N`
            behind it, a budget of which something is left, but not enough for
            discounts above N; sorted.
    """

    stopped: tuple[str, ...] = ()
    exhausted: tuple[str, ...] = ()


NO_CONDITIONS = Conditions()
"""Nothing is stopped, and there is enough of everything."""


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
        account: What was known of the account's past; nothing for a user without one.
        conditions: What held for everybody.
        floor: The least chance, in billionths, that each of the actions was sure to
            have, whatever its score; 0 where nothing was sure.
        split: Which part of the users it was made for; only `train` teaches.
        terms: What the score of the chosen action was made of; none where it was what
            the learner expected.
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
    account: History = NO_HISTORY
    conditions: Conditions = NO_CONDITIONS
    floor: int = 0
    split: Split = "train"
    terms: ScoreTerms | None = None

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
        reward: What is learned of it.
        revision: 1 for the first reward of a decision, then one more for each
            correction.
        before: For a correction, the reward of the revision before; none for one that
            was written when corrections were not learned yet, which is still not.
        earned: What it earned before it was clipped; none where that is the reward.
    """

    decision_id: str
    reward: float
    revision: int = 1
    before: float | None = None
    earned: float | None = None
