"""The life of models: which of them serves whom, what is refused, what takes over."""

from __future__ import annotations

import asyncio
import itertools
import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc.aio
import msgspec
import numpy as np
import prometheus_client
import pytest
import structlog
from typer.testing import CliRunner

from opportune.v1 import (
    Context,
    DecisionServiceStub,
    GetOfferRequest,
    ReportOutcomeRequest,
)
from policies.model import Action, Features, FloatArray
from policies.model import Decision as Logged
from policies.policy import (
    BlendSettings,
    EpsilonGreedy,
    LearnerSettings,
    LinUCBSettings,
    PolicySettings,
    PopularitySettings,
    PrioritySettings,
    TrafficSettings,
    VowpalWabbitSettings,
)
from policies.promotion import Lineup, PromotionSettings
from policies.records import decode_decision
from policies.releasing import Release, ReleaseError, rolled_back
from policies.sharing import place_of
from policies.toml import Duration
from server.__main__ import app
from server.learning import Learning
from server.modelling import check_kept
from server.settings import (
    ChallengerSettings,
    DriftSettings,
    GuardSettings,
    LearningSettings,
    Settings,
    names_learner,
    read_settings,
)
from server.stores.base import Snapshot
from server.stores.opening import open_admin, open_training
from simulator import Log, replay
from tests.server import kit
from tests.server.kit import Shop
from tests.server.till import DAY_MS, Till

BOLD = ChallengerSettings(
    "bold",
    mode="traffic",
    share=0.3,
    policy=PolicySettings(LinUCBSettings(), EpsilonGreedy(epsilon=1.0)),
)


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    """Leave the log as it was: commands write it to where they are run."""
    yield
    structlog.reset_defaults()


def with_(settings: Settings, **sections: Any) -> Settings:
    return msgspec.structs.replace(settings, **sections)


def learning_settings(**keys: Any) -> LearningSettings:
    return LearningSettings(poll=Duration(20), publish=Duration(20), **keys)


def learn(shop: Shop) -> None:
    with kit.learning_over(shop.settings, shop.clock) as (learning, _):
        kit.learn_all(learning)


def learner_of(shop: Shop) -> str:
    return shop.settings.policy.learner_version


async def live(shop: Shop, count: int, *, prefix: str = "user") -> None:
    """Let users be offered something, and accept tea alone."""

    async def one(number: int) -> None:
        decision = await shop.ask(f"{prefix}-{number}")
        kind = kit.ACCEPTED if decision.offer_id == "tea" else kit.DISMISSED
        if decision.offer_id:
            await shop.report(decision, kit.SHOWN, kind)

    for start in range(0, count, 50):
        await asyncio.gather(*(one(n) for n in range(start, min(start + 50, count))))


async def grow(shop: Shop, models: int) -> list[str]:
    """Learn and publish several times; return the models."""
    made: list[str] = []
    for number in range(models):
        await live(shop, 10, prefix=f"grow-{number}")
        learn(shop)
        await shop.follow()
        made.append(shop.services.current.policy.model)
    assert len(set(made)) == models
    return made


def release_of(shop: Shop) -> Release:
    with closing(open_admin(shop.settings.store.url)) as store:
        release = store.release(learner_of(shop))
    assert release is not None
    return release


def logged(shop: Shop) -> list[Logged]:
    rows = kit.rows(shop.path, "select record from decisions_v1 order by position")
    return [decode_decision(record) for (record,) in rows]


def comes_out_again(shop: Shop) -> bool:
    with Log(shop.path) as log_:
        done = replay(log_)
    return done.identical == done.decisions > 0


def metric(name: str, **labels: str) -> float:
    return prometheus_client.REGISTRY.get_sample_value(name, labels) or 0.0


# --- Releases ---------------------------------------------------------------------


async def test_a_rolled_back_model_is_out_on_a_running_worker_until_it_is_promoted(
    shop: Shop,
) -> None:
    # Given a worker that has followed three models
    first, second, _ = await grow(shop, 3)

    # When the last one is rolled back
    with closing(open_admin(shop.settings.store.url)) as store:
        store.change_release(learner_of(shop), lambda r: rolled_back(r, None), "back")
    await shop.follow()

    # Then the one before decides, and what is learned later does not
    assert (await shop.ask("bob")).model_version == second
    await live(shop, 10, prefix="later")
    learn(shop)
    await shop.follow()
    assert (await shop.ask("cleo")).model_version == second
    assert first != second

    # And everything that was decided comes out again
    assert comes_out_again(shop)


async def test_without_auto_publish_a_model_is_staged_until_it_is_promoted(
    tmp_path: Path, clock: kit.Clock, catalogue_text: str
) -> None:
    # Given settings by which nothing serves by itself
    path = tmp_path / "opportune.db"
    settings = with_(
        kit.settings_of(path), learning=learning_settings(auto_publish=False)
    )
    async with kit.running(path, catalogue_text, clock, settings) as shop:
        # When a model is learned
        await live(shop, 20)
        learn(shop)
        await shop.follow()

        # Then it decides only once it is promoted
        assert (await shop.ask("bob")).model_version == "0.0"
        typed = arguments(tmp_path, shop)
        assert "staged" in run("list", *typed)
        run("promote", *typed)
        await shop.follow()
        assert (await shop.ask("cleo")).model_version != "0.0"


