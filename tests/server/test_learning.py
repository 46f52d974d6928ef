"""What is learned from what is reported, through the wire and the learner."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from opportune.v1 import Context, Decision
from policies.policy import LearnerSettings, LinUCBSettings, VowpalWabbitSettings
from policies.rewards import RewardSettings
from policies.toml import Duration
from server.stores.opening import open_training
from tests.server import kit
from tests.server.kit import Shop

COST = 0.01 * 0.2  # It is shown inline.
WAIT_MS = 10 * kit.MINUTE_MS


def stream(shop: Shop) -> list[tuple[str, float, int]]:
    """Return the training stream: decision, reward, revision."""
    return kit.rows(
        shop.path,
        "select decision_id, reward, revision from resolutions_v1 order by position",
    )


def learn(shop: Shop) -> None:
    with kit.learning_over(shop.settings, shop.clock) as (learning, _):
        kit.learn_all(learning)


TRUTH: list[tuple[tuple[int, ...], bool, float | None]] = [
    # What is reported, whether the wait is over, and the reward.
    ((), True, None),
    ((kit.ACCEPTED,), True, None),
    ((kit.CLICKED, kit.DISMISSED), True, None),
    ((kit.NOT_SHOWN,), True, None),
    ((kit.NOT_SHOWN, kit.ACCEPTED), True, None),
    ((kit.SHOWN,), False, None),
    ((kit.SHOWN,), True, 0.0 - COST),
    ((kit.SHOWN, kit.CLICKED), False, None),
    ((kit.SHOWN, kit.CLICKED), True, 0.0 - COST),
    ((kit.SHOWN, kit.ACCEPTED), False, 1.0 - COST),
    ((kit.ACCEPTED, kit.SHOWN), False, 1.0 - COST),
    ((kit.SHOWN, kit.CONVERTED), False, 1.0 - COST),
    ((kit.SHOWN, kit.DISMISSED), False, -0.2 - COST),
    ((kit.DISMISSED, kit.SHOWN), True, -0.2 - COST),
]


def said(row: tuple[tuple[int, ...], bool, float | None]) -> str:
    kinds = [kit.name_of(kind) for kind in row[0]]
    return f"{'+'.join(kinds) or 'NOTHING'}-{'late' if row[1] else 'soon'}"


@pytest.mark.parametrize("row", TRUTH, ids=said)
async def test_only_what_was_shown_is_learned_by_its_outcome_or_by_default(
    shop: Shop, clock: kit.Clock, row: tuple[tuple[int, ...], bool, float | None]
) -> None:
    # Given a decision for an offer
    kinds, late, reward = row
    decision = await shop.offered("ada", "jam")

    # When this is reported of it, and the wait is over or not
    for kind in kinds:
        await shop.report(decision, kind)
    learn(shop)
    if late:
        clock.advance(WAIT_MS)
        learn(shop)

    # Then this is what was learned
    expected = [] if reward is None else [(decision.decision_id, reward, 1)]
    assert expected == stream(shop)


async def test_silence_trains_only_when_it_is_confirmed_and_costs_nothing(
    shop: Shop, clock: kit.Clock
) -> None:
    # Given three silences: one confirmed, one after which the user converted, and
    # one of which nothing is heard
    confirmed, converted, _ = [await shop.ask(user, "empty") for user in "abc"]
    await shop.report(confirmed, kit.SHOWN)
    await shop.report(converted, kit.SHOWN, kit.CONVERTED)

    # When all waits are over
    clock.advance(WAIT_MS)
    learn(shop)

    # Then the first earned nothing, the second its conversion, the third is unknown
    assert {(d, reward) for d, reward, _ in stream(shop)} == {
        (confirmed.decision_id, 0.0),
        (converted.decision_id, 1.0),
    }


async def test_silence_that_confirms_itself_trains_without_a_report(
    tmp_path: Path, clock: kit.Clock, catalogue_text: str
) -> None:
    # Given settings by which silence confirms itself
    rewards = RewardSettings(silence_confirms_itself=True)
    path = tmp_path / "opportune.db"
    settings = kit.settings_of(path, rewards=rewards)
    async with kit.running(path, catalogue_text, clock, settings) as shop:
        # When there is a silence and an offer, and nothing is heard of either
        silence = await shop.ask("ada", "empty")
        await shop.offered("bob", "tea")
        clock.advance(WAIT_MS)
        learn(shop)

        # Then the silence has earned 0, and the offer is not learned
        rows = [row for row in stream(shop) if row[0] == silence.decision_id]
        assert rows == [(silence.decision_id, 0.0, 1)]
        silences = kit.rows(
            path, "select count(*) from decisions_v1 where record ->> 'chosen' = 0"
        )
        assert [(len(stream(shop)),)] == silences


async def test_what_becomes_known_later_is_a_correction(
    shop: Shop, clock: kit.Clock
) -> None:
    # Given an offer that was shown, and that nothing came of
    decision = await shop.offered("ada", "jam")
    await shop.report(decision, kit.SHOWN)
    clock.advance(WAIT_MS)
    learn(shop)

    # When it is accepted after all, and that is reported twice
    await shop.report(decision, kit.ACCEPTED)
    learn(shop)
    await shop.report(decision, kit.ACCEPTED)
    learn(shop)

    # Then the stream says first the one, then the other, and nothing is rewritten
    name = decision.decision_id
    assert [(name, 0.0 - COST, 1), (name, 1.0 - COST, 2)] == stream(shop)


async def test_a_wait_counts_from_when_the_offer_was_shown(
    shop: Shop, clock: kit.Clock
) -> None:
    # Given an offer that was shown some time after it was decided
    decision = await shop.offered("ada", "jam")
    clock.advance(5 * kit.MINUTE_MS)
    await shop.report(decision, kit.SHOWN)

    # When the wait is all but over, nothing is learned; when it is over, it is
    clock.advance(WAIT_MS - 1)
    learn(shop)
    assert stream(shop) == []
    clock.advance(1)
    learn(shop)
    assert len(stream(shop)) == 1


@pytest.mark.parametrize(
    "learner", [LinUCBSettings(), VowpalWabbitSettings()], ids=["linucb", "vw"]
)
async def test_a_segment_that_dismisses_an_offer_sees_it_less(
    tmp_path: Path, clock: kit.Clock, catalogue_text: str, learner: LearnerSettings
) -> None:
    # Given two segments that are offered the same
    path = tmp_path / "opportune.db"
    settings = kit.settings_of(path, learner=learner)
    async with kit.running(path, catalogue_text, clock, settings) as shop:

        async def probability(segment: str) -> float:
            decision = await shop.ask(
                f"new-{segment}", context=Context(segment=segment), offer_ids=["jam"]
            )
            return {c.offer_id: c.probability for c in decision.candidates}["jam"]

        before = await probability("teens")

        # When one of them dismisses an offer, the other accepts it, and the learner
        # has learned both and published
        async def live(number: int, segment: str, kind: int) -> None:
            decision = await shop.offered(
                f"{segment}-{number}", "jam", context=Context(segment=segment)
            )
            await shop.report(decision, kit.SHOWN, kind)

        for number in range(40):
            await asyncio.gather(
                live(number, "teens", kit.DISMISSED),
                live(number, "adults", kit.ACCEPTED),
            )
        learn(shop)
        model = shop.services.current.policy.model
        await shop.follow()

        # Then the first is offered it less than before, and less than the other
        assert model != shop.services.current.policy.model
        teens, adults = await probability("teens"), await probability("adults")
        assert teens < before
        assert teens < adults
        assert teens > 0.0


async def test_a_decision_names_the_model_that_it_was_made_by(shop: Shop) -> None:
    # Given a decision by a server that has learned nothing
    first = await shop.offered("ada", "jam")
    await shop.report(first, kit.SHOWN, kit.ACCEPTED)

    # When that is learned, and the server takes the model up
    learn(shop)
    unaware: Decision = await shop.ask("bob")
    await shop.follow()
    aware = await shop.ask("bob")

    # Then decisions before that name the old model, and those after the new one
    assert (first.model_version, unaware.model_version) == ("0.0", "0.0")
    assert aware.model_version == "1.1"


async def test_a_second_learner_is_refused_while_the_first_one_lives(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a learner, and a second one that has little patience
    monkeypatch.setattr("server.stores.sqlite.training._LEARNER_WAIT_S", 0.05)
    with (
        kit.learning_over(shop.settings, shop.clock),
        # When the second one starts, then it is refused
        pytest.raises(RuntimeError, match="another learner"),
    ):
        open_training(shop.settings.store.url)

    # And when the first one has ended, it is not
    open_training(shop.settings.store.url).close()


def test_the_wait_of_these_tests_is_that_of_the_settings() -> None:
    assert RewardSettings().wait == Duration(WAIT_MS)
    assert RewardSettings().attention_cost * 0.2 == COST
