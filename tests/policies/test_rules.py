"""Eligibility rules: when they hold, and what is refused before it can run."""

from __future__ import annotations

import time

import pytest

from policies.model import Context, FeatureValue, Moment, Opportunity, Usage
from policies.rules import Rule, Variables

FEATURES: dict[str, FeatureValue] = {
    "seats": 1.0,
    "plan": "a",
    "trial": True,
    "size": 1.0,
}


def holds(source: str, context: Context | None = None) -> bool:
    opportunity = Opportunity(
        "d", 0, "ada", ("home", "till"), context=context or Context()
    )
    return Rule(source, FEATURES).holds(Variables(opportunity))


CONTEXT = Context(
    role="admin",
    segment="free",
    usage={"gb": Usage(8.0, 10.0), "calls": Usage(3.0)},
    moment=Moment("limit_near", {"seats": 2.0}),
    features={"seats": 3, "plan": "team", "trial": True},
)


@pytest.mark.parametrize(
    "source",
    [
        "true",
        "user_id == 'ada'",
        "account_id == ''",
        "role == 'admin' && segment == 'free'",
        "'till' in placements",
        "size(placements) == 2",
        "usage.gb.value == 8.0 && usage.gb.limit == 10.0 && usage.gb.ratio == 0.8",
        "usage.gb.ratio >= 0.8",
        "usage.calls.value > 2",
        "moment.kind == 'limit_near' && moment.features.seats == 2.0",
        "features.seats >= 3 && features.seats < 3.5",
        "features['plan'] == 'team'",
        "features.trial",
        "has(features.seats) && !has(features.size)",
        "!('calls' in usage) || !has(usage.calls.limit)",
        "'home' in placements",
        "segment.startsWith('fr')",
    ],
)
def test_a_rule_holds_where_it_is_true(source: str) -> None:
    assert holds(source, CONTEXT)


@pytest.mark.parametrize(
    "source",
    [
        "false",
        "segment == 'team'",
        "features.seats > 3.0",
        "features.seats",
        "usage.mail.value > 0.0",
        "moment.features.plan == 'team'",
        "usage.calls.ratio > 0.0",
        "1 / 0 == 1",
        "1 % 0 == 1",
        "size(account_id) / size(account_id) == 1",
        "9223372036854775807 + size(placements) > 0",
    ],
)
def test_a_rule_that_is_false_or_cannot_be_evaluated_does_not_hold(source: str) -> None:
    assert not holds(source, CONTEXT)


def test_a_rule_sees_no_more_than_the_request_holds() -> None:
    assert not holds("features.seats >= 0.0")
    assert not holds("usage.gb.value >= 0.0")
    assert holds("segment == '' && role == '' && moment.kind == ''")


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("segment ==", "CEL"),
        ("'free'", "true or false"),
        ("role > 3", "different types"),
        ("usage.gb >= 3", "different types"),
        ("features.plan >= 3", "different types"),
        ("moment.knd == 'limit_near'", "knd"),
        ("usage.gb.ration > 0.5", "ration"),
        ("segment = 'a'", "CEL"),
        ("import os", "CEL"),
        ("segmant == 'a'", "segmant"),
        ("segment == free", "free"),
        ("open('x')", "open"),
        ("features.shoe == 1.0", "shoe"),
        ("features['shoe'] == 1.0", "shoe"),
        ("moment.features.shoe == 1.0", "shoe"),
        ("true" + " " * 1_000, "1004 characters"),
        ("(" * 65 + "true" + ")" * 65, "brackets"),
        ("segment.matches('^(a+)+$')", "matches"),
        ("usage.all(a, usage.all(b, a != b))", "uses all"),
        ("usage.exists (b, true)", "uses exists"),
        ("placements. exists_one(b, b == 'home')", "uses exists_one"),
        ("placements . filter\n(b, b != '') == []", "uses filter"),
        (f"({'+'.join(['placements'] * 38)}).map(p, p) == []", "uses map"),
        ("usage.//\nall(role, usage.//\nall(segment, role != segment))", "//"),
        ("usage.`all`(a, true)", "CEL"),
        ("usage.x // a comment", "//"),
        ("usage./**/all(role, true)", "uses all"),
        ("r'\\' == '' || usage.all(a, true) || r'\\' == ''", "plain"),
        ('"""\'""" == segment || usage.all(a, true) || \'\' == \'\'', "plain"),
    ],
    ids=lambda value: value[:30],
)
def test_what_is_no_rule_or_could_run_for_long_is_refused(
    source: str, word: str
) -> None:
    with pytest.raises(ValueError, match=word):
        Rule(source, FEATURES)


def test_the_costliest_rule_that_is_let_through_is_cheap() -> None:
    usage = {f"u{n}": Usage(1.0) for n in range(100)}
    features: dict[str, FeatureValue] = dict.fromkeys(FEATURES, "x" * 256)
    context = Context(usage=usage, features=features)
    placements = tuple(f"{n:063}" for n in range(50))
    lists = "+".join(["placements"] * 40)
    rule = Rule(f"!('x' in ({lists})) && size({lists}) > 0", FEATURES)
    variables = Variables(Opportunity("d", 0, "ada", placements, context=context))

    start = time.process_time()
    held = rule.holds(variables)

    assert held
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
    "source",
    [
        "!" * 990 + "true",
        "-" * 980 + "1 == 1",
        "true && " * 120 + "true",
        "usage" + ".a" * 480 + " == 1",
        "1 + " * 240 + "1 == 241",
        "true ? " * 60 + "true" + " : true" * 60,
    ],
    ids=lambda value: value[:10],
)
def test_a_rule_of_many_parts_breaks_nothing(source: str) -> None:
    try:
        rule = Rule(source, FEATURES)
    except ValueError:
        return
    assert rule.holds(Variables(Opportunity("d", 0, "a", ("h",)))) in {True, False}


def test_what_stands_in_quotes_is_no_feature() -> None:
    assert holds("segment != 'features.shoe'", CONTEXT)


@pytest.mark.parametrize(
    "source",
    [
        "segment == 'free'",
        "features.seats > 2.0",
        "features['seats'] > 2.0",
        "features [ 'seats' ] > 2.0 && moment . kind == 'limit_near'",
        "moment['features']['seats'] == 2.0",
        "moment.features.seats == 2.0 || features.plan == 'x'",
        "features[segment == 'free' ? 'seats' : 'plan'] == 3.0",
        "size(features) == 3",
        "features . trial",
        "has(features.trial) && features.trial",
        "'seats' in features",
        "usage['gb'].ratio > 0.5",
        "[features][0].seats == 3.0",
        "{'a': moment}['a'].features.seats == 2.0",
        "user_id == 'ada' && account_id == '' && 'home' in placements",
    ],
)
def test_a_rule_that_is_handed_only_what_it_reads_says_the_same(source: str) -> None:
    rule = Rule(source, FEATURES)
    asked = Opportunity("d", 0, "ada", ("home", "till"), context=CONTEXT)

    assert rule.holds(Variables(asked))
    assert rule.holds(Variables(asked, rule.reads))
