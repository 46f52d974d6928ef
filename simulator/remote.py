"""Plays a world against a running server, over gRPC: the one module that speaks it.

The server's time is real and nobody's to change: visits come one after the other, as
fast as it answers, in the order that they have in the world. Caps and cool-downs go by
the server's clock, the users' moods by the world's. What is taken back is not played.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Iterator

import grpc
import msgspec
from google.protobuf.timestamp_pb2 import Timestamp

from opportune.v1 import (
    DECISION_VIEW_FULL,
    Context,
    Decision,
    DecisionServiceStub,
    FeatureValue,
    GetOfferRequest,
    Moment,
    Outcome,
    OutcomeKind,
    Purchase,
    RecordEventRequest,
    ReportOutcomeRequest,
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
        expected=playing.expected / n,
        regret=(playing.best - playing.expected) / n,
        churned=sum(mood.churned_ms is not None for mood in moods) / users,
    )


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

    def play(self, watcher: Watcher) -> None:
        """Let all users come, in the order of the world's time."""
        world = self._world
        for person in self._people:
            self._buy(person, person.spec.owns, "owns")
        end_ms = world.start_ms + self._span_ms
        streams = [self._visits(person, end_ms) for person in self._people]
        later: list[tuple[int, int, str, Action]] = []
        for at_ms, number, visit in heapq.merge(*streams):
            while later and later[0][0] <= at_ms:
                self._accept(heapq.heappop(later))
            if self.moods[number].churned_ms is None:
                self._visit(self._people[number], visit, later)
            watcher("playing", at_ms - world.start_ms, self._span_ms)
        while later:
            self._accept(heapq.heappop(later))

    def _visits(self, person: Person, end_ms: int) -> Iterator[tuple[int, int, Visit]]:
        for visit in self._world.visits(person, end_ms):
            yield visit.at_ms, person.number, visit

    def _visit(
        self,
        person: Person,
        visit: Visit,
        later: list[tuple[int, int, str, Action]],
    ) -> None:
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
        said = ["shown"]
        world.feel(mood, action, "shown", visit.at_ms)
        if answer.kind == "accepted" and answer.after_ms > world.spec.answers.within:
            mood.deciding.add(action.offer_id)
            at_ms = visit.at_ms + answer.after_ms
            entry = (at_ms, person.number, decision.decision_id, action)
            heapq.heappush(later, entry)
        elif answer.kind != "ignored":
            said.append(answer.kind)
            world.feel(mood, action, answer.kind, visit.at_ms)
        else:
            world.feel(mood, action, "ignored", visit.at_ms)
        self._report(decision.decision_id, said, action)
        if "accepted" in said:
            self._granted(person, action, decision.decision_id)

    def _accept(self, entry: tuple[int, int, str, Action]) -> None:
        at_ms, number, decision_id, action = entry
        self._world.feel(self.moods[number], action, "accepted", at_ms)
        self._report(decision_id, ["accepted"], action)
        self._granted(self._people[number], action, decision_id)

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

    def _report(self, decision_id: str, kinds: list[str], action: Action) -> None:
        self.counts.update(kinds)
        report = ReportOutcomeRequest(
            decision_id=decision_id,
            outcomes=[self._outcome(kind, action) for kind in kinds],
        )
        self._decisions.ReportOutcome(report, timeout=_DEADLINE_S)

    def _outcome(self, kind: str, action: Action) -> Outcome:
        outcome = Outcome(
            outcome_id=kind, kind=OutcomeKind.Value(f"OUTCOME_KIND_{kind.upper()}")
        )
        if kind == "accepted":
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
