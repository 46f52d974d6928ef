"""Catalogues: everything that is wrong with one is named at once, with its line."""

from __future__ import annotations

import re

import pytest

from policies.catalogue import read, version_of
from policies.errors import CatalogueError
from policies.toml import join_texts

BASE = """\
[features.seats]
type = "number"
range = [0, 10]
[features.plan]
type = "category"
[placements.home]
[placements.till]
"""
TEA = BASE + '[offers.tea]\nplacements = ["home"]\n'


def problems(text: str) -> dict[str, str]:
    with pytest.raises(CatalogueError) as caught:
        read(text, "shop.toml")
    for line in str(caught.value).splitlines():
        assert line.startswith("shop.toml: ")
    return {
        f"line {problem.line}: {problem.field}": problem.description
        for problem in caught.value.problems
    }


def line(text: str, start: str) -> int:
    """Return the line, from 1, that starts like this."""
    (number,) = [
        n for n, row in enumerate(text.splitlines(), start=1) if row.startswith(start)
    ]
    return number


def test_a_version_is_of_the_text() -> None:
    assert read(TEA).version == read(TEA).version == version_of(TEA)
    assert read(TEA).version != read(TEA + "# or so").version
    assert len(read(TEA).version) == 12
    assert read(TEA).text == TEA


def test_a_catalogue_may_stand_in_several_files() -> None:
    files = [
        ("a.toml", 'currency = "EUR"\n[placements.home]\n'),
        ("b.toml", '[offers.tea]\nplacements = ["home"]\n'),
        ("c.toml", '[offers.jam]\nplacements = ["home", "hom"]\ncapz = 1\n'),
    ]

    whole = read(join_texts(files[:2]))
    with pytest.raises(CatalogueError) as caught:
        read(join_texts(files))

    assert whole.currency == "EUR"
    assert [*whole.offers] == ["tea"]
    assert {(p.file, p.line, p.field) for p in caught.value.problems} == {
        ("c.toml", 2, "offers.jam.placements"),
        ("c.toml", 3, "offers.jam.capz"),
    }


WRONG = [
    # The line added to an offer, the key, and a word of what is said.
    ("capz = []", "capz", "not known"),
    ("caps = [{ limit = 0 }]", "caps", "1 to 100"),
    ('caps = [{ limit = 1, wndw = "1d" }]', "caps", "wndw"),
    ("caps = [{ limit = 1.5 }]", "caps", "int"),
    ('caps = [{ limit = 1, window = "soon" }]', "caps", "soon"),
    ('caps = [{ limit = 1, window = "3661d" }]', "caps", "3660d"),
    ("dismissal_cool_down = 7", "dismissal_cool_down", "7d"),
    ("start = 2026-12-01T00:00:00", "start", "zone"),
    ("start = 2026-12-01", "start", "date"),
    ('end = "Christmas"', "end", "date"),
    ('eligible = ""', "eligible", "empty"),
    ('eligible = "segment = 1"', "eligible", "CEL"),
    ('suitable = "segmant == 1"', "suitable", "segmant"),
    ('applicable = "features.shoe > 1.0"', "applicable", "shoe"),
    ('value_discovered = "1 +"', "value_discovered", "CEL"),
    ("eligible = 7", "eligible", "str"),
    ("features = { shoe = 1 }", "features", "shoe"),
    ('features = { seats = "x" }', "features", "number"),
    ("features = { plan = 1 }", "features", "category"),
    ("features = { seats = nan }", "features", "finite"),
    ("features = { seats = inf }", "features", "finite"),
    ("creatives = 3", "creatives", "tables"),
    ("creatives = { bold = 3 }", "creatives", "table"),
    ("creatives = { bold = { descripton = '' } }", "creatives", "descripton"),
    ("creatives = { bold = { features = { shoe = 1 } } }", "creatives", "shoe"),
    (
        "creatives = { bold = { parameters = { x = { value = '1 +' } } } }",
        "creatives.bold.parameters.x.value",
        "CEL",
    ),
    (
        "creatives = { bold = { parameters = { x = { value = 'segment' } } } }",
        "creatives.bold.parameters.x.value",
        "number",
    ),
]


@pytest.mark.parametrize(("row", "key", "word"), WRONG, ids=lambda value: value[:40])
def test_what_is_wrong_with_an_offer_is_named_with_line_and_key(
    row: str, key: str, word: str
) -> None:
    text = TEA + row + "\n"
    number = len(text.splitlines())

    ((field, description),) = problems(text).items()

    assert field.startswith(f"line {number}: offers.tea.{key}")
    assert word in f"{field}: {description}"


