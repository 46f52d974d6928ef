"""What a store promises, to those who serve, who learn, and who run it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol

from policies.model import Decision, History, Outcome, OutcomeKind, Resolution
from policies.promotion import Lineup
from policies.releasing import Model, Release
from server.stores.values import (
    NO_SETTLEMENT,
    Activation,
    ActiveCatalogue,
    Changed,
    Contest,
    Fold,
    Histories,
    Hold,
    Joinable,
    JoinState,
    Judge,
    Judgement,
    LeaseLostError,
    LedgerEntry,
    ModelChange,
    Renewal,
    Reported,
    Resolved,
    Settlement,
    Snapshot,
    StoredModel,
    StoredPast,
    StreamRow,
    SupplyLease,
    Switch,
    Trial,
    TrialRow,
    Tried,
    Versioned,
    Watermark,
)

__all__ = [
    "NO_SETTLEMENT",
    "Activation",
    "ActiveCatalogue",
    "AdminStore",
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
    "ServingStore",
    "Settlement",
    "Snapshot",
    "StoredModel",
    "StoredPast",
    "StreamRow",
    "SupplyLease",
    "SupplyStore",
    "Switch",
    "TrainingStore",
    "Trial",
    "TrialRow",
    "Tried",
    "Versioned",
    "Watermark",
]


class SupplyStore(Protocol):
    """What is there only so many times: inventories and budgets, by name.

    A process leases a part, and its decisions hold what they take from the lease, so
    that no two processes wait for each other. What is leased, held or charged is
    never more than the limit that the leases were made under; what a process had
    leased when it died is free again when the lease has ended.

    Every method may raise `StoreUnavailableError`, as those of `ServingStore`.
    """

    async def lease(
        self,
        name: str,
        *,
        limit: int,
        need: int,
        want: int,
        until_ms: int,
        at_ms: int,
    ) -> SupplyLease | None:
        """Lease a part of a supply.

        Args:
            name: The supply.
            limit: How much of it there is altogether.
            need: The least that is of use, 1 or more.
            want: The most that is; it is less where that would leave little to others.
            until_ms: When the lease ends, unless it is renewed.
            at_ms: The time.

        Returns:
            The lease; none where less than `need` is left.
        """
        ...

    async def renew(self, lease_ids: Collection[str], until_ms: int) -> frozenset[str]:
        """Let leases end later; return those that had not been ended before."""
        ...

    async def give_back(self, lease_ids: Collection[str]) -> None:
        """End leases: what no decision has taken from them is free again."""
        ...

    async def sweep(self, at_ms: int) -> bool:
        """End what is over at a time: leases, and holds that were not charged.

        Returns:
            Whether more is to be done: it never does so much that others wait.
        """
        ...


class ServingStore(SupplyStore, Protocol):
    """What the server needs: short calls, many at once.

    Every method may raise `StoreUnavailableError`, after which nothing is known of
    what was to be written; the same call may be made again.
    """

    async def past(self, root: str, user_id: str, *, account: bool) -> StoredPast:
        """Return what is remembered, all that was acknowledged in it.

        Args:
            root: The root.
            user_id: The user under it.
            account: Whether to return the history of the root as a whole too.
        """
        ...

    async def decision(self, decision_id: str) -> Decision | None:
        """Return a decision; none where it was never made."""
        ...

    async def decisions(self, decision_id: str) -> list[Decision]:
        """Return all decisions of the call whose first has this id, in order."""
        ...

    async def answer(self, decision_id: str, kept_id: str) -> Decision:
        """Let a request be answered with an earlier decision, if it has no answer yet.

        Args:
            decision_id: The id that the request's own decision would have.
            kept_id: The earlier decision.

        Returns:
            What it is answered with first, as `decisions` returns from now on.
        """
        ...

    async def commit(
        self,
        decision: Decision,
        *,
        call_id: str = "",
        seen: StoredPast,
        after: Histories | None,
        holds: Sequence[Hold] = (),
    ) -> Decision | None:
        """Store a decision, unless another was faster.

        Args:
            decision: The decision.
            call_id: The first decision of its call; empty where this is the first.
            seen: The past that it was made on.
            after: The histories with what the decision reserves; none where it
                reserves nothing, so that the versions stay as they are.
            holds: What it takes from supplies, each supply once.

        Returns:
            The stored decision: that given, or that of an earlier try where the
            request is a retry; none where the past has changed meanwhile, and nothing
            was stored.

        Raises:
            LeaseLostError: If a lease is gone or empty that is held from; nothing was
                stored.
        """
        ...

    async def report(
        self,
        decision: Decision,
        outcomes: Sequence[Outcome],
        fold: Fold,
        *,
        account: bool,
    ) -> Reported:
        """Store outcomes on disk, and what follows from those that are new.

        Args:
            decision: The decision that they are about.
            outcomes: What the user did.
            fold: Says what is remembered then, and what becomes of what the decision
                holds. It is not called where nothing is new.
            account: Whether it folds the history of the root as a whole too.
        """
        ...

    async def change(
        self,
        root: str,
        user_id: str,
        entry: LedgerEntry,
        fold: Callable[[History], History],
    ) -> Changed:
        """Append to a ledger on disk, and to the history what follows, once.

        Args:
            root: The root.
            user_id: The user under it; empty for the root as a whole.
            entry: What was told.
            fold: Returns the history with it; as a `Fold`, it does nothing else.
        """
        ...

    async def stopped(self) -> tuple[str, ...]:
        """Return the scopes that are stopped, sorted."""
        ...

    async def active_catalogue(self) -> ActiveCatalogue:
        """Return which catalogue holds."""
        ...

    async def release(self, learner: str) -> Release | None:
        """Return which model of a learner serves; none before the first."""
        ...

    async def lineup(self) -> Lineup | None:
        """Return which policy decides; none where that was never changed."""
        ...

    async def snapshot(self, learner: str, *, at_most: Model) -> Snapshot | None:
        """Return a learner's latest snapshot that is not beyond a model."""
        ...

    async def catalogue(self, version: str) -> str | None:
        """Return the text of a catalogue that was in use."""
        ...

    async def register(
        self, catalogue: tuple[str, str], policy: tuple[str, str]
    ) -> None:
        """Keep a catalogue and a policy that decisions refer to: version and text."""
        ...

    async def close(self) -> None:
        """Finish what is under way, and let go of everything."""
        ...


