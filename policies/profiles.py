"""Folds what a product tells of its users into what the gates remember."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from policies.commands import (
    Command,
    LeaseBegin,
    LeaseEnd,
    LifeChange,
    PreferencesChange,
    StateChange,
    UserEvent,
)
from policies.errors import InvalidRequestError, Problem
from policies.model import History, Lease, LifeState, Preferences, State
from policies.rules import over_ms

__all__ = ["NEGATIVE_BELOW", "apply"]

NEGATIVE_BELOW = 0.5
"""A rating below this, of 0 to 1, is a bad one."""

_LIFE_MAX = 200
_LEASES_MAX = 50
_LONG_MS = 366 * 86_400_000


def apply(history: History, command: Command) -> History:
    """Fold a command.

    Args:
        history: What was known before, of the user or the account it is about.
        command: What the product told.

    Raises:
        InvalidRequestError: If there is more going on than can be remembered; what
            binds is never forgotten.
    """
    match command:
        case StateChange():
            return msgspec.structs.replace(
                history, state=_changed(history.state, command)
            )
        case PreferencesChange():
            preferences = _preferred(history.preferences, command)
            return msgspec.structs.replace(history, preferences=preferences)
        case LeaseBegin():
            return _begin(history, command)
        case LeaseEnd():
            leases = {k: v for k, v in history.leases.items() if k != command.key}
            return msgspec.structs.replace(history, leases=leases)
        case _:
            return _happened(history, command)


def _changed(state: State, command: StateChange) -> State:
    gone = {*command.removed, *command.added}
    pending = {p: ms for p, ms in state.pending.items() if p not in gone}
    if command.pending_until_ms is not None:
        pending |= dict.fromkeys(command.pending, command.pending_until_ms)
    return State(
        role=state.role if command.role is None else command.role,
        engagement=(
            state.engagement if command.engagement is None else command.engagement
        ),
        value_discovered=(
            state.value_discovered
            if command.value_discovered is None
            else command.value_discovered
        ),
        owned=_owning(state.owned, command.added, command.removed, command.at_ms),
        pending={p: ms for p, ms in pending.items() if ms > command.at_ms},
        life=_living(state.life, command.life, command.at_ms),
    )


def _owning(
    owned: Mapping[str, int], added: Iterable[str], removed: Iterable[str], at_ms: int
) -> dict[str, int]:
    """Return what is owned, and since when: the earliest that was told."""
    after = {**dict.fromkeys(added, at_ms), **owned}
    for product in removed:
        after.pop(product, None)
    return after


def _living(
    life: Mapping[str, LifeState], changes: Mapping[str, LifeChange], at_ms: int
) -> dict[str, LifeState]:
    after = dict(life)
    for name, change in changes.items():
        before = after.get(name)
        if change.active:
            running = before is not None and _runs(before, at_ms)
            since_ms = before.since_ms if before is not None and running else at_ms
            after[name] = LifeState(since_ms, change.until_ms, None, change.topics)
        elif before is not None and before.cleared_ms is None:
            after[name] = msgspec.structs.replace(
                before,
                cleared_ms=at_ms,
                topics=change.topics or before.topics,
                negative=change.negative,
            )
    if len(after) > _LIFE_MAX:
        long_ago_ms = at_ms - _LONG_MS
        after = {n: state for n, state in after.items() if over_ms(state) > long_ago_ms}
    _refuse_more("life_states", len(after), _LIFE_MAX)
    return after


def _runs(state: LifeState, at_ms: int) -> bool:
    over = state.until_ms is not None and state.until_ms <= at_ms
    return state.cleared_ms is None and not over


def _preferred(preferences: Preferences, command: PreferencesChange) -> Preferences:
    opt_outs = {**dict.fromkeys(command.opt_out, command.at_ms), **preferences.opt_outs}
    for scope in command.opt_in:
        opt_outs.pop(scope, None)
    quiet = preferences.quiet if command.quiet is None else command.quiet
    return Preferences(
        opt_outs=opt_outs,
        zone=preferences.zone if command.zone is None else command.zone,
        quiet=None if command.quiet_cleared else quiet,
        version=preferences.version + 1,
    )


def _begin(history: History, command: LeaseBegin) -> History:
    running = {
        key: lease
        for key, lease in history.leases.items()
        if lease.until_ms > command.at_ms
    }
    running[command.key] = Lease(command.until_ms, command.inline)
    _refuse_more("key", len(running), _LEASES_MAX)
    return msgspec.structs.replace(history, leases=running)


def _happened(history: History, event: UserEvent) -> History:
    state, at_ms = history.state, event.at_ms
    match event.kind:
        case "purchased":
            bought = StateChange(at_ms=at_ms, added=event.products)
            return msgspec.structs.replace(history, state=_changed(state, bought))
        case "cancelled":
            gone = StateChange(at_ms=at_ms, removed=event.products)
            return msgspec.structs.replace(history, state=_changed(state, gone))
        case "contacted":
            return _contacted(history, event)
        case "ticket_opened":
            return _ticket(history, event, active=True)
        case "ticket_closed":
            return _ticket(history, event, active=False)
        case "rated" if (event.score or 0.0) >= NEGATIVE_BELOW:
            return history
        case _:  # Rated badly, complained, or uninstalled.
            negative_ms = max(history.negative_ms or at_ms, at_ms)
            return msgspec.structs.replace(history, negative_ms=negative_ms)


def _contacted(history: History, event: UserEvent) -> History:
    contacts = dict(history.contacts)
    for category in event.categories or ("",):
        contacts[category] = max(contacts.get(category, 0), event.at_ms)
    return msgspec.structs.replace(history, contacts=contacts)


def _ticket(history: History, event: UserEvent, *, active: bool) -> History:
    change = LifeChange(active, None, event.categories, event.negative)
    life = _living(history.state.life, {"support_open": change}, event.at_ms)
    state = msgspec.structs.replace(history.state, life=life)
    return msgspec.structs.replace(history, state=state)


def _refuse_more(field: str, count: int, most: int) -> None:
    if count > most:
        wrong = f"would make {count} at once; at most {most} can be remembered"
        raise InvalidRequestError([Problem(field, wrong)])