async def test_a_canary_serves_its_share_of_users_always_the_same_ones(
    tmp_path: Path, clock: kit.Clock, catalogue_text: str
) -> None:
    # Given a model that serves, and a newer one that a quarter of users try first
    path = tmp_path / "opportune.db"
    settings = with_(
        kit.settings_of(path),
        learning=learning_settings(canary=0.25, canary_for=Duration(kit.HOUR_MS)),
    )
    async with kit.running(path, catalogue_text, clock, settings) as shop:
        await live(shop, 10, prefix="a")
        learn(shop)
        await live(shop, 10, prefix="b")
        learn(shop)
        release = release_of(shop)
        assert release.canary is not None
        await shop.follow()

        # When users ask, each twice
        models = [
            {(await shop.ask(f"user-{n}")).model_version for _ in range(2)}
            for n in range(200)
        ]

        # Then each has one model, and about a quarter the newer one
        assert all(len(found) == 1 for found in models)
        counts = Counter(next(iter(found)) for found in models)
        canary = f"{release.canary[0]}.{release.canary[1]}"
        assert set(counts) == {canary, f"{release.serving[0]}.{release.serving[1]}"}
        roots = {d.opportunity.user_id: d for d in logged(shop)}
        for user, decision in roots.items():
            if user.startswith("user-"):
                place = place_of(decision.opportunity.decision_id[:16], "canary")
                assert (decision.model == canary) == (place < 0.25)
        assert 30 < counts[canary] < 70

        # And when it has served them for an hour, all
        clock.advance(kit.HOUR_MS)
        learn(shop)
        await shop.follow()
        assert release_of(shop).serving == release.canary
        assert {(await shop.ask(f"new-{n}")).model_version for n in range(20)} == {
            canary
        }
        assert comes_out_again(shop)


# --- What is not fit to decide ----------------------------------------------------


def damage(path: Path, model: str) -> None:
    """Tear a stored snapshot."""
    epoch, position = model.split(".")
    with closing(sqlite3.connect(path, timeout=10)) as db, db:
        changed = db.execute(
            "update snapshot set body = substr(body, 1, length(body) / 2)"
            " where epoch = ? and position = ?",
            (epoch, position),
        )
        assert changed.rowcount == 1