class TrainingStore(Protocol):
    """What the learner process needs. Only it writes the training stream.

    Opening one waits until no other process holds one on the same store.
    """

    def epoch(self) -> int:
        """Return the current epoch of the training stream."""
        ...

    def begin_epoch(self, judge: Judge | None = None) -> int:
        """Begin a new epoch: each decision once, with its last reward.

        The decisions are in the order in which they were resolved first. Cut short, it
        has changed nothing, and can be called again.

        Args:
            judge: Says what they are to have earned instead; it is called for one part
                of them after the other.

        Returns:
            The new epoch.
        """
        ...

    def recent_rewards(self, limit: int) -> list[float]:
        """Return what decisions that teach earned, before that was clipped.

        Args:
            limit: How many of the last rewards; one that was corrected is there as it
                was known first, and as what it turned out to be.
        """
        ...

    def changed(self, limit: int, *, silences: bool) -> tuple[list[str], Watermark]:
        """Return decisions of which something new is known, and a watermark.

        Args:
            limit: How many rows to read at the most.
            silences: Whether decisions for no offer count as news of themselves.
        """
        ...

    def due(self, now_ms: int, limit: int) -> list[str]:
        """Return decisions whose wait is over."""
        ...

    def joinable(self, decision_ids: Sequence[str]) -> list[Joinable]:
        """Return decisions with their outcomes."""
        ...

    def append(
        self,
        resolutions: Sequence[Resolution],
        waits: dict[str, int | None],
        watermark: Watermark | None,
    ) -> None:
        """Append to the training stream and move the watermark, both or neither.

        Args:
            resolutions: The new rows, in order.
            waits: For each decision looked at, when to look again; none for never.
            watermark: What `changed` returned; none to leave it where it is.
        """
        ...

    def stream(self, epoch: int, after: int, limit: int) -> list[StreamRow]:
        """Return rows of the training stream past a position, in order."""
        ...

    def stream_length(self) -> int:
        """Return how many rows the current epoch of the stream has."""
        ...

    def rebuild_asked(self) -> Renewal:
        """Say whether somebody asked for a new epoch."""
        ...

    def latest_snapshot(
        self, learner: str, *, before: int | None = None
    ) -> Snapshot | None:
        """Return a learner's latest snapshot of the current epoch.

        Args:
            learner: The version of its settings.
            before: Only those of lower positions; none for all.
        """
        ...

    def warm(self, learner: str) -> Snapshot | None:
        """Return what a learner began with, if that was not nothing."""
        ...

    def publish(
        self,
        snapshot: Snapshot,
        keep: int,
        release: Callable[[Release | None], Release | None] | None = None,
    ) -> None:
        """Store a snapshot, and let it serve, both or neither.

        All but the last `keep` are dropped, but those that serve, and those of position
        0, which the learner began with.

        Args:
            snapshot: The snapshot.
            keep: How many are kept.
            release: Says which model serves then; the snapshot, where it is left out.
        """
        ...

    def release(self, learner: str) -> Release | None:
        """Return which model of a learner serves."""
        ...

    def change_release(
        self,
        learner: str,
        change: Callable[[Release | None], Release | None],
        what: str = "",
    ) -> Release | None:
        """Let another model serve, and note it under a name where it has one."""
        ...

    def lineup(self) -> Lineup | None:
        """Return which policy decides; none where that was never changed."""
        ...

    def change_lineup(self, lineup: Lineup, note: ModelChange | None) -> None:
        """Let policies share the traffic otherwise, and note it."""
        ...

    def tried(self) -> Tried:
        """Return how far challengers have been tried."""
        ...

    def silences(self, after: int, limit: int) -> tuple[list[Decision], int]:
        """Return decisions for no offer that could have been for one, in order.

        Args:
            after: The position of a decision, past which they are.
            limit: How many decisions to look at.

        Returns:
            The decisions, and the position that was looked up to.
        """
        ...

    def record_trials(self, trials: Sequence[Trial], tried: Tried) -> None:
        """Keep how challengers would have decided, each decision once.

        Args:
            trials: The trials.
            tried: How far they go.
        """
        ...

    def trials(
        self, challenger: str, champion: str, *, after: int, limit: int
    ) -> list[TrialRow]:
        """Return trials past a position, with what was earned, in order."""
        ...

    def record_contest(self, contest: Contest) -> None:
        """Keep the result of a window of trials, and forget these."""
        ...

    def contests(self, challenger: str, champion: str, limit: int) -> list[Contest]:
        """Return the results of the last windows, the latest first."""
        ...

    def recent(self, limit: int, *, before_ms: int | None = None) -> list[Resolved]:
        """Return the last decisions, up to a time if one is given, latest first."""
        ...

    def catalogue(self, version: str) -> str | None:
        """Return the text of a catalogue that was in use."""
        ...

    def maintain(self) -> None:
        """Do what keeps the store fast, off everybody's path."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


class AdminStore(Protocol):
    """What who runs the server needs. What it writes is on disk when it returns."""

    def stop(self, scope: str, *, who: str, reason: str, at_ms: int) -> None:
        """Stop a scope: `all`, or `category:`, `offer:` or `placement:` and a name."""
        ...

    def resume(self, scope: str, *, who: str, reason: str, at_ms: int) -> None:
        """Let a scope go on. What else stops an offer still does."""
        ...

    def switches(self) -> list[Switch]:
        """Return what was done last to every scope that was ever stopped."""
        ...

    def activate(
        self, version: str, text: str, *, at_ms: int, who: str, reason: str, diff: str
    ) -> int:
        """Let a catalogue hold from now on; return the position of that."""
        ...

    def refuse(
        self,
        version: str,
        *,
        at_ms: int,
        who: str,
        reason: str,
        diff: str,
        problems: str,
    ) -> int:
        """Note that a catalogue was not activated, and why; return the position."""
        ...

    def activations(self, limit: int) -> list[Activation]:
        """Return what was activated or refused, the latest first."""
        ...

    def active_catalogue(self) -> ActiveCatalogue:
        """Return which catalogue holds."""
        ...

    def decisions_with(
        self, kinds: Collection[OutcomeKind]
    ) -> Iterator[tuple[Decision, list[Outcome]]]:
        """Yield decisions of which such outcomes were reported, with all outcomes.

        They are in the order of their ids, so that those of a root are together.
        """
        ...

    def decisions_since(self, at_ms: int, limit: int) -> list[Decision]:
        """Return the last decisions that are not older, the latest first."""
        ...

    def catalogue(self, version: str) -> str | None:
        """Return the text of a catalogue that was in use."""
        ...

    def epoch(self) -> int:
        """Return the current epoch of the training stream."""
        ...

    def policies(self) -> list[str]:
        """Return the settings of all policies that served, as JSON, the latest first.

        The latest is the one that first served last.
        """
        ...

    def models(self, learner: str) -> list[StoredModel]:
        """Return a learner's models, the latest first."""
        ...

    def snapshot(self, learner: str, *, at_most: Model) -> Snapshot | None:
        """Return a learner's latest snapshot that is not beyond a model."""
        ...

    def release(self, learner: str) -> Release | None:
        """Return which model of a learner serves."""
        ...

    def change_release(
        self,
        learner: str,
        change: Callable[[Release | None], Release | None],
        what: str,
    ) -> Release | None:
        """Let another model serve, and note it under a name."""
        ...

    def model_changes(self, limit: int) -> list[ModelChange]:
        """Return what was done to models, the latest first."""
        ...

    def lineup(self) -> Lineup | None:
        """Return which policy decides; none where that was never changed."""
        ...

    def change_lineup(self, lineup: Lineup, note: ModelChange) -> None:
        """Let policies share the traffic otherwise, and note it."""
        ...

    def contests(self, challenger: str, champion: str, limit: int) -> list[Contest]:
        """Return the results of the last windows, the latest first."""
        ...

    def recent(self, limit: int) -> list[Resolved]:
        """Return the last decisions with what they earned, the latest first."""
        ...

    def learner_runs(self) -> bool:
        """Say whether a learner is at work on this store."""
        ...

    def ask_rebuild(
        self,
        renewal: Renewal = "as_learned",
        *,
        who: str,
        reason: str,
        at_ms: int,
    ) -> int:
        """Ask the learner to begin a new epoch; return the present one."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...
