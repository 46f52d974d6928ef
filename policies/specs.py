"""What a catalogue file may say: its tables and keys, with their defaults.

`policies.catalogue` reads and compiles them, `policies.linting` refuses what makes no
sense or is not honest. All times are spans like `7d`, all money is in the minor units
of the catalogue's currency, all rules are CEL.
"""

from __future__ import annotations

import datetime as dt
from functools import cached_property
from typing import Literal

import msgspec

from policies.features import FeatureSpec
from policies.model import EventKind, FeatureValue, OutcomeKind
from policies.rewards import Aggregate, Worth
from policies.toml import Duration

__all__ = [
    "MOMENTS",
    "AttentionSpec",
    "BudgetSpec",
    "CapSpec",
    "CatalogueSpec",
    "CategorySpec",
    "ContactSpec",
    "CreativeSpec",
    "DismissalSpec",
    "EngagementSpec",
    "FatigueSpec",
    "GatesSpec",
    "HoldoutSpec",
    "LadderSpec",
    "LimitSpec",
    "OfferKind",
    "OfferSpec",
    "ParameterSpec",
    "PlacementSpec",
    "ProductSpec",
    "QuietSpec",
    "SentimentSpec",
    "SnoozeSpec",
    "SpacingSpec",
    "SuppressorSpec",
    "TrafficSpec",
]

_DAY_MS = 86_400_000

MOMENTS: frozenset[str] = frozenset(
    [
        "limit_near",
        "limit_hit",
        "milestone",
        "workflow_done",
        "feature_unlock",
        "onboarding_step",
        "onboarding_done",
        "post_purchase",
        "renewal",
        "support_resolved",
        "growth_signal",
    ]
)
"""The kinds of moments that every catalogue knows; `[moments]` adds to them."""

OfferKind = Literal[
    "upsell",
    "cross_sell",
    "bundle",
    "seats",
    "term",
    "usage_pack",
    "add_on",
    "free_help",
]


