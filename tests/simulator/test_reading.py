"""Logs of every kind: read, wrong in every way, written, and read again."""

from __future__ import annotations

import contextlib
import gzip
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from policies.estimators import Rows, ips, snips
from simulator.feedback import Contexts, Feedback, joined
from simulator.logs import Format, LogError, open_log, write_log
from simulator.logs.building import hash_of, hashes_of_texts
from tests.simulator.worlds import World

LOGS = Path(__file__).parents[1] / "data" / "logs"

MAPPING = """
action = "segment"
reward = "visit"
propensity = 0.3333333333333333
actions = ["No E-Mail", "Mens E-Mail", "Womens E-Mail"]
features = ["recency", "newbie", "channel"]
segment = "history_segment"
objectives = { spend = "spend" }
targets = { mens = "mens" }
"""

EVENT: dict[str, Any] = {
    "_label_cost": -1.0,
    "_label_probability": 0.6,
    "_label_Action": 2,
    "_labelIndex": 1,
    "Timestamp": "2026-03-01T12:00:00.5Z",
    "EventId": "first",
    "a": [2, 1],
    "p": [0.6, 0.4],
    "c": {
        "User": {"age": 30, "plan": "free", "_id": 7},
        "new": True,
        "gone": False,
        "_multi": [{"_tag": "tea"}, {"_tag": "jam", "sweet": 0.5}],
    },
    "VWState": {"m": "model-1"},
}


def read(source: Any, rows_max: int = 8_192, **options: Any) -> Feedback:
    with open_log(source, **options) as opened:
        return joined(list(opened.parts(rows_max)))


def event(**changes: Any) -> str:
    changed = {k: v for k, v in (EVENT | changes).items() if v is not ...}
    return json.dumps(changed)


