"""Drives a real server through random histories, with the model beside it.

After every decision both must say the same of every action: what could have been
chosen, what could not and for which of its reasons, and when that is over.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
)

from opportune.v1 import (
    DECISION_VIEW_FULL,
    BeginCriticalRequest,
    CheckDecisionRequest,
    Decision,
    EndCriticalRequest,
    ExplainDecisionRequest,
    Explanation,
    GetOfferRequest,
    RecordEventRequest,
    SetPreferencesRequest,
    SetUserStateRequest,
)
from policies.commands import Command, LeaseBegin, LeaseEnd
from policies.model import Context, OutcomeKind
from policies.specs import CatalogueSpec
from server.stores.opening import migrate_store
from tests.reference import moves
from tests.reference.catalogues import RULES, TEXTS
from tests.reference.comparing import Comparison, reason_of
from tests.reference.model import Sight, standing
from tests.reference.nouns import Asked, No, counts_decisions, limit_of, needs_of
from tests.reference.past import Decided, Past, Reported, Told, Who
from tests.server import kit

__all__ = ["TALLY", "Machine", "close_loop"]

_T = TypeVar("_T")

TALLY: Counter[str] = Counter()
"""What all machines of this process have seen: decisions, refusals, outcomes."""

_REFUSED_MS = 250
"""For how long a server believes that nothing is left."""


class _Call(NamedTuple):
    """A request that was answered."""

    request: GetOfferRequest
    decisions: tuple[str, ...]


class _Hint(NamedTuple):
    """A time at which a request may be answered otherwise."""

    at_ms: int
    asked: Asked


class Machine(RuleBasedStateMachine):
    """A server over one file, some users, a clock that jumps; and the model.

    Attributes:
        first: The catalogue that is offered first; any, where it is none.
    """

    first: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.loop = _loop()
        self.folder = tempfile.TemporaryDirectory(prefix="machine")
        self.path = Path(self.folder.name) / "opportune.db"
        shutil.copy(_empty_store(), self.path)
        self.clock = kit.Clock(kit.NOON_MS)
        self.catalogue = 0
        self.past = Past()
        self.stopped: set[str] = set()
        self.offered: list[Decided] = []
        self.asked: dict[str, Asked] = {}
        self.calls: list[_Call] = []
        self.hints: list[_Hint] = []
        self.refused: dict[str, int] = {}
        self.numbers = 0
        self.asked_since = 0
        self.stack = AsyncExitStack()

    @initialize(
        catalogue=st.integers(0, len(TEXTS) - 1), start_ms=st.sampled_from(moves.STARTS)
    )
    def begin(self, catalogue: int, start_ms: int) -> None:
        self.catalogue = catalogue if self.first is None else self.first
        self.clock.now_ms = start_ms
        self.run(self.start())

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.folder.cleanup()

    # --- The server -----------------------------------------------------------------

    def run(self, what: Awaitable[_T]) -> _T:
        return self.loop.run_until_complete(what)

    async def start(self) -> None:
        settings = kit.settings_of(self.path, epsilon=0.9)
        self.shop = await self.stack.enter_async_context(
            kit.running(self.path, TEXTS[self.catalogue], self.clock, settings)
        )

    @property
    def spec(self) -> CatalogueSpec:
        return self.shop.services.current.catalogue.spec

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    @precondition(lambda self: self.asked_since >= (3 if self.stopped else 8))
    @rule(
        what=st.sampled_from(["catalogue", "restart", "stop"]),
        catalogue=st.integers(0, len(TEXTS) - 1),
        scope=st.sampled_from(moves.SCOPES),
    )
    def operate(self, what: str, catalogue: int, scope: str) -> None:
        """Do what operators do: now and then, or nothing else would ever happen."""
        TALLY[what] += 1
        self.asked_since = 0
        if what == "restart":
            self.run(self.stack.aclose())
            self.run(self.start())
        elif what == "catalogue":
            self.catalogue = catalogue
            self.run(kit.change_catalogue(self.shop, TEXTS[catalogue]))
        elif self.stopped:
            self.stop(min(self.stopped), resume=True)
        else:
            self.stop(scope, resume=False)

    def stop(self, scope: str, *, resume: bool) -> None:
        self.run(kit.stop(self.shop, scope, resume=resume))
        (self.stopped.discard if resume else self.stopped.add)(scope)

    def tidy(self) -> None:
        """Do what a worker does twice a second."""
        self.run(self.shop.services.supplies.tidy())

    # --- Time -----------------------------------------------------------------------

    @rule(span_ms=st.sampled_from(moves.SPANS))
    def advance(self, span_ms: int) -> None:
        self.clock.advance(span_ms)

    @rule(span_ms=st.sampled_from(moves.BACK))
    def put_back(self, span_ms: int) -> None:
        self.clock.advance(-span_ms)

    @rule(at=st.integers(0, 9), off_ms=st.sampled_from([0, -1, 1]), ask=st.booleans())
    def jump(self, at: int, off_ms: int, ask: bool) -> None:
        """Go to where the server said that something ends, and ask the same again."""
        ahead = [hint for hint in self.hints if hint.at_ms > self.clock.now_ms + 1]
        if not ahead:
            return
        hint = ahead[at % len(ahead)]
        self.clock.now_ms = hint.at_ms + off_ms
        self.hints.clear()
        if ask and set(hint.asked.placements) <= set(self.spec.placements):
            self.ask(hint.asked)

    @rule(off_ms=st.sampled_from([0, -1, -1_800_000, 1_800_000]))
    def switch(self, off_ms: int) -> None:
        """Go to where clocks are put forward or back next."""
        ahead = [ms for ms in moves.SWITCHES if ms > self.clock.now_ms]
        if ahead:
            self.clock.now_ms = max(ahead[0] + off_ms, self.clock.now_ms)

    # --- What is told ---------------------------------------------------------------

    @rule(
        who=moves.anybody, says=moves.state_changes, event_id=st.sampled_from(["", "a"])
    )
    def set_state(self, who: Who, says: moves.Saying, event_id: str) -> None:
        self.tell(who, event_id, says, SetUserStateRequest)

    @rule(
        who=moves.anybody, says=moves.preferences, event_id=st.sampled_from(["", "b"])
    )
    def set_preferences(self, who: Who, says: moves.Saying, event_id: str) -> None:
        self.tell(who, event_id, says, SetPreferencesRequest)

    @rule(who=moves.anybody, says=moves.events)
    def record_event(self, who: Who, says: moves.Saying) -> None:
        self.tell(who, "", says, RecordEventRequest)

    @rule(
        who=moves.anybody,
        key=st.sampled_from("xy"),
        ttl_ms=st.sampled_from([600_000, 1_000, 3_600_000, 0, 86_400_000]),
        inline=st.booleans(),
    )
    def critical(self, who: Who, key: str, ttl_ms: int, inline: bool) -> None:
        """Begin a critical workflow or, where it has no length, end it."""

        def begin(request: Any, now_ms: int, _: CatalogueSpec) -> Command:
            request.key, request.allow_inline = key, inline
            request.ttl.FromMilliseconds(ttl_ms)
            return LeaseBegin(now_ms, key, now_ms + ttl_ms, inline)

        def end(request: Any, now_ms: int, _: CatalogueSpec) -> Command:
            request.key = key
            return LeaseEnd(now_ms, key)

        if ttl_ms:
            self.tell(who, "", moves.Saying(key, begin), BeginCriticalRequest)
        else:
            self.tell(who, "", moves.Saying(key, end), EndCriticalRequest)

    def tell(
        self, who: Who, event_id: str, says: moves.Saying, kind: Callable[..., Any]
    ) -> None:
        """Tell something, and note it unless the same was told before."""
        event_id = event_id or f"event-{self.number()}"
        request = kind(
            user_id=who.user_id, account_id=who.account_id, event_id=event_id
        )
        command = says(request, self.clock.now_ms, self.spec)
        method = kind.__name__.removesuffix("Request")
        response = self.run(getattr(self.shop.users, method)(request))
        event = Told(who, event_id, command)
        assert self.past.note(event) is not response.duplicate, f"{event}: a repeat?"
        TALLY["told"] += 1

    # --- Outcomes -------------------------------------------------------------------

    @precondition(lambda self: self.offered)
    @rule(
        back=st.sampled_from([0, 1, 0, 2, 3, 0, 6]),
        kinds=st.lists(st.sampled_from(moves.KINDS), min_size=1, max_size=2),
        occurred=st.sampled_from(moves.OCCURRED),
        snooze_ms=st.sampled_from(moves.SNOOZES),
        again=st.booleans(),
    )
    def report_late(
        self,
        *,
        back: int,
        kinds: list[OutcomeKind],
        occurred: str,
        snooze_ms: int,
        again: bool,
    ) -> None:
        """Report something of one of the latest offers, early or late or twice."""
        decided = self.offered[-1 - back % len(self.offered)]
        self.report(decided, kinds, occurred, snooze_ms=snooze_ms, again=again)

    def report(
        self,
        decided: Decided,
        kinds: Sequence[OutcomeKind],
        occurred: str = "now",
        *,
        snooze_ms: int = kit.HOUR_MS,
        again: bool = True,
    ) -> None:
        now_ms = self.clock.now_ms
        at_ms = moves.occurred_ms(occurred, decided.at_ms, now_ms)
        true_ms = moves.clamped_ms(at_ms, decided.at_ms, now_ms)
        outcomes, news = [], []
        for kind in kinds:
            name = kind if again else f"{kind}-{self.number()}"
            until_ms = decided.at_ms + snooze_ms if kind == "snoozed" else None
            outcome = kit.outcome(
                kit.kind_of(kind.upper()), at_ms=at_ms, outcome_id=name
            )
            if until_ms is not None:
                outcome.snooze_until.CopyFrom(kit.timestamp(until_ms))
            outcomes.append(outcome)
            news.append(Reported(decided, name, kind, true_ms, now_ms, until_ms))
        results = self.run(self.shop.tell(decided.decision_id, *outcomes))
        for result, event in zip(results, news, strict=True):
            assert self.past.note(event) is not result.duplicate, f"{event}: a repeat?"
        TALLY["outcome"] += len(news)

    # --- Decisions ------------------------------------------------------------------

    @rule(who=moves.users, context=moves.contexts, session=moves.sessions)
    def ask_everywhere(self, who: Who, context: Context, session: str) -> None:
        here = tuple(self.spec.placements)
        self.ask(Asked(who, 0, here, (), session, self.anchored(context)))

    @rule(
        who=moves.users,
        places=moves.places,
        offers=st.lists(st.integers(0, 30), max_size=4),
        context=moves.contexts,
        session=moves.sessions,
        most=st.integers(1, 3),
    )
    def ask_for_several(
        self,
        *,
        who: Who,
        places: list[int],
        offers: list[int],
        context: Context,
        session: str,
        most: int,
    ) -> None:
        here, only = self.placements(places), _some(self.spec.offers, offers)
        context = self.anchored(context)
        self.ask(Asked(who, 0, here, only, session, context, most=most))

    @rule(
        who=moves.users,
        places=moves.places,
        session=moves.sessions,
        then=st.sampled_from(moves.THEN),
        gap_ms=st.sampled_from(moves.GAPS),
        times=st.integers(1, 4),
        most=st.integers(1, 3),
    )
    def live(
        self,
        *,
        who: Who,
        places: list[int],
        session: str,
        then: OutcomeKind,
        gap_ms: int,
        times: int,
        most: int,
    ) -> None:
        """Come again and again, and do the same with what there is to see."""
        for _ in range(times):
            before = len(self.offered)
            here, context = self.placements(places), self.anchored(moves.PLAIN)
            self.ask(Asked(who, 0, here, (), session, context, most=most))
            for decided in self.offered[before:]:
                self.report(decided, [then])
            self.clock.advance(gap_ms)

    @precondition(lambda self: self.calls)
    @rule(back=st.integers(0, 5))
    def ask_again(self, back: int) -> None:
        """Retry a request: the answer is the same, whatever has happened since."""
        call = self.calls[-1 - back % len(self.calls)]
        response = self.run(self.shop.stub.GetOffer(call.request))
        ids = tuple(decision.decision_id for decision in response.decisions)
        assert ids == call.decisions, "a retry was answered otherwise"
        TALLY["retry"] += 1

    @precondition(lambda self: self.offered)
    @rule(back=st.integers(0, 4))
    def check(self, back: int) -> None:
        """Ask whether what was decided may still be shown."""
        decided = self.offered[-1 - back % len(self.offered)]
        request = CheckDecisionRequest(decision_id=decided.decision_id)
        response = self.run(self.shop.stub.CheckDecision(request))
        asked = self.asked[decided.decision_id]._replace(at_ms=self.clock.now_ms)
        why = {no.reason for no in self.standing(decided, asked)}
        said = reason_of(response.reason)
        named = f"{decided.offer_id} in {decided.placement_id}"
        assert said in (why or {""}), f"{named}: {said or 'stands'}, not {why}"
        TALLY[f"check: {said or 'stands'}"] += 1

    def placements(self, places: Sequence[int]) -> tuple[str, ...]:
        return _some(self.spec.placements, places)

    def anchored(self, context: Context) -> Context:
        return moves.anchored(context, self.clock.now_ms)

    def ask(self, asked: Asked) -> None:
        """Ask now, and compare what is answered."""
        self.asked_since += 1
        self.tidy()
        known = tuple(offer for offer in asked.offers if offer in self.spec.offers)
        asked = asked._replace(at_ms=self.clock.now_ms, offers=known, earlier=())
        request = GetOfferRequest(
            request_id=f"request-{self.number()}",
            user_id=asked.who.user_id,
            account_id=asked.who.account_id,
            session_id=asked.session_id,
            placement_ids=asked.placements,
            offer_ids=known,
            context=moves.context_to_proto(asked.context),
            max_decisions=asked.most,
            view=DECISION_VIEW_FULL,
        )
        kept = self.kept(asked) if asked.most == 1 else None
        response = self.run(self.shop.stub.GetOffer(request))
        ids = tuple(decision.decision_id for decision in response.decisions)
        self.calls.append(_Call(request, ids))
        if kept is not None:
            assert ids == (kept.decision_id,), f"{kept.offer_id} should stick"
            TALLY["sticky"] += 1
            return
        assert len(set(ids)) == len(ids), "one decision twice"
        assert not set(self.asked) & set(ids), "an earlier decision, unasked"
        self.compare_call(asked, response.decisions)

    def compare_call(self, asked: Asked, decisions: Sequence[Decision]) -> None:
        """Compare the decisions of a call, one after the other."""
        silent = [not decision.offer_id for decision in decisions]
        assert not any(silent[:-1]), "a decision after silence"
        assert silent[-1] or len(decisions) == asked.most, "silence is missing"
        for decision in decisions:
            self.compare(asked, decision)
            pair = (decision.offer_id, decision.placement_id)
            asked = asked._replace(earlier=(*asked.earlier, pair))

    def compare(self, asked: Asked, decision: Decision) -> None:
        """Compare a decision with what the model says, and note what was chosen."""
        request = ExplainDecisionRequest(decision_id=decision.decision_id)
        explanation = self.run(self.shop.stub.ExplainDecision(request))
        sight = self.sight(asked, exhausted=explanation.exhausted_supplies)
        comparison = Comparison(sight, decision, explanation, TALLY)
        comparison.compare()
        self.compare_supplies(sight, explanation)
        self.hints += [_Hint(end_ms, asked) for end_ms in comparison.ends]
        self.asked[decision.decision_id] = asked
        if decision.offer_id:
            self.choose(asked, decision)

    def compare_supplies(self, sight: Sight, explanation: Explanation) -> None:
        """What is said to be used up is used up, or this call might use it up."""
        spec, now_ms = sight.spec, sight.at_ms
        for said in explanation.exhausted_supplies:
            name = said.partition(">")[0]
            TALLY[f"exhausted: {name.partition(':')[0]}"] += 1
            if self.refused.get(name, 0) > now_ms:
                continue
            self.refused[name] = now_ms + _REFUSED_MS
            needs = [needs_of(spec, offer_id, now_ms) for offer_id in spec.offers]
            most = max(need[name] for need in needs if name in need)
            if name.startswith("budget:"):
                # The most that a call can take; what is left may be in small parts.
                most *= 2 * sight.asked.most
            taken = self.past.taken(name, now_ms, surely=False)
            limit = limit_of(spec, name)
            assert taken + most > limit, f"{name}: only {taken} of {limit} are taken"

    def choose(self, asked: Asked, decision: Decision) -> None:
        """Note what was chosen, as it is now."""
        spec = self.spec
        offer = spec.offers[decision.offer_id]
        placement = spec.placements[decision.placement_id]
        valid_until_ms = kit.ms(decision.valid_until)
        assert asked.at_ms < valid_until_ms <= asked.at_ms + int(spec.valid_for)
        assert list(decision.category_ids) == list(offer.categories)
        decided = Decided(
            decision_id=decision.decision_id,
            who=asked.who,
            session_id=asked.session_id,
            at_ms=asked.at_ms,
            offer_id=decision.offer_id,
            creative_id=decision.creative_id,
            placement_id=decision.placement_id,
            categories=offer.categories,
            weight=placement.weight,
            counted=offer.counted,
            decided_counts=counts_decisions(spec),
            valid_until_ms=valid_until_ms,
            over_ms=valid_until_ms + int(spec.report_grace),
            grants=offer.grants,
            shared=tuple(p for p in offer.grants if spec.products[p].shared),
            needs=tuple(needs_of(spec, decision.offer_id, asked.at_ms).items()),
            hold_ms=int(offer.hold),
            pending_ms=int(spec.provisioned_within),
            stuck_until_ms=min(asked.at_ms + int(placement.sticky), valid_until_ms),
        )
        for name, amount in decided.needs:
            taken = self.past.taken(name, asked.at_ms, surely=True)
            limit = limit_of(spec, name)
            assert taken + amount <= limit, f"{name}: {taken} of {limit} were taken"
        self.past.note(decided)
        self.offered.append(decided)
        TALLY["offer"] += 1

    def kept(self, asked: Asked) -> Decided | None:
        """Return the decision that a placement keeps to, if it may be shown now."""
        for decided in self.past.stuck(asked.who, asked.at_ms):
            if decided.placement_id not in asked.placements:
                continue
            if asked.offers and decided.offer_id not in asked.offers:
                continue
            if not self.standing(decided, asked):
                return decided
        return None

    def standing(self, decided: Decided, asked: Asked) -> list[No]:
        """Return why what was decided may not be shown, for what is asked now."""
        asked = asked._replace(
            offers=(decided.offer_id,), placements=(decided.placement_id,), earlier=()
        )
        return standing(self.sight(asked, without=decided), decided)

    def sight(
        self,
        asked: Asked,
        *,
        exhausted: Sequence[str] = (),
        without: Decided | None = None,
    ) -> Sight:
        return Sight(
            self.past,
            asked,
            self.spec,
            RULES,
            stopped=self.stopped,
            exhausted=exhausted,
            without=without,
        )


def close_loop() -> None:
    """End the event loop that all machines of this process share."""
    if _loop.cache_info().currsize:
        _loop().close()
        asyncio.set_event_loop(None)
        _loop.cache_clear()


def _some(names: Any, at: Sequence[int]) -> tuple[str, ...]:
    """Return the names at some places, counted round and round."""
    known = list(names)
    return tuple(dict.fromkeys(known[each % len(known)] for each in at))


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)  # Calls of the client are made where none is running.
    return loop


@cache
def _empty_store() -> Path:
    path = Path(tempfile.mkdtemp(prefix="machine")) / "opportune.db"
    migrate_store(f"sqlite:///{path}")
    return path
