"""Records: what is written to the log is read back as an equal value."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.catalogue import Catalogue, read
from policies.model import (
    NO_HISTORY,
    Conditions,
    Context,
    Decision,
    History,
    Lease,
    LifeState,
    Moment,
    Money,
    Opportunity,
    Outcome,
    OutcomeKind,
    Preferences,
    QuietHours,
    Reservation,
    Session,
    Snooze,
    State,
    Stuck,
    Subject,
    Tally,
    Track,
    Usage,
)
from policies.records import (
    decode_decision,
    decode_history,
    decode_lesson,
    decode_outcome,
    encode,
    encode_decision,
)
from tests.policies import shops
from tests.policies.shops import DAY, NOW

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
text = st.text(max_size=8)
texts = st.lists(text, max_size=3).map(tuple)
times = st.integers(0, 2**53)
finite = st.floats(allow_nan=False, allow_infinity=False)
features = st.dictionaries(text, finite | st.booleans() | text, max_size=3)
contexts = st.builds(
    Context,
    text,
    text,
    st.dictionaries(
        text,
        st.builds(
            Usage, finite, st.none() | finite, st.none() | finite, st.none() | times
        ),
        max_size=2,
    ),
    st.builds(Moment, text, features),
    features,
    texts,
)
subjects = st.builds(Subject, text, text, text, texts, finite)
some_times = st.lists(times, max_size=3).map(lambda drawn: tuple(sorted(drawn)))
tallies = st.builds(Tally, some_times, st.integers(1, 9), times) | st.builds(
    Tally, some_times
)
tracks = st.builds(
    Track,
    subjects,
    st.dictionaries(
        st.sampled_from(["decided", "shown", "clicked", "accepted", "dismissed"]),
        tallies,
    ),
)
histories = st.builds(
    History,
    tracks=st.lists(tracks, max_size=3).map(tuple),
    reservations=st.lists(
        st.builds(Reservation, times, text, subjects), max_size=2
    ).map(tuple),
    snoozes=st.dictionaries(
        text, st.builds(Snooze, times, times, times, st.booleans()), max_size=2
    ),
    sessions=st.lists(st.builds(Session, text, times), max_size=2).map(tuple),
    ignored=st.integers(0, 9),
    stuck=st.lists(st.builds(Stuck, text, text, times), max_size=2).map(tuple),
    leases=st.dictionaries(text, st.builds(Lease, times, st.booleans()), max_size=2),
    contacts=st.dictionaries(text, times, max_size=2),
    negative_ms=st.none() | times,
    state=st.builds(
        State,
        role=text,
        engagement=text,
        value_discovered=st.booleans(),
        owned=st.dictionaries(text, times, max_size=2),
        pending=st.dictionaries(text, times, max_size=2),
        life=st.dictionaries(
            text,
            st.builds(LifeState, times, st.none() | times, st.none() | times, texts),
            max_size=2,
        ),
    ),
    preferences=st.builds(
        Preferences,
        opt_outs=st.dictionaries(text, times, max_size=2),
        zone=text,
        quiet=st.none() | st.just(QuietHours(60, 120)),
        version=st.integers(0, 9),
    ),
)
decisions = st.builds(
    Decision,
    opportunity=st.builds(
        Opportunity,
        text,
        times,
        text,
        texts,
        text,
        text,
        texts,
        contexts,
        st.lists(st.tuples(text, text), max_size=2).map(tuple),
    ),
    catalogue=text,
    policy=text,
    model=text,
    actions=st.just((0, 1, 2, 7, 9)) | st.just((0,)) | st.just((0, 5, 6)),
    probabilities=st.just(()),
    chosen=st.integers(0, 10**5),
    valid_until_ms=times,
    history=histories,
    account=st.just(NO_HISTORY) | histories,
    conditions=st.builds(Conditions, texts, texts),
    floor=st.integers(0, 10**9),
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


@patient
@given(decisions, st.integers(0, 10**8))
def test_a_decision_is_read_back(decision: Decision, units: int) -> None:
    probabilities = tuple(units + at for at in range(len(decision.actions)))
    decision = msgspec.structs.replace(decision, probabilities=probabilities)

    again = decode_decision(encode_decision(decision))

    assert again == decision
    assert encode_decision(again) == encode_decision(decision)


def test_a_lesson_is_a_decision_without_what_was_known_before() -> None:
    lesson = decode_lesson(encode_decision(ALONE))

    assert lesson.opportunity == ALONE.opportunity
    assert lesson.actions == ALONE.actions
    assert lesson.propensity == ALONE.propensity
    assert (lesson.chosen, lesson.split) == (ALONE.chosen, ALONE.split)
    assert lesson.history is NO_HISTORY
    assert (
        decode_lesson(FIRST_DECISION).chosen == decode_decision(FIRST_DECISION).chosen
    )


def test_a_record_without_a_probability_for_each_action_is_refused() -> None:
    text = encode_decision(ALONE).replace("[[0,1]]", "[[0,2]]")

    with pytest.raises(msgspec.DecodeError, match="a probability for each action"):
        decode_decision(text)


def test_the_floor_is_written_where_there_is_one() -> None:
    floored = msgspec.structs.replace(ALONE, floor=5_000_000)

    assert json.loads(encode_decision(floored))["floor"] == 5_000_000
    assert "floor" not in json.loads(encode_decision(ALONE))


@patient
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


def test_nothing_known_is_known_as_nothing_again() -> None:
    read_back = decode_decision(encode_decision(ALONE))

    # A user without an account is one by identity: see `policies.gates.base`.
    assert read_back.history is NO_HISTORY
    assert read_back.account is NO_HISTORY
    assert decode_history("{}") is NO_HISTORY


# --- The format, and how much of it there is ----------------------------------------

TEA = Subject("tea", "bold", "home", ("hot",), 1.0)
JAM = Subject("jam", "bold", "home", ("sweet", "hot"), 0.5)


def test_a_name_stands_once_and_a_time_is_told_by_the_one_before() -> None:
    history = History(
        tracks=(
            Track(TEA, {"shown": Tally((1_000, 1_200)), "clicked": Tally((1_250,))}),
            Track(JAM, {"shown": Tally((2_000,), 3, 900), "decided": Tally((), 1, 5)}),
        ),
        ignored=2,
    )

    written = encode(history)

    assert json.loads(written) == {
        "names": ["tea", "bold", "home", "hot", "jam", "sweet"],
        "tracks": [
            # Shown, dismissed, clicked, accepted and decided: how often before, then
            # when, each after the one before.
            [0, 1, 2, [3], 1.0, [[0, 1_000, 200], [], [0, 50]]],
            [4, 1, 2, [5, 3], 0.5, [[3, -350, 1_100], [], [], [], [1, -1_995]]],
        ],
        "ignored": 2,
    }
    assert decode_history(written) == history


@pytest.mark.parametrize(
    "broken",
    [
        '{"names":["tea"],"tracks":[[0,0,1,[],1.0,[[0,5]]]]}',
        '{"names":["tea"],"tracks":[[0,0,-1,[],1.0,[[0,5]]]]}',
        '{"names":["tea"],"tracks":[[0,0,0,[7],1.0,[[0,5]]]]}',
        '{"names":["tea"],"tracks":[[0,0,0,[],1.0,[[1]]]]}',
        '{"names":["tea"],"tracks":[[0,0,0,[],1.0,[[0],[0],[0],[0],[0],[0]]]]}',
        '{"names":["tea"],"tracks":[[0,0,0,[],1.0]]}',
    ],
)
def test_a_history_of_which_something_is_missing_is_refused(broken: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_history(broken)
    torn = encode_decision(ALONE)[:-1] + f',"history":{broken}}}'
    with pytest.raises(msgspec.DecodeError):
        decode_decision(torn)


def shop(offers: int) -> Catalogue:
    lines = [
        "[categories.plans]\n[categories.storage]\n[categories.training]\n",
        '[placements.home_banner]\nkind = "banner"\n[placements.usage_panel]\n',
    ]
    for number in range(offers):
        category = ("plans", "storage", "training")[number % 3]
        lines.append(
            f"[offers.annual_offer_{number}]\n"
            'placements = ["home_banner", "usage_panel"]\n'
            f'categories = ["{category}"]\n'
            'caps = [{ limit = 1, window = "7d" }]\n'
        )
    return read("".join(lines))


def year(catalogue: Catalogue, weeks: int = 52) -> History:
    """Return what is remembered of a user who sees two offers a week."""
    history = NO_HISTORY
    for number in range(2 * weeks):
        # A step that shares no factor with the number of actions, nearly at random.
        action = catalogue.actions[1 + number * 7 % (len(catalogue.actions) - 1)]
        at_ms = NOW + (number * 84 + number * 31 % 17) * 3_600_000 + number * 7_919
        decision = shops.decision_of(action, number, at_ms, catalogue, f"v{number}")
        kinds: list[OutcomeKind] = ["shown"]
        kinds += [["dismissed"], ["clicked"], [], [], ["clicked", "accepted"]][
            number * 3 % 5
        ]  # type: ignore[arg-type] # They are kinds.
        told = [
            Outcome(kind, kind, at_ms + 4_321 * after)
            for after, kind in enumerate(kinds)
        ]
        history = shops.fold(history, decision, told, catalogue)
    return history


def test_what_is_remembered_of_a_year_fits_into_a_kibibyte() -> None:
    assert len(encode(year(shop(5)))) <= 1_024


@pytest.mark.parametrize("offers", [5, 20])
def test_what_is_remembered_does_not_grow_with_the_years(offers: int) -> None:
    catalogue = shop(offers)

    one, three = (len(encode(year(catalogue, weeks))) for weeks in (52, 156))

    assert three < 1.05 * one
    assert len(encode(year(catalogue))) < 80 * offers + 800


# --- What the first version wrote ---------------------------------------------------

FIRST_HISTORY = (
    '{"impressions":[[1000,"jam","till"],[1100,"tea","home"],[1200,"tea","home"]],'
    '"reservations":[[9000,"oats","home","d2"]],'
    '"dismissals":{"tea":[2,1300],"rice":[1,700]}}'
)
MIGRATED = History(
    tracks=(
        Track(Subject("jam", "", "till"), {"shown": Tally((1_000,))}),
        Track(Subject("tea", "", "home"), {"shown": Tally((1_100, 1_200))}),
        Track(Subject("tea", "", ""), {"dismissed": Tally((1_300,), 1, 1_300)}),
        Track(Subject("rice", "", ""), {"dismissed": Tally((700,))}),
    ),
    reservations=(Reservation(9_000, "d2", Subject("oats", "", "home")),),
)


def test_a_history_of_the_first_version_is_read() -> None:
    read_back = decode_history(FIRST_HISTORY)

    assert read_back == MIGRATED
    assert decode_history(encode(read_back)) == MIGRATED
    assert decode_history('{"dismissals":{}}') is NO_HISTORY


FIRST_DECISION = (
    '{"opportunity":{"decision_id":"d1a4027154a1f520d18ca091e3c1fbfe0ef1",'
    '"at_ms":1790000000000,"user_id":"ada","placements":["home"],"offers":["tea"],'
    '"context":{"segment":"new","usage":{"gb":{"value":8.0,"limit":10.0}},'
    '"moment":{"kind":"done"},"features":{"seats":3.0}}},'
    '"catalogue":"0c7f3a2b9d1e","policy":"ee1e90a5bc6f","model":"1.42",'
    '"actions":[[0,2],[5,1]],"probabilities":[50000000,900000000,50000000],'
    '"chosen":1,"valid_until_ms":1790000600000,"history":' + FIRST_HISTORY + "}"
)


def test_a_decision_of_the_first_version_is_read() -> None:
    decision = decode_decision(FIRST_DECISION)

    assert decision == Decision(
        opportunity=Opportunity(
            "d1a4027154a1f520d18ca091e3c1fbfe0ef1",
            1_790_000_000_000,
            "ada",
            ("home",),
            offers=("tea",),
            context=Context(
                segment="new",
                usage={"gb": Usage(8.0, 10.0)},
                moment=Moment("done"),
                features={"seats": 3.0},
            ),
        ),
        catalogue="0c7f3a2b9d1e",
        policy="ee1e90a5bc6f",
        model="1.42",
        actions=(0, 1, 5),
        probabilities=(50_000_000, 900_000_000, 50_000_000),
        chosen=1,
        valid_until_ms=1_790_000_600_000,
        history=MIGRATED,
    )
    assert decode_decision(encode_decision(decision)) == decision
    bare = FIRST_DECISION.replace(f',"history":{FIRST_HISTORY}', "")
    assert decode_decision(bare).history is NO_HISTORY


def test_what_the_first_version_remembered_goes_on_counting() -> None:
    catalogue = read(
        """
        [placements.home]
        [offers.tea]
        placements = ["home"]
        caps = [{ limit = 3, window = "1d" }]
        """
    )
    action = catalogue.actions[1]
    decision = shops.decision_of(action, 1, DAY, catalogue)
    shown = Outcome("1", "shown", DAY)

    history = shops.fold(decode_history(FIRST_HISTORY), decision, [shown], catalogue)

    tea = [track for track in history.tracks if track.subject.offer_id == "tea"]
    assert [track.tallies for track in tea] == [
        {"shown": Tally((1_100, 1_200))},
        {"dismissed": Tally((1_300,), 1, 1_300)},
        {"shown": Tally((DAY,))},
    ]


@pytest.mark.parametrize("broken", ["", "{", "[]", '{"x": 1}', '{"impressions": 3}'])
def test_what_is_no_record_is_refused(broken: str) -> None:
    for decode in (decode_decision, decode_history, decode_outcome):
        with pytest.raises(msgspec.DecodeError):
            decode(broken)
