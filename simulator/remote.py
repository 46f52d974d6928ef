"""Plays a world against a running server, over gRPC: the one module that speaks it.

The server's time is real and nobody's to change: visits come one after the other, as
fast as it answers, in the order that they have in the world. Caps and cool-downs go by
the server's clock, the users' moods by the world's; so does what is accepted later, and
what is taken back.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import grpc
import msgspec
from google.protobuf.timestamp_pb2 import Timestamp

from opportune.v1 import (
    DECISION_VIEW_FULL,
    Cancellation,
    Context,
    Decision,
    DecisionServiceStub,
    FeatureValue,
    GetOfferRequest,
    LifeStateUpdate,
    Moment,
    Outcome,
    OutcomeKind,
    Purchase,
    RecordEventRequest,
    ReportOutcomeRequest,
    SetUserStateRequest,
    Usage,
    UserServiceStub,
)
from policies import model
from policies.model import NO_OFFER, Action
from simulator.logs import Watcher
from simulator.worlds import Mood, Person, Visit, World, WorldError

__all__ = ["Remote", "play_remotely"]

_DAY_MS = 86_400_000
_DEADLINE_S = 10.0
_SOURCE = "simulator"


class Remote(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a world that was played against a server.

    Attributes:
        format: The version of these fields.
        world: The name of the world.
        address: The server.
        seed: The seed.
        users: How many users there were.
        decisions: How many decisions the server made.
        shown: How many of them were for an offer.
        accepts: How many offers were accepted.
        dismissals: How many were dismissed.
        opt_outs: How many made the user opt out.
        refunds: How many accepts were taken back.
        expected: What a decision earned by the truth, on average.
        regret: What the best eligible action would have earned more, a decision.
        churned: The share of users who left.
    """

    format: str = "opportune.remote.v1"
    world: str
    address: str
    seed: int
    users: int
    decisions: int
    shown: int
    accepts: int
    dismissals: int
    opt_outs: int
    refunds: int
    expected: float
    regret: float
    churned: float


def play_remotely(
    world: World,
    address: str,
    *,
    users: int | None = None,
    days: float | None = None,
    watcher: Watcher | None = None,
) -> Remote:
    """Let the users of a world come to a server.

    Args:
        world: The world; the server must serve its catalogue.
        address: The server, as host:port.
        users: How many users there are; as the world says without it.
        days: How many days of the world it lasts; likewise.
        watcher: Is told how far it is.

    Raises:
        WorldError: If the server cannot be reached, refuses something, or serves
            another catalogue.
    """
    users = world.spec.users if users is None else users
    days = world.spec.days if days is None else days
    with grpc.insecure_channel(address) as channel:
        playing = _Playing(world, channel, users, round(days * _DAY_MS))
        try:
            playing.play(watcher or (lambda *_: None))
        except grpc.RpcError as error:
            said = getattr(error, "details", lambda: "")()
            raise WorldError(f"{address}: {said or error}") from None
    n = max(playing.decisions, 1)
    moods = playing.moods
    return Remote(
        world=world.name,
        address=address,
        seed=world.seed,
        users=users,
        decisions=playing.decisions,
        shown=playing.counts["shown"],
        accepts=playing.counts["accepted"],
        dismissals=playing.counts["dismissed"],
        opt_outs=playing.counts["opted_out"],
        refunds=playing.counts["refunded"],
        expected=playing.expected / n,
        regret=(playing.best - playing.expected) / n,
        churned=sum(mood.churned_ms is not None for mood in moods) / users,
    )


class _Later(NamedTuple):
    """What a user does some time after a visit; what is first by time goes first."""

    at_ms: int
    user: int
    decision_id: str
    kind: model.OutcomeKind
    action: Action


