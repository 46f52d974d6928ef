"""All that ever happened, in the order in which it was told; nothing is forgotten.

What is true of a user now is found by reading the list from its beginning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from policies.commands import (
    Command,
    LeaseBegin,
    LeaseEnd,
    LifeChange,
    PreferencesChange,
    StateChange,
    UserEvent,
)
from policies.model import EventKind, OutcomeKind, QuietHours

__all__ = [
    "CONFIRMING",
    "Decided",
    "Happened",
    "Lease",
    "Life",
    "Past",
    "Reported",
    "Snoozed",
    "Told",
    "Who",
]

CONFIRMING = [
    "shown",
    "viewed",
    "clicked",
    "accepted",
    "dismissed",
    "snoozed",
    "opted_out",
    "ignored",
]
"""What can only be said of an offer that was on the screen."""


_VISIT_MS = 86_400_000


class Who(NamedTuple):
    """A user within an account, a user who stands alone, or an account itself."""

    account_id: str
    user_id: str


@dataclass(frozen=True, eq=False)
class Decided:
    """An offer was chosen: all that was true of it at that moment.

    Attributes:
        over_ms: When a report that it was shown in time can come no more.
        decided_counts: Whether the catalogue counted decisions.
        needs: What it takes of which inventories and budgets.
        hold_ms: For how long those wait for an accept once it is shown.
        pending_ms: For how long what it gives is believed to come, once accepted.
        stuck_until_ms: Until when its placement keeps to it; its time if it does not.
    """

    decision_id: str
    who: Who
    session_id: str
    at_ms: int
    offer_id: str
    creative_id: str
    placement_id: str
    categories: tuple[str, ...]
    weight: float
    counted: bool
    decided_counts: bool
    valid_until_ms: int
    over_ms: int
    grants: tuple[str, ...]
    shared: tuple[str, ...]
    needs: tuple[tuple[str, int], ...]
    hold_ms: int
    pending_ms: int
    stuck_until_ms: int


@dataclass(frozen=True, eq=False)
class Reported:
    """Something came of a decision."""

    decided: Decided
    outcome_id: str
    kind: OutcomeKind
    at_ms: int
    told_ms: int
    snoozed_until_ms: int | None = None

    @property
    def who(self) -> Who:
        """Whose decision it was."""
        return self.decided.who


@dataclass(frozen=True, eq=False)
class Told:
    """The product said something of a user or an account."""

    who: Who
    event_id: str
    command: Command


class Happened(NamedTuple):
    """Something that caps can count.

    Attributes:
        reserved: Whether it is a decision that may still be shown.
    """

    at_ms: int
    decided: Decided
    reserved: bool = False


class Life(NamedTuple):
    """What goes on with somebody, or did."""

    since_ms: int
    until_ms: int | None
    cleared_ms: int | None
    topics: tuple[str, ...]
    negative: bool

    def over_by(self, at_ms: int) -> bool:
        """Say whether it is over."""
        return self.over_ms is not None and self.over_ms <= at_ms

    @property
    def over_ms(self) -> int | None:
        """When it was over, or will be; none where nobody knows."""
        return self.until_ms if self.cleared_ms is None else self.cleared_ms


class Lease(NamedTuple):
    """A workflow that is not to be interrupted."""

    until_ms: int
    inline: bool


class Snoozed(NamedTuple):
    """What became of an offer that was put off.

    Attributes:
        due_ms: When it may come back.
        times: When it was put off.
        returned: Whether it has come back since it was put off last.
    """

    due_ms: int
    times: tuple[int, ...]
    returned: bool


@dataclass
class Past:
    """The list of what happened, and questions about it."""

    events: list[Decided | Reported | Told] = field(default_factory=list)

    def note(self, event: Decided | Reported | Told) -> bool:
        """Append what is new; say whether it was."""
        match event:
            case Reported():
                repeated = any(
                    other.decided is event.decided
                    and other.outcome_id == event.outcome_id
                    for other in self._reports()
                )
            case Told():
                repeated = any(
                    other.event_id == event.event_id
                    for other in self.events
                    if isinstance(other, Told) and other.who == event.who
                )
            case Decided():
                repeated = False
        if not repeated:
            self.events.append(event)
        return not repeated

    # --- What was decided and shown ---------------------------------------------

    def decisions(self, who: Who, *, account: bool = False) -> list[Decided]:
        """Return the offers that were chosen for a user, or for all of the account."""
        return [
            event
            for event in self.events
            if isinstance(event, Decided) and _is_of(event.who, who, account=account)
        ]

    def reports(self, decided: Decided) -> list[Reported]:
        """Return what was reported of a decision, in the order of arrival."""
        return [report for report in self._reports() if report.decided is decided]

    def shown_ms(self, decided: Decided) -> int | None:
        """Return when an offer was on the screen, as was said of it first."""
        for report in self.reports(decided):
            if report.kind in CONFIRMING:
                return report.at_ms
        return None

    def happened(
        self, kind: EventKind, who: Who, at_ms: int, *, account: bool = False
    ) -> list[Happened]:
        """Return what of a kind happened to a user, or to all of the account.

        A decision that may still be shown counts as shown, until it may not.
        """
        found: list[Happened] = []
        for decided in self.decisions(who, account=account):
            if kind == "decided":
                if decided.counted and decided.decided_counts:
                    found.append(Happened(decided.at_ms, decided))
            elif kind == "shown":
                if decided.counted:
                    found += self._showing(decided, who, at_ms, account=account)
            else:
                found += [
                    Happened(report.at_ms, decided)
                    for report in self.reports(decided)
                    if report.kind == kind
                ]
        return found

    def session_since_ms(self, who: Who, session_id: str, at_ms: int) -> int | None:
        """Return when the first offer of a visit was decided.

        A visit that has lasted for a day begins anew, and what had ended when another
        one was noted does not come back with the clock.
        """
        since_ms: int | None = None
        for decided in self.decisions(who):
            began_ms = decided.at_ms - _VISIT_MS if decided.session_id else 0
            if since_ms is not None and since_ms <= began_ms:
                since_ms = None
            if since_ms is None and session_id and decided.session_id == session_id:
                since_ms = decided.at_ms
        if since_ms is None or since_ms <= at_ms - _VISIT_MS:
            return None
        return since_ms

    def ignored(self, who: Who) -> int:
        """Return how many offers in a row were shown without any interest."""
        count = 0
        seen: set[str] = set()
        for report in self._reports():
            if report.who != who:
                continue
            if report.kind in CONFIRMING and report.decided.decision_id not in seen:
                seen.add(report.decided.decision_id)
                count += 1
            if report.kind in ("clicked", "accepted"):
                count = 0
        return count

    def snoozed(self, who: Who, offer_id: str) -> Snoozed | None:
        """Return what became of an offer that was put off; none if it never was."""
        found: Snoozed | None = None
        seen: set[str] = set()
        for report in self._reports():
            if report.who != who or report.decided.offer_id != offer_id:
                continue
            new = report.decided.decision_id not in seen
            if report.kind in CONFIRMING and new:
                seen.add(report.decided.decision_id)
                if found is not None and report.at_ms >= found.due_ms:
                    found = found._replace(returned=True)
            if report.kind == "snoozed" and report.snoozed_until_ms is not None:
                before = found or Snoozed(0, (), returned=False)
                due_ms = max(before.due_ms, report.snoozed_until_ms)
                found = Snoozed(due_ms, (*before.times, report.at_ms), returned=False)
        return found

    def stuck(self, who: Who, at_ms: int) -> list[Decided]:
        """Return the decisions that placements keep to, if those still stand."""
        return [
            decided
            for decided in self.decisions(who)
            if decided.stuck_until_ms > max(at_ms, decided.at_ms)
            and not self._overtaken(decided, who, decided.stuck_until_ms, stuck=True)
            and all(r.kind in ("shown", "viewed") for r in self.reports(decided))
        ]

    def taken(self, supply: str, at_ms: int, *, surely: bool) -> int:
        """Return how much of an inventory or a budget is taken.

        Args:
            surely: Whether to leave out what may have been given back: a hold that is
                over is given back when somebody needs it.
        """
        return sum(
            amount
            for decided in self.events
            if isinstance(decided, Decided)
            for name, amount in decided.needs
            if name == supply and self._holds(decided, at_ms, surely=surely)
        )

    def _holds(self, decided: Decided, at_ms: int, *, surely: bool) -> bool:
        reports = self.reports(decided)
        kinds = {report.kind for report in reports}
        given_back = kinds & {"refunded", "dismissed", "opted_out", "not_shown"}
        if surely:
            until_ms = decided.over_ms
            accepted = [r for r in reports if r.kind == "accepted"]
            in_time = any(report.told_ms < until_ms for report in accepted)
            return not given_back and (in_time or at_ms < until_ms)
        if "accepted" in kinds:
            return "refunded" not in kinds
        if given_back - {"not_shown"} or kinds == {"not_shown"}:
            return False
        shown_ms = self.shown_ms(decided) or 0
        return at_ms < max(decided.over_ms, shown_ms + decided.hold_ms)

    # --- What was told --------------------------------------------------------------

    def role(self, who: Who) -> str:
        """Return what was last said of their role."""
        return str(self._last(who, "role") or "")

    def engagement(self, who: Who) -> str:
        """Return what was last said of how much they use the product."""
        return str(self._last(who, "engagement") or "")

    def value_discovered(self, who: Who) -> bool:
        """Return what was last said of whether they have found its value."""
        return bool(self._last(who, "value_discovered"))

    def owned(self, who: Who) -> set[str]:
        """Return what they have."""
        owned: set[str] = set()
        for command in self._told(who):
            added, removed = _bought(command)
            owned = (owned | set(added)) - set(removed)
        return owned

    def pending(self, who: Who, at_ms: int) -> dict[str, int]:
        """Return what they are about to have now, and until when that is believed."""
        pending = self._pending(who.account_id).get(who, {})
        return {product: ms for product, ms in pending.items() if ms > at_ms}

    def _pending(self, account_id: str) -> dict[Who, dict[str, int]]:
        """Return by user what each of an account was ever last about to have.

        To accept what is about to come anyway changes nothing.
        """
        of: dict[Who, dict[str, int]] = {}
        for event in self.events:
            if event.who.account_id != account_id:
                continue
            mine = of.setdefault(event.who, {})
            whole = of.setdefault(Who(account_id, ""), {}) if account_id else {}
            match event:
                case Told(command=command):
                    for product in sum(_bought(command), ()):
                        mine.pop(product, None)
                    if isinstance(command, StateChange) and command.pending:
                        until_ms = command.pending_until_ms or 0
                        mine |= dict.fromkeys(command.pending, until_ms)
                case Reported(kind="accepted", decided=decided):
                    until_ms = event.at_ms + decided.pending_ms
                    for product in decided.grants:
                        known_ms = max(mine.get(product, 0), whole.get(product, 0))
                        if known_ms <= event.at_ms:
                            mine[product] = until_ms
                            if product in decided.shared:
                                whole[product] = until_ms
                    for products in (mine, whole):
                        # What was over by then does not come back with the clock.
                        for product in set(products):
                            if products[product] <= event.at_ms:
                                del products[product]
                case Reported(kind="refunded" | "downgraded", decided=decided):
                    for product in decided.grants:
                        mine.pop(product, None)
                        whole.pop(product, None)
        return of

    def life(self, who: Who) -> dict[str, Life]:
        """Return what goes on with them, or did."""
        states: dict[str, Life] = {}
        for command in self._told(who):
            for name, change in _life_changes(command).items():
                after = _living(states.get(name), change, command.at_ms)
                if after is not None:
                    states[name] = after
        return states

    def opt_outs(self, who: Who) -> set[str]:
        """Return what they do not want to see any more."""
        out: set[str] = set()
        for event in self.events:
            if event.who != who:
                continue
            if isinstance(event, Told) and isinstance(event.command, PreferencesChange):
                out = (out | set(event.command.opt_out)) - set(event.command.opt_in)
            if isinstance(event, Reported) and event.kind == "opted_out":
                out.add(f"offer:{event.decided.offer_id}")
                out |= {f"category:{c}" for c in event.decided.categories}
        return out

    def zone(self, who: Who) -> str:
        """Return their time zone; empty for the catalogue's."""
        zone = ""
        for command in self._told(who):
            if isinstance(command, PreferencesChange) and command.zone is not None:
                zone = command.zone
        return zone

    def quiet(self, who: Who) -> QuietHours | None:
        """Return their own quiet hours."""
        quiet: QuietHours | None = None
        for command in self._told(who):
            if isinstance(command, PreferencesChange):
                quiet = command.quiet or quiet
                if command.quiet_cleared:
                    quiet = None
        return quiet

    def leases(self, who: Who, at_ms: int) -> list[Lease]:
        """Return the workflows that run now."""
        leases: dict[str, Lease] = {}
        for command in self._told(who):
            if isinstance(command, LeaseBegin):
                # What was over when another began does not come back with the clock.
                leases = {
                    key: lease
                    for key, lease in leases.items()
                    if lease.until_ms > command.at_ms
                }
                leases[command.key] = Lease(command.until_ms, command.inline)
            if isinstance(command, LeaseEnd):
                leases.pop(command.key, None)
        return [lease for lease in leases.values() if lease.until_ms > at_ms]

    def contacts(self, who: Who) -> list[tuple[str, int]]:
        """Return when contact was made about what category; empty for all."""
        return [
            (category, command.at_ms)
            for command in self._told(who)
            if isinstance(command, UserEvent) and command.kind == "contacted"
            for category in command.categories or ("",)
        ]

    def complaints(self, who: Who) -> list[int]:
        """Return when they complained, rated badly, or removed the product."""
        return [
            command.at_ms
            for command in self._told(who)
            if isinstance(command, UserEvent)
            and (
                command.kind in ("complained", "uninstalled")
                or (command.kind == "rated" and (command.score or 0.0) < 0.5)
            )
        ]

    # --- Helpers --------------------------------------------------------------------

    def _reports(self) -> Iterator[Reported]:
        return (event for event in self.events if isinstance(event, Reported))

    def _told(self, who: Who) -> Iterator[Command]:
        return (
            event.command
            for event in self.events
            if isinstance(event, Told) and event.who == who
        )

    def _last(self, who: Who, name: str) -> object:
        value: object = None
        for command in self._told(who):
            if isinstance(command, StateChange) and getattr(command, name) is not None:
                value = getattr(command, name)
        return value

    def _showing(
        self, decided: Decided, who: Who, at_ms: int, *, account: bool
    ) -> Iterable[Happened]:
        shown_ms = self.shown_ms(decided)
        if shown_ms is not None:
            return [Happened(shown_ms, decided)]
        if decided.over_ms <= at_ms:
            return []
        if any(report.kind == "not_shown" for report in self.reports(decided)):
            return []
        if self._overtaken(decided, who, decided.over_ms, account=account):
            return []
        return [Happened(decided.over_ms, decided, reserved=True)]

    def _overtaken(
        self,
        decided: Decided,
        who: Who,
        over_ms: int,
        *,
        account: bool = False,
        stuck: bool = False,
    ) -> bool:
        """Say whether it was over when something later was decided.

        What was over then does not come back with a clock that is put back.
        """
        decisions = self.decisions(who, account=account)
        return any(
            later.at_ms >= over_ms
            for later in decisions[decisions.index(decided) + 1 :]
            if (later.stuck_until_ms > later.at_ms if stuck else later.counted)
        )


