"""What a gate is, what it is made from, and what it can see."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from operator import attrgetter
from typing import ClassVar, Literal, NamedTuple, Protocol, Self
from zoneinfo import ZoneInfo

from policies.gates.clocks import offset_ms
from policies.model import (
    NO_CONDITIONS,
    NO_HISTORY,
    Action,
    Conditions,
    EventKind,
    History,
    Opportunity,
    Reservation,
    Subject,
    Track,
)
from policies.rules import Expression, Rule, Variables, over_ms
from policies.specs import CatalogueSpec, CreativeSpec, OfferSpec, PlacementSpec

__all__ = [
    "Because",
    "Facts",
    "Gate",
    "Happening",
    "Per",
    "Ruling",
    "Scope",
    "Situation",
]

_DAY_MS = 86_400_000
_at_ms = attrgetter("at_ms")
_RECENT_MS = 35 * _DAY_MS  # What most windows lie in: a month, and clocks put back.
_COUNTED_MAX = 1_000  # The largest limit of a cap, for the highest engagement.
_MANY = frozenset(["decided", "shown"])  # Much happens that nothing ever comes of.

Scope = Literal["placement", "offer", "action"]
"""What a gate tells apart.

A gate of scope `placement` looks at nothing of an offer, one of scope `offer` at
nothing of creatives and placements; it is asked once for each of what it tells apart.
"""

Per = Literal["user", "account"]


class Ruling(NamedTuple):
    """Why a gate does not let an action through.

    Attributes:
        reason: The code, as the contract names it.
        next_eligible_ms: When the gate would let it through if nothing else
            happened; none where time alone changes nothing.
    """

    reason: str
    next_eligible_ms: int | None = None


class Because(NamedTuple):
    """What a gate found, for people.

    Attributes:
        found: The value that failed, such as `shown 2 times in 7d`.
        needed: What would have had to differ, such as `at most 1 before`.
    """

    found: str
    needed: str


class Happening(NamedTuple):
    """Something that counts.

    Attributes:
        at_ms: When it was; for a reservation, when it ends by itself.
        subject: What it was about.
        reserved: Whether it is a reservation: it counts now, and until it ends.
    """

    at_ms: int
    subject: Subject
    reserved: bool = False


class _Recent(NamedTuple):
    """What happened lately, arranged once for all who ask.

    Attributes:
        from_ms: From when on it is known.
        times: When it was, ascending; infinity for reservations.
        happenings: What it was, likewise.
    """

    from_ms: float
    times: list[float]
    happenings: list[Happening]


class Facts(NamedTuple):
    """What a gate is made from: the catalogue, and a part of it.

    Attributes:
        catalogue: All of it.
        rule: Compiles a rule, equal ones once.
        expression: Compiles an expression that gives any value, equal ones once.
        offer_id: The offer, for gates of scope `offer` and `action`.
        placement_id: The placement, for gates of scope `placement` and `action`.
        creative_id: The creative, for gates of scope `action`.
    """

    catalogue: CatalogueSpec
    rule: Callable[[str], Rule]
    expression: Callable[[str], Expression]
    offer_id: str = ""
    offer: OfferSpec = OfferSpec()
    placement_id: str = ""
    placement: PlacementSpec = PlacementSpec()
    creative_id: str = ""
    creative: CreativeSpec = CreativeSpec()


class Gate(Protocol):
    """A rule that may rule actions out: a frozen dataclass, pure, and equal by value.

    Attributes:
        name: What it is called in `[gates]` and in explanations.
        scope: What it tells apart.
        of_history: Whether it rejects for a past with the very offer, and for nothing
            else: it need not be asked where there is none. One of scope `offer` that is
            not of history treats offers alike for which it is equal, but for those
            that `Situation.touched` names.
        bypassed: Whether offers of `override = "critical"` go past it.
        indexed: Whether the catalogue's index has asked it already, so that only
            explanations ask it again.
    """

    name: ClassVar[str]
    scope: ClassVar[Scope]
    of_history: ClassVar[bool]
    bypassed: ClassVar[bool]
    indexed: ClassVar[bool]

    @classmethod
    def of(cls, facts: Facts) -> Iterable[Self]:
        """Make what a catalogue asks for of this gate; nothing where it does not."""
        ...

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return why the action may not be shown; none where it may."""
        ...

    def because(self, action: Action, situation: Situation) -> Because:
        """Return what was found, where `reject` has returned a ruling."""
        ...


