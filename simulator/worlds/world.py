"""A world: who comes when, what holds of them, how they answer, what that is worth."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import NamedTuple

from policies.catalogue import Catalogue
from policies.features import context_features
from policies.joiner import Terms, join, terms_of
from policies.model import (
    NO_MOMENT,
    NO_OFFER,
    PROBABILITY_UNITS,
    Action,
    Context,
    Decision,
    Features,
    FeatureValue,
    Moment,
    Opportunity,
    Outcome,
    OutcomeKind,
    Usage,
)
from simulator.worlds.minds import SILENT, Answers, Mood, answers
from simulator.worlds.people import Person, among, exponential, person, uniform
from simulator.worlds.spec import TasteSpec, WorldSpec

__all__ = ["Response", "Visit", "World"]

_DAY_MS = 86_400_000
_GAP_MS = 60_000
_PATTERNS: tuple[tuple[OutcomeKind, ...], ...] = (
    ("accepted",),
    ("accepted", "refunded"),
    ("opted_out",),
    ("dismissed",),
    ("snoozed",),
    (),
)


class Visit(NamedTuple):
    """A visit of a user.

    Attributes:
        number: Which visit of theirs, from 0.
        at_ms: When.
    """

    number: int
    at_ms: int


class Response(NamedTuple):
    """What a user does about an offer.

    Attributes:
        kind: How they answer; `ignored` where nothing comes.
        after_ms: How long after it was shown.
        refund_ms: How long after it was shown an accept is taken back; none for never.
    """

    kind: OutcomeKind
    after_ms: int
    refund_ms: int | None = None


class World:
    """Simulated users around a catalogue.

    Whatever is random is a hash of the seed, the user, the visit and what it is for:
    under every policy the same users come, and who would have accepted would have.

    Args:
        spec: What holds.
        catalogue: What can be offered.
        seed: Another seed, other users.
        name: What to call it.

    Attributes are as given.
    """

    def __init__(
        self, spec: WorldSpec, catalogue: Catalogue, seed: int = 0, name: str = "world"
    ) -> None:
        self.spec = spec
        self.catalogue = catalogue
        self.seed = seed
        self.name = name
        self.start_ms = round(spec.start.timestamp() * 1_000)
        self._tastes: dict[int, list[TasteSpec]] = {}
        self._values: dict[int, tuple[float, ...]] = {}
        self._limits = {
            product: (ladder.usage, catalogue.spec.products[product].limit)
            for ladder in catalogue.spec.ladders.values()
            for product in ladder.rungs
        }

    def person(self, number: int) -> Person:
        """Return a user."""
        return person(self.spec, self.seed, number)

    def mood(self, user: Person) -> Mood:
        """Return how a user begins."""
        mood = Mood(self.spec, self.start_ms)
        mood.owned.update(user.spec.owns)
        return mood

    def visits(self, user: Person, end_ms: int) -> Iterator[Visit]:
        """Yield when a user comes, as long as they are there, until the end."""
        at_ms, number = float(self.start_ms), 0
        mean_ms = _DAY_MS / user.spec.visits_per_day
        while True:
            gap_ms = exponential(mean_ms, self.seed, user.number, number, "gap")
            at_ms += max(gap_ms, _GAP_MS)
            if at_ms >= end_ms:
                return
            yield Visit(number, int(at_ms))
            number += 1

    def opportunity(
        self, user: Person, visit: Visit, mood: Mood, decision_id: str
    ) -> Opportunity:
        """Return what the product asks at a visit."""
        usage = {
            name: self._usage(user, name, visit.at_ms, mood) for name in user.habits
        }
        moment = self._moment(user, visit, usage)
        context = Context(
            role=user.spec.role,
            segment=user.segment,
            usage=usage,
            moment=Moment(moment) if moment else NO_MOMENT,
            features=self._features(user, visit.at_ms),
        )
        shares = {str(at): ask.share for at, ask in enumerate(self.spec.asks)}
        asked = among(shares, self._drawn(user, visit, "ask"))
        return Opportunity(
            decision_id,
            visit.at_ms,
            user.user_id,
            self.spec.asks[int(asked)].placements,
            session_id=f"visit-{visit.number}",
            context=context,
        )

    def leaves(self, user: Person, visit: Visit, mood: Mood) -> bool:
        """Say whether a user has left before a visit that would have been."""
        days = (visit.at_ms - mood.seen_ms) / _DAY_MS
        mood.pass_to(visit.at_ms)
        mood.seen_ms = visit.at_ms
        if mood.leaves(days, self._drawn(user, visit, "churn")):
            mood.churned_ms = visit.at_ms
            return True
        return False

    def answers(
        self, user: Person, mood: Mood, context: Context, action: Action, at_ms: int
    ) -> Answers:
        """Return how likely each answer to an action is: the truth.

        Args:
            user: The user.
            mood: Their mood at the time.
            context: What is known.
            action: What would be shown; for no offer nobody answers.
            at_ms: The time.
        """
        features = context_features(context, self.catalogue.features)
        return self._answers(user, mood, features, action, at_ms)

    def expected(
        self, user: Person, mood: Mood, context: Context, actions: list[Action]
    ) -> list[float]:
        """Return what each action earns on average: the true expected rewards.

        Args:
            user: The user.
            mood: Their mood, brought to the time that is meant.
            context: What is known.
            actions: The actions.
        """
        features = context_features(context, self.catalogue.features)
        at_ms = mood.seen_ms
        return [
            self.worth(action, self._answers(user, mood, features, action, at_ms))
            for action in actions
        ]

    def worth(self, action: Action, chances: Answers) -> float:
        """Return what an action earns on average, by how likely each answer is."""
        values = self._values.get(action.index)
        if values is None:
            values = self._values[action.index] = self._value(action)
        refunded = chances.accepted * self.spec.refunds.share
        weights = (
            chances.accepted - refunded,
            refunded,
            chances.opted_out,
            chances.dismissed,
            chances.snoozed,
            chances.ignored,
        )
        return sum(w * v for w, v in zip(weights, values, strict=True))

    def response(self, user: Person, visit: Visit, chances: Answers) -> Response:
        """Return what a user does about what they are shown at a visit."""
        spec = self.spec
        within = int(spec.answers.within)
        if self._drawn(user, visit, "accept") < chances.accepted:
            after = within
            if self._drawn(user, visit, "delayed") < spec.delays.share:
                parts = (self.seed, user.number, visit.number, "delay")
                delay = exponential(float(spec.delays.mean), *parts)
                after = max(within, round(min(delay, float(spec.delays.longest))))
            refunded = self._drawn(user, visit, "refund") < spec.refunds.share
            refund = after + int(spec.refunds.after) if refunded else None
            return Response("accepted", after, refund)
        left = 1.0 - chances.accepted
        drawn = self._drawn(user, visit, "wave") * left - chances.opted_out
        if drawn < 0.0:
            return Response("opted_out", within)
        if drawn < chances.dismissed:
            return Response("dismissed", within)
        if drawn < chances.dismissed + chances.snoozed:
            return Response("snoozed", within)
        return Response("ignored", within)

    def feel(self, mood: Mood, action: Action, kind: OutcomeKind, at_ms: int) -> None:
        """Let what happened leave its mark on a user's mood."""
        mood.pass_to(at_ms)
        annoyance = self.spec.annoyance
        match kind:
            case "shown":
                placement = self.catalogue.placements[action.placement_id]
                mood.fatigue += placement.spec.weight
            case "dismissed":
                mood.annoyance += annoyance.dismissed
            case "opted_out":
                mood.annoyance += annoyance.opted_out
            case "ignored":
                mood.annoyance += annoyance.ignored
            case "accepted":
                mood.owned.update(self.catalogue.offers[action.offer_id].spec.grants)
                mood.deciding.discard(action.offer_id)
            case "refunded":
                granted = self.catalogue.offers[action.offer_id].spec.grants
                mood.owned.difference_update(granted)
            case _:
                pass

    def terms(self, action: Action) -> Terms:
        """Return by what the outcomes of an action are judged."""
        return terms_of(self.spec.rewards, self.catalogue.spec, action)

    def _answers(
        self, user: Person, mood: Mood, features: Features, action: Action, at_ms: int
    ) -> Answers:
        if action.index == NO_OFFER:
            return SILENT
        known = dict(features)
        day = (at_ms - self.start_ms) / _DAY_MS
        odds = 0.0
        for taste in self._tastes_of(action):
            if taste.needed not in (None, action.offer_id in user.needs):
                continue
            if day < taste.from_day or (
                taste.until_day is not None and day >= taste.until_day
            ):
                continue
            weight = taste.log_odds
            for name in taste.when:
                weight *= known.get(name, 0.0)
            odds += weight
        spec = self.spec
        if action.offer_id in mood.deciding:
            # Who has made up their mind about an offer does not do so again.
            odds = -2_000.0
        return answers(spec.answers, spec.fatigue, odds, mood)

    def _tastes_of(self, action: Action) -> list[TasteSpec]:
        found = self._tastes.get(action.index)
        if found is None:
            found = self._tastes[action.index] = [
                taste
                for taste in self.spec.tastes
                if taste.offer in ("", action.offer_id)
                and taste.creative in ("", action.creative_id)
                and taste.placement in ("", action.placement_id)
            ]
        return found

    def _value(self, action: Action) -> tuple[float, ...]:
        """Return what each pattern of answers earns, by the joiner itself."""
        terms = self.terms(action)
        decision = Decision(
            Opportunity("", 0, "", ("",)),
            *("", "", ""),
            actions=(action.index,),
            probabilities=(PROBABILITY_UNITS,),
            chosen=action.index,
            valid_until_ms=0,
        )
        late_ms = 2**52
        values: list[float] = []
        for pattern in _PATTERNS:
            kinds: tuple[OutcomeKind, ...] = pattern
            if action.index != NO_OFFER:
                kinds = ("shown", *pattern)
            outcomes = [
                Outcome(kind, kind, int(self.spec.refunds.after * (kind == "refunded")))
                for kind in kinds
            ]
            earned = join(decision, outcomes, terms, late_ms).reward
            values.append(0.0 if earned is None else earned)
        return tuple(values)

    def _features(self, user: Person, at_ms: int) -> dict[str, FeatureValue]:
        """Return what is known of a user at a time."""
        days = (at_ms - self.start_ms) / _DAY_MS
        features = dict(user.features)
        for name, draw in user.spec.features.items():
            if draw.per_day:
                low, high = self.catalogue.features[name].range or (-inf, inf)
                value = float(features[name]) + draw.per_day * days
                features[name] = min(max(value, low), high)
        return features

    def _usage(self, user: Person, name: str, at_ms: int, mood: Mood) -> Usage:
        spec, habit = user.spec.usage[name], user.habits[name]
        days = (at_ms - self.start_ms) / _DAY_MS
        per_day = habit.per_day * spec.limit
        since_ms = until_ms = None
        value = habit.start * spec.limit + per_day * days
        if spec.cycle:
            begun = self.start_ms - round(habit.start % 1.0 * spec.cycle)
            since_ms = at_ms - (at_ms - begun) % spec.cycle
            until_ms = since_ms + spec.cycle
            value = per_day * (at_ms - since_ms) / _DAY_MS
        limit = self._limit(name, spec.limit, mood)
        if limit is not None and spec.stops:
            value = min(value, limit)
        return Usage(value, limit, per_day, since_ms, until_ms)

    def _limit(self, usage: str, plain: float, mood: Mood) -> float | None:
        """Return what the largest product allows that a user has; none for any."""
        limits = [
            limit
            for product in mood.owned
            if product in self._limits
            for name, limit in [self._limits[product]]
            if name == usage
        ]
        if not limits:
            return plain
        known = [limit for limit in limits if limit is not None]
        return None if len(known) < len(limits) else max(known)

    def _moment(self, user: Person, visit: Visit, usage: dict[str, Usage]) -> str:
        for name, moment in self.spec.moments.items():
            if moment.usage:
                used = usage.get(moment.usage)
                if used is None or used.limit is None:
                    continue
                share = used.value / used.limit
                high = moment.to_share
                if share < moment.from_share or (share >= high and high < 1.0):
                    continue
                if share > high:
                    continue
            if self._drawn(user, visit, "moment", name) < moment.chance:
                return name
        return ""

    def _drawn(self, user: Person, visit: Visit, *purpose: str) -> float:
        return uniform(self.seed, user.number, visit.number, *purpose)