class _Playing:
    """One game under way."""

    def __init__(
        self, world: World, channel: grpc.Channel, users: int, span_ms: int
    ) -> None:
        self._world = world
        self._decisions = DecisionServiceStub(channel)
        self._users = UserServiceStub(channel)
        self._span_ms = span_ms
        self._actions = {
            (a.offer_id, a.creative_id, a.placement_id): a
            for a in world.catalogue.actions
        }
        self._people = [world.person(number) for number in range(users)]
        self.moods = [world.mood(person) for person in self._people]
        self.counts: Counter[str] = Counter()
        self.decisions = 0
        self.expected = 0.0
        self.best = 0.0
        self._later: list[_Later] = []

    def play(self, watcher: Watcher) -> None:
        """Let all users come, in the order of the world's time."""
        world = self._world
        for person in self._people:
            self._buy(person, person.spec.owns, "owns")
            self._live(person)
        end_ms = world.start_ms + self._span_ms
        streams = [self._visits(person, end_ms) for person in self._people]
        for at_ms, number, visit in heapq.merge(*streams):
            self._say_until(at_ms)
            if self.moods[number].churned_ms is None:
                self._visit(self._people[number], visit)
            watcher("playing", at_ms - world.start_ms, self._span_ms)
        self._say_until(None)

    def _visits(self, person: Person, end_ms: int) -> Iterator[tuple[int, int, Visit]]:
        for visit in self._world.visits(person, end_ms):
            yield visit.at_ms, person.number, visit

    def _visit(self, person: Person, visit: Visit) -> None:
        world, mood = self._world, self.moods[person.number]
        if world.leaves(person, visit, mood):
            return
        asked = world.opportunity(person, visit, mood, "")
        request = GetOfferRequest(
            request_id=f"visit-{visit.number}",
            user_id=person.user_id,
            session_id=asked.session_id,
            placement_ids=asked.placements,
            context=_context(asked.context),
            view=DECISION_VIEW_FULL,
        )
        response = self._decisions.GetOffer(request, timeout=_DEADLINE_S)
        decision = response.decisions[0]
        self._check(decision)
        action = self._judge(person, mood, asked.context, decision)
        if action.index == NO_OFFER:
            return
        chances = world.answers(person, mood, asked.context, action, visit.at_ms)
        answer = world.response(person, visit, chances)
        said: list[model.OutcomeKind] = ["shown"]
        world.feel(mood, action, "shown", visit.at_ms)

        def wait(after_ms: int, kind: model.OutcomeKind) -> None:
            at_ms = visit.at_ms + after_ms
            later = _Later(at_ms, person.number, decision.decision_id, kind, action)
            heapq.heappush(self._later, later)

        if answer.kind == "accepted" and answer.after_ms > world.spec.answers.within:
            mood.deciding.add(action.offer_id)
            wait(answer.after_ms, "accepted")
        else:
            world.feel(mood, action, answer.kind, visit.at_ms)
            if answer.kind != "ignored":
                said.append(answer.kind)
        if answer.refund_ms is not None:
            wait(answer.refund_ms, "refunded")
        self._report(decision.decision_id, said, action)
        if "accepted" in said:
            self._granted(person, action, decision.decision_id)

    def _say_until(self, at_ms: int | None) -> None:
        """Let happen what comes later than its visit; all of it without a time."""
        while self._later and (at_ms is None or self._later[0].at_ms <= at_ms):
            later = heapq.heappop(self._later)
            mood, person = self.moods[later.user], self._people[later.user]
            self._world.feel(mood, later.action, later.kind, later.at_ms)
            self._report(later.decision_id, [later.kind], later.action)
            if later.kind == "accepted":
                self._granted(person, later.action, later.decision_id)
            else:
                self._withdrawn(person, later.action, later.decision_id)

    def _check(self, decision: Decision) -> None:
        served, mine = decision.catalogue_version, self._world.catalogue.version
        if served != mine:
            raise WorldError(
                f"the server serves catalogue {served}, the world is of {mine}"
            )

    def _judge(
        self, person: Person, mood: Mood, context: model.Context, decision: Decision
    ) -> Action:
        """Add up what the decision is worth; return what was chosen."""
        chosen = self._of(decision)
        eligible = [self._of(candidate) for candidate in decision.candidates]
        truth = self._world.expected(person, mood, context, [chosen, *eligible])
        self.decisions += 1
        self.expected += truth[0]
        self.best += max(truth)
        return chosen

    def _of(self, named: object) -> Action:
        key = (
            getattr(named, "offer_id", ""),
            getattr(named, "creative_id", ""),
            getattr(named, "placement_id", ""),
        )
        return self._actions[key] if key[0] else self._world.catalogue.actions[0]

    def _report(
        self, decision_id: str, kinds: list[model.OutcomeKind], action: Action
    ) -> None:
        self.counts.update(kinds)
        report = ReportOutcomeRequest(
            decision_id=decision_id,
            outcomes=[self._outcome(kind, action) for kind in kinds],
        )
        self._decisions.ReportOutcome(report, timeout=_DEADLINE_S)

    def _outcome(self, kind: model.OutcomeKind, action: Action) -> Outcome:
        outcome = Outcome(
            outcome_id=kind, kind=OutcomeKind.Value(f"OUTCOME_KIND_{kind.upper()}")
        )
        if kind in ("accepted", "refunded"):
            outcome.revenue.currency_code = self._world.catalogue.currency
            outcome.revenue.minor_units = action.merits.price
        if kind == "snoozed":
            now_ms = time.time_ns() // 1_000_000
            until_ms = now_ms + int(self._world.spec.answers.snooze_for)
            outcome.snooze_until.FromMilliseconds(until_ms)
        return outcome

    def _granted(self, person: Person, action: Action, event_id: str) -> None:
        grants = self._world.catalogue.offers[action.offer_id].spec.grants
        self._buy(person, grants, event_id)

    def _withdrawn(self, person: Person, action: Action, event_id: str) -> None:
        grants = self._world.catalogue.offers[action.offer_id].spec.grants
        if not grants:
            return
        request = RecordEventRequest(
            user_id=person.user_id,
            event_id=f"{event_id}-refunded",
            source=_SOURCE,
            cancelled=Cancellation(product_ids=grants),
        )
        self._users.RecordEvent(request, timeout=_DEADLINE_S)

    def _live(self, person: Person) -> None:
        if not person.states:
            return
        request = SetUserStateRequest(
            user_id=person.user_id,
            event_id="states",
            source=_SOURCE,
            life_states={name: LifeStateUpdate(active=True) for name in person.states},
        )
        self._users.SetUserState(request, timeout=_DEADLINE_S)

    def _buy(self, person: Person, products: tuple[str, ...], event_id: str) -> None:
        if not products:
            return
        request = RecordEventRequest(
            user_id=person.user_id,
            event_id=event_id,
            source=_SOURCE,
            purchased=Purchase(product_ids=products),
        )
        self._users.RecordEvent(request, timeout=_DEADLINE_S)


def _context(context: model.Context) -> Context:
    return Context(
        role=context.role,
        segment=context.segment,
        usage={name: _usage(usage) for name, usage in context.usage.items()},
        moment=Moment(kind=context.moment.kind),
        features={name: _feature(value) for name, value in context.features.items()},
    )


def _usage(usage: model.Usage) -> Usage:
    def stamp(at_ms: int | None) -> Timestamp | None:
        if at_ms is None:
            return None
        return Timestamp(seconds=at_ms // 1_000, nanos=at_ms % 1_000 * 1_000_000)

    return Usage(
        value=usage.value,
        limit=usage.limit,
        per_day=usage.per_day,
        cycle_start_time=stamp(usage.since_ms),
        cycle_end_time=stamp(usage.until_ms),
    )


def _feature(value: model.FeatureValue) -> FeatureValue:
    if isinstance(value, bool):
        return FeatureValue(flag=value)
    if isinstance(value, str):
        return FeatureValue(category=value)
    return FeatureValue(number=value)