class _Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file; what it does not know is refused."""


class CapSpec(_Spec, frozen=True):
    """A cap: at most so many events in a window. Where it stands says of what.

    Under an offer or a creative it counts those, under a placement or a category all
    that belongs to it, at the top of the file everything.

    Attributes:
        limit: How many events, 1 to 100; always to be given.
        window: The length of a rolling window, above 0. Without it, and without
            `calendar` and `session`, the cap is for life.
        calendar: Counts since the day, the week (from Monday) or the month began where
            the user is, instead of a rolling window: `day`, `week` or `month`.
        session: Whether it counts since the user's visit began; one that lasts longer
            than a day begins anew.
        counts: What it counts: `decided`, `shown`, `clicked`, `accepted` or
            `dismissed`. An offer that is decided and may still be shown counts as
            shown.
        per: For whom it counts: `user`, or the whole `account`.
        across: Whether an offer's or a creative's cap counts what happened in
            `all` placements, or in each `placement` for itself.
        scales: Whether the limit follows the user's engagement, as `[engagement]`
            says. A cap for life never does.
    """

    limit: int = 0
    window: Duration | None = None
    calendar: Literal["day", "week", "month"] | None = None
    session: bool = False
    counts: EventKind = "shown"
    per: Literal["user", "account"] = "user"
    across: Literal["all", "placement"] = "all"
    scales: bool = True


class ParameterSpec(_Spec, frozen=True):
    """A value that a creative's text needs, computed from what the request holds.

    Attributes:
        value: A CEL expression, such as `usage.storage_gb.limit -
            usage.storage_gb.value`. Where it cannot be computed the creative is not
            shown.
        type: What it is: `number`, `text`, `flag`, `money` (minor units), `percent`
            (1.0 is 100 %), `duration` (in days) or `time` (milliseconds since 1970).
    """

    value: str = ""
    type: Literal["number", "text", "flag", "money", "percent", "duration", "time"] = (
        "number"
    )


class CreativeSpec(_Spec, frozen=True):
    """One wording of an offer.

    Attributes:
        description: What it says, for people.
        template: The id of the text in the product; the creative's own id if empty.
        parameters: What the text needs, by name.
        reason: Why this user sees it, as a code that the product words, such as
            `near_storage_limit`.
        action: What one click does: a link, in which {offer_id}, {creative_id},
            {placement_id} and {decision_id} are filled in; empty for a cart token.
        caps: How often a user may see this wording, up to 10 caps that all must hold.
        features: What learners know of it, by the names that `[features]` declares.
    """

    description: str = ""
    template: str = ""
    parameters: dict[str, ParameterSpec] = {}
    reason: str = ""
    action: str = ""
    caps: tuple[CapSpec, ...] = ()
    features: dict[str, FeatureValue] = {}


class LimitSpec(_Spec, frozen=True):
    """How close to a limit a user must be.

    Attributes:
        usage: The name of the usage in requests.
        from_share: From which share of the limit on the offer may be shown.
        to_share: Up to which share it may.
        forecast: It may be shown as well when, at the pace of late, the limit is
            reached within this span. Where the count starts anew before the limit is
            reached, it may not be shown at all. 0s for no forecast.
        once_per_cycle: Whether a user sees it at most once between two starts of the
            count.
    """

    usage: str = ""
    from_share: float = 0.8
    to_share: float = 1.0
    forecast: Duration = Duration(7 * _DAY_MS)
    once_per_cycle: bool = True


class DismissalSpec(_Spec, frozen=True):
    """For how long an offer stays away after it was dismissed.

    Attributes:
        cool_down: After the first time, above 0.
        factor: By how much longer after each further time, 1 or more.
        longest: Never longer than this.
    """

    cool_down: Duration = Duration(7 * _DAY_MS)
    factor: float = 2.0
    longest: Duration = Duration(180 * _DAY_MS)


class SnoozeSpec(_Spec, frozen=True):
    """What snoozing does.

    Attributes:
        repeats: How often a user may snooze an offer; each further time is a
            dismissal, 0 or more.
    """

    repeats: int = 3


class TrafficSpec(_Spec, frozen=True):
    """How often an offer is chosen, over all of its creatives and placements.

    Shares are of the decisions in which the offer is eligible. What is left out is as
    the settings say, under `[policy.traffic]`.

    Attributes:
        least: The least share, 0 to 1.
        most: The most share, 0 to 1, but never less than the offer's part of the floor.
        new_outcomes: Until how many of its rewards are learned the offer is new, 0 to
            1,000,000,000; 0 for never.
        new_least: The least share while it is new, 0 to 1.
        new_most: The most share while it is new, 0 to 1.
    """

    least: float | None = None
    most: float | None = None
    new_outcomes: int | None = None
    new_least: float | None = None
    new_most: float | None = None


class OfferSpec(_Spec, frozen=True):
    """An offer.

    Attributes:
        placements: Where it may be shown, at least one.
        state: `draft`, `approved`, `paused` or `archived`; only an approved offer is
            shown. An archived one stays archived: a later catalogue may not bring it
            back under the same id.
        kind: What is sold: `upsell`, `cross_sell`, `bundle`, `seats`, `term`,
            `usage_pack`, `add_on`, or `free_help`, which costs nothing.
        description: What it is, for people.
        categories: What it belongs to, by the names that `[categories]` declares; opt-
            outs, suppressors, contacts and caps go by them.
        campaign: The campaign that it is part of, for people.
        tags: Further tags, for people.
        priority: Which goes first where a policy cannot tell offers apart, and always
            under the learner `priority`: the higher.
        traffic: How often it is chosen; the settings' if left out.
        like: Another offer, whose likeness it is: learners that have learned nothing of
            it begin with what they have learned of that one.
        like_doubt: How unsure they are of that, 0 to 1: at 0 as of the other offer, at
            1 as of one that nothing is known of. At 0.1 it counts ten times as much as
            what learners believe of offers beforehand.
        start: From when on it may be shown; a TOML date-time with its zone.
        end: From when on it may not be shown any more.
        moments: At which moments it may be shown; at any where it is left out.
        eligible: Who may ever see it: a rule; everybody where it is left out.
        applicable: For whom it makes sense now: a rule.
        suitable: For whom it is a good idea: a rule.
        value_discovered: Who has found what the product is good for: a rule, in place
            of the catalogue's.
        limit: How close to a limit the user must be.
        grants: The products that it gives, by the names that `[products]` declares. Who
            has them all does not see it, nor who has any of a bundle's.
        requires: The products that the user must have, all of them.
        complements: The products of which the user must have at least one.
        credit: Whether a bundle's price is reduced by what the user has of it, so that
            they may see it all the same.
        ladder: The ladder whose next rung it is.
        anchor: Whether it may be shown in placements for comparison to users for whom
            it is not the next rung.
        price: What it costs, after the discount; 0 for nothing.
        list_price: What it costs without the discount; the price if left out.
        margin: What is left of the price after its costs; none where that is not known.
        discount: What is taken off the list price.
        budget: The budget that pays for the discount, by the names that `[budgets]`
            declares.
        inventory: How many may be accepted altogether; none for any number.
        hold: How long an inventory or a budget waits for the accept of an offer that
            was shown.
        buyers_only: Whether only users who may buy see it; what costs something is for
            buyers only where it is left out.
        override: `none`, or `critical`: caps, attention, spacing and fatigue do not
            hold it back. Opt-outs, critical workflows and everything else do.
        counted: Whether showing it counts towards caps and attention.
        benefits: What the user gets, for people.
        caps: How often a user may see it, up to 10 caps that all must hold.
        dismissal: For how long it stays away after it was dismissed; the catalogue's if
            left out.
        dismissal_cool_down: The same as `dismissal = { cool_down = … }`.
        snooze: What snoozing does; the catalogue's if left out.
        dismissible: Whether the user can wave it away; must be true.
        preselected: Whether it is chosen unless the user says otherwise; must be false.
        deadline: What the user is told of its end: `none`, `fixed`, which is `end`, or
            `per_view`, which starts anew for each view and is refused.
        price_shown: Whether the user sees the price before the accept; must be true for
            what costs something.
        renews: Whether the user goes on paying until they cancel.
        cancel_path: Where the user cancels what renews; required for what renews.
        rewards: What its outcomes are worth where that is not what the settings say: a
            number, or computed from money, as `[rewards] outcomes` in the settings.
        reward_wait: How long after it was shown it waits for an outcome, 1m to 90d;
            what the settings say if left out.
        reward_default: What it earns where no outcome comes, less the attention cost;
            what the settings say if left out.
        reward_aggregate: How several rewards become one: `earliest`, `sum`, `max`,
            `min`, `mean` or `median`; what the settings say if left out.
        lever: By how much it is favoured, or held back below 1, 0.1 to 10, where the
            settings say under `[policy.objective]` that levers count.
        moment_weights: By how much it is for the moments that are named, above 0 to 10,
            where `context` there says that it counts; 1 for other moments.
        features: What learners know of it, by the names that `[features]` declares.
        creatives: Its wordings by id; one called `default` where there are none.
    """

    placements: tuple[str, ...] = ()
    state: Literal["draft", "approved", "paused", "archived"] = "approved"
    kind: OfferKind = "add_on"
    description: str = ""
    categories: tuple[str, ...] = ()
    campaign: str = ""
    tags: tuple[str, ...] = ()
    priority: int = 0
    traffic: TrafficSpec | None = None
    like: str = ""
    like_doubt: float = 0.1
    start: dt.datetime | None = None
    end: dt.datetime | None = None
    moments: tuple[str, ...] = ()
    eligible: str | None = None
    applicable: str | None = None
    suitable: str | None = None
    value_discovered: str | None = None
    limit: LimitSpec | None = None
    grants: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    complements: tuple[str, ...] = ()
    credit: bool = False
    ladder: str = ""
    anchor: bool = False
    price: int = 0
    list_price: int | None = None
    margin: int | None = None
    discount: int = 0
    budget: str = ""
    inventory: int | None = None
    hold: Duration = Duration(_DAY_MS)
    buyers_only: bool | None = None
    override: Literal["none", "critical"] = "none"
    counted: bool = True
    benefits: tuple[str, ...] = ()
    caps: tuple[CapSpec, ...] = ()
    dismissal: DismissalSpec | None = None
    dismissal_cool_down: Duration | None = None
    snooze: SnoozeSpec | None = None
    dismissible: bool = True
    preselected: bool = False
    deadline: Literal["none", "fixed", "per_view"] = "none"
    price_shown: bool = True
    renews: bool = False
    cancel_path: str = ""
    rewards: dict[OutcomeKind, Worth] = {}
    reward_wait: Duration | None = None
    reward_default: float | None = None
    reward_aggregate: Aggregate | None = None
    lever: float = 1.0
    moment_weights: dict[str, float] = {}
    features: dict[str, FeatureValue] = {}
    creatives: dict[str, CreativeSpec] = {}


class PlacementSpec(_Spec, frozen=True):
    """A place on the screen that can render offers.

    Attributes:
        description: Where it is, for people.
        kind: `modal`, `banner` or `inline`. All but inline interrupt.
        interruptiveness: How much attention one offer in it takes, 0 or more; by its
            kind if left out: modal 3, banner 1, inline 0.2.
        slots: How many offers it can show at once, 1 to 20.
        comparison: Whether it shows offers beside each other to be compared.
        categories: The only categories that may be shown in it; all if left out.
        caps: How often a user may see anything in it, up to 10 caps.
        sticky: For how long it keeps to the offer that was decided, for as long as
            that may be shown; at most `valid_for`. 0s for each request anew.
        fallback: The offer to show where no other may be, if it passes its own gates.
    """

    description: str = ""
    kind: Literal["modal", "banner", "inline"] = "inline"
    interruptiveness: float | None = None
    slots: int = 1
    comparison: bool = False
    categories: tuple[str, ...] = ()
    caps: tuple[CapSpec, ...] = ()
    sticky: Duration = Duration(0)
    fallback: str = ""

    @property
    def weight(self) -> float:
        """How much attention one offer in it takes."""
        if self.interruptiveness is not None:
            return self.interruptiveness
        return {"modal": 3.0, "banner": 1.0, "inline": 0.2}[self.kind]

    @property
    def interrupts(self) -> bool:
        """Whether what it shows interrupts."""
        return self.kind != "inline"


class CategorySpec(_Spec, frozen=True):
    """A kind of offers that users may like, or not.

    Attributes:
        description: What belongs to it, for people and preference pages.
        caps: How often a user may see anything of it, up to 10 caps.
        dismissals: How many dismissals of its offers within `dismissals_window` make it
            stay away as a whole, 0 for never.
        dismissals_window: In what span they are counted.
        cool_down: For how long it then stays away.
        household: Whether a dismissal by one user of an account keeps it away from
            the others for `cool_down` too.
    """

    description: str = ""
    caps: tuple[CapSpec, ...] = ()
    dismissals: int = 2
    dismissals_window: Duration = Duration(30 * _DAY_MS)
    cool_down: Duration = Duration(30 * _DAY_MS)
    household: bool = False


class ProductSpec(_Spec, frozen=True):
    """Something that a user can have.

    Attributes:
        description: What it is, for people.
        price: What it costs per period; used to measure steps on ladders.
        limit: How much of its ladder's usage it allows; none for any.
        metered: Whether the user pays for what they consume, so that consuming more is
            no reason to interrupt them.
        shared: Whether the users of an account have it together, so that none of them
            is offered what one of them has just accepted.
    """

    description: str = ""
    price: int = 0
    limit: float | None = None
    metered: bool = False
    shared: bool = True


class LadderSpec(_Spec, frozen=True):
    """Products of which each is the next step after the one before.

    Attributes:
        rungs: The products, the smallest first, at least two.
        max_step: How many times as much as the present one the next may cost, unless
            the user already needs more than the next one allows; above 1.
        usage: The name of the usage that says how much the user needs.
    """

    rungs: tuple[str, ...] = ()
    max_step: float = 2.0
    usage: str = ""


class BudgetSpec(_Spec, frozen=True):
    """Money for discounts.

    Attributes:
        amount: How much there is altogether, in minor units, above 0.
        per_day: How much of it may go in one day (UTC); none for no pacing.
    """

    amount: int = 0
    per_day: int | None = None


class SuppressorSpec(_Spec, frozen=True):
    """What a life-state of a user or an account holds back.

    Attributes:
        blocks: What it holds back: `all`, what `interrupts`, or what has a `price`.
        categories: Of which categories; of all if left out.
        cool_down: For how long after it is over it holds back the same.
        topic_matched: Whether offers of the categories that it was about may be shown
            during the cool-down, unless it ended badly.
    """

    blocks: Literal["all", "interrupts", "price"] = "all"
    categories: tuple[str, ...] = ()
    cool_down: Duration = Duration(0)
    topic_matched: bool = False


class AttentionSpec(_Spec, frozen=True):
    """A budget of attention over all offers and placements.

    Attributes:
        budget: How much attention offers may take within the window, in units of
            `interruptiveness`; 0 for no such budget.
        window: The length of the rolling window.
    """

    budget: float = 0.0
    window: Duration = Duration(_DAY_MS)


class SpacingSpec(_Spec, frozen=True):
    """How far offers that interrupt are apart.

    Attributes:
        interruptive: The least time between two of them; 0s for none.
        per_session: How many of them a visit may see, 0 for any number.
    """

    interruptive: Duration = Duration(30 * 60_000)
    per_session: int = 0


class QuietSpec(_Spec, frozen=True):
    """When nobody is to be disturbed, unless they said otherwise.

    Attributes:
        start: When it begins, where the user is, as `22:00`; empty for no quiet hours
            but the users' own.
        end: When it ends, as `08:00`.
        blocks: `all` offers, or only what `interrupts`.
    """

    start: str = ""
    end: str = ""
    blocks: Literal["all", "interrupts"] = "all"


class FatigueSpec(_Spec, frozen=True):
    """What happens when offers are ignored.

    Attributes:
        ignored: How many in a row make a pause, 0 for never.
        pause: How long the pause is. After it one offer is tried.
    """

    ignored: int = 0
    pause: Duration = Duration(14 * _DAY_MS)


class EngagementSpec(_Spec, frozen=True):
    """How caps follow a user's engagement.

    Attributes:
        low: Who is of low engagement: a rule.
        high: Who is of high engagement: a rule.
        low_factor: What caps are multiplied with for low engagement, above 0 to 1. A
            limit stays 1 at least.
        high_factor: What they are multiplied with for high engagement, 1 to 10.
    """

    low: str | None = None
    high: str | None = None
    low_factor: float = 0.5
    high_factor: float = 1.5


class ContactSpec(_Spec, frozen=True):
    """What a contact by a person or through another channel holds back.

    Attributes:
        cool_down: For how long offers of the categories that it was about stay away.
    """

    cool_down: Duration = Duration(3 * _DAY_MS)


class SentimentSpec(_Spec, frozen=True):
    """What a complaint or a bad rating holds back.

    Attributes:
        cool_down: For how long.
        blocks: `all` offers, what `interrupts`, or what has a `price`.
    """

    cool_down: Duration = Duration(7 * _DAY_MS)
    blocks: Literal["all", "interrupts", "price"] = "price"


class HoldoutSpec(_Spec, frozen=True):
    """Users who never see an offer, so that it can be said what offers are worth.

    Attributes:
        share: How many of them, 0 to 1.
        salt: What chooses them: another salt, other users.
    """

    share: float = 0.0
    salt: str = "holdout"


class GatesSpec(_Spec, frozen=True):
    """Which gates are asked.

    Attributes:
        off: Names of gates that are not asked. Opt-outs cannot be switched off.
        plugins: Names of further gates, as packages announce them under the entry
            point group `opportune.gates`.
        options: What a plugin is told, by its name.
    """

    off: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    options: dict[str, dict[str, FeatureValue]] = {}


class CatalogueSpec(_Spec, frozen=True, dict=True):
    """What a catalogue says.

    Attributes:
        currency: The currency of all money, three letters of ISO 4217.
        zone: The IANA time zone of users who have named none.
        valid_for: How long a decided offer may be shown; above 0, at most 1d.
        report_grace: How long after that a report that it was shown may take to
            arrive, at most 1d. Until then the offer counts against its caps as if it
            were shown; after it, only if it was.
        provisioned_within: For how long what was accepted counts as about to be owned,
            above 0.
        value_discovered: Who has found what the product is good for: a rule. Others
            see nothing that costs something. Everybody where it is left out.
        buyers: The roles that may buy; all where it is left out.
        moments: Further kinds of moments, beside the known ones.
        caps: How often a user may see anything at all, up to 10 caps.
        attention: See AttentionSpec; likewise the others.
    """

    currency: str = "USD"
    zone: str = "UTC"
    valid_for: Duration = Duration(600_000)
    report_grace: Duration = Duration(60_000)
    provisioned_within: Duration = Duration(7 * _DAY_MS)
    value_discovered: str | None = None
    buyers: tuple[str, ...] = ()
    moments: tuple[str, ...] = ()
    caps: tuple[CapSpec, ...] = ()
    attention: AttentionSpec = AttentionSpec()
    spacing: SpacingSpec = SpacingSpec()
    quiet_hours: QuietSpec = QuietSpec()
    fatigue: FatigueSpec = FatigueSpec()
    engagement: EngagementSpec = EngagementSpec()
    contacts: ContactSpec = ContactSpec()
    sentiment: SentimentSpec = SentimentSpec()
    dismissal: DismissalSpec = DismissalSpec()
    snooze: SnoozeSpec = SnoozeSpec()
    holdout: HoldoutSpec = HoldoutSpec()
    gates: GatesSpec = GatesSpec()
    features: dict[str, FeatureSpec] = {}
    categories: dict[str, CategorySpec] = {}
    products: dict[str, ProductSpec] = {}
    ladders: dict[str, LadderSpec] = {}
    budgets: dict[str, BudgetSpec] = {}
    suppressors: dict[str, SuppressorSpec] = {}
    placements: dict[str, PlacementSpec] = {}
    offers: dict[str, OfferSpec] = {}

    @cached_property
    def interrupting(self) -> frozenset[str]:
        """The placements in which what is shown interrupts."""
        return frozenset([name for name, p in self.placements.items() if p.interrupts])
