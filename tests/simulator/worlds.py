"""Logs made by the server's own code, of users whose tastes are known.

Users are in segments; the chance that one accepts an offer is a table by segment and
offer, and whether one does is a hash of seed, user and offer. Every user comes once,
so that no cap or cool-down applies unless a catalogue brings one in.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from policies import catalogue as catalogues
from policies.catalogue import Catalogue
from policies.engine import Past, decide
from policies.history import reserve
from policies.identity import decision_id, root_key
from policies.model import (
    NO_OFFER,
    Context,
    Decision,
    History,
    Opportunity,
    Outcome,
    OutcomeKind,
)
from policies.policy import EpsilonGreedy, LinUCBSettings, Policy, PolicySettings
from policies.rewards import RewardSettings
from server.learning import Learning
from server.reporting import Report, fold_of
from server.stores.base import Histories, ServingStore
from server.stores.opening import migrate_store, open_serving, open_training

CATALOGUE = """
currency = "EUR"
valid_for = "10m"

[features.seats]
type = "number"

[placements.home]

[offers.tea]
placements = ["home"]

[offers.jam]
placements = ["home"]
"""

CAPPED = """
currency = "EUR"
valid_for = "10m"

[features.seats]
type = "number"

[placements.home]
[placements.till]

[offers.jam]
placements = ["home", "till"]
dismissal_cool_down = "7d"
[offers.jam.creatives.bold]
[offers.jam.creatives.calm]

