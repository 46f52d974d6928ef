"""Decides, takes reports and learns as a server does, with everything in memory."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from policies.catalogue import Catalogue
from policies.clipping import Clipping
from policies.commands import Command
from policies.engine import Past, Verdict, decide, eligible
from policies.history import CONFIRMING, Chosen, report, reserve
from policies.identity import decision_id, root_key
from policies.joiner import join
from policies.model import (
    NO_HISTORY,
    NO_OFFER,
    Conditions,
    Decision,
    History,
    Opportunity,
    Outcome,
    Resolution,
)
from policies.policy import Policy, PolicySettings
from policies.profiles import apply
from policies.training import fold
from simulator.stock import Stock
from simulator.worlds import World

__all__ = ["TENANT", "Desk", "Pupil", "Row"]

TENANT = "world"
"""Whose users simulated ones are, where no server says otherwise."""


class Desk:
    """Decides and takes reports as a server does, with histories in memory.

    Args:
        catalogue: What can be offered.
        policy: What decides.
        tenant: Whose users these are.

    Attributes:
        catalogue: As given.
        policy: As given; whoever learns replaces it.
        histories: What is remembered, by user.
    """

    def __init__(
        self, catalogue: Catalogue, policy: Policy, tenant: str = TENANT
    ) -> None:
        self.catalogue = catalogue
        self.policy = policy
        self.histories: dict[str, History] = {}
        self._tenant = tenant
        self._confirmed: set[str] = set()
        self._stock = Stock(catalogue)

    def name(self, user_id: str, request_id: str) -> str:
        """Return the id of the decision that a request is answered with."""
        root = root_key(self._tenant, "", user_id)
        return decision_id(root, user_id, request_id)

    def tell(self, user_id: str, command: Command) -> None:
        """Take up what a product tells of a user, beside what came of offers."""
        before = self.histories.get(user_id, NO_HISTORY)
        self.histories[user_id] = apply(before, command)

    def decide(self, opportunity: Opportunity) -> Verdict:
        """Decide, and hold what was chosen."""
        user_id = opportunity.user_id
        history = self.histories.get(user_id, NO_HISTORY)
        verdict = decide(
            opportunity,
            catalogue=self.catalogue,
            past=self._past(opportunity, history),
            policy=self.policy,
        )
        self._stock.hold(verdict.decision)
        chosen = self.chosen(verdict.decision)
        if chosen is not None:
            memory = self.catalogue.memory
            self.histories[user_id] = reserve(history, chosen, verdict.decision, memory)
        return verdict

    def report(self, decision: Decision, outcome: Outcome) -> None:
        """Take up what came of a decision."""
        chosen = self.chosen(decision)
        if chosen is None:
            return
        asked = decision.opportunity
        self._stock.settle(decision, outcome)
        self.histories[asked.user_id] = report(
            self.histories.get(asked.user_id, NO_HISTORY),
            chosen,
            asked.decision_id,
            outcome,
            self.catalogue.memory,
            confirmed=asked.decision_id in self._confirmed,
        )
        if outcome.kind in CONFIRMING:
            self._confirmed.add(asked.decision_id)

    def _past(self, opportunity: Opportunity, history: History) -> Past:
        """Return what is known beside what is asked, and what has run out."""
        past = Past(history)
        if not self.catalogue.supplied:
            return past
        actions, _ = eligible(opportunity, self.catalogue, past)
        short = self._stock.short(opportunity, actions)
        return Past(history, conditions=Conditions(exhausted=short)) if short else past

    def chosen(self, decision: Decision) -> Chosen | None:
        """Return what histories remember of what was chosen; none for no offer."""
        if decision.chosen == NO_OFFER:
            return None
        return self.catalogue.chosen(self.catalogue.actions[decision.chosen])


class Pupil:
    """Joins and learns as the learner of a server does.

    Args:
        world: The world.
        settings: What learns.

    Attributes:
        position: How many rows of the training stream were learned.
    """

    def __init__(self, world: World, settings: PolicySettings) -> None:
        self._world = world
        self._policy = Policy(settings)
        self._clipping = Clipping(world.spec.rewards, ())
        self._changed: dict[int, None] = {}
        self._due: list[tuple[int, int]] = []
        self.position = 0

    def note(self, row: Row, at: int) -> None:
        """Remember that something is new about a decision.

        Args:
            row: The decision.
            at: Its place among all.
        """
        silent = row.decision.chosen == NO_OFFER
        if not silent or self._world.spec.rewards.silence_confirms_itself:
            self._changed[at] = None

    def learn(self, rows: Sequence[Row], now_ms: int) -> bool:
        """Learn what is known by now; say whether there was anything.

        Args:
            rows: All decisions.
            now_ms: The time.
        """
        before = self.position
        while self._due and self._due[0][0] <= now_ms:
            self._changed.setdefault(heapq.heappop(self._due)[1])
        changed, self._changed = self._changed, {}
        for at in changed:
            due_ms = self._look(rows[at], now_ms)
            if due_ms is not None:
                heapq.heappush(self._due, (due_ms, at))
        return self.position > before

    def published(self, previous: Policy) -> Policy:
        """Return a policy that decides by what was learned."""
        return Policy(
            previous.settings,
            self._policy.save(),
            model=f"1.{self.position}",
            learned=self.position,
            previous=previous,
        )

    def _look(self, row: Row, now_ms: int) -> int | None:
        terms = self._world.terms(self._world.catalogue.actions[row.decision.chosen])
        known = [outcome for outcome in row.outcomes if outcome.at_ms <= now_ms]
        for late in (False, True) if row.revision == 0 else (True,):
            now = join(row.decision, known, terms, now_ms, late=late)
            if now.reward is None:
                return now.due_ms
            if row.revision and now.reward == row.earned:
                continue
            row.earned, reward = now.reward, self._clipping.clip(now.reward)
            if row.revision == 0:
                if row.decision.split == "train":
                    self._clipping.remember(row.earned)
            elif reward == row.learned:
                continue
            row.revision += 1
            name = row.decision.opportunity.decision_id
            resolution = Resolution(name, reward, row.revision, row.learned)
            fold(self._policy, resolution, row.decision, self._world.catalogue)
            self.position += 1
            row.learned = reward
        return None


class Row:
    """A decision of a simulation, with what came of it so far.

    Attributes:
        decision: The decision, without the history that it was made on.
        truth: The true expected reward of each eligible action.
        outcomes: What came of it.
        revision: How often its reward was learned.
        earned: What it earned, by the last revision.
        learned: What of that was learned.
    """

    __slots__ = ("decision", "earned", "learned", "outcomes", "revision", "truth")

    def __init__(self, decision: Decision, truth: list[float]) -> None:
        self.decision = decision
        self.truth = truth
        self.outcomes: list[Outcome] = []
        self.revision = 0
        self.earned: float | None = None
        self.learned: float | None = None

    @property
    def best(self) -> float:
        """What the best eligible action earns."""
        return max(self.truth)

    @property
    def expected(self) -> float:
        """What the chosen action earns."""
        return self.truth[self.decision.actions.index(self.decision.chosen)]
