"""What a store promises, to those who serve and to those who learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from policies.model import Decision, History, Outcome, Resolution

__all__ = [
    "JoinState",
    "Joinable",
    "ServingStore",
    "Snapshot",
    "StreamRow",
    "TrainingStore",
    "VersionedHistory",
    "Watermark",
]


class VersionedHistory(NamedTuple):
    """A history, and how often it has changed; 0 for a user never seen."""

    version: int
    history: History


class Snapshot(NamedTuple):
    """A published model.

    Attributes:
        learner: The version of the learner's settings.
        epoch: Which training stream it has learned from.
        position: How many rows of the stream it has learned.
        body: The learner, as bytes.
    """

    learner: str
    epoch: int
    position: int
    body: bytes

    @property
    def model(self) -> str:
        """The version of the model, as decisions name it."""
        return f"{self.epoch}.{self.position}"


class ServingStore(Protocol):
    """What the server needs: short calls, many at once.

    Every method may raise `StoreUnavailableError`, after which nothing is known of
    what was to be written; the same call may be made again.
    """

    async def history(self, root: str, user_id: str) -> VersionedHistory:
        """Return what is remembered of a user, all that was acknowledged in it."""
        ...

    async def decision(self, decision_id: str) -> Decision | None:
        """Return a decision; none where it was never made."""
        ...

    async def commit(
        self, decision: Decision, *, version: int, after: History | None
    ) -> Decision | None:
        """Store a decision, unless another was faster.

        Args:
            decision: The decision.
            version: The version of the history that it was made on.
            after: The history with what the decision reserves; none where it
                reserves nothing, so that the version stays as it is.

        Returns:
            The stored decision of that id, which is an earlier one where the
            request is a retry; none where the history has changed meanwhile, and
            nothing was stored.
        """
        ...

    async def report(
        self,
        decision: Decision,
        offer: tuple[str, str] | None,
        outcomes: Sequence[Outcome],
    ) -> list[bool]:
        """Store outcomes on disk and fold them into the user's history.

        Args:
            decision: The decision that they are about.
            offer: The offer and the placement that it chose; none for no offer.
            outcomes: What the user did.

        Returns:
            For each outcome whether it is new; one that is not changed nothing.
        """
        ...

    async def latest_snapshot(
        self, learner: str, *, after: tuple[int, int]
    ) -> Snapshot | None:
        """Return a learner's latest snapshot, if it is beyond an epoch and position."""
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


class JoinState(NamedTuple):
    """What the training stream holds of a decision; revision 0 for nothing yet."""

    revision: int
    reward: float | None


class Joinable(NamedTuple):
    """All that the joiner needs of a decision."""

    decision: Decision
    outcomes: list[Outcome]
    state: JoinState


class StreamRow(NamedTuple):
    """A row of the training stream with its decision."""

    position: int
    resolution: Resolution
    decision: Decision


Watermark = tuple[int, ...]
"""How far a store has been read; only the store knows what the numbers mean."""


class TrainingStore(Protocol):
    """What the learner process needs. Only it writes the training stream.

    Opening one waits until no other process holds one on the same store.
    """

    def epoch(self) -> int:
        """Return the current epoch of the training stream."""
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

    def latest_snapshot(self, learner: str) -> Snapshot | None:
        """Return a learner's latest snapshot of the current epoch."""
        ...

    def publish(self, snapshot: Snapshot, keep: int) -> None:
        """Store a snapshot for all to see, and drop all but the last `keep`."""
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
