"""Vowpal Wabbit: its text, its memory, and what only it promises."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.learners import vw
from policies.learners.vw import VowpalWabbit, VowpalWabbitSettings
from policies.model import Action, Features

SETTINGS = VowpalWabbitSettings(bits=12, learning_rate=0.5)
CONTEXT: Features = (("constant", 1.0), ("segment=free", 1.0), ("seats", 0.3))


def offer(name: str, index: int = 1, features: Features = ()) -> Action:
    return Action(index, name, "text", "home", features)


UNTAUGHT = VowpalWabbit(SETTINGS)
TEA, JAM = offer("tea"), offer("jam", features=(("price", 0.25),))


@settings(deadline=None)
@given(first=st.text(), second=st.text())
def test_names_become_plain_words_and_different_names_different_words(
    first: str, second: str
) -> None:
    words = vw._word(first), vw._word(second)

    assert re.fullmatch(r"[A-Za-z0-9_.~=/%-]+", words[0])
    assert (first == second) == (words[0] == words[1])


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", "%", "@", "|a b", "a:2", "a\nshared |c b", "a\r", "\ttab", "0:1:1"),
        *("\x00", "\x85", "\u2028", "\ufeff", "ひ", "'tag", "#", "\\", "42", "\ud800"),
    ],
)
def test_no_name_can_break_the_line(name: str) -> None:
    learner = VowpalWabbit(SETTINGS)
    odd = offer(name or "x", features=((name, 0.5),))

    for _ in range(20):
        learner.learn(((name, 1.0),), odd, reward=1.0, propensity=0.5)

    learned, other = learner.score(((name, 1.0),), [odd, TEA])
    assert pytest.approx(1.0, abs=0.1) == learned
    assert other < learned


def test_a_feature_cannot_pass_for_the_name_of_another_action() -> None:
    learner = VowpalWabbit(VowpalWabbitSettings(bits=18))
    impostor = offer("jam", features=((TEA.name, 1.0), ("@" + TEA.name, 1.0)))

    words = learner.examples._text(impostor).split(" ")

    assert learner.examples._text(TEA).split(" ")[1] not in words


@pytest.mark.parametrize(
    "value", [1e-5, 1e-9, 1e-38, 1e-200, 5e-324, 123.456789, 999.0, 0.1 + 0.2]
)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_vw_reads_a_number_as_it_was_meant(value: float, sign: float) -> None:
    workspace = UNTAUGHT.examples._workspace

    lines = workspace.parse(f"|a word:{vw._number(sign * value)} end:2")

    assert lines[0].sum_feat_sq("a") == pytest.approx(value**2 + 4.0, rel=1e-6)
    workspace.finish_example(lines)


def test_names_of_digits_do_not_collide() -> None:
    learner = VowpalWabbit(SETTINGS)
    offers = [offer(str(i)) for i in range(4)]

    for _ in range(200):
        for i, action in enumerate(offers):
            learner.learn((("0", 1.0),), action, reward=float(i), propensity=0.5)

    scores = learner.score((("0", 1.0),), offers)
    assert pytest.approx(scores.tolist(), abs=0.3) == [0.0, 1.0, 2.0, 3.0]


def test_a_snapshot_swap_parses_no_action_again() -> None:
    first = VowpalWabbit(SETTINGS)
    expected = first.score(CONTEXT, [TEA, JAM])
    kept = dict(first.examples._kept)

    second = VowpalWabbit.load(SETTINGS, first.save(), previous=first)

    assert expected.tolist() == second.score(CONTEXT, [TEA, JAM]).tolist()
    assert all(second.examples._kept[action] is kept[action] for action in kept)


def test_an_action_that_is_there_twice_is_refused() -> None:
    learner = VowpalWabbit(SETTINGS)

    with pytest.raises(ValueError, match="an action is there twice"):
        learner.score(CONTEXT, [TEA, JAM, TEA])

    assert learner.score(CONTEXT, [TEA, JAM]).size == 2


def test_examples_are_not_shared_between_different_options() -> None:
    first = VowpalWabbit(SETTINGS)

    second = VowpalWabbit(VowpalWabbitSettings(bits=13), previous=first)

    assert second.examples is not first.examples


def test_a_kept_example_scores_as_a_freshly_parsed_one() -> None:
    learner = VowpalWabbit(SETTINGS)
    learner.score(CONTEXT, [JAM, TEA])
    for reward in (0.5, 1.0, 0.0):
        learner.learn(CONTEXT, TEA, reward=reward, propensity=0.5)
        learner.learn(CONTEXT, JAM, reward=-reward, propensity=0.5)

    fresh = VowpalWabbit.load(SETTINGS, learner.save())

    others: Features = (("constant", 1.0), ("unseen", -2.0))
    for context in (CONTEXT, others):
        scores = learner.score(context, [TEA, JAM]).tolist()
        assert scores == fresh.score(context, [TEA, JAM]).tolist()


def test_more_actions_than_are_kept_are_scored_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offers = [offer(f"offer-{i}", i) for i in range(1, 11)]
    learner = VowpalWabbit(SETTINGS)
    for action in offers:
        learner.learn(CONTEXT, action, reward=action.index, propensity=0.5)
    expected = learner.score(CONTEXT, offers).tolist()

    monkeypatch.setattr(vw, "_EXAMPLES_MAX", 3)
    small = VowpalWabbit.load(SETTINGS, learner.save())

    for _ in range(3):
        assert expected == small.score(CONTEXT, offers).tolist()
    assert expected[:2] == small.score(CONTEXT, offers[:2]).tolist()
    assert len(small.examples._kept) == 3
    assert small.examples._retired == []


def test_more_names_than_are_remembered_are_told_apart_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = tuple((f"name {i}", 0.1 * i) for i in range(20))
    learner = VowpalWabbit(SETTINGS)
    learner.learn(context, TEA, reward=1.0, propensity=0.5)
    expected = learner.score(context, [TEA, JAM]).tolist()

    monkeypatch.setattr(vw, "_NAMES_MAX", 7)
    forgetful = VowpalWabbit.load(SETTINGS, learner.save())

    assert expected == forgetful.score(context, [TEA, JAM]).tolist()
    assert len(forgetful.examples._indices) <= 7


def test_more_actions_than_are_kept_are_learned_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offers = [offer(f"offer-{i}", i) for i in range(1, 11)]
    learned = []
    for most in (4_096, 3):
        monkeypatch.setattr(vw, "_EXAMPLES_MAX", most)
        learner = VowpalWabbit(VowpalWabbitSettings(bits=12, cb_type="dr"))
        for action in offers * 3:
            reward = action.index / 10
            learner.learn(CONTEXT, action, reward=reward, propensity=0.1, among=offers)
        learned.append(learner.save())
    assert learned[0] == learned[1]
    assert len(learner.examples._texts) <= 3


def test_twenty_thousand_predictions_need_no_more_memory() -> None:
    learner = VowpalWabbit(SETTINGS)
    process = psutil.Process()

    def predict(count: int) -> None:
        for i in range(count):
            learner.score((("constant", 1.0), ("count", i / count)), [TEA, JAM])

    predict(2_000)
    before = process.memory_info().rss
    predict(20_000)

    # One example leaked each time would be 640 MB.
    assert process.memory_info().rss - before < 8e6


@pytest.mark.parametrize("cb_type", ["mtr", "dr"])
def test_ten_thousand_rewards_need_no_more_memory(cb_type: str) -> None:
    settings = msgspec.convert({"bits": 12, "cb_type": cb_type}, VowpalWabbitSettings)
    learner = VowpalWabbit(settings)
    process = psutil.Process()

    def learn(count: int) -> None:
        for i in range(count):
            context = (("constant", 1.0), ("count", i / count))
            learner.learn(context, JAM, reward=0.5, propensity=0.5, among=[TEA, JAM])

    learn(2_000)
    before = process.memory_info().rss
    learn(10_000)

    # One example leaked each time would be 320 MB.
    assert process.memory_info().rss - before < 8e6


def test_a_hundred_snapshot_swaps_need_no_more_memory() -> None:
    learner = VowpalWabbit(SETTINGS)
    learner.learn(CONTEXT, TEA, reward=1.0, propensity=0.5)
    blob = learner.save()
    process = psutil.Process()

    def swap(count: int) -> None:
        nonlocal learner
        for _ in range(count):
            learner = VowpalWabbit.load(SETTINGS, blob, previous=learner)
            learner.score(CONTEXT, [TEA, JAM])

    swap(20)
    before = process.memory_info().rss
    swap(100)

    assert process.memory_info().rss - before < 8e6


def test_it_ends_as_it_would_have_without_a_stop_after_many_stops() -> None:
    generator = np.random.default_rng(7)
    rows = [
        (
            (
                ("constant", 1.0),
                (f"segment={generator.integers(5)}", generator.random()),
            ),
            [TEA, JAM][generator.integers(2)],
            float(generator.normal()),
        )
        for _ in range(300)
    ]
    kept = VowpalWabbitSettings(bits=12, l2=1e-4, interactions=("ca", "cca"))
    straight, stopped = VowpalWabbit(kept), VowpalWabbit(kept)

    for at, (context, action, reward) in enumerate(rows):
        straight.learn(context, action, reward=reward, propensity=0.5)
        if at % 10 == 0:
            stopped = VowpalWabbit.load(kept, stopped.save())
        stopped.learn(context, action, reward=reward, propensity=0.5)

    assert straight.save() == stopped.save()


def test_it_believes_its_scores_and_does_not_say_how_sure_it_is() -> None:
    learner = VowpalWabbit(SETTINGS)
    learner.learn(CONTEXT, TEA, reward=1.0, propensity=0.5)

    beliefs = learner.believe(CONTEXT, [TEA, JAM])

    assert learner.score(CONTEXT, [TEA, JAM]).tolist() == beliefs.mean.tolist()
    assert beliefs.deviation.tolist() == [0.0, 0.0]


def test_large_rewards_are_learned_fast_at_their_own_scale() -> None:
    scaled = VowpalWabbit(VowpalWabbitSettings(bits=12, reward_scale=1_000.0))

    for _ in range(50):
        scaled.learn(CONTEXT, TEA, reward=1_000.0, propensity=0.5)

    assert pytest.approx(1_000.0, rel=0.05) == scaled.score(CONTEXT, [TEA])[0]


def test_a_new_offer_starts_from_what_its_features_have_earned() -> None:
    learner = VowpalWabbit(SETTINGS)
    cheap: Features = (("price=low", 1.0),)
    dear: Features = (("price=high", 1.0),)
    for _ in range(200):
        learner.learn(CONTEXT, offer("a", 1, cheap), reward=1.0, propensity=0.5)
        learner.learn(CONTEXT, offer("b", 2, dear), reward=0.0, propensity=0.5)

    new_cheap, new_dear = learner.score(
        CONTEXT, [offer("c", 3, cheap), offer("d", 4, dear)]
    )

    assert new_cheap > new_dear + 0.2


def test_saving_and_loading_leave_no_file_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    VowpalWabbit.load(SETTINGS, VowpalWabbit(SETTINGS).save())

    assert list(tmp_path.iterdir()) == []


def test_a_state_under_other_settings_is_refused() -> None:
    blob = VowpalWabbit(SETTINGS).save()

    with pytest.raises(ValueError, match="not of this kind: vw --cb_adf"):
        VowpalWabbit.load(VowpalWabbitSettings(bits=13), blob)


def test_the_interpreter_ends_in_peace_whatever_is_still_held() -> None:
    script = """
from policies.learners.vw import VowpalWabbit, VowpalWabbitSettings
from policies.model import Action
tea = Action(1, "tea", "text", "home", ())
held = [last := VowpalWabbit(VowpalWabbitSettings())]
for _ in range(5):
    last = VowpalWabbit.load(last.settings, last.save(), previous=last)
    last.score((("x", 1.0),), [tea])
    last.learn((("x", 1.0),), tea, reward=1.0, propensity=0.5)
    held.append(last)
held[2].cycle = held
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"interactions": ("cx",)}, "interactions must be 2 to 4 letters .* not 'cx'"),
        ({"interactions": ("c",)}, "interactions must be 2 to 4 letters .* not 'c'"),
        ({"bits": 30}, "bits must be from 10 to 24, not 30"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, to 100, not 0.0"),
        ({"power_t": 1.5}, "power_t must be from 0 to 1, not 1.5"),
        ({"l2": -0.1}, "l2 must be from 0 to 1, not -0.1"),
        ({"reward_scale": float("nan")}, "reward_scale must be .* not nan"),
    ],
)
def test_what_is_out_of_range_is_refused_with_its_range(
    wrong: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        VowpalWabbitSettings(**wrong)  # type: ignore[arg-type]
