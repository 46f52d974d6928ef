"""The rules, written a second time: slow and obvious.

Nothing here is shared with the gates but the meaning of what a catalogue says. For each
action every rule is asked each time, and looks through all that ever happened.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from fractions import Fraction
from functools import cached_property
from hashlib import blake2b

from policies.model import Usage
from policies.specs import (
    CapSpec,
    CategorySpec,
    CreativeSpec,
    DismissalSpec,
    LadderSpec,
    OfferSpec,
    PlacementSpec,
    ProductSpec,
    SuppressorSpec,
)
from policies.toml import Duration
from tests.reference.facts import Facts, exact, local, milliseconds
from tests.reference.nouns import BYPASSED, Act, No, actions_of, day_of
from tests.reference.past import Decided, Happened, Life

__all__ = ["Sight", "standing"]

_DAY_MS = 86_400_000
_HOUR_MS = 3_600_000


_PLACED = BYPASSED | {"once_per_cycle"}
"""The gates that what was decided has its own place in."""

_KNOWN_STATES = {
    "support_open": SuppressorSpec(cool_down=Duration(_DAY_MS), topic_matched=True),
    "incident": SuppressorSpec(cool_down=Duration(_HOUR_MS)),
    "payment_failed": SuppressorSpec(blocks="price", cool_down=Duration(_DAY_MS)),
    "onboarding": SuppressorSpec(blocks="price"),
    "churn_risk": SuppressorSpec(blocks="price"),
    "trial_first_session": SuppressorSpec(blocks="interrupts"),
}


class Sight(Facts):
    """What the rules say of one request; the arguments are those of `Facts`."""

    def at(self, at_ms: int) -> Sight:
        """Return what could be said at another time if nothing else happened."""
        if at_ms not in self.then:
            self.then[at_ms] = Sight(
                self.past,
                self.asked._replace(at_ms=at_ms),
                self.spec,
                self.rules,
                stopped=self.stopped,
                exhausted=self.exhausted,
                without=self.without,
            )
        return self.then[at_ms]

    # --- Answers --------------------------------------------------------------------

    @cached_property
    def then(self) -> dict[int, Sight]:
        """What could be said at other times, as far as it was asked for."""
        return {}

    @cached_property
    def acts(self) -> list[Act]:
        """The actions that the request is about."""
        return [
            act
            for act in actions_of(self.spec)
            if act.placement_id in self.asked.placements
            and (not self.asked.offers or act.offer_id in self.asked.offers)
        ]

    @cached_property
    def said(self) -> dict[Act, list[No]]:
        """What was said of actions, as far as it was asked for."""
        return {}

    def every_no(self, act: Act) -> list[No]:
        """Return all rules that say no to an action, be they gone past or not."""
        if act not in self.said:
            self.said[act] = list(self._ask(act))
        return self.said[act]

    def binding(self, act: Act) -> list[No]:
        """Return the rules that say no and are not gone past."""
        critical = self.spec.offers[act.offer_id].override == "critical"
        return [
            no for no in self.every_no(act) if not (critical and no.gate in BYPASSED)
        ]

    @cached_property
    def eligible(self) -> set[Act]:
        """The actions that may be chosen; "no offer" is not among them."""
        allowed = [act for act in self.acts if not self.binding(act)]
        normal = {act for act in allowed if not self.is_fallback(act)}
        filled = {act.placement_id for act in normal}
        return normal | {act for act in allowed if act.placement_id not in filled}

    @property
    def pauses(self) -> list[int]:
        """When a gate that says no now, and again later, may have stopped meanwhile."""
        quarter_ms = 15 * 60_000
        first_ms = self.at_ms - self.at_ms % quarter_ms
        ends = [first_ms + at * quarter_ms for at in range(1, 110)]
        for name, spec in {**_KNOWN_STATES, **self.spec.suppressors}.items():
            for lives in self.lives:
                over_ms = lives[name].over_ms if name in lives else None
                if over_ms is not None:
                    ends += [over_ms, over_ms + int(spec.cool_down)]
        return ends

    def is_fallback(self, act: Act) -> bool:
        """Say whether an offer is only for when there is no other."""
        return self.spec.placements[act.placement_id].fallback == act.offer_id

    def _ask(self, act: Act) -> Iterator[No]:
        offer = self.spec.offers[act.offer_id]
        placement = self.spec.placements[act.placement_id]
        creative = offer.creatives.get(act.creative_id, CreativeSpec())
        said = [
            *self._of_catalogue(act, offer, placement),
            *self._of_rules(offer, creative),
            *self._of_possession(act, offer, placement),
            *self._of_wishes(act, offer, placement),
            *self._of_attention(placement),
            *self._of_caps(act, offer, placement, creative),
            *self._of_dismissals(act, offer),
            *self._of_life(offer, placement),
        ]
        return (no for no in said if no.gate not in self.spec.gates.off)

    # --- The catalogue, the operator, the call ----------------------------------------

    def _of_catalogue(
        self, act: Act, offer: OfferSpec, placement: PlacementSpec
    ) -> Iterator[No]:
        states = {"draft": "NOT_APPROVED", "paused": "PAUSED", "archived": "ARCHIVED"}
        if offer.state in states:
            yield No("lifecycle", states[offer.state])
        if offer.start is not None and self.at_ms < milliseconds(offer.start):
            yield No("dates", "NOT_STARTED")
        if offer.end is not None and self.at_ms >= milliseconds(offer.end):
            yield No("dates", "EXPIRED")
        if placement.categories and not set(placement.categories) & set(
            offer.categories
        ):
            yield No("room", "NOT_FOR_PLACEMENT")
        if {"all", f"placement:{act.placement_id}"} & set(self.stopped):
            yield No("placement_stop", "STOPPED")
        scopes = {f"offer:{act.offer_id}", *_named(offer.categories)}
        if scopes & set(self.stopped):
            yield No("offer_stop", "STOPPED")
        if act.offer_id in [offer_id for offer_id, _ in self.asked.earlier]:
            yield No("chosen", "ALREADY_CHOSEN")
        taken = [p for _, p in self.asked.earlier if p == act.placement_id]
        if len(taken) >= placement.slots:
            yield No("slots", "PLACEMENT_FULL")
        if (
            offer.inventory is not None
            and f"inventory:{act.offer_id}" in self.exhausted
        ):
            yield No("inventory", "INVENTORY_EXHAUSTED")
        budget = f"budget:{offer.budget}"
        today = day_of(self.at_ms)
        for exhausted in self.exhausted if offer.discount else ():
            spent, _, payable = exhausted.partition(">")
            if spent in {budget, f"{budget}:{today}"} and (
                not payable or offer.discount > int(payable)
            ):
                yield No("budget", "BUDGET_EXHAUSTED")
                break
        if self._held_out:
            yield No("holdout", "HOLDOUT")

    @cached_property
    def _held_out(self) -> bool:
        spec = self.spec.holdout
        key = spec.salt.encode()
        digest = blake2b(self.asked.who.user_id.encode(), digest_size=8, key=key)
        return int.from_bytes(digest.digest(), "big") / 2**64 < spec.share

    # --- What the catalogue's rules say -----------------------------------------------

    def _of_rules(self, offer: OfferSpec, creative: CreativeSpec) -> Iterator[No]:
        for gate, source, reason in (
            ("eligible", offer.eligible, "NOT_ELIGIBLE"),
            ("applicable", offer.applicable, "NOT_APPLICABLE"),
            ("suitable", offer.suitable, "NOT_SUITABLE"),
        ):
            if source is not None and not self.holds(source):
                yield No(gate, reason)
        value = offer.value_discovered
        if value is None and offer.price > 0:
            value = self.spec.value_discovered
        found = self.moment.value_discovered or value is None or self.holds(value)
        if not found:
            yield No("value_discovered", "VALUE_NOT_DISCOVERED")
        only = offer.price > 0 if offer.buyers_only is None else offer.buyers_only
        if only and self.spec.buyers and self.moment.role not in self.spec.buyers:
            yield No("buyer", "NOT_BUYER")
        for parameter in creative.parameters.values():
            if not self.rules.known[parameter.value](self.moment):
                yield No("parameters", "MISSING_PARAMETER")

    # --- What the user has, and needs -------------------------------------------------

    def _of_possession(
        self, act: Act, offer: OfferSpec, placement: PlacementSpec
    ) -> Iterator[No]:
        yield from self._ownership(offer)
        ladder = self.spec.ladders.get(offer.ladder)
        if ladder is not None and not (offer.anchor and placement.comparison):
            gate = "ladder_anchor" if offer.anchor else "ladder"
            for reason in self._step(offer, ladder):
                yield No(gate, reason)
        if offer.limit is not None:
            usage = self.asked.context.usage.get(offer.limit.usage)
            if usage is None or not self._near(usage, offer):
                yield No("limit", "NOT_NEAR_LIMIT")
            once = offer.limit.once_per_cycle
            if once and self._seen_in_cycle(usage, act.offer_id):
                yield No("once_per_cycle", "ALREADY_THIS_CYCLE")
        metered = [self.spec.products[product].metered for product in offer.grants]
        saving = offer.kind in ("term", "free_help")
        if any(metered) and (not saving or placement.interrupts):
            yield No("metered", "CONSUMPTION_PRICED")

    def _ownership(self, offer: OfferSpec) -> Iterator[No]:
        has = self.owned | set(self.asked.context.cart)
        coming = has | self.pending
        grants = set(offer.grants)
        if grants:
            bundle = offer.kind == "bundle" and not offer.credit
            if grants <= has or (bundle and grants & has):
                yield No("ownership", "ALREADY_OWNED")
            if grants <= coming or (bundle and grants & coming):
                yield No("ownership", "PENDING_PURCHASE")
        if not set(offer.requires) <= self.owned:
            yield No("requires", "REQUIREMENT_MISSING")
        if offer.complements and not set(offer.complements) & coming:
            yield No("complements", "NOT_COMPLEMENTARY")

    def _step(self, offer: OfferSpec, ladder: LadderSpec) -> Iterator[str]:
        granted = [at for at, rung in enumerate(ladder.rungs) if rung in offer.grants]
        if not granted:
            return
        target = max(granted)
        products = [self.spec.products.get(r, ProductSpec()) for r in ladder.rungs]
        usage = self.asked.context.usage.get(ladder.usage)

        def outgrown(rung: int) -> bool:
            limit = products[rung].limit
            return usage is not None and limit is not None and usage.value > limit

        present = _highest(ladder.rungs, self.owned)
        in_cart = _highest(ladder.rungs, self.asked.context.cart)
        if max(present, in_cart) >= target:
            yield "ALREADY_OWNED"
        if _highest(ladder.rungs, self.pending) >= target:
            yield "PENDING_PURCHASE"
        if target > present + 1:
            if not all(outgrown(rung) for rung in range(present + 1, target)):
                yield "LADDER_JUMP"
        elif target == present + 1 and present >= 0 and products[present].price:
            times = Fraction(products[target].price, products[present].price)
            if times > Fraction(ladder.max_step) and not outgrown(target):
                yield "LADDER_JUMP"

    def _near(self, usage: Usage, offer: OfferSpec) -> bool:
        spec = offer.limit
        assert spec is not None
        if usage.limit is None:
            return False
        share = usage.value / usage.limit
        if share > spec.to_share:
            return False
        days_left = self._days_to_limit(usage)
        if usage.until_ms is not None:
            days_of_cycle = (usage.until_ms - self.at_ms) / _DAY_MS
            if days_of_cycle <= 0:
                return False
            if days_left is not None and days_left >= days_of_cycle:
                return False
        if share >= spec.from_share:
            return True
        return days_left is not None and 0 < days_left <= spec.forecast / _DAY_MS

    def _days_to_limit(self, usage: Usage) -> float | None:
        """Return in how many days the limit is reached; none if nobody can say."""
        assert usage.limit is not None
        if usage.value >= usage.limit:
            return 0.0
        pace = usage.per_day
        if pace is None:
            if usage.since_ms is None:
                return None
            # A cycle that is younger than a day says as much as one of a day.
            pace = usage.value / max(1.0, (self.at_ms - usage.since_ms) / _DAY_MS)
        return (usage.limit - usage.value) / pace if pace > 0 else math.inf

    def _seen_in_cycle(self, usage: Usage | None, offer_id: str) -> bool:
        if usage is None or usage.since_ms is None:
            return False
        if usage.until_ms is not None and usage.until_ms <= self.at_ms:
            return False
        return any(
            shown.reserved or shown.at_ms >= usage.since_ms
            for shown in self.events("shown")
            if shown.decided.offer_id == offer_id
        )

    # --- What the user asked for ------------------------------------------------------

    def _of_wishes(
        self, act: Act, offer: OfferSpec, placement: PlacementSpec
    ) -> Iterator[No]:
        opt_outs = self.opt_outs
        if "all" in opt_outs:
            yield No("opt_out", "OPTED_OUT")
        if {f"offer:{act.offer_id}", *_named(offer.categories)} & opt_outs:
            yield No("offer_opt_out", "OPTED_OUT")
        if any(not lease.inline or placement.interrupts for lease in self.leases):
            yield No("critical_workflow", "CRITICAL_WORKFLOW")
        if self._is_quiet and (
            self.spec.quiet_hours.blocks == "all" or placement.interrupts
        ):
            yield No("quiet_hours", "QUIET_HOURS")
        snoozed = self.past.snoozed(self.asked.who, act.offer_id)
        if snoozed is not None and self.at_ms < snoozed.due_ms:
            yield No("snooze", "SNOOZED")
        back = (
            snoozed is not None
            and not snoozed.returned
            and self.at_ms >= snoozed.due_ms
        )
        moment = self.asked.context.moment.kind
        if offer.moments and moment not in offer.moments and not back:
            yield No("moments", "NOT_ELIGIBLE")

    @cached_property
    def _is_quiet(self) -> bool:
        """Whether it is a time at which the user is not to be disturbed."""
        told = [self.past.quiet(whose) for whose in self.whose]
        own = next((quiet for quiet in told if quiet is not None), None)
        if own is not None:
            start, end = own.start_minute, own.end_minute
        elif self.spec.quiet_hours.start:
            start = _minute(self.spec.quiet_hours.start)
            end = _minute(self.spec.quiet_hours.end)
        else:
            return False
        clock = local(self.at_ms, self.zone)
        minute = clock.hour * 60 + clock.minute
        if start < end:
            return start <= minute < end
        return minute >= start or minute < end

    # --- How much the user bears ------------------------------------------------------

    def _of_attention(self, placement: PlacementSpec) -> Iterator[No]:
        attention = self.spec.attention
        weight = exact(placement.weight)
        if attention.budget > 0 and weight > 0:
            taken = sum(
                exact(shown.decided.weight)
                for shown in self.within("shown", attention.window)
            )
            if taken + weight > exact(attention.budget):
                yield No("attention", "ATTENTION_BUDGET")
        spacing = self.spec.spacing
        if placement.interrupts:
            if spacing.interruptive and any(
                map(self._interrupted, self.within("shown", spacing.interruptive))
            ):
                yield No("spacing", "SPACING")
            visit = CapSpec(limit=spacing.per_session, session=True, scales=False)
            interruptions = list(filter(self._interrupted, self.events("shown")))
            if spacing.per_session and self.full(visit, interruptions):
                yield No("session_limit", "SESSION_LIMIT")
        fatigue = self.spec.fatigue
        tired = fatigue.ignored and self.ignored >= fatigue.ignored
        if tired and self.within("shown", fatigue.pause):
            yield No("fatigue", "FATIGUE")

    def _interrupted(self, shown: Happened) -> bool:
        placement = self.spec.placements.get(shown.decided.placement_id)
        if placement is None:
            return shown.decided.weight >= 1.0
        return placement.interrupts

    def _of_caps(
        self,
        act: Act,
        offer: OfferSpec,
        placement: PlacementSpec,
        creative: CreativeSpec,
    ) -> Iterator[No]:
        for cap in self.spec.caps:
            where = act.placement_id if cap.across == "placement" else ""
            if self.full(cap, self.counted(cap, placement_id=where)):
                yield No("placement_cap", "FREQUENCY_CAP")
        for cap in placement.caps:
            here = self.counted(cap, placement_id=act.placement_id)
            if self.full(cap, here):
                yield No("placement_cap", "FREQUENCY_CAP")
        for category in offer.categories:
            for cap in self.spec.categories[category].caps:
                if self.full(cap, self.counted(cap, category=category)):
                    yield No("category_cap", "FREQUENCY_CAP")
        for cap in offer.caps:
            per = cap.across == "placement"
            where = act.placement_id if per else ""
            picked = self.counted(cap, offer_id=act.offer_id, placement_id=where)
            if self.full(cap, picked):
                yield No("creative_cap" if per else "offer_cap", "FREQUENCY_CAP")
        for cap in creative.caps:
            picked = self.counted(
                cap,
                offer_id=act.offer_id,
                creative_id=act.creative_id,
                placement_id=act.placement_id if cap.across == "placement" else "",
            )
            if self.full(cap, picked):
                yield No("creative_cap", "FREQUENCY_CAP")

    # --- What the user waved away -----------------------------------------------------

    def _of_dismissals(self, act: Act, offer: OfferSpec) -> Iterator[No]:
        spec = offer.dismissal or self.spec.dismissal
        if offer.dismissal is None and offer.dismissal_cool_down is not None:
            spec = DismissalSpec(cool_down=offer.dismissal_cool_down)
        repeats = (offer.snooze or self.spec.snooze).repeats
        times = [
            event.at_ms
            for event in self.events("dismissed")
            if event.decided.offer_id == act.offer_id
        ]
        snoozed = self.past.snoozed(self.asked.who, act.offer_id)
        if snoozed is not None:
            times += sorted(snoozed.times)[repeats:]
        if times and spec.cool_down:
            longest = max(spec.longest, spec.cool_down)
            away = min(spec.cool_down * spec.factor ** (len(times) - 1), longest)
            if self.at_ms < max(times) + int(away):
                yield No("dismissal", "DISMISSED")
        for category in offer.categories:
            if self._cooling(category, self.spec.categories[category]):
                yield No("category_dismissal", "CATEGORY_COOL_DOWN")

    def _cooling(self, category: str, spec: CategorySpec) -> bool:
        def times(*, account: bool) -> list[int]:
            return [
                event.at_ms
                for event in self.events("dismissed", account=account)
                if category in event.decided.categories
            ]

        mine = times(account=False)
        enough = [
            last
            for last in mine
            if spec.dismissals
            and sum(last - spec.dismissals_window < other <= last for other in mine)
            >= spec.dismissals
        ]
        if spec.household and self.asked.who.account_id:
            enough += times(account=True)
        return any(self.at_ms < last + spec.cool_down for last in enough)

    # --- What goes on -----------------------------------------------------------------

    def _of_life(self, offer: OfferSpec, placement: PlacementSpec) -> Iterator[No]:
        for name, spec in {**_KNOWN_STATES, **self.spec.suppressors}.items():
            blocks = {
                "all": True,
                "interrupts": placement.interrupts,
                "price": offer.price > 0,
            }[spec.blocks]
            if spec.categories and not set(spec.categories) & set(offer.categories):
                blocks = False
            lives = [lives.get(name) for lives in self.lives]
            if blocks and any(
                self._holds_back(life, spec, offer) for life in lives if life
            ):
                reason = name.upper() if name in _KNOWN_STATES else "LIFE_STATE"
                yield No("life_state", reason)
        about = ("", *offer.categories)
        contacts = [ms for category, ms in self.contacts if category in about]
        if any(self.at_ms < ms + self.spec.contacts.cool_down for ms in contacts):
            yield No("contacts", "CROSS_CHANNEL_COOLDOWN")
        yield from self._of_sentiment(offer, placement)

    def _holds_back(self, life: Life, spec: SuppressorSpec, offer: OfferSpec) -> bool:
        if self.at_ms < life.since_ms:
            return False
        if not life.over_by(self.at_ms):
            return True
        matched = spec.topic_matched and set(life.topics) & set(offer.categories)
        if matched and not life.negative:
            return False
        return life.over_ms is not None and self.at_ms < life.over_ms + spec.cool_down

    def _of_sentiment(self, offer: OfferSpec, placement: PlacementSpec) -> Iterator[No]:
        spec = self.spec.sentiment
        blocks = {
            "all": True,
            "interrupts": placement.interrupts,
            "price": offer.price > 0,
        }[spec.blocks]
        for complaint_ms in self.complaints:
            if blocks and self.at_ms < complaint_ms + spec.cool_down:
                yield No("sentiment", "NEGATIVE_SENTIMENT")


def standing(sight: Sight, decided: Decided, *, seen: bool = False) -> list[No]:
    """Return why what was decided may not be shown any more; nothing if it may.

    Args:
        sight: What can be said at the time, without the decision itself.
        decided: The decision.
        seen: Whether the user has seen the offer.
    """
    if not seen and sight.at_ms >= decided.valid_until_ms:
        return [No("", "EXPIRED")]
    offer = sight.spec.offers.get(decided.offer_id)
    found = [
        act
        for act in sight.acts
        if (act.offer_id, act.placement_id) == (decided.offer_id, decided.placement_id)
    ]
    if not found or offer is None or offer.state != "approved":
        return [No("", "WITHDRAWN")]
    against = [
        [no for no in sight.every_no(act) if no.gate not in _PLACED] for act in found
    ]
    # It has been worded already: any wording that may be shown will do.
    return [] if [] in against else [no for of_one in against for no in of_one]


def _minute(clock: str) -> int:
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)


def _named(categories: Collection[str]) -> set[str]:
    return {f"category:{category}" for category in categories}


def _highest(rungs: Sequence[str], products: Collection[str]) -> int:
    found = [at for at, rung in enumerate(rungs) if rung in products]
    return max(found, default=-1)
