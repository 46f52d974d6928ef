"""Users who are kept from the learner: who they are, and that they teach nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from policies.policy import (
    EpsilonGreedy,
    LinUCBSettings,
    PolicySettings,
    VowpalWabbitSettings,
)
from policies.records import decode_decision
from policies.rewards import Amount, RewardSettings
from policies.splits import SplitSettings
from policies.training import fold
from server.settings import Settings
from simulator.logs import Log
from simulator.replaying import replay
from tests.server import kit
from tests.server.till import Till

USERS = [f"user-{n}" for n in range(400)]

CATALOGUE = """
[holdout]
share = 0.2

[placements.home]

[offers.tea]
placements = ["home"]
priority = 2

[offers.jam]
placements = ["home"]
priority = 1
"""


def test_users_are_split_by_who_they_are() -> None:
    small, large = (SplitSettings(eval=s, control=s) for s in (0.1, 0.3))
    by_user = {user: (small.of(user), large.of(user)) for user in USERS}

    counts = Counter(large for _, large in by_user.values())
    assert counts["eval"] == pytest.approx(120, abs=30)
    assert counts["control"] == pytest.approx(120, abs=30)
    for few, many in by_user.values():
        assert few in ("train", many)
    others = [SplitSettings(eval=0.3, control=0.3, salt="b").of(user) for user in USERS]
    assert others != [many for _, many in by_user.values()]


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"eval": -0.1}, "eval must be from 0 to 1, not -0.1"),
        ({"control": 1.1}, "control must be from 0 to 1"),
        ({"eval": 0.6, "control": 0.6}, "control must be at most 1 together with eval"),
        ({"salt": ""}, "salt must be from 1 to 64 bytes"),
    ],
)
def test_what_splits_nobody_is_refused(wrong: object, word: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=word):
        msgspec.convert({"split": wrong}, PolicySettings)


@pytest.mark.parametrize("split", ["eval", "control", "holdout"])
@pytest.mark.parametrize("kind", [LinUCBSettings, VowpalWabbitSettings])
def test_no_byte_of_the_model_is_of_users_who_do_not_teach(
    tmp_path: Path,
    kind: type[LinUCBSettings | VowpalWabbitSettings],
    split: str,
) -> None:
    # Given limits that follow from what was learned, and two shops with the same
    # customers, one of which has others in between, who do not teach
    rewards = RewardSettings({"accepted": Amount("revenue")}, clip_quantile=0.9)
    mixed, plain = (
        Till(tmp_path / f"{n}.db", rewards, PolicySettings(kind()))
        for n in ("mixed", "plain")
    )
    for till in (mixed, plain):
        reports = []
        for number in range(240):
            decision = till.decide(
                ("tea", "jam")[number % 7 % 2], seats=float(number % 5)
            )
            taught = number % 2 == 0
            if not taught:
                decision = msgspec.structs.replace(decision, split=split)
            if taught or till is mixed:
                pleased = number % 3 or not taught
                said = till.said("shown", "accepted" if pleased else "dismissed")
                reports.append((decision, said))
        till.report(*reports)

    # When all is learned, then both have learned the same, to the last bit
    assert mixed.learn() == plain.learn()

    # And what the others did is in the log all the same
    assert len(mixed.stream()) == 240
    assert len(plain.stream()) == 120


async def test_the_log_says_who_is_who_and_can_be_made_again(
    tmp_path: Path, clock: kit.Clock
) -> None:
    # Given a server that has learned that tea is bad and jam is good, and explores
    path = tmp_path / "opportune.db"
    split = SplitSettings(eval=0.25, control=0.25)
    policy = PolicySettings(LinUCBSettings(), EpsilonGreedy(epsilon=0.2), split=split)
    settings: Settings = msgspec.structs.replace(kit.settings_of(path), policy=policy)
    async with kit.running(path, CATALOGUE, clock, settings) as shop:

        async def come(user: str) -> None:
            decision = await shop.ask(user)
            if decision.offer_id:
                tea = decision.offer_id == "tea"
                kind = kit.DISMISSED if tea else kit.ACCEPTED
                await shop.report(decision, kit.SHOWN, kind)

        for user in USERS[:60]:
            await come(user)
        with kit.learning_over(settings, clock) as (learning, _):
            kit.learn_all(learning)
        await shop.follow()
        clock.advance(kit.DAY_MS)
        for user in USERS[:200]:
            await come(user)

        # Then each decision says to which part of the users it belongs
        decisions = [
            decode_decision(record)
            for (record,) in kit.rows(
                path, "select record from decisions_v1 order by position"
            )
        ]
    by_user: dict[str, set[str]] = {}
    for decision in decisions:
        by_user.setdefault(decision.opportunity.user_id, set()).add(decision.split)
    assert all(len(splits) == 1 for splits in by_user.values())
    counts = Counter(*[[decision.split for decision in decisions[60:]]])
    assert counts["holdout"] == pytest.approx(40, abs=20)
    assert counts["eval"] == pytest.approx(40, abs=20)
    assert counts["control"] == pytest.approx(40, abs=20)

    # And those held out see nothing, those who control the first, whatever is learned
    last = decisions[60:]
    assert {d.chosen for d in last if d.split == "holdout"} == {0}
    control = [d for d in last if d.split == "control"]
    first = {d.probabilities for d in control if len(d.actions) == 3}
    assert first == {(0, 10**9, 0)}
    assert sum(d.chosen == 2 for d in last if d.split == "eval") > counts["eval"] / 2

    # And all of them come out again from the log
    with Log(path) as log:
        result = replay(log)
    assert (result.decisions, result.identical) == (260, 260)


def test_what_teaches_nothing_is_skipped_by_whoever_folds_the_stream(
    tmp_path: Path,
) -> None:
    till = Till(tmp_path / "till.db")
    decision = msgspec.structs.replace(till.sold("shown", "accepted"), split="eval")

    class Nobody:
        """A policy that must not be asked to learn."""

    till.learn()
    (resolution,) = till.stream()
    fold(Nobody(), resolution, decision, till.catalogue)  # type: ignore[arg-type] # On purpose.