def wrote(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def assert_same(one: Feedback, other: Feedback, *but: str) -> None:
    """Compare all columns; vocabularies by what the codes mean."""
    for name in set(one.__struct_fields__) - set(but):
        mine, theirs = getattr(one, name), getattr(other, name)
        if isinstance(mine, np.ndarray):
            assert mine.dtype == theirs.dtype, name
            np.testing.assert_array_equal(mine, theirs, err_msg=name)
        elif isinstance(mine, dict):
            assert mine.keys() == theirs.keys(), name
            for key in mine:
                np.testing.assert_array_equal(mine[key], theirs[key], err_msg=key)
        else:
            assert list(mine) == list(theirs), name


def chosen_of(part: Feedback) -> list[str]:
    return [part.vocabulary[code].offer_id for code in part.chosen]


def hillstrom(tmp_path: Path) -> dict[str, Any]:
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(MAPPING, encoding="utf-8")
    return {"source": LOGS / "hillstrom.csv", "mapping": mapping}


# --- What each kind says --------------------------------------------------------------


def test_dsjson_says_what_was_chosen_among_what_and_what_it_earned(
    tmp_path: Path,
) -> None:
    part = read(wrote(tmp_path / "log.dsjson", event()))

    assert part.rewards.tolist() == [1.0]
    assert part.propensities.tolist() == [0.6]
    assert part.probabilities.tolist() == [0.4, 0.6]
    assert chosen_of(part) == ["jam"]
    assert [part.vocabulary[code].offer_id for code in part.actions] == ["tea", "jam"]
    assert part.vocabulary[1].features == (("sweet", 0.5),)
    context = (("User^age", 30.0), ("User^plan=free", 1.0), ("new", 1.0))
    assert context == part.contexts[0]
    assert part.times_ms.tolist() == [1_772_366_400_500]
    assert list(part.ids) == ["first"]
    assert [part.policies[code] for code in part.loggers] == ["model-1"]
    assert [hash_of_ids("first")] == part.keys.tolist()


def hash_of_ids(name: str) -> int:
    return int(hashes_of_texts([name])[0])


@pytest.mark.parametrize("ranks", [[2, 1], [1, 0]])
def test_ranks_of_dsjson_begin_at_1_or_at_0(tmp_path: Path, ranks: list[int]) -> None:
    part = read(wrote(tmp_path / "log.dsjson", event(a=ranks)))

    assert part.probabilities.tolist() == [0.4, 0.6]


def test_a_log_of_personalizer_is_read_with_its_learning_out_of_order() -> None:
    part = read(LOGS / "personalizer.dsjson")

    assert len(part) == 23
    assert np.count_nonzero(part.rewards) == 12
    assert {"Cappucino", "Cold brew", "Iced mocha", "Latte"} == {
        action.offer_id for action in part.vocabulary
    }
    np.testing.assert_allclose(
        np.add.reduceat(part.probabilities, part.offsets[:-1]), 1
    )
    np.testing.assert_array_equal(part.rewards, part.objectives["original_reward"])


def test_what_was_dropped_or_not_to_be_learned_from_is_known(tmp_path: Path) -> None:
    part = read(
        wrote(
            tmp_path / "log.dsjson",
            event(pdrop=0.75),
            event(EventId="second", _skipLearn=True),
            event(EventId="third", _label_cost=...),
        )
    )

    assert part.counts.tolist() == [4.0, 1.0, 1.0]
    assert part.rewarded.tolist() == [True, False, False]


def test_each_of_several_slots_is_a_decision_among_what_was_left() -> None:
    part = read(LOGS / "two_slots.dsjson", rows_max=5)

    assert len(part) == 12
    assert np.diff(part.offsets)[:2].tolist() == [4, 3]
    first, second = (part.vocabulary[code] for code in part.chosen[:2])
    assert (first.offer_id, first.placement_id) == ("Americano", "MainArticle")
    assert (second.offer_id, second.placement_id) == ("Mocha", "SideBar")
    assert part.keys[0] == part.keys[1] != part.keys[2]
    assert ("sj^size=Medium", 1.0) in part.contexts[1]


def test_features_of_one_layout_are_those_of_many(tmp_path: Path) -> None:
    """Lines like the one before are read in another way, with the same result."""
    plain = {"s": {"x": 1.5, "y": -2}, "_id": 3, "z": 4}
    other = plain | {"s": {"x": 1, "w": 2}}
    words = plain | {"word": "yes"}
    contexts = [plain, plain, other, plain, words, plain, plain]
    multi = {"_multi": [{"_tag": "tea"}, {"_tag": "jam"}]}
    lines = [event(c=context | multi) for context in contexts]

    part = read(wrote(tmp_path / "log.dsjson", *lines))

    alone = [
        dict(read(wrote(tmp_path / f"{at}.dsjson", line)).contexts[0])
        for at, line in enumerate(lines)
    ]
    assert alone == [dict(features) for features in part.contexts]
    assert alone[1] == {"s^x": 1.5, "s^y": -2.0, "z": 4.0}


def test_plain_json_of_vw_is_read_without_an_envelope(tmp_path: Path) -> None:
    line = (
        '{"s":"1","s":"2","_labelIndex":0,"_label_Action":1,"_label_Cost":1,'
        '"_label_Probability":0.5,"_multi":[{"a":"1"},{"a":"2"}]}'
    )

    part = read(wrote(tmp_path / "log.json", line))

    assert part.rewards.tolist() == [-1.0]
    assert part.contexts[0] == (("s=1", 1.0), ("s=2", 1.0))
    assert chosen_of(part) == ["a=1"]


def test_text_of_vw_is_read_in_blocks() -> None:
    part = read(LOGS / "adf.vw", rows_max=7)

    assert len(part) == 20
    assert chosen_of(part)[:2] == ["Action^article=finance", "Action^article=politics"]
    assert (part.contexts[0]) == (
        ("User^user=Tom", 1.0),
        ("User^time_of_day=morning", 1.0),
    )
    assert part.propensities[0] == 0.14285714498588012
    known = ~np.isnan(part.probabilities)
    np.testing.assert_array_equal(part.probabilities[known], part.propensities)


def test_text_of_vw_is_read_by_lines() -> None:
    part = read(LOGS / "cb.vw")

    assert len(part) == 40
    assert {"1", "2"} == {action.offer_id for action in part.vocabulary}
    assert {0.5} == set(part.propensities)
    assert {0.0, -1.0} == set(part.rewards)


def test_scales_tags_and_values_of_vws_text_are_understood(tmp_path: Path) -> None:
    path = wrote(
        tmp_path / "log.vw",
        "shared |User:2 age:1.5",
        "1:-2:0.25 'tag |a x:3",
        "|a y |b z",
        "",
        "| unlabelled",
    )
    with open_log(path) as source:
        (part,) = source.parts()

    assert part.contexts[0] == (("User^age", 3.0),)
    assert part.vocabulary[part.chosen[0]].features == (("a^x", 3.0),)
    assert (part.rewards.tolist(), part.propensities.tolist()) == ([2.0], [0.25])
    assert dict(source.left_out.reasons) == {"unlabelled": 1}


def test_a_folder_of_the_open_bandit_dataset_has_items_in_positions() -> None:
    part = read(LOGS / "obd")

    assert len(part) == 200
    assert {80} == set(np.diff(part.offsets))
    assert {1 / 80} == set(part.propensities)
    chosen = part.vocabulary[part.chosen[0]]
    assert (chosen.offer_id, chosen.placement_id) == ("14", "3")
    assert len(chosen.features) == 4
    assert part.times_ms[0] == 1_574_553_634_762


def test_a_table_is_what_its_mapping_says(tmp_path: Path) -> None:
    part = read(**hillstrom(tmp_path))

    assert len(part) == 60
    assert chosen_of(part)[:2] == ["Womens E-Mail", "No E-Mail"]
    assert {1 / 3} == set(part.probabilities)
    assert (part.contexts[0]) == (
        ("recency", 10.0),
        ("newbie", 0.0),
        ("channel=Phone", 1.0),
    )
    assert part.segments[0] == "2) $100 - $200"
    assert {"spend"} == part.objectives.keys()
    assert part.targets["mens"][:2].tolist() == [1.0, 1.0]


def test_a_table_may_list_actions_and_probabilities(tmp_path: Path) -> None:
    path = wrote(
        tmp_path / "log.csv",
        "what,cost,all,p,when,who",
        'tea,1,"[""tea"",""jam""]","[0.25,null]",2026-03-01,ada',
        'jam,,"[""tea"",""jam""]","[0.5,0.5]",1772323200,ada',
    )
    mapping = wrote(
        tmp_path / "mapping.toml",
        'action = "what"',
        'cost = "cost"',
        'actions = "all"',
        'probabilities = "p"',
        'time = "when"',
        'user = "who"',
    )

    part = read(path, mapping=mapping)

    assert part.rewards[part.rewarded].tolist() == [-1.0]
    assert part.propensities.tolist() == [0.25, 0.5]
    assert part.times_ms.tolist() == [1_772_323_200_000] * 2
    assert [hash_of("ada")] * 2 == part.keys.tolist()


def test_the_probabilities_of_a_table_may_be_columns(tmp_path: Path) -> None:
    path = wrote(tmp_path / "log.csv", "a,r,tea,jam", "tea,1,0.25,0.75")
    mapping = wrote(
        tmp_path / "mapping.toml",
        'action = "a"',
        'reward = "r"',
        '[probabilities]\ntea = "tea"\njam = "jam"',
    )

    part = read(path, mapping=mapping)

    assert (
        part.propensities.tolist(),
        part.probabilities.tolist(),
    ) == ([0.25], [0.25, 0.75])


def test_arrays_come_as_a_dictionary() -> None:
    feedback = {
        "n_rounds": 3,
        "n_actions": 2,
        "action": np.array([0, 1, 1]),
        "reward": np.array([1, 0, 1]),
        "pscore": np.array([0.5, 0.25, 0.75]),
        "position": None,
        "context": np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
        "pi_b": np.array([[[0.5], [0.5]], [[0.75], [0.25]], [[0.25], [0.75]]]),
    }

    part = read(feedback, rows_max=2)

    assert chosen_of(part) == ["0", "1", "1"]
    assert part.probabilities.tolist() == [0.5, 0.5, 0.75, 0.25, 0.25, 0.75]
    assert part.contexts[1] == (("x0", 3.0), ("x1", 4.0))
    assert part.rewards.tolist() == [1.0, 0.0, 1.0]


def test_a_servers_log_has_outcomes_as_objectives(tmp_path: Path) -> None:
    world = World(tmp_path / "opportune.db")
    world.live(30, every=15)
    world.visit(["late"])

    with open_log(f"sqlite:///{world.path}") as source:
        part = joined(list(source.parts(7)))

    assert source.rows == len(part) == 31
    assert [*([True] * 30), False] == part.rewarded.tolist()
    accepted = part.objectives["accepted"]
    np.testing.assert_array_equal(accepted[:30], part.rewards[:30])
    assert 0 < accepted.sum() < 30
    assert part.objectives["dismissed"].any()
    assert not (part.objectives["dismissed"] * accepted).any()
    decision = world.decisions[0]
    assert decision.propensity == part.propensities[0]
    assert int(decision.opportunity.decision_id[:16], 16) == part.keys[0]
    names = [world.catalogue.actions[index].name for index in decision.actions]
    first = part.actions[: part.offsets[1]]
    assert names == [part.vocabulary[code].name for code in first]
    assert part.vocabulary[first[0]].index == 0
    assert {"train"} == set(part.splits)
    assert decision.opportunity.context.segment == part.segments[0]


def test_estimates_of_a_log_are_those_of_its_rewards(tmp_path: Path) -> None:
    """Hillstrom's e-mails: what each arm earned is what its customers did."""
    part = read(**hillstrom(tmp_path))
    fits = np.array(chosen_of(part)) == "Mens E-Mail"
    rows = Rows(rewards=part.rewards, weights=fits / part.propensities)

    assert ips(rows).value == pytest.approx(3 * part.rewards[fits].sum() / 60)
    assert snips(rows).value == pytest.approx(part.rewards[fits].mean())


# --- What is wrong --------------------------------------------------------------------

BAD_LINES = {
    "{": r"line 2: .*truncated",
    "[]": r"line 2: Expected `object`",
    event(c=...): r"line 2: c: is missing",
    event(c={"x": 1}): r"line 2: c\._multi: is missing",
    event(c={"_multi": []}, a=[], p=[]): r"line 2: c\._multi: is empty",
    event(c={"_multi": [1]}): r"line 2: c\._multi: an action must be an object",
    event(a=[1, 1]): r"line 2: a: names an action more than once",
    event(a=[1, 3]): r"line 2: a: must number the 2 actions",
    event(a=[1, 2, 3], p=[1, 0, 0]): r"line 2: a and p: must be of the 2 actions",
    event(p=[0.6]): r"line 2: a and p: must be of the 2 actions",
    event(_labelIndex=2): r"line 2: _label_Action: must be one of 2 actions, not 3",
    event(_label_probability=..., p=[]): r"line 2: _label_probability: is missing",
    event(_labelIndex=10**30): r"line 2: .*_labelIndex",
    event(a=[2, 10**30]): r"line 2: .*a\[1\]",
    event(_label_cost="much"): r"line 2: Expected `float.*_label_cost",
    event(Timestamp="noon"): r"line 2: Timestamp: must be a time",
    event(pdrop=1.0): r"line 2: pdrop: must be in \[0, 1\)",
    event(_label_ca={"action": 1}, c={}): r"line 2: _label_ca: continuous",
    event(_outcomes=[{"_a": [7], "_p": [1.0]}]): r"line 2: _outcomes\[0\]\._a",
}


@pytest.mark.parametrize(("line", "said"), BAD_LINES.items(), ids=BAD_LINES.values())
def test_a_bad_line_of_dsjson_is_told_with_its_field(
    tmp_path: Path, line: str, said: str
) -> None:
    path = wrote(tmp_path / "log.dsjson", event(), line, event(EventId="third"))

    with pytest.raises(LogError, match=rf"log\.dsjson: {said}"):
        read(path)

    with open_log(path, skip_bad=True) as source:
        part = joined(list(source.parts()))
    assert list(part.ids) == ["first", "third"]
    assert dict(source.left_out.reasons) == {"bad": 1}
    assert "line 2: " in source.left_out.first[0]


def test_what_was_chosen_must_be_said_somewhere(tmp_path: Path) -> None:
    said = event(_label_Action=..., _labelIndex=...)
    unsaid = event(_label_Action=..., _labelIndex=..., a=[], p=[])
    path = wrote(tmp_path / "log.dsjson", said, unsaid)

    with open_log(path) as source:
        (part,) = source.parts()

    assert chosen_of(part) == ["jam"]
    assert dict(source.left_out.reasons) == {"unlabelled": 1}


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.replace(b"\n", b"\n\n \n"),
        gzip.compress,
        lambda text: text.removesuffix(b"\n"),
    ],
    ids=["mark", "returns", "empty lines", "packed", "no end"],
)
def test_a_file_is_read_however_it_was_stored(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    text = wrote(tmp_path / "log.dsjson", event(), event(EventId="2")).read_bytes()
    (tmp_path / "changed.dsjson").write_bytes(change(text))

    changed = read(tmp_path / "changed.dsjson")

    assert_same(read(tmp_path / "log.dsjson"), changed, "positions")


def test_a_last_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    path = wrote(tmp_path / "log.dsjson", event(), event())
    path.write_bytes(path.read_bytes()[:-40])

    with open_log(path) as source:
        (part,) = source.parts()

    assert len(part) == 1
    assert dict(source.left_out.reasons) == {"torn": 1}


def test_a_packed_file_that_was_cut_off_is_told(tmp_path: Path) -> None:
    path = tmp_path / "log.dsjson.gz"
    path.write_bytes(gzip.compress(event().encode() * 50)[:-20])

    with pytest.raises(LogError, match=r"log\.dsjson\.gz: is cut off"):
        read(path, format="dsjson")


def test_an_empty_file_has_no_rows_or_is_told(tmp_path: Path) -> None:
    for name in ("log.dsjson", "log.vw", "log.csv", "log"):
        (tmp_path / name).touch()

    with open_log(tmp_path / "log.dsjson") as source:
        assert list(source.parts()) == []
    with pytest.raises(LogError, match="there are no labels"):
        open_log(tmp_path / "log.vw")
    for name in ("log.csv", "log"):
        with pytest.raises(LogError, match="is empty"):
            open_log(tmp_path / name)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["1 | one", "2 | two"], r"line 1: there are no labels"),
        (["shared |u x", "1:0.5 |a", "|b"], r"line 2: label '1:0.5': has no prob"),
        (["shared |u x", "1:0.5:x |a", "|b"], r"line 2: label '1:0.5:x': must be"),
        (["shared |u x", "1:0:1 |a x:y", ""], r"line 2: feature: must have a number"),
        (["shared |u x", "1:0:1 |a", "2:0:1 |b"], r"only one action is chosen"),
        (["shared |u x", ""], r"line 1: there are no actions"),
        (["0:1:0.5 | x"], r"line 1: label '0:1:0.5': actions are numbered from 1"),
    ],
)
def test_bad_text_of_vw_is_told(tmp_path: Path, lines: list[str], said: str) -> None:
    with pytest.raises(LogError, match=said):
        read(wrote(tmp_path / "log.vw", *lines), format="vw")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("tea,x,0.5", r"line 2: reward: must be a number, not 'x'"),
        ("tea,1,inf", r"line 2: propensity: must be finite"),
        ("tea,1", r"line 2: there are 2 cells under 3 names"),
        ("tea,1,", r"line 2: there is no propensity"),
    ],
)
def test_a_bad_cell_is_told_with_line_and_column(
    tmp_path: Path, line: str, said: str
) -> None:
    path = wrote(tmp_path / "log.csv", "action,reward,propensity", line, "jam,0,0.5")

    with pytest.raises(LogError, match=said):
        read(path)

    assert chosen_of(read(path, skip_bad=True)) == ["jam"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('action = "a"\nreward = "r"', "propensity or probabilities must be given"),
        ('action = "a"\npropensity = 0.5', "one of reward and cost must be given"),
        ('action = "a"\nreward = "r"\npropensity = 2.0', "propensity: .*<= 1.0"),
        ('action = "a"\nreward = "r"\npropensity = "p"\nuse = 1', "use"),
        ("action =", "line 1"),
        ('action = "nope"\nreward = "visit"\npropensity = 0.5', "no column nope"),
    ],
)
def test_a_mapping_that_is_wrong_is_told(tmp_path: Path, text: str, said: str) -> None:
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(text, encoding="utf-8")

    with pytest.raises(LogError, match=said):
        read(LOGS / "hillstrom.csv", mapping=mapping)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reward": None}, "there is no array reward"),
        ({"action": np.array([0, 9])}, r"row 2: action: must be one of 2, not 9"),
        ({"pscore": np.array([0.5])}, r"pscore: must be numbers of shape \(2\)"),
        ({"context": np.array(["a", "b"])}, "context: must be numbers"),
    ],
)
def test_arrays_that_do_not_fit_are_told(changes: dict[str, Any], said: str) -> None:
    arrays = {
        "n_actions": 2,
        "action": np.array([0, 1]),
        "reward": np.array([0.0, 1.0]),
        "pscore": np.array([0.5, 0.5]),
    }

    with pytest.raises(LogError, match=said):
        read(arrays | changes)