class Situation:
    """What gates can see, arranged so that each looks only where it must.

    Args:
        opportunity: What is asked.
        history: What is known of the user's past.
        account: What is known of the account's past; nothing for a user without one.
        conditions: What holds for everybody.
        reads: What the rules look at, as in `policies.rules.Variables`.
        zone: The time zone of users who have named none.

    Attributes:
        named: The offers that somebody has named: the user, in a snooze or an opt-out,
            the same call, a stop, an inventory that is used up.
        touched: Those, and the offers that the user or the account has a past with.
        owned: The products that the user or the account has, and since when.
        pending: The products that they are about to have now.
        role: What the user may do in the account; empty where nobody said.
    """

    def __init__(
        self,
        opportunity: Opportunity,
        history: History,
        account: History = NO_HISTORY,
        conditions: Conditions = NO_CONDITIONS,
        *,
        reads: frozenset[str] | None = None,
        zone: str = "UTC",
    ) -> None:
        self.opportunity = opportunity
        self.history = history
        self.account = account
        self.conditions = conditions
        self.at_ms = opportunity.at_ms
        self.histories = (history,) if account is NO_HISTORY else (history, account)
        state, shared = history.state, account.state
        self.owned: Mapping[str, int] = state.owned
        if shared.owned:
            self.owned = {**state.owned, **shared.owned}
        self.pending: Mapping[str, int] = state.pending
        if state.pending or shared.pending:
            self.pending = _pending(state.pending, shared.pending, self.at_ms)
        self.role = opportunity.context.role or state.role or shared.role
        self.variables = Variables(opportunity, reads, history=history, account=account)
        self._zone = zone
        nothing = not (history.tracks or history.reservations)
        # Most users are new ones: nothing is known of them.
        self._nothing: dict[Per, bool] = {"user": nothing, "account": nothing}
        self._per: dict[Per, Per] = {"user": "user", "account": "user"}
        if account is not NO_HISTORY:
            self._nothing["account"] = not (account.tracks or account.reservations)
            self._per["account"] = "account"
        self._held: dict[Rule, bool] = {}
        self._happenings: dict[tuple[Per, EventKind], list[Happening]] = {}
        self._recent: dict[tuple[Per, EventKind], _Recent] = {}
        self._of_offers: dict[tuple[Per, EventKind, str], list[Happening]] = {}
        self._last: dict[tuple[Per, EventKind], dict[str, float]] = {}
        self._by_offer: dict[Per, dict[str, list[Track]]] = {}
        self._touched: frozenset[str] | None = None
        self._named: frozenset[str] | None = None

    def holds(self, rule: Rule) -> bool:
        """Say whether a rule holds; each is evaluated once."""
        held = self._held.get(rule)
        if held is None:
            held = self._held[rule] = rule.holds(self.variables)
        return held

    @cached_property
    def zone(self) -> ZoneInfo:
        """The user's time zone, or the account's, or else the catalogue's."""
        own = self.history.preferences.zone or self.account.preferences.zone
        return _zone(own or self._zone, self._zone)

    @cached_property
    def clock_ms(self) -> int:
        """How many milliseconds after midnight a clock shows where the user is."""
        return (self.at_ms + offset_ms(self.at_ms, self.zone)) % _DAY_MS

    def happenings(self, kind: EventKind, per: Per = "user") -> list[Happening]:
        """Return what happened to the user or to the account, in no certain order.

        What is known by number only comes as that many happenings at the time of the
        last of them, at most 1,000. A live reservation counts as `shown`, and as
        nothing else: its decision is among the `decided` anyway. Who has no account
        is one.
        """
        key = (per, kind)
        found = self._happenings.get(key)
        if found is None:
            history = self._whose(per)
            found = _happenings(history.tracks, kind, -math.inf)
            found += _held(history.reservations, kind, self.at_ms)
            self._happenings[key] = found
        return found

    def since(
        self, kind: EventKind, since_ms: int, per: Per = "user"
    ) -> list[Happening]:
        """Return of the happenings those from a time on, and all reservations.

        This is cheap where they are few, however many there were before.
        """
        if self._nothing[per]:
            return []
        per = self._per[per]
        recent = self._recent.get((per, kind))
        if recent is None or since_ms < recent.from_ms:
            recent = self._arrange(kind, since_ms, per)
        return recent.happenings[bisect_left(recent.times, since_ms) :]

    def happenings_of(
        self, offer_id: str, kind: EventKind, per: Per = "user"
    ) -> Sequence[Happening]:
        """Return of the happenings those of one offer."""
        key = (per, kind, offer_id)
        found = self._of_offers.get(key)
        if found is None:
            found = _happenings(self._tracks(per).get(offer_id, ()), kind, -math.inf)
            reservations = self._whose(per).reservations
            if reservations:
                held = [r for r in reservations if r.subject.offer_id == offer_id]
                found += _held(held, kind, self.at_ms)
            self._of_offers[key] = found
        return found

    def last_ms(self, offer_id: str, kind: EventKind, per: Per = "user") -> float:
        """Return when it happened last with an offer: a look that costs little.

        That is infinity where it still may, since it is reserved, and minus infinity
        where it never did.
        """
        if self._nothing[per]:
            return -math.inf
        per = self._per[per]
        last = self._last.get((per, kind))
        if last is None:
            last = self._last[per, kind] = _last(self._whose(per), kind)
        return last.get(offer_id, -math.inf)

    def session_since_ms(self, per: Per = "user") -> int | None:
        """Return when the user's visit began; none where this is its first decision."""
        del per  # A visit is one user's.
        session_id = self.opportunity.session_id
        for session in self.history.sessions:
            if session.session_id == session_id:
                return session.since_ms
        return None

    @cached_property
    def life_over_ms(self) -> float:
        """When the last life-state of the user and the account is over, or was."""
        return max(
            [
                over_ms(state)
                for history in self.histories
                for state in history.state.life.values()
            ],
            default=-math.inf,
        )

    @cached_property
    def contacted_ms(self) -> float:
        """When the user or the account was contacted last, about anything."""
        times = [ms for history in self.histories for ms in history.contacts.values()]
        return max(times, default=-math.inf)

    @property
    def named(self) -> frozenset[str]:  # noqa: D102 - described above
        if self._named is None:
            self._named = self._find_named()
        return self._named

    @property
    def touched(self) -> frozenset[str]:  # noqa: D102 - described above
        if self._touched is None:
            self._touched = self._find_touched()
        return self._touched

    def _find_named(self) -> frozenset[str]:
        named: set[str] = set()
        if self.opportunity.earlier:
            named.update([offer_id for offer_id, _ in self.opportunity.earlier])
        for history in self.histories:
            if history is not NO_HISTORY:
                named.update(history.snoozes)
                named.update(_named("offer:", history.preferences.opt_outs))
        if self.conditions is not NO_CONDITIONS:
            named.update(_named("offer:", self.conditions.stopped))
            named.update(_named("inventory:", self.conditions.exhausted))
        return frozenset(named)

    def _find_touched(self) -> frozenset[str]:
        if self._nothing["user"] and self._nothing["account"]:
            return self.named
        touched = set(self.named)
        for history in self.histories:
            if history is not NO_HISTORY:
                touched.update([track.subject.offer_id for track in history.tracks])
                touched.update([r.subject.offer_id for r in history.reservations])
        return frozenset(touched)

    def _whose(self, per: Per) -> History:
        if per == "account" and self.account is not NO_HISTORY:
            return self.account
        return self.history

    def _arrange(self, kind: EventKind, since_ms: int, per: Per) -> _Recent:
        """Arrange what happened since then or, as that is often asked, for longer."""
        few = per == "user" and kind not in _MANY
        from_ms = -math.inf if few else min(since_ms, self.at_ms - _RECENT_MS)
        history = self._whose(per)
        found = _happenings(history.tracks, kind, from_ms)
        found.sort(key=_at_ms)
        times: list[float] = [happening.at_ms for happening in found]
        held = _held(history.reservations, kind, self.at_ms)
        if held:
            # Whenever they end, they count until then.
            found += held
            times += [math.inf] * len(held)
        recent = self._recent[per, kind] = _Recent(from_ms, times, found)
        return recent

    def _tracks(self, per: Per) -> dict[str, list[Track]]:
        """Return what is known of each offer."""
        found = self._by_offer.get(per)
        if found is None:
            found = self._by_offer[per] = {}
            for track in self._whose(per).tracks:
                found.setdefault(track.subject.offer_id, []).append(track)
        return found


