"""Records: what is written to the log is read back as an equal value."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.model import (
    Context,
    Decision,
    Dismissal,
    History,
    Impression,
    Moment,
    Money,
    Opportunity,
    Outcome,
    Reservation,
    Usage,
)
from policies.records import (
    decode_decision,
    decode_history,
    decode_outcome,
    encode,
    encode_decision,
)

text = st.text(max_size=8)
times = st.integers(0, 2**53)
finite = st.floats(allow_nan=False, allow_infinity=False)
features = st.dictionaries(text, finite | st.booleans() | text, max_size=3)
contexts = st.builds(
    Context,
    text,
    text,
    st.dictionaries(text, st.builds(Usage, finite, st.none() | finite), max_size=2),
    st.builds(Moment, text, features),
    features,
)
histories = st.builds(
    History,
    st.lists(st.builds(Impression, times, text, text), max_size=3).map(tuple),
    st.lists(st.builds(Reservation, times, text, text, text), max_size=3).map(tuple),
    st.dictionaries(text, st.builds(Dismissal, times, times), max_size=3),
)
decisions = st.builds(
    Decision,
    opportunity=st.builds(
        Opportunity,
        text,
        times,
        text,
        st.lists(text, max_size=3).map(tuple),
        text,
        text,
        st.lists(text, max_size=3).map(tuple),
        contexts,
    ),
    catalogue=text,
    policy=text,
    model=text,
    actions=st.just((0, 1, 2, 7, 9)) | st.just((0,)) | st.just((0, 5, 6)),
    probabilities=st.just(()),
    chosen=st.integers(0, 10**5),
    valid_until_ms=times,
    history=histories,
)
money = st.none() | st.builds(Money, text, st.integers(0, 10**15))
outcomes = st.builds(
    Outcome,
    text,
    st.sampled_from(["shown", "accepted", "refunded"]),
    times,
    st.none() | times,
    st.none() | times,
    money,
    money,
    money,
    money,
)


ALONE = Decision(
    opportunity=Opportunity("d", 1, "ada", ("home",)),
    catalogue="c",
    policy="p",
    model="0.0",
    actions=(0,),
    probabilities=(10**9,),
    chosen=0,
    valid_until_ms=2,
)


@given(decisions, st.integers(0, 10**8))
def test_a_decision_is_read_back(decision: Decision, units: int) -> None:
    probabilities = tuple(units + at for at in range(len(decision.actions)))
    decision = msgspec.structs.replace(decision, probabilities=probabilities)

    read = decode_decision(encode_decision(decision))

    assert read == decision
    assert encode_decision(read) == encode_decision(decision)


def test_a_record_without_a_probability_for_each_action_is_refused() -> None:
    text = encode_decision(ALONE).replace("[[0,1]]", "[[0,2]]")

    with pytest.raises(msgspec.DecodeError, match="a probability for each action"):
        decode_decision(text)


@given(histories)
def test_a_history_is_read_back(history: History) -> None:
    assert decode_history(encode(history)) == history


@given(outcomes)
def test_an_outcome_is_read_back(outcome: Outcome) -> None:
    assert decode_outcome(encode(outcome)) == outcome


def test_what_is_at_its_default_takes_no_room() -> None:
    assert json.loads(encode_decision(ALONE)) == {
        "opportunity": {
            "decision_id": "d",
            "at_ms": 1,
            "user_id": "ada",
            "placements": ["home"],
        },
        "catalogue": "c",
        "policy": "p",
        "model": "0.0",
        "actions": [[0, 1]],
        "probabilities": [10**9],
        "chosen": 0,
        "valid_until_ms": 2,
    }
    assert encode(History()) == "{}"


@pytest.mark.parametrize("broken", ["", "{", "[]", '{"x": 1}', '{"impressions": 3}'])
def test_what_is_no_record_is_refused(broken: str) -> None:
    for decode in (decode_decision, decode_history, decode_outcome):
        with pytest.raises(msgspec.DecodeError):
            decode(broken)