def _is_of(whose: Who, who: Who, *, account: bool) -> bool:
    if account and who.account_id:
        return whose.account_id == who.account_id
    return whose == who


def _bought(command: Command) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return which products they have now, and which not any more."""
    match command:
        case StateChange():
            return command.added, command.removed
        case UserEvent(kind="purchased"):
            return command.products, ()
        case UserEvent(kind="cancelled"):
            return (), command.products
        case _:
            return (), ()


def _life_changes(command: Command) -> dict[str, LifeChange]:
    match command:
        case StateChange():
            return command.life
        case UserEvent(kind="ticket_opened"):
            return {"support_open": LifeChange(True, topics=command.categories)}
        case UserEvent(kind="ticket_closed"):
            return {"support_open": LifeChange(False, negative=command.negative)}
        case _:
            return {}


def _living(before: Life | None, change: LifeChange, at_ms: int) -> Life | None:
    if change.active:
        since_ms = at_ms
        if before and before.cleared_ms is None and not before.over_by(at_ms):
            since_ms = before.since_ms
        return Life(since_ms, change.until_ms, None, change.topics, negative=False)
    if before is None or before.cleared_ms is not None:
        return before
    return before._replace(
        cleared_ms=at_ms,
        topics=change.topics or before.topics,
        negative=change.negative,
    )