[offers.tea]
placements = ["home"]
caps = [{ limit = 2, window = "24h" }]
eligible = "segment != 'team'"
"""
"""Another catalogue, with gates that reject, and the same offers at other indices."""

SEGMENTS = ("free", "team", "old")
TASTES: Mapping[tuple[str, str], float] = {
    ("free", "tea"): 0.5,
    ("free", "jam"): 0.2,
    ("team", "tea"): 0.1,
    ("team", "jam"): 0.4,
    ("old", "tea"): 0.3,
    ("old", "jam"): 0.3,
}
REWARDS = RewardSettings(
    outcomes={"dismissed": 0.0}, attention_cost=0.0, silence_confirms_itself=True
)
"""A reward is whether an offer was accepted."""

SILENCE_UNCONFIRMED = msgspec.structs.replace(REWARDS, silence_confirms_itself=False)
UNIFORM = PolicySettings(LinUCBSettings(dim=8), EpsilonGreedy(epsilon=1.0))
NOON_MS = 1_795_262_400_000


class World:
    """A store and who uses it: workers that decide, users who answer, a learner.

    Attributes:
        path: The store's file.
        now_ms: The time.
        policy: What decides now.
        catalogue: What is offered now.
        decisions: All decisions that were committed, in that order.
    """

    def __init__(self, path: Path, settings: PolicySettings = UNIFORM) -> None:
        self.path = path
        self.now_ms = NOON_MS
        self.rewards = REWARDS
        self.decisions: list[Decision] = []
        migrate_store(f"sqlite:///{path}")
        self.catalogue: Catalogue = catalogues.read(CATALOGUE)
        self.policy = Policy(settings)

    def copied(self, path: Path) -> World:
        """Return the same world over a copy of its store."""
        shutil.copy(self.path, path)
        world = copy.copy(self)
        world.path, world.decisions = path, list(self.decisions)
        return world

    def offer(self, text: str) -> None:
        """Serve another catalogue from now on."""
        self.catalogue = catalogues.read(text)

    def decide_by(self, settings: PolicySettings) -> None:
        """Serve by another policy from now on, and by its last model if it has one."""
        self.policy = Policy(settings)
        self.follow()

    def visit(
        self,
        users: Sequence[str],
        placements: tuple[str, ...] = ("home",),
        *,
        answer: Callable[[Decision], Sequence[OutcomeKind]] | None = None,
    ) -> list[Decision]:
        """Let users come and answer, all in one turn of a worker."""

        async def work() -> list[Decision]:
            store = open_serving(f"sqlite:///{self.path}")
            policy, catalogue = self.policy, self.catalogue
            await store.register(
                (catalogue.version, catalogue.text),
                (policy.version, policy.settings.to_json()),
            )
            decided = await asyncio.gather(
                *(self._decide(store, user, placements) for user in users)
            )
            await asyncio.gather(
                *(self._report(store, d, (answer or self.taste)(d)) for d in decided)
            )
            await store.close()
            return decided

        decided = asyncio.run(work())
        self.decisions += decided
        return decided

    def answer_late(self, decisions: Sequence[Decision]) -> None:
        """Accept what was offered, after all."""

        async def work() -> None:
            store = open_serving(f"sqlite:///{self.path}")
            for decision in decisions:
                await self._report(store, decision, ["accepted"])
            await store.close()

        asyncio.run(work())

    def taste(self, decision: Decision) -> Sequence[OutcomeKind]:
        """Answer as the table says."""
        if decision.chosen == NO_OFFER:
            return ()
        offer_id = self.catalogue.actions[decision.chosen].offer_id
        asked = decision.opportunity
        chance = TASTES[asked.context.segment, offer_id]
        mood = uniform(f"{asked.user_id} {offer_id}")
        if mood < chance:
            return ("shown", "accepted")
        return ("shown", "dismissed" if mood > 0.9 else "ignored")

    def learn(self, settings: PolicySettings | None = None) -> None:
        """Be the learner for as long as there is something to learn, and publish."""
        store = open_training(f"sqlite:///{self.path}")
        learning = Learning(
            store,
            settings or self.policy.settings,
            self.rewards,
            keep=20,
            clock=lambda: self.now_ms,
        )
        while learning.step():
            pass
        learning.publish()
        store.close()

    def follow(self) -> None:
        """Take the last model up, as a worker does."""
        settings = self.policy.settings
        rows = self.rows(
            "select epoch, position, body from snapshots_v1 where learner = ?"
            " order by epoch desc, position desc limit 1",
            settings.learner_version,
        )
        for epoch, position, body in rows:
            self.policy = Policy(
                settings, body, model=f"{epoch}.{position}", learned=position
            )

    def live(self, n: int, *, every: int = 100, seed: int = 0) -> None:
        """Let n users come once each, and learn after every so many."""
        users = [f"user-{seed}-{number}" for number in range(n)]
        for start in range(0, n, every):
            self.now_ms += 1_000
            self.visit(users[start : start + every])
            self.now_ms += self.rewards.wait
            self.learn()
            self.follow()

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Read or write the file as somebody else would."""
        with self.connected() as connection:
            return connection.execute(sql, values).fetchall()

    @contextmanager
    def connected(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.path)
        try:
            yield connection
            connection.commit()
        finally:
            connection.close()

    def tamper(self, position: int, change: Callable[[dict[str, Any]], object]) -> None:
        """Change the record of a decision."""
        ((text,),) = self.rows(
            "select record from decision where position = ?", position
        )
        record = json.loads(text)
        change(record)
        self.overwrite(position, json.dumps(record))

    def overwrite(self, position: int, text: str) -> None:
        """Replace the record of a decision."""
        self.rows("update decision set record = ? where position = ?", text, position)

    async def _decide(
        self, store: ServingStore, user_id: str, placements: tuple[str, ...]
    ) -> Decision:
        root = root_key("town", "", user_id)
        opportunity = Opportunity(
            decision_id(root, user_id, f"request-{self.now_ms}-{len(self.decisions)}"),
            self.now_ms,
            user_id,
            placements,
            context=self.context_of(user_id),
        )
        while True:
            seen = await store.past(root, user_id, account=False)
            history = self.told_of(user_id, seen.user.history)
            decision = decide(
                opportunity,
                catalogue=self.catalogue,
                past=Past(history),
                policy=self.policy,
            ).decision
            after = None
            if decision.chosen != NO_OFFER:
                chosen = self.catalogue.chosen(self.catalogue.actions[decision.chosen])
                memory = self.catalogue.memory
                after = Histories(reserve(history, chosen, decision, memory))
            stored = await store.commit(decision, seen=seen, after=after)
            if stored is not None:
                return stored

    def context_of(self, user_id: str) -> Context:
        """Return what a request says of a user."""
        return Context(
            segment=segment_of(user_id), features={"seats": uniform(user_id) * 9}
        )

    def told_of(self, user_id: str, history: History) -> History:
        """Return a user's past with what the product has told."""
        del user_id
        return history

    async def _report(
        self, store: ServingStore, decision: Decision, kinds: Sequence[OutcomeKind]
    ) -> None:
        if not kinds:
            return
        text = await store.catalogue(decision.catalogue)
        assert text is not None
        catalogue = _read(text)
        outcomes = [
            Outcome(f"{kind}-{self.now_ms}", kind, self.now_ms) for kind in kinds
        ]
        fold = fold_of(Report(decision, catalogue), catalogue.memory)
        await store.report(decision, outcomes, fold, account=False)


@lru_cache
def _read(text: str) -> Catalogue:
    return catalogues.read(text)


def segment_of(user_id: str) -> str:
    """Return the segment that a user is in, by the user's id."""
    return SEGMENTS[int(uniform(f"segment {user_id}") * len(SEGMENTS))]


def uniform(text: str) -> float:
    """Return a number in [0, 1) that is a hash of a text."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def restart_stream(world: World) -> None:
    """Begin a new epoch of the training stream, as a rebuild does."""
    store = open_training(f"sqlite:///{world.path}")
    store.begin_epoch()
    store.close()


def with_exploration(settings: PolicySettings, epsilon: float) -> PolicySettings:
    """Return a policy with the same learner that explores as much as said."""
    exploration = EpsilonGreedy(epsilon=epsilon)
    return msgspec.structs.replace(settings, exploration=exploration)
