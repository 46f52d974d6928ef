"""What turned out otherwise: late, corrected, taken back, and learned anew."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from policies.model import Decision, Outcome, OutcomeKind, Resolution
from policies.policy import LearnerSettings, LinUCBSettings, Policy, PolicySettings
from policies.rewards import RewardSettings
from policies.toml import Duration
from server.stores.base import Snapshot, TrainingStore
from server.stores.opening import open_admin, open_serving
from server.stores.sqlite.training import SQLiteTraining
from server.warming import fold_log
from tests.server.till import DAY_MS, MINUTE_MS, NOON_MS, Till

FREE = RewardSettings(attention_cost=0.0)
KINDS: list[type[LearnerSettings]] = list(get_args(LearnerSettings))
every_learner = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


@pytest.fixture
def till(tmp_path: Path) -> Till:
    return Till(tmp_path / "till.db", FREE)


def name_of(decision: Decision) -> str:
    return decision.opportunity.decision_id


# --- Corrections ------------------------------------------------------------------


def test_a_late_outcome_corrects_what_was_learned(till: Till) -> None:
    # Given an offer that was shown, and that nothing came of within the wait
    decision = till.sold("shown")
    till.now_ms += 11 * MINUTE_MS
    till.learn()

    # When it is accepted after all, and the report is repeated
    late = till.said("accepted")
    till.report((decision, late))
    till.learn()
    till.report((decision, late))
    till.learn()

    # Then the stream says what was learned first, and what takes its place, once
    name = name_of(decision)
    assert till.stream() == [Resolution(name, 0.0), Resolution(name, 1.0, 2, 0.0)]


@pytest.mark.parametrize("kind", ["refunded", "downgraded", "churned"])
def test_what_is_taken_back_replaces_the_reward(till: Till, kind: str) -> None:
    # Given an offer that was accepted, and that was learned
    decision = till.sold("shown", "accepted")
    till.learn()

    # When it is taken back three weeks later
    till.now_ms += 21 * DAY_MS
    till.report((decision, [Outcome("back", kind, till.now_ms)]))  # type: ignore[arg-type] # One of the kinds.
    till.learn()

    # Then it has earned nothing
    name = name_of(decision)
    assert till.stream() == [Resolution(name, 1.0), Resolution(name, 0.0, 2, 1.0)]


def test_what_is_taken_back_too_late_stays_earned(till: Till) -> None:
    decision = till.sold("shown", "accepted")
    till.learn()

    till.now_ms += 31 * DAY_MS
    till.report((decision, till.said("refunded")))
    till.learn()

    assert till.rewards_learned() == [1.0]


@pytest.mark.parametrize(
    ("days", "rewards"), [(1, [0.0, 1.0]), (89, [0.0, 1.0]), (365, [0.0])]
)
def test_a_year_late_is_logged_and_teaches_nothing(
    till: Till, days: int, rewards: list[float]
) -> None:
    decision = till.sold("shown")
    till.now_ms += DAY_MS
    till.learn()

    till.now_ms = NOON_MS + days * DAY_MS
    till.report((decision, till.said("accepted")))
    till.learn()

    assert till.rewards_learned() == rewards
    with till.opened() as (_, store):
        (joinable,) = store.joinable([name_of(decision)])
    assert {o.kind for o in joinable.outcomes} == {"shown", "accepted"}


def test_an_old_outcome_that_is_reported_a_year_late_is_of_its_own_time(
    till: Till,
) -> None:
    # Given an offer that nothing came of
    decision = till.sold("shown")
    accepted = till.said("accepted", after_ms=MINUTE_MS)
    till.now_ms += DAY_MS
    till.learn()

    # When a year later it is reported that it was accepted a minute after it was shown
    till.now_ms += 365 * DAY_MS
    till.report((decision, accepted))
    till.learn()

    # Then that counts
    assert till.rewards_learned() == [0.0, 1.0]


def test_an_outcome_before_shown_counts_once_it_was_shown(till: Till) -> None:
    decision = till.decide()
    early = [Outcome("yes", "accepted", till.now_ms - 1)]
    till.report((decision, early))
    till.learn()
    assert till.stream() == []

    till.report((decision, till.said("shown")))
    till.learn()

    assert till.rewards_learned() == [1.0]


def test_an_unknown_decision_stops_no_learning(till: Till) -> None:
    # Given outcomes of a decision that the store does not hold
    decision = till.sold("shown", "accepted")
    with till.opened() as (_, store):
        assert store.joinable(["0" * 32]) == []
        store.append([], {"0" * 32: NOON_MS}, None)

    # When all is learned, then the known one is
    till.learn()

    assert [row.decision_id for row in till.stream()] == [name_of(decision)]


def test_what_was_never_shown_teaches_nothing_whatever_is_taken_back(
    till: Till,
) -> None:
    till.sold("accepted", "refunded")
    till.sold("not_shown", "dismissed")
    till.now_ms += DAY_MS

    assert till.learn() == b""
    assert till.stream() == []


def truths(count: int) -> list[tuple[str, float, float, float, float]]:
    """Return offers with seats, propensities, and two rewards of each."""
    generator = np.random.default_rng(7)
    return [
        (
            ("tea", "jam", "")[int(generator.integers(3))],
            float(generator.normal()),
            float(generator.uniform(0.1, 1.0)),
            float(generator.normal()),
            float(generator.normal()),
        )
        for _ in range(count)
    ]


def append(till: Till, *, corrected: bool) -> None:
    """Write a stream in which half of the rewards are wrong at first, or none is."""
    rows = truths(60)
    decisions = [
        till.decide(offer, seats=seats, propensity=propensity)
        for offer, seats, propensity, _, _ in rows
    ]
    till.report(*((decision, ()) for decision in decisions))
    names = [name_of(decision) for decision in decisions]
    with till.opened() as (_, store):
        for at, (name, (*_, wrong, right)) in enumerate(zip(names, rows, strict=True)):
            first = wrong if corrected and at % 2 else right
            store.append([Resolution(name, first)], {name: None}, None)
            if corrected and at % 6 == 5:
                correct(store, names[at - 2], rows[at - 2][3], 9.0, 2)
        if corrected:
            for at, (name, (*_, wrong, right)) in enumerate(
                zip(names, rows, strict=True)
            ):
                twice = at % 6 == 3
                if at % 2:
                    before = 9.0 if twice else wrong
                    correct(store, name, before, right, 3 if twice else 2)


def correct(
    store: TrainingStore, name: str, before: float, reward: float, revision: int
) -> None:
    store.append([Resolution(name, reward, revision, before)], {name: None}, None)


def test_a_ridge_model_ends_where_it_had_been_had_the_truth_been_known(
    tmp_path: Path,
) -> None:
    policy = PolicySettings(LinUCBSettings(dim=8))
    late, soon = (Till(tmp_path / f"{n}.db", FREE, policy) for n in ("late", "soon"))
    append(late, corrected=True)
    append(soon, corrected=False)

    models = [Policy(policy, till.learn()) for till in (late, soon)]

    context = (("constant", 1.0), ("seats", 0.7))
    actions = late.catalogue.actions
    corrected, known = (model.score(context, actions) for model in models)
    untouched = Policy(policy).score(context, actions)
    assert np.abs(corrected - known).max() < 1e-9
    assert np.abs(untouched - known).max() > 0.01


@every_learner
def test_a_stream_learned_anew_ends_in_the_bytes_of_the_truth(
    tmp_path: Path, kind: type[LearnerSettings]
) -> None:
    # Given two streams: one of the truth, one that found it out bit by bit
    policy = PolicySettings(kind())
    late, soon = (Till(tmp_path / f"{n}.db", FREE, policy) for n in ("late", "soon"))
    append(late, corrected=True)
    append(soon, corrected=False)
    late.learn()

    # When the second one is asked to begin anew, and is learned
    admin = open_admin(late.url)
    admin.ask_rebuild(who="grace", reason="", at_ms=0)
    admin.close()
    anew, truth = late.learn(), soon.learn()

    # Then nothing is left of what was wrong
    assert anew == truth
    assert late.stream() == soon.stream()
    with late.opened() as (_, store):
        assert store.epoch() == 2
        assert store.rebuild_asked() == "none"


def test_a_warm_start_from_a_store_learns_its_corrections(tmp_path: Path) -> None:
    # Given a store in which a sale was learned, and taken back later
    policy = PolicySettings(LinUCBSettings())
    till = Till(tmp_path / "other.db", RewardSettings(attention_cost=0.0), policy)
    decision = till.sold("shown", "accepted")
    till.learn()
    till.now_ms += DAY_MS
    till.report((decision, till.said("refunded")))
    learned = Policy(policy, till.learn())

    # When another learner begins with it
    begun = fold_log(till.path, policy)

    # Then it expects what the first one does
    tea = [action for action in till.catalogue.actions if action.offer_id == "tea"]
    context = (("constant", 1.0),)
    assert till.rewards_learned() == [1.0, 0.0]
    assert begun.believe(context, tea).mean.tolist() == pytest.approx(
        learned.believe(context, tea).mean.tolist(), abs=1e-12
    )
    assert begun.save() == learned.save()


def test_what_is_found_out_after_a_rebuild_corrects_the_new_epoch(till: Till) -> None:
    # Given a reward that was corrected, in a stream that began anew
    decision = till.sold("shown")
    till.now_ms += 11 * MINUTE_MS
    till.learn()
    till.report((decision, till.said("accepted")))
    till.learn()
    with till.opened() as (learning, _):
        learning.rebuild()

    # When it is taken back, then the correction is of what the new epoch says
    till.now_ms += DAY_MS
    till.report((decision, till.said("refunded")))
    till.learn()

    name = name_of(decision)
    assert till.stream() == [Resolution(name, 1.0), Resolution(name, 0.0, 2, 1.0)]


def test_the_past_is_judged_by_the_settings_of_today(tmp_path: Path) -> None:
    # Given a stream of rewards that were found out bit by bit under other settings, in
    # which some are open by those of today
    before = RewardSettings(attention_cost=0.3, wait=Duration(MINUTE_MS))
    today = RewardSettings(
        {"accepted": 5.0, "clicked": 0.5}, attention_cost=0.0, clip_max=4.0
    )
    till, fresh = Till(tmp_path / "till.db", before), Till(tmp_path / "f.db", today)
    reports = []
    for number in range(40):
        kinds: tuple[OutcomeKind, ...] = (
            ("shown", "clicked"),
            ("shown", "accepted"),
            ("shown", "accepted", "refunded"),
            ("shown",),
        )[number % 4]
        reports.append((till.decide(user_id=f"user-{number}"), till.said(*kinds)))
    for decision, outcomes in reports:
        till.report((decision, outcomes[:2]))
    till.learn()
    till.report(*reports)
    till.now_ms += DAY_MS
    till.learn()
    fresh.now_ms = till.now_ms

    # When the past is judged anew
    till.rewards = today
    admin = open_admin(till.url)
    admin.ask_rebuild("judged_anew", who="grace", reason="", at_ms=0)
    admin.close()
    till.learn()

    # Then it is worth what the settings of today say, and the same once more
    fresh.report(*reports)
    fresh.learn()
    worths = {row.decision_id: (row.reward, row.earned) for row in fresh.stream()}
    judged = {row.decision_id: (row.reward, row.earned) for row in till.stream()}
    assert worths == judged
    assert {(4.0, 5.0), (0.5, None), (0.0, None)} == set(judged.values())
    till.report((reports[0][0], till.said("viewed")))
    till.learn()
    assert len(till.stream()) == 40


class _KilledError(Exception):
    """The process is gone."""


class _Mortal:
    """A connection that dies after some statements."""

    def __init__(self, connection: Any, lives: int) -> None:
        self._connection = connection
        self._lives = lives

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: str, *values: Any) -> Any:
        self._live()
        return self._connection.execute(statement, *values)

    def executemany(self, statement: str, *values: Any) -> Any:
        self._live()
        return self._connection.executemany(statement, *values)

    def _live(self) -> None:
        self._lives -= 1
        if self._lives < 0:
            raise _KilledError


def served(till: Till) -> Snapshot:
    """Return the model that a server would take up."""

    async def look() -> Snapshot | None:
        server = open_serving(till.url)
        learner = till.policy.learner_version
        release = await server.release(learner)
        assert release is not None
        snapshot = await server.snapshot(learner, at_most=release.serving)
        await server.close()
        return snapshot

    snapshot = asyncio.run(look())
    assert snapshot is not None
    return snapshot


def test_a_rebuild_that_is_cut_short_starts_again_and_the_old_model_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.stores.sqlite.training._COPIED", 17)
    policy = PolicySettings(LinUCBSettings(dim=8))
    till, soon = (Till(tmp_path / f"{n}.db", FREE, policy) for n in ("till", "soon"))
    append(till, corrected=True)
    append(soon, corrected=False)
    old = till.learn()
    rows = till.stream()

    # When a learner dies again and again while it begins a new epoch
    for lives in (0, 3, 5, 8, 13, 18, 22):
        with till.opened() as (learning, store):
            assert isinstance(store, SQLiteTraining)
            store._connection = _Mortal(store._connection, lives)  # type: ignore[assignment] # It does the same.
            with pytest.raises(_KilledError):
                learning.rebuild()

        # Then nobody has seen any of it, and the old model serves
        assert (served(till).epoch, served(till).body) == (1, old)
        assert till.stream() == rows

    # And while the new epoch is learned, the old model still serves
    monkeypatch.setattr("server.learning._BATCH", 5)
    with till.opened() as (learning, store):
        learning.rebuild()
        learning.step()
        learning.publish()
        assert 0 < learning.position < store.stream_length()
    assert served(till).epoch == 1

    # And once all is learned, the new one does, and it is the truth
    anew = till.learn()
    assert (served(till).epoch, served(till).body) == (2, anew)
    assert anew == soon.learn()