async def test_a_torn_model_is_refused_and_the_last_good_one_serves(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a worker that serves a model, and a newer one whose bytes are torn
    _, good = await grow(shop, 2)
    await live(shop, 10, prefix="more")
    learn(shop)
    torn = "{}.{}".format(*release_of(shop).serving)
    assert torn != good
    damage(shop.path, torn)
    before = metric("opportune_models_refused_total")

    # When the worker looks, then it serves on by the good one, and says so
    await shop.follow()
    assert (await shop.ask("bob")).model_version == good
    assert metric("opportune_models_refused_total") == before + 1
    assert "not fit to decide" in capsys.readouterr().out

    # And a worker that starts anew takes the last good one, too
    current = shop.services.current
    current.policy, current.models = type(current.policy)(shop.settings.policy), {}
    await shop.follow()
    assert (await shop.ask("cleo")).model_version == good


async def test_a_learner_goes_on_from_the_last_good_model(shop: Shop) -> None:
    # Given a learner whose last model is torn on the disk
    await grow(shop, 2)
    whole = kit.rows(
        shop.path, "select body from snapshots_v1 order by position desc limit 1"
    )
    damage(shop.path, "{}.{}".format(*release_of(shop).serving))

    # When it starts again, and learns on
    with kit.learning_over(shop.settings, shop.clock) as (learning, _):
        behind = learning.position
        kit.learn_all(learning)
        again = learning._lineages[learner_of(shop)].policy.save()

        # Then it has learned what was lost again, and is where it was
        assert behind < learning.position
        assert [(again,)] == whole


async def test_a_torn_model_is_learned_and_stored_again_and_serves(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a worker that has refused a model for being torn, as all before it are
    _, good = await grow(shop, 2)
    await live(shop, 10, prefix="more")
    learn(shop)
    torn = "{}.{}".format(*release_of(shop).serving)
    for model in (good, torn):
        damage(shop.path, model)
    await shop.follow()
    assert (await shop.ask("bob")).model_version == good

    # When its learner is started again, and learns a row at a time
    monkeypatch.setattr("server.learning._BATCH", 1)
    with kit.learning_over(shop.settings, shop.clock) as (learning, _):
        served: list[str] = []
        while learning.step():
            learning.publish()
            served.append("{}.{}".format(*release_of(shop).serving))

        # Then no model that knows less serves meanwhile
        assert len(served) > 2
        assert set(served) == {torn}
        learning.publish()

    # And in the end it is whole, and serves
    await shop.follow()
    assert (await shop.ask("cleo")).model_version == torn
    assert release_of(shop).previous != release_of(shop).serving


async def test_a_model_that_gives_no_numbers_is_not_published(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a model that serves
    (good,) = await grow(shop, 1)
    await live(shop, 10, prefix="more")
    with kit.learning_over(shop.settings, shop.clock) as (learning, _):
        while learning.step():
            pass
        # When the learner's numbers overflow, and it publishes
        lineage = learning._lineages[learner_of(shop)]
        learner = lineage.policy.learner
        broken = lineage._read

        def read(snapshot: Snapshot) -> Any:
            policy = broken(snapshot)
            policy.learner.score = _nan  # type: ignore[method-assign] # That is the point.
            return policy

        lineage._read = read  # type: ignore[method-assign]
        learning.publish()
        learning.publish()
        assert learner is lineage.policy.learner

    # Then the one before serves on, and it is said once
    await shop.follow()
    assert (await shop.ask("bob")).model_version == good
    assert capsys.readouterr().out.count("not fit to decide") == 1


async def test_a_model_that_no_store_takes_is_not_published(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a server with a good model, and a limit that the next one exceeds
    (good,) = await grow(shop, 1)
    await live(shop, 10, prefix="more")
    monkeypatch.setattr("server.lineage._BYTES_MAX", 10)

    # When it learns on
    learn(shop)

    # Then the one before serves on, and the log says why
    await shop.follow()
    assert (await shop.ask("bob")).model_version == good
    assert "bytes are more than 10: it needs fewer" in capsys.readouterr().out


def _nan(context: Features, actions: Sequence[Action]) -> FloatArray:
    del context
    return np.full(len(actions), np.nan)


# --- Challengers ------------------------------------------------------------------


async def test_a_challenger_decides_for_its_share_of_users_with_true_propensities(
    tmp_path: Path, clock: kit.Clock, catalogue_text: str
) -> None:
    # Given a challenger that has three tenths of the users
    path = tmp_path / "opportune.db"
    settings = with_(kit.settings_of(path, epsilon=0.1), challengers=(BOLD,))
    async with kit.running(path, catalogue_text, clock, settings) as shop:
        await live(shop, 60)
        learn(shop)
        await shop.follow()

        # When users ask, each twice
        for number in range(150):
            for _ in range(2):
                await shop.ask(f"new-{number}")

        # Then each user has one policy, which decisions name, and the share is right
        of_user: dict[str, set[str]] = {}
        made = [d for d in logged(shop) if d.opportunity.user_id.startswith("new-")]
        for decision in made:
            of_user.setdefault(decision.opportunity.user_id, set()).add(decision.policy)
        assert all(len(found) == 1 for found in of_user.values())
        counts = Counter(next(iter(found)) for found in of_user.values())
        assert set(counts) == {settings.policy.version, BOLD.policy.version}
        assert 25 < counts[BOLD.policy.version] < 65

        # And propensities are those of the policy that decided
        for decision in made:
            if decision.policy == BOLD.policy.version:
                least, most = min(decision.probabilities), max(decision.probabilities)
                assert most - least <= 1
        assert comes_out_again(shop)


TEA = '[placements.home]\n[offers.tea]\nplacements = ["home"]\n'


def contest_settings(path: Path, mode: Any, **promotion: Any) -> Settings:
    """A champion that tosses a coin, and a challenger that learns what is liked."""
    learned = PolicySettings(LinUCBSettings(), EpsilonGreedy(epsilon=0.5))
    return with_(
        kit.settings_of(path, learner=PrioritySettings(), epsilon=1.0),
        challengers=(ChallengerSettings("learned", mode=mode, policy=learned),),
        promotion=PromotionSettings(window=150, windows=2, step=1.0, **promotion),
    )


def verdicts(shop: Shop) -> list[str]:
    rows = kit.rows(shop.path, "select verdict from contests_v1 order by position")
    return [verdict for (verdict,) in rows]


async def test_a_shadow_is_promoted_when_it_has_won_enough_windows_and_not_before(
    tmp_path: Path, clock: kit.Clock
) -> None:
    # Given a shadow that would do better than the champion
    path = tmp_path / "opportune.db"
    settings = contest_settings(path, "shadow", automatic=True)
    async with kit.running(path, TEA, clock, settings) as shop:
        promoted_at = None
        for round_ in range(8):
            # When users like what it would choose
            await live(shop, 60, prefix=f"round-{round_}")
            learn(shop)
            await shop.follow()
            now = shop.services.current.policy.version
            if now != settings.policy.version:
                promoted_at = verdicts(shop)
                break

        # Then it is promoted with the second window that it wins in a row
        assert promoted_at is not None
        assert promoted_at[-2:] == ["better", "better"]
        assert all(
            pair != ("better", "better")
            for pair in itertools.pairwise(promoted_at[:-1])
        )

        # And it says who did it, and all comes out again
        changes = kit.rows(path, "select subject, what, who from model_changes_v1")
        assert changes == [("learned", "promote", "the learner")]
        assert comes_out_again(shop)


async def test_nothing_is_promoted_by_itself_unless_that_is_asked_for(
    tmp_path: Path, clock: kit.Clock
) -> None:
    path = tmp_path / "opportune.db"
    settings = contest_settings(path, "shadow")
    async with kit.running(path, TEA, clock, settings) as shop:
        for round_ in range(4):
            await live(shop, 100, prefix=f"round-{round_}")
            learn(shop)
        await shop.follow()

        assert "better" in verdicts(shop)
        assert shop.services.current.policy.version == settings.policy.version
        assert metric("opportune_challenger_share", challenger="learned") == 0.0

        # And an operator can, and can go back
        typed = arguments(tmp_path, shop)
        assert "better: +" in run("list", *typed)
        run("promote", "learned", *typed)
        await shop.follow()
        assert shop.services.current.policy.version != settings.policy.version
        run("promote", "default", *typed)
        await shop.follow()
        assert shop.services.current.policy.version == settings.policy.version


async def test_an_apprentice_that_does_not_agree_is_not_promoted(
    tmp_path: Path, clock: kit.Clock
) -> None:
    # Given an apprentice that would do better, by choosing otherwise
    path = tmp_path / "opportune.db"
    settings = contest_settings(path, "apprentice", automatic=True, agreement=0.95)
    async with kit.running(path, TEA, clock, settings) as shop:
        # When it is compared
        for round_ in range(4):
            await live(shop, 100, prefix=f"round-{round_}")
            learn(shop)
        await shop.follow()

        # Then it wins no window
        agreement = kit.rows(path, "select agreement, low from contests_v1")
        assert any(low > 0 for _, low in agreement)
        assert all(share < 0.95 for share, _ in agreement)
        assert set(verdicts(shop)) == {"open"}
        assert shop.services.current.policy.version == settings.policy.version


async def test_an_apprentice_that_agrees_often_enough_takes_over(
    tmp_path: Path, clock: kit.Clock
) -> None:
    # Given rules that decide, and an apprentice that would do better
    path = tmp_path / "opportune.db"
    settings = contest_settings(path, "apprentice", automatic=True, agreement=0.2)
    async with kit.running(path, TEA, clock, settings) as shop:
        # When users like what it would choose, and it agrees often enough
        for round_ in range(6):
            await live(shop, 75, prefix=f"round-{round_}")
            learn(shop)
            await shop.follow()

        # Then it decides, and what it would have chosen is known of each window
        assert shop.services.current.policy.version != settings.policy.version
        agreement = kit.rows(path, "select agreement from contests_v1")
        assert all(0.2 < share < 1.0 for (share,) in agreement)


async def test_a_challenger_that_joins_later_learns_all_there_was(
    tmp_path: Path, clock: kit.Clock, catalogue_text: str
) -> None:
    # Given a server that has learned for a while
    path = tmp_path / "opportune.db"
    async with kit.running(path, catalogue_text, clock, kit.settings_of(path)) as shop:
        await live(shop, 60)
        learn(shop)
        rows = release_of(shop).serving[1]

        # When a challenger with another learner comes into the settings
        other = ChallengerSettings(
            "other", policy=PolicySettings(LinUCBSettings(dim=16))
        )
        settings = with_(shop.settings, challengers=(other,))
        with kit.learning_over(settings, clock) as (learning, _):
            kit.learn_all(learning)

            # Then it is where the champion is
            assert {lineage.position for lineage in learning._lineages.values()} == {
                rows
            }


async def test_a_challenger_is_tried_with_the_traffic_that_it_would_give_new_offers(
    tmp_path: Path, clock: kit.Clock
) -> None:
    # Given a shadow that bounds new offers, and a champion with the same learner
    path = tmp_path / "opportune.db"
    bounded = PolicySettings(
        LinUCBSettings(),
        EpsilonGreedy(epsilon=0.1),
        traffic=TrafficSettings(new_outcomes=20, new_most=0.05),
    )
    shadow = ChallengerSettings("shadow", policy=bounded)
    settings = with_(
        kit.settings_of(path, learner=LinUCBSettings(), epsilon=0.1),
        challengers=(shadow,),
    )
    async with kit.running(path, TEA, clock, settings) as shop:
        await live(shop, 60)
        learn(shop)
        await shop.follow()
        # When what was offered often, and is new no more, is decided again
        await live(shop, 60, prefix="later")
        with kit.learning_over(settings, clock) as (learning, _):
            kit.learn_all(learning)

            # Then the shadow knows how many of its rewards were learned
            tried = learning._contests._policies
            assert tried["shadow"].outcomes == tried["default"].outcomes
            assert tried["shadow"].outcomes["tea"] > 20


async def test_while_the_champion_learns_anew_nothing_is_tried_or_judged(
    tmp_path: Path, clock: kit.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a champion and a shadow that have learned for a while
    path = tmp_path / "opportune.db"
    settings = contest_settings(path, "shadow", automatic=True)
    async with kit.running(path, TEA, clock, settings) as shop:
        await live(shop, 100)
        learn(shop)
        tried = kit.rows(path, "select count(*) from trial")
        monkeypatch.setattr("server.learning._BATCH", 10)

        # When a new epoch is learned, and silences come up meanwhile
        with kit.learning_over(settings, clock) as (learning, _):
            learning.rebuild()
            await live(shop, 30, prefix="meanwhile")
            learning.publish()

            # Then nothing is tried by half a model
            assert learning._lineages[learner_of(shop)].waiting
            assert kit.rows(path, "select count(*) from trial") == tried

            # And what came up is tried when all is learned
            kit.learn_all(learning)
            assert kit.rows(path, "select count(*) from trial") > tried


def test_what_was_recorded_holds_as_far_as_it_is_still_there(tmp_path: Path) -> None:
    settings = with_(kit.settings_of(tmp_path / "x.db"), challengers=(BOLD,))

    assert settings.lineup(None) == Lineup("default", {"bold": 0.3})
    assert settings.lineup(Lineup("gone", {"lost": 0.5, "bold": 0.4})) == Lineup(
        "default", {"bold": 0.4}
    )
    assert settings.lineup(Lineup("bold")) == Lineup("bold")
    too_much = settings.lineup(Lineup("bold", {"default": 1.0}))
    assert too_much.shares == {"default": 0.9}


# --- How models begin -------------------------------------------------------------


async def test_before_the_first_model_the_baseline_decides(
    tmp_path: Path, clock: kit.Clock, catalogue_text: str
) -> None:
    # Given a baseline that keeps to the order of the catalogue
    path = tmp_path / "opportune.db"
    baseline = PolicySettings(PrioritySettings(), EpsilonGreedy(epsilon=0.2))
    settings = with_(kit.settings_of(path), baseline=baseline)
    async with kit.running(path, catalogue_text, clock, settings) as shop:
        await shop.follow()

        # When users ask before anything was learned, and after
        before = await shop.ask("ada")
        await live(shop, 30)
        learn(shop)
        await shop.follow()
        after = await shop.ask("bob")

        # Then first the baseline decides, then the policy, each under its own name
        assert before.policy_version == baseline.version
        assert after.policy_version == settings.policy.version
        assert comes_out_again(shop)


@pytest.mark.parametrize("source", ["file", "store"])
async def test_a_model_begins_with_what_another_server_has_learned(
    tmp_path: Path, clock: kit.Clock, catalogue_text: str, source: str
) -> None:
    # Given a server that has learned
    first = tmp_path / "first.db"
    async with kit.running(
        first, catalogue_text, clock, kit.settings_of(first)
    ) as shop:
        await live(shop, 80)
        learn(shop)
        await shop.follow()
        file = tmp_path / "model.json"
        run("export", str(file), *arguments(tmp_path, shop))
        expected = shop.services.current.policy.save()

    # When another one begins with that, from a file or from the store
    warm_start = str(file) if source == "file" else f"sqlite:///{first}"
    path = tmp_path / "second.db"
    settings = with_(
        kit.settings_of(path), learning=learning_settings(warm_start=warm_start)
    )
    async with kit.running(path, catalogue_text, clock, settings) as shop:
        learn(shop)
        await shop.follow()

        # Then it decides by it before it has learned anything itself
        assert shop.services.current.policy.save() == expected
        assert (await shop.ask("ada")).model_version == "1.0"

        # And learns on, and all comes out again
        await live(shop, 40)
        learn(shop)
        await shop.follow()
        assert shop.services.current.policy.model != "1.0"
        await shop.ask("bob")
        assert comes_out_again(shop)


@pytest.mark.parametrize("text", ["", "{}", '{"format": "x"}'])
async def test_a_bad_warm_start_is_told_and_takes_nobody_down(
    shop: Shop, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "model.json"
    file.write_text(text)
    for source in (str(file), "sqlite:///nowhere.db", str(tmp_path / "none.json")):
        settings = with_(shop.settings, learning=learning_settings(warm_start=source))
        with kit.learning_over(settings, shop.clock) as (learning, _):
            assert learning.position == 0
        assert "no warm start" in capsys.readouterr().out


# --- Drift ------------------------------------------------------------------------


def watched(shop: Shop, **drift: Any) -> Learning:
    settings = with_(shop.settings, drift=DriftSettings(window=100, **drift))
    with closing(open_training(settings.store.url)) as store:
        learning = Learning(
            store,
            settings.policy,
            settings.rewards,
            keep=20,
            clock=shop.clock,
            settings=settings,
        )
        kit.learn_all(learning)
        learning.watch()
    return learning


async def test_when_exploration_collapses_later_models_stay_out(
    tmp_path: Path, clock: kit.Clock
) -> None:
    # Given a server that always makes the same offer
    path = tmp_path / "opportune.db"
    settings = kit.settings_of(path, learner=PrioritySettings(), epsilon=0.0)
    async with kit.running(path, TEA, clock, settings) as shop:
        await live(shop, 120)

        # When the learner looks
        watched(shop)

        # Then it warns, and keeps to the model that serves
        assert metric("opportune_exploration_collapsed") == 1.0
        assert metric("opportune_recent_entropy") < 0.2
        assert release_of(shop).held
        assert "hold" in run("list", *arguments(tmp_path, shop))


async def test_while_enough_is_tried_nothing_is_kept_out(shop: Shop) -> None:
    await live(shop, 120)

    watched(shop)

    assert metric("opportune_exploration_collapsed") == 0.0
    assert metric("opportune_recent_entropy") > 0.2
    assert not release_of(shop).held


async def test_a_feature_that_drifts_is_told(
    shop: Shop, clock: kit.Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given users of one plan yesterday, and of another one today
    name = next(
        n
        for n, spec in shop.services.current.catalogue.features.items()
        if spec.type == "number"
    )

    async def ask(day: str, value: float) -> None:
        context = Context()
        for number in range(110):
            context.features[name].number = value + number % 7
            await shop.ask(f"{day}-{number}", context=context)

    await ask("yesterday", 1.0)
    clock.advance(2 * kit.DAY_MS)
    await ask("today", 50.0)

    # When the learner looks, then it says which feature
    watched(shop)

    assert metric("opportune_feature_psi", feature=name) > 0.2
    assert "a feature has drifted" in capsys.readouterr().out


# --- What is let in ---------------------------------------------------------------


def told(**features: str) -> Context:
    context = Context()
    for name, value in features.items():
        context.features[name].category = value
    return context


async def test_what_looks_like_an_address_is_refused_without_being_repeated(
    shop: Shop,
) -> None:
    address = "ada.lovelace@example.com"
    before = metric("opportune_pii_values_total", handling="refuse")
    contexts = {
        "context.features['mail'].category": told(mail=address),
        "context.segment": Context(segment=address),
        "context.role": Context(role="+49 151 23456789"),
    }
    for field, context in contexts.items():
        refusal = await kit.refused(shop.ask("ada", context=context))
        assert list(refusal.fields) == [field]
        assert "example.com" not in str(refusal)
        assert "23456789" not in str(refusal)
    assert shop.count("decision") == 0
    assert metric("opportune_pii_values_total", handling="refuse") == before + 3


async def test_what_looks_like_an_address_can_be_dropped_or_kept(
    tmp_path: Path, clock: kit.Clock, catalogue_text: str
) -> None:
    both = {"plan": "pro", "x": "a@b.de"}
    for pii, kept in (("drop", {"plan": "pro"}), ("keep", both)):
        path = tmp_path / f"{pii}.db"
        guard = GuardSettings(pii=pii)  # type: ignore[arg-type] # One of them.
        settings = with_(kit.settings_of(path), guard=guard)
        async with kit.running(path, catalogue_text, clock, settings) as shop:
            await shop.ask("ada", context=told(**both))

            (decision,) = logged(shop)
            assert decision.opportunity.context.features == kept


@pytest.mark.parametrize(("beyond", "kept"), [("keep", 30), ("hash", 20), ("drop", 10)])
async def test_endless_categories_are_counted_and_kept_hashed_or_dropped(
    tmp_path: Path, clock: kit.Clock, beyond: Any, kept: int
) -> None:
    # Given a feature of which ten categories are enough
    catalogue = (
        '[placements.home]\n[offers.tea]\nplacements = ["home"]\n'
        '[features.city]\ntype = "category"\n'
    )
    path = tmp_path / "opportune.db"
    guard = GuardSettings(categories_max=10, beyond=beyond)
    settings = with_(kit.settings_of(path), guard=guard)
    before = metric("opportune_feature_categories_beyond_total", feature="city")
    async with kit.running(path, catalogue, clock, settings) as shop:
        # When thirty come
        for number in range(30):
            context = told(city=f"city {number}", other=f"other {number}")
            await shop.ask(f"user-{number}", context=context)

        # Then those beyond are counted, and become what the settings say
        after = metric("opportune_feature_categories_beyond_total", feature="city")
        assert after - before == 20
        found = [d.opportunity.context.features.get("city") for d in logged(shop)]
        assert found[:10] == [f"city {number}" for number in range(10)]
        assert len({city for city in found if city}) in range(kept - 4, kept + 11)
        assert (None in found) == (beyond == "drop")
        assert any(str(c).startswith("other-") for c in found) == (beyond == "hash")
        assert comes_out_again(shop)


# --- The command line -------------------------------------------------------------


def arguments(folder: Path, shop: Shop) -> list[str]:
    """Return the settings of a shop, as a command is given them."""
    settings = shop.settings
    sections = {
        "policy": msgspec.to_builtins(settings.policy),
        "challengers": msgspec.to_builtins(settings.challengers),
        "learning": {"snapshots": settings.learning.snapshots},
        "store": {"url": settings.store.url},
    }
    path = folder / f"{shop.path.stem}.toml"
    lines = [f"{name} = {inline(value)}\n" for name, value in sections.items()]
    path.write_text("".join(lines), encoding="utf-8")
    return ["-s", str(path)]


def inline(value: Any) -> str:
    """Return a value as TOML in one line."""
    if isinstance(value, dict):
        known = {name: each for name, each in value.items() if each is not None}
        pairs = [f"{name} = {inline(each)}" for name, each in known.items()]
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(inline, value))}]"
    return json.dumps(value)


def invoke(*typed: str) -> tuple[int, str]:
    result = CliRunner(env={"COLUMNS": "160"}).invoke(app, ["models", *typed])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def run(*typed: str) -> str:
    status, output = invoke(*typed)
    assert status == 0, output
    return output


async def test_models_are_listed_looked_into_and_rolled_back(
    shop: Shop, tmp_path: Path
) -> None:
    # Given three models
    first, second, third = await grow(shop, 3)
    typed = arguments(tmp_path, shop)

    # When they are listed, then each has its state
    lines = run("list", *typed).splitlines()
    states = {
        model: next(line for line in lines if f" {model} " in line)
        for model in (first, second, third)
    }
    assert "serving" in states[third]
    assert all("retired" in states[model] for model in (first, second))

    # And what one has learned is told
    text = run("show", *typed)
    assert f"model {third} of policy default, serving" in text
    assert "tea/" in text
    assert "predicted" in text
    assert f"model {first} of" in run("show", first, *typed)

    # And a rollback is on record, with who and why
    said = run("rollback", "--who", "grace", "--reason", "odd", *typed)
    assert said.startswith(f"model {second} serves again")
    listed = run("list", *typed)
    assert f"rollback {second}, by grace: odd" in listed
    assert "kept to by grace: odd" in listed
    assert f"rollback {first}" not in listed
    run("rollback", "--to", first, *typed)
    assert release_of(shop).serving[1] == int(first.partition(".")[2])
    said = run("promote", third, *typed)
    assert "later ones are staged" in said
    said = run("promote", *typed)
    assert said.startswith(f"model {third} serves, and later ones follow")


@pytest.mark.parametrize(
    ("learner", "knows"),
    [(BlendSettings(waves=64), True), (VowpalWabbitSettings(), False)],
    ids=["blend", "vw"],
)
async def test_how_sure_a_learner_is_that_does_not_know_is_not_said(
    tmp_path: Path, clock: kit.Clock, learner: LearnerSettings, knows: bool
) -> None:
    path = tmp_path / "opportune.db"
    settings = kit.settings_of(path, learner=learner)
    async with kit.running(path, TEA, clock, settings) as shop:
        await live(shop, 30)
        learn(shop)

        shown = run("show", *arguments(tmp_path, shop))

    assert "tea/default/home" in shown
    assert "predicted" in shown
    assert ("not known" in shown) != knows


async def test_what_cannot_be_done_is_said_in_a_line(
    shop: Shop, tmp_path: Path
) -> None:
    typed = arguments(tmp_path, shop)

    for command, said in [
        (["show"], "no model serves yet"),
        (["rollback"], "nothing to roll back"),
        (["promote"], "has no model yet"),
        (["promote", "bolder"], "there is no policy 'bolder', but default (the"),
        (["promote", "bolder"], "EPOCH.POSITION"),
        (["promote", "1.7"], "has no model yet"),
        (["export", str(tmp_path / "x.json")], "no model serves yet"),
        (["list", "--policy", "other"], "there is no policy 'other', but default"),
    ]:
        status, output = invoke(*command, *typed)
        assert status == 1, output
        assert said in output
    models = await grow(shop, 2)
    status, output = invoke("rollback", "--to", "1.99999", *typed)
    assert (status, models[0] in output) == (1, True)
    damage(shop.path, models[0])
    status, output = invoke("rollback", *typed)
    assert status == 1
    assert "damaged" in output
    assert not release_of(shop).held


async def test_a_slip_in_the_name_of_a_challenger_is_told_with_all_names(
    tmp_path: Path, clock: kit.Clock
) -> None:
    path = tmp_path / "opportune.db"
    settings = with_(kit.settings_of(path), challengers=(BOLD,))
    async with kit.running(path, TEA, clock, settings) as shop:
        typed = arguments(tmp_path, shop)

        for command in (["promote", "bald"], ["show", "--policy", "bald"]):
            status, output = invoke(*command, *typed)

            assert status == 1
            told = "there is no policy 'bald', but default and bold; did you mean bold?"
            assert told in output


async def test_what_serves_is_listed_however_few_models_are(
    shop: Shop, tmp_path: Path
) -> None:
    # Given seven models, the first of which serves
    made = await grow(shop, 7)
    typed = arguments(tmp_path, shop)
    run("rollback", "--to", made[0], *typed)

    # When one is listed, then the one that serves is there too, and how many are not
    listed = run("list", "--limit", "1", *typed).partition("policy")[0]
    assert [model for model in made if f" {model} " in listed] == [made[0], made[-1]]
    assert "and 5 more" in listed

    # And whoever names one that is not kept is told how many there are
    status, output = invoke("rollback", "--to", "1.99999", *typed)
    assert status == 1
    assert f"{made[2]} and 2 more: see `models list`" in output


async def test_what_was_chosen_is_counted_by_name_over_changes_of_the_catalogue(
    shop: Shop, tmp_path: Path
) -> None:
    # Given a model, and a catalogue in which its offers have other places
    await grow(shop, 1)
    typed = arguments(tmp_path, shop)
    before = chosen(run("show", *typed))
    with closing(open_admin(shop.settings.store.url)) as store:
        first = store.catalogue(store.active_catalogue().version)
        assert first is not None
        changed = first.replace("[offers.tea]", CHAI + "[offers.tea]", 1)
        store.activate("later", changed, at_ms=0, who="grace", reason="", diff="")

    # When it is looked into
    after = chosen(run("show", *typed))

    # Then what it chose before is counted
    assert sum(before.values()) == 10
    assert after == {**before, "chai/default/home": 0}


CHAI = '[offers.chai]\nplacements = ["home"]\n'


def chosen(shown: str) -> dict[str, int]:
    """Return how often each action was chosen, as `models show` has it."""
    rows = [line.split("│") for line in shown.splitlines() if line.count("│") == 5]
    counts = [(row[1].strip(), row[4].strip()) for row in rows]
    return {name: int(count) for name, count in counts if count.isdecimal()}


async def test_a_rebuild_is_listed_in_words(shop: Shop, tmp_path: Path) -> None:
    await grow(shop, 1)
    typed = arguments(tmp_path, shop)

    with closing(open_admin(shop.settings.store.url)) as store:
        store.ask_rebuild("judged_anew", who="grace", reason="refunds", at_ms=0)

    assert "rebuild of stream 1, judged anew, by grace: refunds" in run("list", *typed)


async def test_everything_is_learned_anew_from_final_rewards(
    shop: Shop, tmp_path: Path, clock: kit.Clock
) -> None:
    # Given decisions, one of which turned out otherwise
    await live(shop, 20)
    decision = await shop.offered("late", "jam")
    await shop.report(decision, kit.SHOWN)
    clock.advance(kit.HOUR_MS)
    learn(shop)
    await shop.report(decision, kit.ACCEPTED)
    learn(shop)
    await shop.follow()
    old = shop.services.current.policy.model

    # When all is learned anew
    said = run("rebuild", "--who", "grace", *arguments(tmp_path, shop))

    # Then a new epoch holds each decision once, with what it earned in the end
    rows = kit.rows(
        shop.path,
        "select decision_id, reward, revision from resolutions_v1 where epoch = 2",
    )
    assert len(rows) == len({name for name, _, _ in rows})
    assert (decision.decision_id, 0.998, 1) in rows
    assert f"model 2.{len(rows)} is serving" in said
    await shop.follow()
    assert shop.services.current.policy.model == f"2.{len(rows)}"
    assert old.startswith("1.")
    await shop.ask("bob")
    assert comes_out_again(shop)


async def test_while_all_is_learned_anew_the_old_model_serves(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a stream that takes several batches to learn
    await live(shop, 60)
    learn(shop)
    monkeypatch.setattr("server.learning._BATCH", 10)
    with closing(open_admin(shop.settings.store.url)) as store:
        store.ask_rebuild(who="grace", reason="", at_ms=0)

    # When the learner begins anew, and publishes after each batch
    with kit.learning_over(shop.settings, shop.clock) as (learning, store_):
        learning.publish()
        epochs = []
        while learning.step():
            learning.publish()
            release = store_.release(learner_of(shop))
            assert release is not None
            epochs.append(release.serving[0])
        learning.publish()

    # Then the new one serves when it has learned all of it, and not before
    assert set(epochs[:-1]) <= {1, 2}
    assert epochs[0] == 1
    assert epochs == sorted(epochs)
    assert release_of(shop).serving[0] == 2


# --- Another learner --------------------------------------------------------------


STORE = '[store]\nurl = "sqlite:///till.db"\n'


def learned_till(tmp_path: Path) -> Till:
    """Return a store that has learned with what is not the default."""
    policy = PolicySettings(LinUCBSettings(alpha=0.25, dim=16))
    till = Till(tmp_path / "till.db", policy=policy)
    for kinds in (("shown", "accepted"), ("shown", "dismissed"), ("shown",)):
        till.sold(*kinds)
    till.now_ms += DAY_MS
    till.learn()
    return till


def test_a_default_does_not_take_the_place_of_what_was_learned(tmp_path: Path) -> None:
    # Given a store that has learned, and settings that name no learner
    till = learned_till(tmp_path)
    settings = kit.write_settings(tmp_path, TEA, STORE)

    # When a server is started
    result = CliRunner().invoke(app, ["serve", "-s", str(settings)])

    # Then it is refused, with the lines that keep what was learned
    assert result.exit_code == 1
    assert "learned with 'linucb'" in result.stderr
    said = result.stderr.partition("[policy.learner]")[2].partition("To begin")[0]
    settings.write_text(f"{STORE}[policy.learner]{said}")
    kept = read_settings(settings)
    assert kept.policy.learner_version == till.policy.learner_version

    # And with them, or any learner by its name, it is not
    with closing(open_admin(till.url)) as store:
        check_kept(kept, store, named=names_learner(settings))
        settings.write_text(f'{STORE}[policy.learner]\nkind = "blend"\n')
        check_kept(read_settings(settings), store, named=names_learner(settings))
        with pytest.raises(ReleaseError, match="name no learner"):
            check_kept(read_settings(settings), store, named=False)


def test_what_served_last_is_what_can_be_kept(tmp_path: Path) -> None:
    # Given a store that has learned with one learner, then with another one
    first = learned_till(tmp_path)
    default = Settings()
    second = Till(first.path, policy=PolicySettings(BlendSettings(waves=64)))
    second.now_ms = first.now_ms + DAY_MS
    decision = second.decide(user_id="bob")
    second.report((decision, second.said("shown", "accepted")))
    second.learn()

    with closing(open_admin(first.url)) as store:
        # When it is to be served by a default, then the lines are those of the latter
        with pytest.raises(ReleaseError, match="'blend', with all keys") as caught:
            check_kept(default, store, named=False)
        assert "waves = 64" in str(caught.value)

        # And those of the first, once that has served again
        first.now_ms = second.now_ms + DAY_MS
        first.sold("shown", "accepted")
        first.now_ms += DAY_MS
        first.learn()
        with pytest.raises(ReleaseError, match="learned with 'linucb'"):
            check_kept(default, store, named=False)


def test_a_fresh_store_needs_no_learner_by_name(tmp_path: Path) -> None:
    till = Till(tmp_path / "till.db")
    settings = kit.write_settings(tmp_path, TEA, STORE)

    with closing(open_admin(till.url)) as store:
        check_kept(read_settings(settings), store, named=names_learner(settings))
        till.sold("shown", "accepted")
        till.learn()
        check_kept(read_settings(settings), store, named=names_learner(settings))


def test_another_learner_serves_when_it_has_learned_all_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a store that has learned, and a batch that is less than all of it
    till = learned_till(tmp_path)
    other = Till(till.path, policy=PolicySettings(PopularitySettings()))
    monkeypatch.setattr("server.learning._BATCH", 1)

    # When another learner begins
    learner = other.policy.learner_version
    with other.opened() as (learning, store):
        learning.step()
        learning.publish()

        # Then nothing of it serves before it has learned all
        assert learning.position == 1
        assert store.release(learner) is None
        while learning.step():
            pass
        learning.publish()
        release = store.release(learner)
    assert release is not None
    assert release.serving == (1, len(other.stream()))
    assert "learning from the log" in capsys.readouterr().out


# --- A server of its own ----------------------------------------------------------


async def test_a_rollback_reaches_every_worker_and_a_torn_model_stops_no_server(
    tmp_path: Path,
) -> None:
    # Given a server of two workers that has learned, and then nothing more
    text = kit.SETTINGS.replace("[server]", "[server]\nworkers = 2")
    settings = kit.write_settings(tmp_path, TEA, text)
    typed = ["-s", str(settings)]
    numbers = itertools.count()

    async def ask(address: str, count: int, *, report: bool = False) -> set[str]:
        """Ask on a connection of its own, so that each worker gets some."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            stub = DecisionServiceStub(channel)
            models = set()
            for _ in range(count):
                request = GetOfferRequest(
                    user_id=f"user-{next(numbers)}", placement_ids=["home"]
                )
                (decision,) = (await stub.GetOffer(request)).decisions
                models.add(decision.model_version)
                if report and decision.offer_id:
                    outcomes = [kit.outcome(kind) for kind in (kit.SHOWN, kit.ACCEPTED)]
                    await stub.ReportOutcome(
                        ReportOutcomeRequest(
                            decision_id=decision.decision_id, outcomes=outcomes
                        )
                    )
        return models

    with kit.serving(settings) as served:
        for _ in range(2):
            await ask(served.address, 30, report=True)
            kit.eventually(lambda: settled(served.path))

        # When the last model is rolled back
        said = run("rollback", *typed)

        # Then both workers decide by the one before
        back = said.split()[1]
        while set().union(*[await ask(served.address, 1) for _ in range(12)]) != {back}:
            pass

    # And a server whose model is torn on the disk starts, by the last good one
    damage(served.path, back)
    kit.write_settings(tmp_path, TEA, kit.SETTINGS)
    with kit.serving(settings) as served:
        assert back not in await ask(served.address, 1)
        assert "not fit to decide" in kit.log_of(settings)


def settled(path: Path) -> bool:
    """Say whether the latest model has learned all there is, and serves."""
    rows = kit.rows(
        path,
        "select (select max(position) from resolutions_v1)"
        " = json_extract(record, '$.serving[1]')"
        " and (select count(*) from outcomes_v1) ="
        " 2 * (select max(position) from resolutions_v1) from releases_v1",
    )
    return bool(rows and rows[0][0])
