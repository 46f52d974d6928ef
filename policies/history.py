"""Folds what happened to a user, or to an account, into what the gates remember.

A history is small and bounded. Of each subject (an offer as it was worded and placed)
it holds when things happened for as long as a catalogue counts, at most the last
`TIMES_MAX` times each, and of what is before that how often and when last. That errs
only towards showing less: what is known by number only counts as if all of it had
happened at its last time. What no gate of a catalogue looks at is left out, or is kept
of an offer as a whole; a later catalogue that looks at it begins to count then.
"""

from __future__ import annotations

import bisect
from collections.abc import Collection, Iterable
from typing import NamedTuple

import msgspec

from policies.model import (
    NO_HISTORY,
    Decision,
    EventKind,
    History,
    Outcome,
    OutcomeKind,
    Reservation,
    Session,
    Snooze,
    State,
    Stuck,
    Subject,
    Tally,
    Track,
)

__all__ = [
    "CONFIRMING",
    "ENGAGING",
    "OFFERS_MAX",
    "TIMES_MAX",
    "TRACKS_MAX",
    "VISIT_MS",
    "Chosen",
    "Memory",
    "released",
    "relevant",
    "report",
    "reserve",
]

TIMES_MAX = 100
"""The largest limit of a cap: so many times of a kind are remembered of a subject."""

TRACKS_MAX = 400
"""How many subjects are remembered one by one. Beyond it, what is known of an offer by
number only is taken together, with all the categories that it was in."""

OFFERS_MAX = 5_000
"""How many offers are remembered at all, far more than anybody sees. Beyond it, the one
that was touched the longest ago is forgotten."""

VISIT_MS = 86_400_000
"""How long a visit lasts at the most; one that is named for longer begins anew."""

_RESERVATIONS_MAX = 5_000
_SESSIONS_MAX = 50
_STUCK_MAX = 20
_SNOOZES_MAX = 200
_LONG_MS = 366 * 86_400_000

CONFIRMING: frozenset[OutcomeKind] = frozenset(
    [
        "shown",
        "viewed",
        "clicked",
        "accepted",
        "dismissed",
        "snoozed",
        "opted_out",
        "ignored",
    ]
)
"""The outcomes that only an offer on the screen can have: they count as shown."""

ENGAGING: frozenset[OutcomeKind] = frozenset(["clicked", "accepted"])
"""The outcomes that show interest."""

_COUNTED: dict[OutcomeKind, EventKind] = {
    "clicked": "clicked",
    "accepted": "accepted",
    "dismissed": "dismissed",
}


class Memory(NamedTuple):
    """What a catalogue makes histories remember.

    Attributes:
        window_ms: For how long times are remembered one by one.
        decided: Whether it counts decisions that were never shown.
        wide: Whether anything counts over several offers.
        shared: Whether anything counts what all users of an account have seen or done;
            it is remembered in any case, but else the log need not hold it.
        fine: Whether anything counts for life, but not an offer as a whole.
    """

    window_ms: int
    decided: bool = False
    wide: bool = True
    shared: bool = True
    fine: bool = True


class Chosen(NamedTuple):
    """What folding must know of a chosen action.

    Attributes:
        subject: What was chosen.
        counted: Whether it counts towards caps and attention.
        grants: The products that are about to be owned once it is accepted.
        shared: Those of them that the users of an account have together.
        pending_ms: For how long they count as about to be owned.
        sticky_ms: For how long its placement keeps to the decision.
        grace_ms: How long a report that it was shown in time may take to arrive.
    """

    subject: Subject
    counted: bool = True
    grants: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    pending_ms: int = 0
    sticky_ms: int = 0
    grace_ms: int = 0