def test_pickled_arrays_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "log.npz"
    np.savez(path, action=np.array([{}], dtype=object), reward=[1.0], pscore=[0.5])

    with pytest.raises(LogError, match="pickled objects"):
        read(path)


def test_logs_that_are_no_files_are_told() -> None:
    with pytest.raises(LogError, match="PostgreSQL cannot be read yet"):
        open_log("postgresql://ada:secret@host/db")
    with pytest.raises(LogError, match="there is no such file or folder"):
        open_log("nowhere")
    with pytest.raises(LogError, match="a log is a file or a folder"):
        open_log("https://host/log")


def test_what_nothing_is_known_about_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="nothing says what this folder is"):
        open_log(tmp_path)
    with pytest.raises(LogError, match="say by a mapping which of them"):
        open_log(LOGS / "hillstrom.csv")
    with pytest.raises(LogError, match="nothing says what this is"):
        open_log(wrote(tmp_path / "poem.txt", "roses are red"))


def test_damaged_parquet_is_told(tmp_path: Path) -> None:
    with open_log(LOGS / "personalizer.dsjson") as source:
        write_log(source, tmp_path / "log.parquet")
    whole = (tmp_path / "log.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(LogError, match="is no Parquet file that can be read"):
        read(tmp_path / "cut.parquet")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "name", ["personalizer.dsjson", "two_slots.dsjson", "adf.vw", "cb.vw", "log.npz"]
)
def test_damage_is_told_and_never_a_crash(tmp_path: Path, name: str, seed: int) -> None:
    if name == "log.npz":
        with open_log(LOGS / "personalizer.dsjson") as source:
            write_log(source, tmp_path / name)
    whole = (LOGS / name if name != "log.npz" else tmp_path / name).read_bytes()[:4_000]
    chance = random.Random(seed)
    junk = [b"null", b"-1", b"1e400", b"{}", b"[]", b"\xff", b"|", b":", b"\n", b"\0"]
    path = tmp_path / f"damaged{Path(name).suffix}"
    for _ in range(15):
        text = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(text))
            text[at : at + chance.randrange(9)] = chance.choice(junk)
        path.write_bytes(text)
        for skip_bad in (True, False):
            with (
                contextlib.suppress(LogError),
                open_log(path, format=format_of(name), skip_bad=skip_bad) as source,
            ):
                for part in source.parts():
                    assert len(part.contexts) == len(part) == len(part.rewards)


