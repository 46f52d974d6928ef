"""The log's format: decisions and histories as JSON that a person can read.

A noun is written under its own names, without what is at its default. Two things are
written shorter, for they are in every row: the eligible actions, of which those that
follow each other in the catalogue are one pair, the first and how many; and what
happened to a user, in which each name stands once and each time is how much later it
was than the time before it.

What an earlier version wrote is read too: the first one remembered impressions and
dismissals of offers, which become tracks of subjects of which no more is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import Annotated

import msgspec

from policies.model import (
    NO_CONDITIONS,
    NO_HISTORY,
    NO_PREFERENCES,
    NO_STATE,
    Conditions,
    Decision,
    EventKind,
    History,
    Lease,
    Opportunity,
    Outcome,
    Preferences,
    Reservation,
    ScoreTerms,
    Session,
    Snooze,
    Split,
    State,
    Stuck,
    Subject,
    Tally,
    Track,
)

__all__ = [
    "DecisionRecord",
    "HistoryRecord",
    "TrackRecord",
    "decode_decision",
    "decode_history",
    "decode_lesson",
    "decode_outcome",
    "encode",
    "encode_decision",
]


_Name = Annotated[int, msgspec.Meta(ge=0)]

_KINDS: tuple[EventKind, ...] = (
    "shown",
    "dismissed",
    "clicked",
    "accepted",
    "decided",
)


class TrackRecord(msgspec.Struct, frozen=True, array_like=True):
    """What happened around one subject, as it is written: names by their numbers.

    Attributes:
        offer: The offer, as a number of the history's names, from 0; likewise the
            others.
        weight: How much attention its placement takes.
        tallies: When it was shown, dismissed, clicked, accepted and decided, in this
            order, as far as there is anything to say. Each begins with how many times
            are known by number only; where there are any, the last of those is the
            first of the times that follow. A time is written as milliseconds after the
            one before it in the history, whatever that belongs to; the first of all,
            after 1970.
    """

    offer: _Name
    creative: _Name
    placement: _Name
    categories: tuple[_Name, ...]
    weight: float
    tallies: tuple[tuple[int, ...], ...]


class HistoryRecord(
    msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What the gates remember of a user or an account, as it is written.

    Attributes:
        names: The names that its tracks are about, each once.
        tracks: What was shown, and what they did then; the first seen first.
        reservations: What was decided and may still be shown.
        snoozes: By offer, until when they want to hear nothing of it.
        sessions: The latest visits.
        ignored: How many offers in a row were shown without any interest.
        stuck: The decisions that placements keep to.
        leases: By key, the workflows that are not to be interrupted.
        contacts: By category, when people or other channels last made contact.
        negative_ms: When they last complained, or rated badly; none for never.
        state: What the product has told.
        preferences: What they have asked for.
    """

    names: tuple[str, ...] = ()
    tracks: tuple[TrackRecord, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    snoozes: dict[str, Snooze] = {}
    sessions: tuple[Session, ...] = ()
    ignored: int = 0
    stuck: tuple[Stuck, ...] = ()
    leases: dict[str, Lease] = {}
    contacts: dict[str, int] = {}
    negative_ms: int | None = None
    state: State = NO_STATE
    preferences: Preferences = NO_PREFERENCES


_NO_RECORD = HistoryRecord()


class DecisionRecord(
    msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A decision as it is written: with all that is needed to make it again.

    Attributes:
        opportunity: What was asked.
        catalogue: The version of the catalogue.
        policy: The version of the policy.
        model: How far in which training stream the model had learned, as
            `epoch.position`.
        actions: The eligible actions, no offer first: pairs of a catalogue index and
            how many indices in a row begin with it.
        probabilities: The chance of each of them, in billionths, together one.
        chosen: The catalogue index of the action that was drawn.
        valid_until_ms: Until when the choice may be shown.
        history: What was known of the user's past, before this decision.
        account: What was known of the account's.
        conditions: What held for everybody.
        floor: The least chance, in billionths, that each of the actions was sure to
            have, whatever its score; 0 where nothing was sure.
        split: Which part of the users it was made for: `train`, which alone teaches,
            `eval`, `control` or `holdout`.
        terms: What the score of the chosen action was made of; none where it was what
            the learner expected.
    """

    opportunity: Opportunity
    catalogue: str
    policy: str
    model: str
    actions: tuple[tuple[int, int], ...]
    probabilities: tuple[int, ...]
    chosen: int
    valid_until_ms: int
    history: HistoryRecord = _NO_RECORD
    account: HistoryRecord = _NO_RECORD
    conditions: Conditions = NO_CONDITIONS
    floor: int = 0
    split: Split = "train"
    terms: ScoreTerms | None = None


class _Lesson(msgspec.Struct, frozen=True):
    """Of the record of a decision what a policy learns from."""

    opportunity: Opportunity
    catalogue: str
    policy: str
    model: str
    actions: tuple[tuple[int, int], ...]
    probabilities: tuple[int, ...]
    chosen: int
    valid_until_ms: int
    split: Split = "train"


class _FirstHistory(
    msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A history as the first version wrote it.

    Attributes:
        impressions: Time, offer and placement of each.
        reservations: End, offer, placement and decision of each.
        dismissals: By offer how often, and when last.
    """

    impressions: tuple[tuple[int, str, str], ...] = ()
    reservations: tuple[tuple[int, str, str, str], ...] = ()
    dismissals: dict[str, tuple[int, int]] = {}


class _FirstRecord(
    msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A decision as the first version wrote it."""

    opportunity: Opportunity
    catalogue: str
    policy: str
    model: str
    actions: tuple[tuple[int, int], ...]
    probabilities: tuple[int, ...]
    chosen: int
    valid_until_ms: int
    history: _FirstHistory = _FirstHistory()


_encoder = msgspec.json.Encoder()
_decision = msgspec.json.Decoder(DecisionRecord)
_lesson = msgspec.json.Decoder(_Lesson)
_first_decision = msgspec.json.Decoder(_FirstRecord)
_first_history = msgspec.json.Decoder(_FirstHistory)
_history = msgspec.json.Decoder(HistoryRecord)
_outcome = msgspec.json.Decoder(Outcome)


def encode_decision(decision: Decision) -> str:
    """Write a decision."""
    record = DecisionRecord(
        opportunity=decision.opportunity,
        catalogue=decision.catalogue,
        policy=decision.policy,
        model=decision.model,
        actions=tuple(_runs(decision.actions)),
        probabilities=decision.probabilities,
        chosen=decision.chosen,
        valid_until_ms=decision.valid_until_ms,
        history=_written(decision.history),
        account=_written(decision.account),
        conditions=decision.conditions,
        floor=decision.floor,
        split=decision.split,
        terms=decision.terms,
    )
    return _encoder.encode(record).decode()


def decode_decision(text: str) -> Decision:
    """Read a decision.

    Raises:
        msgspec.DecodeError: If it is not one.
    """
    try:
        record = _decision.decode(text)
        history, account = _read(record.history), _read(record.account)
    except msgspec.ValidationError as error:
        record, history = _earlier(text, error)
        account = NO_HISTORY
    if sum(count for _, count in record.actions) != len(record.probabilities):
        raise msgspec.ValidationError("there must be a probability for each action")
    return Decision(
        opportunity=record.opportunity,
        catalogue=record.catalogue,
        policy=record.policy,
        model=record.model,
        actions=_indices(record.actions),
        probabilities=record.probabilities,
        chosen=record.chosen,
        valid_until_ms=record.valid_until_ms,
        history=history,
        account=account,
        conditions=record.conditions,
        floor=record.floor,
        split=record.split,
        terms=record.terms,
    )


def decode_lesson(text: str) -> Decision:
    """Read of a decision what a policy learns from: without what was known before it.

    Raises:
        msgspec.DecodeError: If it is not one.
    """
    try:
        lesson = _lesson.decode(text)
    except msgspec.ValidationError:
        return decode_decision(text)
    return Decision(
        opportunity=lesson.opportunity,
        catalogue=lesson.catalogue,
        policy=lesson.policy,
        model=lesson.model,
        actions=_indices(lesson.actions),
        probabilities=lesson.probabilities,
        chosen=lesson.chosen,
        valid_until_ms=lesson.valid_until_ms,
        split=lesson.split,
    )


def _indices(runs: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    return tuple([at for first, count in runs for at in range(first, first + count)])


def _earlier(
    text: str, error: msgspec.ValidationError
) -> tuple[DecisionRecord, History]:
    try:
        first = _first_decision.decode(text)
    except msgspec.ValidationError:
        raise error from None
    record = DecisionRecord(
        opportunity=first.opportunity,
        catalogue=first.catalogue,
        policy=first.policy,
        model=first.model,
        actions=first.actions,
        probabilities=first.probabilities,
        chosen=first.chosen,
        valid_until_ms=first.valid_until_ms,
    )
    return record, _migrated(first.history)


def _migrated(first: _FirstHistory) -> History:
    """Say what the first version remembered in the words of this one."""
    tallies: dict[Subject, dict[EventKind, Tally]] = {}
    for at_ms, offer_id, placement_id in first.impressions:
        kinds = tallies.setdefault(Subject(offer_id, "", placement_id), {})
        kinds["shown"] = Tally((*kinds.get("shown", Tally()).times, at_ms))
    for offer_id, (count, at_ms) in first.dismissals.items():
        kinds = tallies.setdefault(Subject(offer_id, "", ""), {})
        before = count - 1
        kinds["dismissed"] = Tally((at_ms,), before, at_ms if before else 0)
    migrated = History(
        tracks=tuple([Track(subject, kinds) for subject, kinds in tallies.items()]),
        reservations=tuple(
            [
                Reservation(until_ms, decision_id, Subject(offer_id, "", placement_id))
                for until_ms, offer_id, placement_id, decision_id in first.reservations
            ]
        ),
    )
    return NO_HISTORY if migrated == NO_HISTORY else migrated


def _runs(indices: Iterable[int]) -> list[tuple[int, int]]:
    """Return the runs of indices that follow each other.

    Examples:
        >>> _runs([0, 1, 2, 7])
        [(0, 3), (7, 1)]
    """
    runs: list[tuple[int, int]] = []
    first = after = -1
    for index in indices:
        if index != after:
            if after > first:
                runs.append((first, after - first))
            first = index
        after = index + 1
    runs.append((first, after - first))
    return runs


def encode(noun: History | Outcome) -> str:
    """Write a history or an outcome."""
    record = _written(noun) if isinstance(noun, History) else noun
    return _encoder.encode(record).decode()


def decode_history(text: str) -> History:
    """Read a history.

    Raises:
        msgspec.DecodeError: If it is not one.
    """
    try:
        return _read(_history.decode(text))
    except msgspec.ValidationError as error:
        try:
            return _migrated(_first_history.decode(text))
        except msgspec.ValidationError:
            raise error from None


def _written(history: History) -> HistoryRecord:
    if history == NO_HISTORY:
        return _NO_RECORD
    names: dict[str, int] = {}
    tracks = _track_records(history.tracks, names)
    return HistoryRecord(
        tuple(names),
        tracks,
        history.reservations,
        history.snoozes,
        history.sessions,
        history.ignored,
        history.stuck,
        history.leases,
        history.contacts,
        history.negative_ms,
        history.state,
        history.preferences,
    )


def _track_records(
    tracks: Iterable[Track], names: dict[str, int]
) -> tuple[TrackRecord, ...]:
    """Write tracks, and number the names that they need."""
    records: list[TrackRecord] = []
    number = names.setdefault
    before_ms = 0
    for track in tracks:
        subject = track.subject
        rows, before_ms = _rows(track, before_ms)
        records.append(
            TrackRecord(
                number(subject.offer_id, len(names)),
                number(subject.creative_id, len(names)),
                number(subject.placement_id, len(names)),
                tuple([number(name, len(names)) for name in subject.categories]),
                subject.weight,
                rows,
            )
        )
    return tuple(records)


def _rows(track: Track, before_ms: int) -> tuple[tuple[tuple[int, ...], ...], int]:
    """Write the tallies of a track; return them, and the last of the times."""
    rows: list[tuple[int, ...]] = []
    missing = len(track.tallies)
    for kind in _KINDS:
        if not missing:
            break
        row: list[int] = []
        tally = track.tallies.get(kind)
        if tally is not None:
            missing -= 1
            row.append(tally.past)
            for at_ms in (tally.past_ms, *tally.times) if tally.past else tally.times:
                row.append(at_ms - before_ms)
                before_ms = at_ms
        rows.append(tuple(row))
    return tuple(rows), before_ms


def _read(record: HistoryRecord) -> History:
    """Read a history.

    Raises:
        msgspec.ValidationError: If a name or a time is missing.
    """
    if record == _NO_RECORD:
        return NO_HISTORY
    try:
        tracks = _tracks(record.tracks, record.names)
    except IndexError:
        raise msgspec.ValidationError("names and times must be all there") from None
    return History(
        tracks,
        record.reservations,
        record.snoozes,
        record.sessions,
        record.ignored,
        record.stuck,
        record.leases,
        record.contacts,
        record.negative_ms,
        record.state,
        record.preferences,
    )


def _tracks(
    records: Iterable[TrackRecord], names: tuple[str, ...]
) -> tuple[Track, ...]:
    tracks: list[Track] = []
    at_ms = 0
    for record in records:
        tallies: dict[EventKind, Tally] = {}
        for at, row in enumerate(record.tallies):
            if row:
                times = tuple(accumulate(row[1:], initial=at_ms))
                at_ms, past = times[-1], row[0]
                tallies[_KINDS[at]] = (
                    Tally(times[2:], past, times[1]) if past else Tally(times[1:])
                )
        subject = Subject(
            names[record.offer],
            names[record.creative],
            names[record.placement],
            tuple([names[name] for name in record.categories]),
            record.weight,
        )
        tracks.append(Track(subject, tallies))
    return tuple(tracks)


def decode_outcome(text: str) -> Outcome:
    """Read an outcome.

    Raises:
        msgspec.DecodeError: If it is not one.
    """
    return _outcome.decode(text)
