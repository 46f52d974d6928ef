"""What stores take and give."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Literal, NamedTuple

from policies.model import Decision, History, Outcome, Resolution
from policies.releasing import Model, name_of

__all__ = [
    "NO_SETTLEMENT",
    "Activation",
    "ActiveCatalogue",
    "Changed",
    "Contest",
    "Fold",
    "Histories",
    "Hold",
    "JoinState",
    "Joinable",
    "Judge",
    "Judgement",
    "LeaseLostError",
    "LedgerEntry",
    "ModelChange",
    "Renewal",
    "Reported",
    "Resolved",
    "Settlement",
    "Snapshot",
    "StoredModel",
    "StoredPast",
    "StreamRow",
    "SupplyLease",
    "Switch",
    "Trial",
    "TrialRow",
    "Tried",
    "Versioned",
    "Watermark",
]


class Versioned(NamedTuple):
    """A history, and how often it has changed; 0 for one never seen."""

    version: int
    history: History


class StoredPast(NamedTuple):
    """What is remembered of a user, and of their account where that was asked."""

    user: Versioned
    account: Versioned | None


class Histories(NamedTuple):
    """The histories of a user and of their account.

    Attributes:
        account: None where there is no account, or where its history does not change.
    """

    user: History
    account: History | None = None


class SupplyLease(NamedTuple):
    """A part of a supply that one process may hand out.

    Attributes:
        name: The supply.
        amount: How much of it.
        until_ms: When it ends, unless it is renewed.
    """

    lease_id: str
    name: str
    amount: int
    until_ms: int


class Hold(NamedTuple):
    """What a decision takes from a supply, until it is charged or let go.

    Attributes:
        name: The supply.
        lease_id: The lease that it comes from.
        amount: How much, 1 or more.
        until_ms: When it is let go by itself.
    """

    decision_id: str
    name: str
    lease_id: str
    amount: int
    until_ms: int


class LeaseLostError(Exception):
    """A lease ended before what came from it was stored: lease anew, decide again."""

    def __init__(self, lease_ids: Collection[str]) -> None:
        self.lease_ids = frozenset(lease_ids)
        super().__init__(f"lost leases: {', '.join(sorted(self.lease_ids))}")


class Settlement(NamedTuple):
    """What becomes of all that a decision holds.

    Attributes:
        kind: `charge` for good, `release` at once, `extend` until later, or nothing;
            `refund` releases what was charged as well.
        until_ms: Until when at least, where it is to extend.
    """

    kind: Literal["none", "charge", "release", "extend", "refund"]
    until_ms: int = 0


NO_SETTLEMENT = Settlement("none")
"""What is held stays as it is."""

Fold = Callable[
    [Histories, Sequence[Outcome], Sequence[Outcome]], tuple[Histories, Settlement]
]
"""Folds outcomes: the histories, the outcomes known before, and the new ones.