def format_of(name: str) -> Format:
    formats: dict[str, Format] = {".dsjson": "dsjson", ".vw": "vw", ".npz": "obp"}
    return formats[Path(name).suffix]


# --- Written, and read again ----------------------------------------------------------

KINDS = ["personalizer.dsjson", "two_slots.dsjson", "adf.vw", "cb.vw", "obd"]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("destination", ["log", "log.parquet"])
def test_parquet_keeps_all(tmp_path: Path, name: str, destination: str) -> None:
    with open_log(LOGS / name) as source:
        written = write_log(source, tmp_path / destination, rows_max=16)

    before, after = read(LOGS / name), read(tmp_path / destination, rows_max=9)

    assert len(before) == written.rows
    assert_same(before, after)


def test_parquet_keeps_what_a_server_knows(tmp_path: Path) -> None:
    world = World(tmp_path / "opportune.db")
    world.live(20, every=10)
    with open_log(world.path) as source:
        write_log(source, tmp_path / "log")

    assert_same(read(world.path), read(tmp_path / "log"))


def test_parquet_is_parted_by_day(tmp_path: Path) -> None:
    times = ["2026-03-01T23:59:59Z", "2026-03-02T00:00:00Z", "2026-03-01T00:00:00Z"]
    lines = [event(Timestamp=t, EventId=str(n)) for n, t in enumerate(times)]
    lines.append(event(Timestamp=..., EventId="3"))
    with open_log(wrote(tmp_path / "log.dsjson", *lines)) as source:
        write_log(source, tmp_path / "log")

    days = sorted(path.name for path in (tmp_path / "log").iterdir())

    assert days == ["day=2026-03-01", "day=2026-03-02", "day=unknown"]
    assert list(read(tmp_path / "log" / days[0]).ids) == ["0", "2"]