WRONG_TOPS = [
    ('currency = "usd"\n' + BASE, "currency"),
    ('crrncy = "USD"\n' + BASE, "crrncy"),
    ("offers = 3\n" + BASE, "offers"),
    ('value_discovered = "1 +"\n' + BASE, "value_discovered"),
    ('engagement = { low = "segmant" }\n' + BASE, "engagement.low"),
    ('gates = { plugins = ["unheard-of"] }\n' + BASE, "gates.plugins"),
    (BASE + '[features.shoe]\ntype = "nubmer"', "features.shoe.type"),
    (BASE + '[features.shoe]\ntype = "flag"\nrange = [0, 1]', "features.shoe"),
    (BASE + '[features.shoe]\ntype = "number"\nrange = [1, 1]', "features.shoe"),
    (BASE + "[features.shoe]", "features.shoe.type"),
    (BASE + '[placements.shop]\ndescripton = ""', "placements.shop.descripton"),
    (BASE + '[offers.tea]\nplacements = ["hom"]', "offers.tea.placements"),
]


@pytest.mark.parametrize(
    ("text", "key"),
    WRONG_TOPS,
    ids=[f"{key}-{n}" for n, (_, key) in enumerate(WRONG_TOPS)],
)
def test_what_is_wrong_with_a_catalogue_is_named_with_line_and_key(
    text: str, key: str
) -> None:
    (field,) = problems(text)

    assert re.fullmatch(rf"line \d+: {re.escape(key)}(\.range)?", field)


@pytest.mark.parametrize(
    "text", ["x", BASE + "[placements.home]", 'a = "', "a = 1\na = 2"]
)
def test_what_is_not_toml_is_refused_with_the_place(text: str) -> None:
    (description,) = problems(text).values()

    assert re.search(r"at (line \d+|end of document)", description)


def test_a_key_that_hides_its_name_is_refused() -> None:
    with pytest.raises(CatalogueError, match="unknown field"):
        read('"a\\nb" = 1\n' + BASE)


def test_more_actions_than_anything_can_be_drawn_from_are_refused() -> None:
    places = [f"p{number}" for number in range(301)]
    text = "".join(f"[placements.{place}]\n" for place in places)
    offers = "".join(
        f"[offers.o{number}]\nplacements = {places}\n" for number in range(100)
    )

    ((field, description),) = problems(text + offers.replace("'", '"')).items()

    assert field.endswith("offers")
    assert description == "makes 30101 actions; at most 30000"


def test_everything_that_is_wrong_is_named_at_once() -> None:
    text = (
        'currency = "usd"\n'
        + BASE
        + """\
[offers.tea]
placements = ["hom"]
caps = [{ limit = 0 }]
eligible = "1 +"
dismissal_cool_down = "0s"
[offers.jam]
placements = ["home"]
start = 2026-12-02T00:00:00
"""
    )

    assert set(problems(text)) == {
        f"line {line(text, start)}: {key}"
        for start, key in (
            ("currency", "currency"),
            ('placements = ["hom"]', "offers.tea.placements"),
            ("caps", "offers.tea.caps.0.limit"),
            ("eligible", "offers.tea.eligible"),
            ("dismissal", "offers.tea.dismissal_cool_down"),
            ("start", "offers.jam.start"),
        )
    }


def test_two_typos_of_one_offer_are_both_named() -> None:
    text = TEA + "capz = []\nstrat = 1\n"

    assert {field.rpartition(".")[2] for field in problems(text)} == {"capz", "strat"}


def test_a_typo_does_not_hide_what_else_is_wrong_with_the_offer() -> None:
    text = TEA + 'descripton = ""\ncaps = [{ limit = 0 }]\neligible = "1 +"\n'

    named = {field.rpartition(".")[2] for field in problems(text)}

    assert named == {"descripton", "limit", "eligible"}


def test_a_wrong_type_does_not_hide_what_else_is_wrong_with_the_offer() -> None:
    text = TEA + 'description = 7\nend = "soon"\neligible = "1 +"\n'

    named = {field.rpartition(".")[2] for field in problems(text)}

    assert named == {"description", "end", "eligible"}


def test_a_text_that_was_in_use_once_is_compiled_whatever_is_asked_today() -> None:
    old = TEA + "caps = [{ limit = 101 }]\n"

    assert problems(old)
    assert read(old, linted=False).version == version_of(old)
    with pytest.raises(CatalogueError):
        read(TEA + 'eligible = "1 +"\n', linted=False)


def test_what_was_archived_may_not_come_back() -> None:
    archived = read(TEA + 'state = "archived"\n').spec

    assert read(TEA, previous=read(TEA).spec).offers["tea"].offered
    with pytest.raises(CatalogueError, match="archived for good"):
        read(TEA, previous=archived)