It is called within a transaction, perhaps more than once: it does nothing else.
"""


class Reported(NamedTuple):
    """What became of a report.

    Attributes:
        fresh: For each outcome whether it is new; one that is not changed nothing.
        before: What was remembered before.
        histories: What is remembered now.
        known: The outcomes that were known before.
        kept: Whether all that the decision took of supplies is held or charged still;
            not where it was let go of. None where it took nothing.
    """

    fresh: list[bool]
    before: Histories
    histories: Histories
    known: Sequence[Outcome]
    kept: bool | None


class LedgerEntry(NamedTuple):
    """Something that was told of a user or an account.

    Attributes:
        event_id: Unique for the user or account; a repeat changes nothing.
        kind: What it was.
        source: Who said so.
        record: What it says, as JSON.
    """

    event_id: str
    kind: str
    at_ms: int
    source: str
    record: str = "{}"


class Changed(NamedTuple):
    """What became of a change: whether it is new, and what is remembered now."""

    fresh: bool
    history: History


class ActiveCatalogue(NamedTuple):
    """The catalogue that holds.

    Attributes:
        position: Its place among the activations; 0 before the first.
        version: Empty before the first.
    """

    position: int
    version: str


class Activation(NamedTuple):
    """A catalogue that was activated, or refused.

    Attributes:
        position: The order of it.
        who: Who asked for it.
        previous: The version that held until then; empty for none.
        diff: What would change.
        problems: Why it was refused; empty where it was accepted.
    """

    position: int
    version: str
    at_ms: int
    who: str
    reason: str
    previous: str
    diff: str
    accepted: bool
    problems: str


class Switch(NamedTuple):
    """What was stopped or resumed last: `all`, or one category, offer, placement."""

    scope: str
    stopped: bool
    at_ms: int
    who: str
    reason: str


class Snapshot(NamedTuple):
    """A published model.

    Attributes:
        learner: The version of the learner's settings.
        epoch: Which training stream it has learned from.
        position: How many rows of the stream it has learned.
        body: The learner, as bytes.
        at_ms: When it was published.
    """

    learner: str
    epoch: int
    position: int
    body: bytes
    at_ms: int = 0

    @property
    def model(self) -> str:
        """The version of the model, as decisions name it."""
        return name_of(self.version)

    @property
    def version(self) -> Model:
        """The version of the model, as releases have it."""
        return self.epoch, self.position


class StoredModel(NamedTuple):
    """A published model without its bytes.

    Attributes:
        at_ms: When it was published.
        size: How many bytes it is.
    """

    learner: str
    epoch: int
    position: int
    at_ms: int
    size: int


class ModelChange(NamedTuple):
    """Something that was done to models, other than publishing the next.

    Attributes:
        position: The order of it.
        subject: The learner's version, or the name of a policy.
        what: What was done.
        model: Which model, as `epoch.position`.
    """

    position: int
    subject: str
    what: str
    model: str
    at_ms: int
    who: str
    reason: str


class Trial(NamedTuple):
    """How a challenger would have decided.

    Attributes:
        weight: How much likelier the challenger makes what was chosen than who chose.
        base: How much likelier the champion makes it.
        agrees: Whether the challenger's own draw is what was chosen.
    """

    challenger: str
    champion: str
    decision_id: str
    weight: float
    base: float
    agrees: bool


class TrialRow(NamedTuple):
    """A trial, with what its decision has earned: 0 where nothing is known."""

    position: int
    weight: float
    base: float
    agrees: bool
    reward: float


class Tried(NamedTuple):
    """How far challengers have been tried.

    Attributes:
        silences: The position of the last decision that was looked at for silence.
        epoch: The training stream whose decisions were tried last.
        row: The last row of it that was.
    """

    silences: int
    epoch: int
    row: int


class Contest(NamedTuple):
    """How a challenger compares with the champion over a window of trials.

    Attributes:
        position: The last trial of the window.
        n: How many trials.
        agreement: The share in which both chose the same.
        value: What the challenger earns above the champion, a decision.
        low: The lower end of its interval; `high` is the upper one.
        verdict: `better`, `worse` or `open`.
    """

    challenger: str
    champion: str
    position: int
    at_ms: int
    n: int
    agreement: float
    value: float
    low: float
    high: float
    verdict: str


class Resolved(NamedTuple):
    """A decision, and what it has earned; none while that is not known."""

    decision: Decision
    reward: float | None


class JoinState(NamedTuple):
    """What the training stream holds of a decision; revision 0 for nothing yet.

    Attributes:
        revision: That of the last row.
        reward: What was learned last.
        earned: What it earned before that was clipped.
    """

    revision: int
    reward: float | None
    earned: float | None = None


class Joinable(NamedTuple):
    """All that the joiner needs of a decision."""

    decision: Decision
    outcomes: list[Outcome]
    state: JoinState


class Judgement(NamedTuple):
    """What a decision is to have earned.

    Attributes:
        reward: What is learned of it.
        earned: What that was before it was clipped; none where that is the reward.
    """

    reward: float
    earned: float | None = None


Judge = Callable[[Sequence[Joinable]], Sequence[Judgement | None]]
"""Says of decisions, in order, what they are to have earned; none for as it was."""

Renewal = Literal["none", "as_learned", "judged_anew"]
"""Whether a new epoch is wanted: with the last rewards, or by today's settings."""


class StreamRow(NamedTuple):
    """A row of the training stream with its decision."""

    position: int
    resolution: Resolution
    decision: Decision


Watermark = tuple[int, ...]
"""How far a store has been read; only the store knows what the numbers mean."""
