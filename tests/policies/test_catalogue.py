"""Catalogues: what is compiled, and that everything that is wrong is named at once."""

from __future__ import annotations

import re

import pytest

from policies.catalogue import read
from policies.errors import CatalogueError
from policies.gates import Dates, DismissalCoolDown, Eligibility, FrequencyCap
from policies.model import NO_OFFER

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


def test_an_action_is_an_offer_in_a_wording_at_a_place() -> None:
    catalogue = read(
        BASE
        + """
        [offers.tea]
        placements = ["home", "till"]
        features = { seats = 5 }
        [offers.tea.creatives.bold]
        features = { plan = "team" }
        [offers.tea.creatives.calm]
        [offers.jam]
        placements = ["till"]
        """
    )

    assert [action.name for action in catalogue.actions] == [
        "no_offer",
        "tea/bold/home",
        "tea/bold/till",
        "tea/calm/home",
        "tea/calm/till",
        "jam/default/till",
    ]
    assert [action.index for action in catalogue.actions] == list(range(6))
    bold = dict(catalogue.actions[1].features)
    assert bold["seats"] == 0.5
    assert bold["plan=team"] == 1.0
    assert "plan=team" not in dict(catalogue.actions[3].features)


def test_candidates_fit_the_placements_and_offers_of_the_request() -> None:
    catalogue = read(
        TEA + '[offers.jam]\nplacements = ["home", "till"]\n', source="shop"
    )

    def names(placements: list[str], offers: list[str]) -> list[str]:
        return [action.name for action in catalogue.candidates(placements, offers)]

    assert names(["home"], []) == ["tea/default/home", "jam/default/home"]
    assert names(["till", "home", "till"], ["jam"]) == [
        "jam/default/till",
        "jam/default/home",
    ]
    assert names([], []) == names(["nowhere"], []) == names(["till"], ["tea"]) == []
    assert NO_OFFER not in {a.index for a in catalogue.candidates(["home"], [])}


def test_an_offer_passes_the_gates_that_it_names() -> None:
    catalogue = read(
        TEA
        + """
        start = 2026-12-01T00:00:00Z
        end = 2026-12-01T01:00:00+01:00
        eligible = "features.seats > 3.0"
        caps = [{ limit = 1, window = "1d" }, { limit = 100 }]
        dismissal_cool_down = "1d12h"
        """.replace("2026-12-01T01:00:00+01:00", "2026-12-01T01:00:00.5Z")
    )

    start_ms = 1_796_083_200_000
    gates = catalogue.offers["tea"].gates
    assert gates[0] == Dates(start_ms=start_ms, end_ms=start_ms + 3_600_500)
    assert DismissalCoolDown(36 * 3_600_000) in gates
    assert FrequencyCap(limit=1, window_ms=86_400_000) in gates
    assert FrequencyCap(limit=100) in gates
    assert any(isinstance(gate, Eligibility) for gate in gates)


def test_an_offer_that_names_nothing_has_only_a_cool_down() -> None:
    assert read(TEA).offers["tea"].gates == (DismissalCoolDown(7 * 86_400_000),)


def test_a_version_is_of_the_text() -> None:
    assert read(TEA).version == read(TEA).version
    assert read(TEA).version != read(TEA + "# or so").version
    assert len(read(TEA).version) == 12


WRONG = [
    # The line added to an offer, the key, and a word of what is said.
    ("capz = []", "capz", "not known"),
    ("caps = [{ limit = 0 }]", "caps", "1 to 100, not 0"),
    ("caps = [{ limit = -1 }]", "caps", "1 to 100, not -1"),
    ("caps = [{ limit = 101 }]", "caps", "1 to 100, not 101"),
    ('caps = [{ limit = 1, window = "0d" }]', "caps", "above 0"),
    ('caps = [{ limit = 1 }, { limit = 1, wndw = "1d" }]', "caps", "wndw"),
    ("caps = [{ limit = 1.5 }]", "caps", "int"),
    ('caps = [{ limit = 1, window = "soon" }]', "caps", "soon"),
    ('caps = [{ limit = 1, window = "3661d" }]', "caps", "3660d"),
    ("caps = [" + "{ limit = 1 }, " * 11 + "]", "caps", "at most 10"),
    ('dismissal_cool_down = "0s"', "dismissal_cool_down", "above 0"),
    ("dismissal_cool_down = 7", "dismissal_cool_down", "7d"),
    ("start = 2026-12-01T00:00:00", "start", "zone"),
    ("start = 2026-12-01", "start", "date"),
    ('end = "Christmas"', "end", "date"),
    ('eligible = ""', "eligible", "empty"),
    ('eligible = "segment = 1"', "eligible", "CEL"),
    ('eligible = "segmant == 1"', "eligible", "segmant"),
    ('eligible = "features.shoe > 1.0"', "eligible", "shoe"),
    ("eligible = 7", "eligible", "str"),
    ("features = { shoe = 1 }", "features", "shoe"),
    ('features = { seats = "x" }', "features", "number"),
    ("features = { plan = 1 }", "features", "category"),
    ("features = { seats = nan }", "features", "finite"),
    ("features = { seats = inf }", "features", "finite"),
    ("creatives = 3", "creatives", "tables"),
    ("creatives = { bold = 3 }", "creatives", "table"),
    ("creatives = { Bold = {} }", "creatives", "Bold"),
    ("creatives = { bold = { descripton = '' } }", "creatives", "descripton"),
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
    ('valid_for = "0s"\n' + BASE, "valid_for"),
    ('valid_for = "25h"\n' + BASE, "valid_for"),
    ("offers = 3\n" + BASE, "offers"),
    (BASE + '[features.Shoe]\ntype = "number"', "features.Shoe"),
    (BASE + '[features.shoe]\ntype = "nubmer"', "features.shoe.type"),
    (BASE + '[features.shoe]\ntype = "flag"\nrange = [0, 1]', "features.shoe"),
    (BASE + '[features.shoe]\ntype = "number"\nrange = [1, 1]', "features.shoe"),
    (BASE + '[features.shoe]\ntype = "number"\nrange = [0, inf]', "features.shoe"),
    (BASE + "[features.shoe]", "features.shoe.type"),
    (BASE + "[placements.Shop]", "placements.Shop"),
    (BASE + '[placements.shop]\ndescripton = ""', "placements.shop.descripton"),
    (BASE + '[offers.Tea]\nplacements = ["home"]', "offers.Tea"),
    (BASE + "[offers.tea]", "offers.tea.placements"),
    (BASE + "[offers.tea]\nplacements = []", "offers.tea.placements"),
    (BASE + '[offers.tea]\nplacements = ["hom"]', "offers.tea.placements"),
    (BASE + '[offers.tea]\nplacements = ["home", "home"]', "offers.tea.placements"),
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


def test_a_catalogue_without_placements_is_refused() -> None:
    (description,) = problems("").values()

    assert "at least one placement" in description


@pytest.mark.parametrize(
    "text", ["x", BASE + "[placements.home]", 'a = "', "a = 1\na = 2"]
)
def test_what_is_not_toml_is_refused_with_the_place(text: str) -> None:
    (description,) = problems(text).values()

    assert re.search(r"at (line \d+|end of document)", description)


def test_an_offer_that_ends_before_it_starts_is_refused() -> None:
    text = TEA + "start = 2026-12-02T00:00:00Z\nend = 2026-12-02T00:00:00Z\n"

    assert list(problems(text)) == [f"line {line(text, 'end')}: offers.tea.end"]


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
