"""Gates: each rules actions out for a reason. One file a kind of them, all pure.

A gate looks at one action, never at another one, and only at what the moment holds:
the opportunity, what is known of the user and of the account, what holds for everybody.
More of a past never lets an action through that less of it ruled out.
"""

from __future__ import annotations

from policies.gates.attention import AttentionBudget
from policies.gates.base import Because, Facts, Gate, Happening, Ruling, Situation
from policies.gates.buyer import Buyer
from policies.gates.contacts import Contacts
from policies.gates.dates import Dates
from policies.gates.dismissal import CategoryDismissal, Dismissal
from policies.gates.eligibility import Applicability, Eligibility, Suitability
from policies.gates.fatigue import Fatigue
from policies.gates.frequency import CategoryCap, CreativeCap, OfferCap, PlacementCap
from policies.gates.holdout import Holdout
from policies.gates.ladder import AnchorStep, LadderStep
from policies.gates.leases import CriticalWorkflow
from policies.gates.life import ActionLifeState, OfferLifeState, PlacementLifeState
from policies.gates.lifecycle import Lifecycle
from policies.gates.limits import OncePerCycle, UsageLimit
from policies.gates.metered import ConsumptionPriced
from policies.gates.moments import Moments
from policies.gates.opt_out import OfferOptOut, OptOut
from policies.gates.ownership import Complements, Owned, Requires
from policies.gates.parameters import Parameters
from policies.gates.quiet_hours import QuietHours
from policies.gates.room import Chosen, Room, Slots
from policies.gates.sentiment import PriceSentiment, Sentiment
from policies.gates.snooze import Snoozed
from policies.gates.spacing import SessionLimit, Spacing
from policies.gates.stops import OfferStop, PlacementStop
from policies.gates.supplies import Budget, Inventory
from policies.gates.value import ValueDiscovered

__all__ = [
    "ALIKE",
    "GATES",
    "ActionLifeState",
    "AnchorStep",
    "Applicability",
    "AttentionBudget",
    "Because",
    "Budget",
    "Buyer",
    "CategoryCap",
    "CategoryDismissal",
    "Chosen",
    "Complements",
    "ConsumptionPriced",
    "Contacts",
    "CreativeCap",
    "CriticalWorkflow",
    "Dates",
    "Dismissal",
    "Eligibility",
    "Facts",
    "Fatigue",
    "Gate",
    "Happening",
    "Holdout",
    "Inventory",
    "LadderStep",
    "Lifecycle",
    "Moments",
    "OfferCap",
    "OfferLifeState",
    "OfferOptOut",
    "OfferStop",
    "OncePerCycle",
    "OptOut",
    "Owned",
    "Parameters",
    "PlacementCap",
    "PlacementLifeState",
    "PlacementStop",
    "PriceSentiment",
    "QuietHours",
    "Requires",
    "Room",
    "Ruling",
    "Sentiment",
    "SessionLimit",
    "Situation",
    "Slots",
    "Snoozed",
    "Spacing",
    "Suitability",
    "UsageLimit",
    "ValueDiscovered",
]

GATES: tuple[type[Gate], ...] = (
    # Of placements, which rule out the most at once.
    PlacementStop,
    Holdout,
    OptOut,
    CriticalWorkflow,
    PlacementLifeState,
    Sentiment,
    QuietHours,
    Slots,
    Fatigue,
    Spacing,
    SessionLimit,
    AttentionBudget,
    PlacementCap,
    # Of offers: what nobody may see, what is not for this user, what is not for now.
    OfferStop,
    OfferOptOut,
    OfferLifeState,
    Lifecycle,
    Dates,
    Inventory,
    Budget,
    Moments,
    Chosen,
    Owned,
    LadderStep,
    Requires,
    Complements,
    Buyer,
    Eligibility,
    Applicability,
    ValueDiscovered,
    UsageLimit,
    Suitability,
    PriceSentiment,
    Contacts,
    Snoozed,
    Dismissal,
    CategoryDismissal,
    OncePerCycle,
    CategoryCap,
    OfferCap,
    # Of actions.
    Room,
    ConsumptionPriced,
    AnchorStep,
    ActionLifeState,
    Parameters,
    CreativeCap,
)
"""All gates of our own, in the order in which they are asked.

That is what is asked cheapest, and what is most final, first: the first that rejects
names the reason, so an offer that is over is not said to be capped.
"""

ALIKE: tuple[type[Gate], ...] = tuple(
    [kind for kind in GATES if kind.scope == "offer" and not kind.of_history]
)
"""Those by which offers fare alike that have equal ones, whatever their past is.

Only where `Situation.named` names the very offer it may fare otherwise.
"""