def reserve(
    history: History,
    chosen: Chosen,
    decision: Decision,
    memory: Memory,
    *,
    account: bool = False,
) -> History:
    """Hold what was chosen as if it were shown, until it is or its time is over.

    Args:
        history: What was known before.
        chosen: What the decision chose.
        decision: The decision.
        memory: What is to be remembered.
        account: Whether it is the history of the account, not of the user.
    """
    opportunity = decision.opportunity
    at_ms = opportunity.at_ms
    if chosen.counted:
        until_ms = decision.valid_until_ms + chosen.grace_ms
        new = Reservation(until_ms, opportunity.decision_id, chosen.subject)
        held = [r for r in history.reservations if r.until_ms > at_ms]
        same = [r for r in held if r.subject == chosen.subject]
        if len(same) >= TIMES_MAX or len(held) >= _RESERVATIONS_MAX:
            # No cap counts further. The one that ends first is missed the least.
            held.remove(min(same or held, key=lambda r: r.until_ms))
        history = msgspec.structs.replace(history, reservations=(*held, new))
        if memory.decided:
            history = _count(history, chosen.subject, "decided", at_ms, memory)
    if account:
        return history
    if opportunity.session_id:
        history = _visit(history, opportunity.session_id, at_ms)
    if chosen.sticky_ms:
        history = _stick(history, chosen, decision)
    return history


def report(
    history: History,
    chosen: Chosen,
    decision_id: str,
    outcome: Outcome,
    memory: Memory,
    *,
    confirmed: bool,
    account: bool = False,
) -> History:
    """Fold an outcome of a decision that chose an offer.

    Args:
        history: What was known before.
        chosen: What the decision chose.
        decision_id: The decision.
        outcome: What the user did, not folded before.
        memory: What is to be remembered.
        confirmed: Whether an earlier outcome already said that the offer was on the
            screen, so that it counts as shown already.
        account: Whether it is the history of the account, not of the user.
    """
    kind, at_ms = outcome.kind, outcome.at_ms
    if not confirmed and (kind == "not_shown" or kind in CONFIRMING):
        history = _release(history, decision_id)
    if not confirmed and kind in CONFIRMING:
        if chosen.counted:
            history = _count(history, chosen.subject, "shown", at_ms, memory)
        if not account:
            history = _seen(history, chosen.subject.offer_id, at_ms)
    counted = _COUNTED.get(kind)
    if counted is not None:
        history = _count(history, chosen.subject, counted, at_ms, memory)
    if kind in ENGAGING and history.ignored:
        history = msgspec.structs.replace(history, ignored=0)
    if kind == "accepted":
        history = _await(history, chosen, at_ms, account=account)
    if kind in ("refunded", "downgraded"):
        history = _returned(history, chosen)
    if account:
        return history
    if kind == "snoozed":
        history = _snooze(history, chosen.subject.offer_id, outcome)
    if kind == "opted_out":
        history = _opt_out(history, chosen.subject, at_ms)
    return _unstick(history, decision_id, kind)


def relevant(
    history: History,
    at_ms: int,
    memory: Memory,
    *,
    session_id: str = "",
    offers: Collection[str] = (),
    account: bool = False,
) -> History:
    """Leave out what no gate can look at, for the log.

    Args:
        history: All that is remembered.
        at_ms: The time.
        memory: What the catalogue counts.
        session_id: The user's visit.
        offers: The offers that were candidates.
        account: Whether it is the history of the account, not of the user.
    """
    if history is NO_HISTORY:
        return history
    tracks = history.tracks
    if account and not memory.shared:
        tracks = ()
    elif not memory.wide:
        tracks = tuple([t for t in tracks if t.subject.offer_id in offers])
    kept = msgspec.structs.replace(
        history,
        tracks=tracks,
        reservations=tuple([r for r in history.reservations if r.until_ms > at_ms]),
        sessions=_visits(history, session_id, at_ms),
        stuck=(),
        leases={k: v for k, v in history.leases.items() if v.until_ms > at_ms},
    )
    return NO_HISTORY if kept == NO_HISTORY else kept


def released(history: History, decision_id: str) -> History:
    """Return a history without what a decision has reserved in it."""
    return _release(history, decision_id)


def _release(history: History, decision_id: str) -> History:
    kept = tuple([r for r in history.reservations if r.decision_id != decision_id])
    if len(kept) == len(history.reservations):
        return history
    return msgspec.structs.replace(history, reservations=kept)


def _count(
    history: History, subject: Subject, kind: EventKind, at_ms: int, memory: Memory
) -> History:
    tracks = [_trimmed(track, at_ms - memory.window_ms) for track in history.tracks]
    for at, track in enumerate(tracks):
        if track.subject == subject:
            before = track.tallies.get(kind, Tally())
            tallies = {**track.tallies, kind: _added(before, at_ms)}
            tracks[at] = Track(subject, tallies)
            break
    else:
        tracks.append(Track(subject, {kind: Tally((at_ms,))}))
    if not memory.fine:
        tracks = _gathered(tracks)
    return msgspec.structs.replace(history, tracks=_bounded(tracks))


