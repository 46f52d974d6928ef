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
from policies.records import decode_decision, decode_history, decode_outcome, encode

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
    actions=st.lists(st.integers(0, 10**5), max_size=3).map(tuple),
    probabilities=st.lists(st.integers(0, 10**9), max_size=3).map(tuple),
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


@given(decisions)
def test_a_decision_is_read_back(decision: Decision) -> None:
    read = decode_decision(encode(decision))

    assert read == decision
    assert encode(read) == encode(decision)


@given(histories)
def test_a_history_is_read_back(history: History) -> None:
    assert decode_history(encode(history)) == history


@given(outcomes)
def test_an_outcome_is_read_back(outcome: Outcome) -> None:
    assert decode_outcome(encode(outcome)) == outcome


def test_what_is_at_its_default_takes_no_room() -> None:
    decision = Decision(
        opportunity=Opportunity("d", 1, "ada", ("home",)),
        catalogue="c",
        policy="p",
        model="0.0",
        actions=(0,),
        probabilities=(10**9,),
        chosen=0,
        valid_until_ms=2,
    )

    assert json.loads(encode(decision)) == {
        "opportunity": {
            "decision_id": "d",
            "at_ms": 1,
            "user_id": "ada",
            "placements": ["home"],
        },
        "catalogue": "c",
        "policy": "p",
        "model": "0.0",
        "actions": [0],
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