def _pending(
    mine: Mapping[str, int], shared: Mapping[str, int], at_ms: int
) -> dict[str, int]:
    later = {p: max(until, mine.get(p, until)) for p, until in shared.items()}
    return {p: until for p, until in {**mine, **later}.items() if until > at_ms}


def _named(prefix: str, scopes: Iterable[str]) -> list[str]:
    return [scope.removeprefix(prefix) for scope in scopes if scope.startswith(prefix)]


def _happenings(
    tracks: Iterable[Track], kind: EventKind, since_ms: float
) -> list[Happening]:
    found: list[Happening] = []
    for track in tracks:
        tally = track.tallies.get(kind)
        if tally is None:
            continue
        times = tally.times
        if times and times[-1] >= since_ms:
            if times[0] < since_ms:
                times = times[bisect_left(times, since_ms) :]
            subject = track.subject
            found += [Happening(time_ms, subject) for time_ms in times]
        if tally.past_ms >= since_ms and tally.past:
            known = min(tally.past, _COUNTED_MAX)
            found += [Happening(tally.past_ms, track.subject)] * known
    return found


def _last(history: History, kind: EventKind) -> dict[str, float]:
    """Return by offer when it happened last."""
    last: dict[str, float] = {}
    for track in history.tracks:
        tally = track.tallies.get(kind)
        if tally is None or not (tally.times or tally.past):
            continue
        last_ms = tally.times[-1] if tally.times else tally.past_ms
        if tally.past and tally.past_ms > last_ms:
            last_ms = tally.past_ms
        offer_id = track.subject.offer_id
        if offer_id not in last or last_ms > last[offer_id]:
            last[offer_id] = last_ms
    if kind == "shown":
        for held in history.reservations:
            last[held.subject.offer_id] = math.inf
    return last


def _held(
    reservations: Iterable[Reservation], kind: EventKind, at_ms: int
) -> list[Happening]:
    if kind != "shown":
        return []
    return [
        Happening(held.until_ms, held.subject, reserved=True)
        for held in reservations
        if held.until_ms > at_ms
    ]


@lru_cache(maxsize=1_024)
def _zone(name: str, otherwise: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        # Known where it was set, but not to the time zone data of this machine.
        return ZoneInfo(otherwise)