def _added(tally: Tally, at_ms: int) -> Tally:
    times = list(tally.times)
    bisect.insort(times, at_ms)
    if len(times) <= TIMES_MAX:
        return Tally(tuple(times), tally.past, tally.past_ms)
    first = times.pop(0)
    return Tally(tuple(times), tally.past + 1, max(tally.past_ms, first))


def _trimmed(track: Track, since_ms: int) -> Track:
    """Know what is too old for any window by number only."""
    if all(t.times[0] > since_ms for t in track.tallies.values() if t.times):
        return track
    return Track(
        track.subject,
        {kind: _older(tally, since_ms) for kind, tally in track.tallies.items()},
    )


def _older(tally: Tally, since_ms: int) -> Tally:
    old = bisect.bisect_right(tally.times, since_ms)
    if old == 0:
        return tally
    past_ms = max(tally.past_ms, tally.times[old - 1])
    return Tally(tally.times[old:], tally.past + old, past_ms)


def _gathered(tracks: list[Track]) -> list[Track]:
    """Keep what is known by number only together, of each offer in one track.

    What has times counts as what it was and as nothing else: it takes up only what
    changes none of that.
    """
    kept: dict[int, Track] = {}
    homes: dict[str, list[int]] = {}
    for at in sorted(range(len(tracks)), key=lambda at: _is_old(tracks[at])):
        track = tracks[at]
        here = homes.setdefault(track.subject.offer_id, [])
        taking = [home for home in here if _takes(kept[home], track)]
        if taking:
            kept[taking[0]] = _merged(kept[taking[0]], track)
        else:
            here.append(at)
            kept[at] = track
    return [kept[at] for at in sorted(kept)]


def _takes(track: Track, other: Track) -> bool:
    """Say whether a track of the same offer takes up another one."""
    subject = track.subject
    return _is_old(other) and (
        _is_old(track) or _either(subject, other.subject) == subject
    )


def _is_old(track: Track) -> bool:
    return not any(tally.times for tally in track.tallies.values())


def _bounded(tracks: list[Track]) -> tuple[Track, ...]:
    if len(tracks) <= TRACKS_MAX:
        return tuple(tracks)
    tracks = _gathered(tracks)
    if len(tracks) > OFFERS_MAX:
        tracks.remove(min(tracks, key=_last_ms))
    return tuple(tracks)


def _last_ms(track: Track) -> int:
    return max(
        tally.times[-1] if tally.times else tally.past_ms
        for tally in track.tallies.values()
    )


def _merged(track: Track, other: Track) -> Track:
    tallies = dict(track.tallies)
    for kind, tally in other.tallies.items():
        mine = tallies.get(kind, Tally())
        times = sorted([*mine.times, *tally.times])
        cut = max(0, len(times) - TIMES_MAX)
        past_ms = max([mine.past_ms, tally.past_ms, *times[:cut]])
        past = mine.past + tally.past + cut
        tallies[kind] = Tally(tuple(times[cut:]), past, past_ms)
    return Track(_either(track.subject, other.subject), tallies)


def _either(subject: Subject, other: Subject) -> Subject:
    """Return a subject that counts wherever one of the two would."""
    return Subject(
        subject.offer_id,
        subject.creative_id,
        subject.placement_id,
        tuple(dict.fromkeys((*subject.categories, *other.categories))),
        max(subject.weight, other.weight),
    )


def _seen(history: History, offer_id: str, at_ms: int) -> History:
    """Note that an offer was on the screen, and nothing yet came of it."""
    snoozes = history.snoozes
    snooze = snoozes.get(offer_id)
    if snooze is not None and not snooze.returned and at_ms >= snooze.until_ms:
        back = msgspec.structs.replace(snooze, returned=True)
        snoozes = {**snoozes, offer_id: back}
    return msgspec.structs.replace(
        history, ignored=history.ignored + 1, snoozes=snoozes
    )


def _visit(history: History, session_id: str, at_ms: int) -> History:
    """Note a visit; the one that was noted last comes last."""
    since_ms = _since_ms(history, session_id, at_ms)
    session = Session(session_id, at_ms if since_ms is None else since_ms)
    others = [s for s in _lately(history, at_ms) if s.session_id != session_id]
    sessions = (*others, session)[-_SESSIONS_MAX:]
    return msgspec.structs.replace(history, sessions=sessions)