def test_only_the_columns_that_are_asked_for_are_read(tmp_path: Path) -> None:
    with open_log(**hillstrom(tmp_path)) as source:
        write_log(source, tmp_path / "log")

    with open_log(tmp_path / "log") as source:
        (part,) = source.parts(columns={"target:mens"})

    assert source.targets == ("mens",)
    assert 60 == len(part) == len(part.rewards) == len(part.targets["mens"])
    assert 0 == len(part.keys) == len(part.contexts) == len(part.actions)
    assert part.objectives == {}


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("name", ["personalizer.dsjson", "adf.vw", "cb.vw"])
def test_dsjson_means_the_same_when_written_again(
    tmp_path: Path, name: str, packed: str
) -> None:
    path = tmp_path / f"log.dsjson{packed}"
    with open_log(LOGS / name) as source:
        write_log(source, path)

    before, after = read(LOGS / name), read(path)
    assert_same(before, after, "positions", "keys", "objectives", "ids", "counts")
    assert not len(before.counts) or set(after.counts) == {1.0}
    with open_log(path) as source:
        write_log(source, tmp_path / f"again.dsjson{packed}")
    assert path.read_bytes() == (tmp_path / f"again.dsjson{packed}").read_bytes()


def test_a_table_means_the_same_when_written_and_read(tmp_path: Path) -> None:
    with open_log(LOGS / "personalizer.dsjson") as source:
        write_log(source, tmp_path / "log.csv")

    before, after = read(LOGS / "personalizer.dsjson"), read(tmp_path / "log.csv")

    assert_same(
        before, after, "positions", "keys", "vocabulary", "contexts", "segments",
        "splits", "counts", "actions", "chosen",
    )  # fmt: skip
    assert list(map(dict, before.contexts)) == list(map(dict, after.contexts))
    assert chosen_of(before) == chosen_of(after)


