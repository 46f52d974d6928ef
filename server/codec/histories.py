"""Writes what is remembered of a user or an account, for people who are asked why."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.timestamp_pb2 import Timestamp

from opportune.v1 import user_pb2
from policies.model import (
    EventKind,
    History,
    LifeState,
    Preferences,
    Reservation,
    Snooze,
    State,
    Tally,
    Track,
)
from server.codec.checks import timestamp
from server.codec.users import ENGAGEMENTS

__all__ = ["user_to_proto"]

_ENGAGEMENTS: Mapping[str, user_pb2.Engagement.ValueType] = {
    word: number for number, word in ENGAGEMENTS.items()
}


def user_to_proto(
    user_id: str, account_id: str, history: History, at_ms: int
) -> user_pb2.User:
    """Write what is remembered of a user, or of an account itself.

    Args:
        user_id: The user; empty for the account itself.
        account_id: The account; empty for a user who stands alone.
        history: What is remembered.
        at_ms: The time.
    """
    user = user_pb2.User(
        user_id=user_id,
        account_id=account_id,
        state=_state(history.state, at_ms),
        preferences=_preferences(history.preferences),
        leases=[
            user_pb2.CriticalLease(
                key=key,
                expire_time=timestamp(lease.until_ms),
                allow_inline=lease.inline,
            )
            for key, lease in history.leases.items()
            if lease.until_ms > at_ms
        ],
        reservations=[
            _reservation(held) for held in history.reservations if held.until_ms > at_ms
        ],
        counts=map(_counts, history.tracks),
        snoozes=[_snooze(*snoozed) for snoozed in history.snoozes.items()],
        contacts=_times(history.contacts),
        ignored_count=history.ignored,
    )
    if history.negative_ms is not None:
        user.negative_time.CopyFrom(timestamp(history.negative_ms))
    return user


def _state(state: State, at_ms: int) -> user_pb2.UserState:
    pending = {p: until for p, until in state.pending.items() if until > at_ms}
    return user_pb2.UserState(
        role=state.role,
        engagement=_ENGAGEMENTS[state.engagement],
        value_discovered=state.value_discovered,
        owned_products=_times(state.owned),
        pending_products=_times(pending),
        life_states={
            name: _life_state(life, at_ms) for name, life in state.life.items()
        },
    )


def _life_state(life: LifeState, at_ms: int) -> user_pb2.LifeState:
    ends = [ms for ms in (life.until_ms, life.cleared_ms) if ms is not None]
    over = min(ends, default=None)
    written = user_pb2.LifeState(
        active=life.since_ms <= at_ms and (over is None or over > at_ms),
        begin_time=timestamp(life.since_ms),
        topic_category_ids=life.topics,
        negative=life.negative,
    )
    if over is not None:
        written.end_time.CopyFrom(timestamp(over))
    return written


def _preferences(preferences: Preferences) -> user_pb2.Preferences:
    written = user_pb2.Preferences(
        opt_outs=_times(preferences.opt_outs),
        time_zone=preferences.zone,
        consent_version=preferences.version,
    )
    if preferences.quiet is not None:
        written.quiet_hours.start = _time_of_day(preferences.quiet.start_minute)
        written.quiet_hours.end = _time_of_day(preferences.quiet.end_minute)
    return written


def _time_of_day(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _reservation(held: Reservation) -> user_pb2.Reservation:
    return user_pb2.Reservation(
        decision_id=held.decision_id,
        offer_id=held.subject.offer_id,
        creative_id=held.subject.creative_id,
        placement_id=held.subject.placement_id,
        expire_time=timestamp(held.until_ms),
    )


def _counts(track: Track) -> user_pb2.ActionCounts:
    def count(kind: EventKind) -> int:
        tally = track.tallies.get(kind, Tally())
        return tally.past + len(tally.times)

    written = user_pb2.ActionCounts(
        offer_id=track.subject.offer_id,
        creative_id=track.subject.creative_id,
        placement_id=track.subject.placement_id,
        category_ids=track.subject.categories,
        decided_count=count("decided"),
        shown_count=count("shown"),
        clicked_count=count("clicked"),
        accepted_count=count("accepted"),
        dismissed_count=count("dismissed"),
    )
    shown, dismissed = track.tallies.get("shown"), track.tallies.get("dismissed")
    if shown is not None:
        written.last_shown_time.CopyFrom(timestamp(_last_ms(shown)))
    if dismissed is not None:
        written.last_dismissed_time.CopyFrom(timestamp(_last_ms(dismissed)))
    return written


def _last_ms(tally: Tally) -> int:
    return tally.times[-1] if tally.times else tally.past_ms


def _snooze(offer_id: str, snooze: Snooze) -> user_pb2.Snooze:
    return user_pb2.Snooze(
        offer_id=offer_id,
        end_time=timestamp(snooze.until_ms),
        snooze_count=snooze.count,
        returned=snooze.returned,
    )


def _times(times: Mapping[str, int]) -> dict[str, Timestamp]:
    return {name: timestamp(at_ms) for name, at_ms in times.items()}