def _since_ms(history: History, session_id: str, at_ms: int) -> int | None:
    """Return when a visit began; none for one that begins now.

    Once as many as can be are remembered, one that is not known may have been
    forgotten: it counts from the earliest beginning that is known.
    """
    lately = _lately(history, at_ms)
    for session in lately:
        if session.session_id == session_id:
            return session.since_ms
    if len(lately) < _SESSIONS_MAX:
        return None
    return min(session.since_ms for session in lately)


def _lately(history: History, at_ms: int) -> list[Session]:
    return [s for s in history.sessions if s.since_ms > at_ms - VISIT_MS]


def _visits(history: History, session_id: str, at_ms: int) -> tuple[Session, ...]:
    """Return the one visit that a decision looks at."""
    since_ms = _since_ms(history, session_id, at_ms) if session_id else None
    return () if since_ms is None else (Session(session_id, since_ms),)


def _stick(history: History, chosen: Chosen, decision: Decision) -> History:
    placement_id = chosen.subject.placement_id
    at_ms = decision.opportunity.at_ms
    until_ms = min(at_ms + chosen.sticky_ms, decision.valid_until_ms)
    new = Stuck(placement_id, decision.opportunity.decision_id, until_ms)
    kept = [s for s in history.stuck if s.until_ms > at_ms][-_STUCK_MAX + 1 :]
    return msgspec.structs.replace(history, stuck=(*kept, new))


def _unstick(history: History, decision_id: str, kind: OutcomeKind) -> History:
    """Let a placement go once the user has answered what was in it."""
    if kind in ("shown", "viewed") or not history.stuck:
        return history
    kept = tuple([s for s in history.stuck if s.decision_id != decision_id])
    return msgspec.structs.replace(history, stuck=kept)


def _snooze(history: History, offer_id: str, outcome: Outcome) -> History:
    before = history.snoozes.get(offer_id, Snooze(0, 0, outcome.at_ms))
    until_ms = max(before.until_ms, outcome.snoozed_until_ms or 0)
    latest_ms = max(before.at_ms, outcome.at_ms)
    after = Snooze(until_ms, before.count + 1, latest_ms)
    snoozes = {**history.snoozes, offer_id: after}
    if len(snoozes) > _SNOOZES_MAX:
        long_ago_ms = outcome.at_ms - _LONG_MS
        snoozes = {o: s for o, s in snoozes.items() if s.until_ms > long_ago_ms}
    return msgspec.structs.replace(history, snoozes=snoozes)


def _opt_out(history: History, subject: Subject, at_ms: int) -> History:
    scopes = [
        f"offer:{subject.offer_id}",
        *(f"category:{c}" for c in subject.categories),
    ]
    preferences = history.preferences
    opt_outs = {**dict.fromkeys(scopes, at_ms), **preferences.opt_outs}
    changed = msgspec.structs.replace(
        preferences, opt_outs=opt_outs, version=preferences.version + 1
    )
    return msgspec.structs.replace(history, preferences=changed)


def _await(history: History, chosen: Chosen, at_ms: int, *, account: bool) -> History:
    """Expect to own what was accepted."""
    products = chosen.shared if account else chosen.grants
    if not products:
        return history
    pending = {
        product: until_ms
        for product, until_ms in history.state.pending.items()
        if until_ms > at_ms
    }
    for product in products:
        # What was accepted later may have been reported before.
        pending[product] = max(pending.get(product, 0), at_ms + chosen.pending_ms)
    return _with_state(history, pending=pending)


def _returned(history: History, chosen: Chosen) -> History:
    """No longer expect to own what was given back."""
    state = history.state
    pending = _without(state.pending, chosen.grants)
    if len(pending) == len(state.pending):
        return history
    return _with_state(history, pending=pending)


def _without(products: dict[str, int], gone: Iterable[str]) -> dict[str, int]:
    out = frozenset(gone)
    return {product: ms for product, ms in products.items() if product not in out}


def _with_state(history: History, *, pending: dict[str, int]) -> History:
    state: State = msgspec.structs.replace(history.state, pending=pending)
    return msgspec.structs.replace(history, state=state)