def test_arrays_mean_the_same_when_written_and_read(tmp_path: Path) -> None:
    with open_log(LOGS / "personalizer.dsjson") as source:
        write_log(source, tmp_path / "log.npz")

    before, after = read(LOGS / "personalizer.dsjson"), read(tmp_path / "log.npz")

    for name in ("rewards", "propensities", "probabilities", "offsets"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    assert chosen_of(before) == chosen_of(after)
    nonzero = [{k: v for k, v in features if v} for features in after.contexts]
    assert list(map(dict, before.contexts)) == nonzero


def test_nothing_is_written_over_and_nothing_is_left_half(tmp_path: Path) -> None:
    bad = wrote(tmp_path / "bad.dsjson", event(), "{")
    with open_log(bad) as source, pytest.raises(LogError, match="line 2"):
        write_log(source, tmp_path / "log")
    with open_log(bad, skip_bad=True) as source:
        written = write_log(source, tmp_path / "log")
        with pytest.raises(LogError, match="is there already"):
            write_log(source, tmp_path / "log")

    assert (written.left_out, written.rows) == ({"bad": 1}, 1)
    assert {"bad.dsjson", "log"} == {path.name for path in tmp_path.iterdir()}


def test_what_a_file_is_to_be_follows_from_its_name(tmp_path: Path) -> None:
    with open_log(LOGS / "adf.vw") as source:
        with pytest.raises(LogError, match=r"\.txt says no format; name one of"):
            write_log(source, tmp_path / "log.txt")
        assert write_log(source, tmp_path / "log.txt", "csv").format == "csv"


# --- What parts are -------------------------------------------------------------------


def test_rows_are_the_same_however_they_are_parted() -> None:
    whole = read(LOGS / "personalizer.dsjson")

    assert_same(whole, read(LOGS / "personalizer.dsjson", rows_max=4))


def test_some_rows_of_a_part_are_taken_with_all_that_is_theirs() -> None:
    part = read(LOGS / "two_slots.dsjson")

    some = part.take(np.array([7, 2]))

    assert [part.positions[7], part.positions[2]] == some.positions.tolist()
    assert part.contexts[7] == some.contexts[0]
    begin, end = part.offsets[2], part.offsets[3]
    np.testing.assert_array_equal(
        part.actions[begin:end], some.actions[some.offsets[1] :]
    )
    assert isinstance(some.contexts, Contexts)
    assert_same(part.take(np.arange(len(part)) < 3), part.take(np.arange(3)))


def test_a_second_pass_gives_the_same() -> None:
    with open_log(LOGS / "personalizer.dsjson") as source:
        first, second = joined(list(source.parts())), joined(list(source.parts(5)))

    assert_same(first, second)


def test_hashes_of_texts_depend_on_nothing_but_the_text() -> None:
    texts = ["", "a", "b", "ab", "ba", "a" * 255, "a" * 300, "ä", "\U0001f600"]

    together = hashes_of_texts(texts).tolist()

    assert len(texts) == len(set(together))
    assert together == [int(hashes_of_texts([text])[0]) for text in texts]


def test_unknown_numbers_stay_unknown(tmp_path: Path) -> None:
    lines = [event(_label_cost=...), event(EventId="2")]
    with open_log(wrote(tmp_path / "log.dsjson", *lines)) as source:
        for name in ("log", "log.csv", "again.dsjson"):
            write_log(source, tmp_path / name)

    for name in ("log", "log.csv", "again.dsjson"):
        rewards = read(tmp_path / name).rewards
        assert math.isnan(rewards[0])
        assert rewards[1] == 1.0
