"""Decisions that a test makes itself, with a real store and a real learner.

Nothing is gated and nothing is drawn: what is learned of which outcomes is all there
is to it. That it is the same through the wire is for `test_learning`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from policies import catalogue as catalogues
from policies.identity import decision_id, root_key
from policies.model import (
    Context,
    Decision,
    Opportunity,
    Outcome,
    OutcomeKind,
    Resolution,
)
from policies.policy import PolicySettings
from policies.rewards import RewardSettings
from server.learning import Learning
from server.stores.base import TrainingStore
from server.stores.opening import migrate_store, open_serving, open_training
from tests.contracts.stores import put, tell

NOON_MS = 1_795_262_400_000
MINUTE_MS = 60_000
DAY_MS = 86_400_000

CATALOGUE = """
currency = "USD"

[features.seats]
type = "number"

[placements.list]
[placements.strip]
kind = "banner"
[placements.popup]
kind = "modal"
[placements.corner]
kind = "banner"
interruptiveness = 0.5

[offers.tea]
placements = ["list", "strip", "popup", "corner"]
price = 900
margin = 300

[offers.jam]
placements = ["list"]
price = 500
"""


class Till:
    """A store, what is told to it, and who learns from it.

    Attributes:
        now_ms: The time.
    """

    def __init__(
        self,
        path: Path,
        rewards: RewardSettings | None = None,
        policy: PolicySettings | None = None,
        catalogue: str = CATALOGUE,
    ) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"
        self.rewards = rewards or RewardSettings()
        self.policy = policy or PolicySettings()
        self.catalogue = catalogues.read(catalogue)
        self.now_ms = NOON_MS
        self._numbers = itertools.count()
        migrate_store(self.url)

    def decide(
        self,
        offer_id: str = "tea",
        placement_id: str = "list",
        *,
        user_id: str = "ada",
        seats: float = 1.0,
        propensity: float = 0.5,
    ) -> Decision:
        """Return a decision for an offer; silence where its name is empty."""
        (chosen,) = (
            action.index
            for action in self.catalogue.actions
            if (action.offer_id, action.placement_id)
            == ((offer_id, placement_id) if offer_id else ("", ""))
        )
        other = 1 if chosen == 0 else 0
        units = round(propensity * 10**9)
        chances = {chosen: units, other: 10**9 - units}
        request = f"request-{next(self._numbers)}"
        root = root_key("shop", "", user_id)
        return Decision(
            Opportunity(
                decision_id(root, user_id, request),
                self.now_ms,
                user_id,
                (placement_id,),
                context=Context(features={"seats": seats}),
            ),
            self.catalogue.version,
            self.policy.version,
            "0.0",
            tuple(sorted(chances)),
            tuple(chances[at] for at in sorted(chances)),
            chosen,
            self.now_ms + 10 * MINUTE_MS,
        )

    def report(self, *reports: tuple[Decision, Sequence[Outcome]]) -> None:
        """Store decisions, where that was not done, and what is told of them."""

        async def work() -> None:
            store = open_serving(self.url)
            text = self.catalogue.text
            await store.register(
                (self.catalogue.version, text),
                (self.policy.version, self.policy.to_json()),
            )
            for decision, outcomes in reports:
                if await store.decision(decision.opportunity.decision_id) is None:
                    await put(store, decision)
                if outcomes:
                    await tell(store, decision, *outcomes)
            await store.close()

        asyncio.run(work())

    def sold(self, *kinds: OutcomeKind, offer_id: str = "tea") -> Decision:
        """Report a decision of which these outcomes are told, a second apart."""
        decision = self.decide(offer_id)
        self.report((decision, self.said(*kinds)))
        return decision

    def said(self, *kinds: OutcomeKind, after_ms: int = 0) -> list[Outcome]:
        """Return outcomes, a second apart, from the present time on."""
        return [
            Outcome(kind, kind, self.now_ms + after_ms + 1_000 * at)
            for at, kind in enumerate(kinds)
        ]

    @contextmanager
    def opened(self) -> Iterator[tuple[Learning, TrainingStore]]:
        """Be the learner."""
        store = open_training(self.url)
        try:
            yield (
                Learning(
                    store, self.policy, self.rewards, keep=20, clock=lambda: self.now_ms
                ),
                store,
            )
        finally:
            store.close()

    def learn(self) -> bytes:
        """Learn all there is, publish; return the model."""
        with self.opened() as (learning, store):
            while learning.step():
                pass
            learning.publish()
            snapshot = store.latest_snapshot(self.policy.learner_version)
            return b"" if snapshot is None else snapshot.body

    def stream(self) -> list[Resolution]:
        """Return the current training stream."""
        with self.opened() as (_, store):
            rows = store.stream(store.epoch(), 0, 100_000)
            return [row.resolution for row in rows]

    def rewards_learned(self) -> list[float]:
        """Return the rewards of the training stream, corrections too."""
        return [resolution.reward for resolution in self.stream()]
