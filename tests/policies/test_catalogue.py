"""Catalogues: what is compiled, and that everything that is wrong is named at once."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.catalogue import Catalogue, read, version_of
from policies.errors import CatalogueError
from policies.gates import GATES, Dates, Dismissal, Eligibility, Facts, OfferCap
from policies.history import Chosen
from policies.model import NO_OFFER, Action, FeatureValue, Subject
from policies.rules import Expression, Rule
from policies.specs import CreativeSpec, OfferSpec
from policies.toml import join_texts
from tests.policies import shops
from tests.policies.shops import DAY

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


# --- Actions ------------------------------------------------------------------------


def test_an_action_is_an_offer_in_a_wording_at_a_place() -> None:
    catalogue = read(
        BASE
        + """
        [offers.tea]
        placements = ["home", "till"]
        features = { seats = 5 }
        priority = 3
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
    assert [action.priority for action in catalogue.actions] == [0, 3, 3, 3, 3, 0]
    bold = dict(catalogue.actions[1].features)
    assert bold["seats"] == 0.5
    assert bold["plan=team"] == 1.0
    assert "plan=team" not in dict(catalogue.actions[3].features)
    assert {*catalogue.wordings} == {
        ("tea", "bold"),
        ("tea", "calm"),
        ("jam", "default"),
    }


def test_actions_share_the_names_of_what_they_have_in_common() -> None:
    catalogue = read(
        """
        [placements.home]
        [placements.till]
        [offers.tea]
        placements = ["home", "till"]
        [offers.tea.creatives.bold]
        [offers.tea.creatives.calm]
        [offers.jam]
        placements = ["till"]
        """
    )
    alone = read('[placements.home]\n[offers.tea]\nplacements = ["home"]')

    assert [name for name, _ in catalogue.actions[1].features] == [
        "offer=tea",
        "creative=tea/bold",
        "placement=home",
    ]
    assert [name for name, _ in catalogue.actions[5].features] == ["placement=till"]
    assert alone.actions[1].features == ()


def test_the_actions_of_an_offer_are_those_of_one_that_is_offered() -> None:
    catalogue = read(
        TEA
        + """
        [offers.jam]
        placements = ["home", "till"]
        [offers.oats]
        placements = ["home"]
        state = "paused"
        """
    )

    def names(offer: str, *placements: str) -> list[str]:
        return [action.name for action in catalogue.actions_of(offer, placements)]

    assert names("jam", "till", "home") == ["jam/default/home", "jam/default/till"]
    assert names("jam", "till") == ["jam/default/till"]
    assert names("tea", "till") == names("oats", "home") == names("none", "home") == []
    every = [action.name for action in catalogue.all_actions(["home", "home"])]
    assert every == ["tea/default/home", "jam/default/home", "oats/default/home"]
    some = [action.name for action in catalogue.all_actions(["home"], ["oats"])]
    assert some == ["oats/default/home"]


# --- Candidates ---------------------------------------------------------------------


def test_candidates_fit_the_placements_and_offers_of_the_request() -> None:
    catalogue = read(TEA + '[offers.jam]\nplacements = ["home", "till"]\n')

    def names(placements: list[str], offers: list[str]) -> list[str]:
        return [action.name for action in catalogue.candidates(placements, offers)]

    assert names(["home"], []) == ["tea/default/home", "jam/default/home"]
    # In the order of the catalogue, and each once.
    assert names(["till", "home", "till"], ["jam"]) == [
        "jam/default/home",
        "jam/default/till",
    ]
    assert names([], []) == names(["nowhere"], []) == names(["till"], ["tea"]) == []
    assert NO_OFFER not in {a.index for a in catalogue.candidates(["home"], [])}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    data=st.data(),
    moment=st.sampled_from(["", "renewal", "limit_near", "other"]),
    owned=st.sets(st.sampled_from(["basic", "pro", "pool", "other"])),
    placements=st.lists(st.sampled_from(["home", "side", "bar"]), max_size=3),
    offers=st.just([]) | st.lists(st.sampled_from(["tea", "jam"]), min_size=1),
)
def test_the_index_finds_what_looking_at_all_actions_finds(
    data: st.DataObject,
    moment: str,
    owned: set[str],
    placements: list[str],
    offers: list[str],
) -> None:
    catalogue = data.draw(shops.catalogues())

    found = catalogue.candidates(placements, offers, moment=moment, owned=owned)

    assert found == [
        action
        for action in catalogue.actions[NO_OFFER + 1 :]
        if action.placement_id in placements
        and (not offers or action.offer_id in offers)
        and is_candidate(action, catalogue, moment, owned)
    ]


def is_candidate(
    action: Action, catalogue: Catalogue, moment: str, owned: set[str]
) -> bool:
    """Say whether an action could be shown now, as the file says."""
    offer = catalogue.spec.offers[action.offer_id]
    placement = catalogue.spec.placements[action.placement_id]
    off = catalogue.spec.gates.off
    return (
        placement.fallback != action.offer_id
        and (offer.state == "approved" or "lifecycle" in off)
        and (not offer.moments or moment in offer.moments or "moments" in off)
        and (owned.issuperset(offer.requires) or "requires" in off)
        and (is_of(offer, placement.categories) or "room" in off)
    )


def is_of(offer: OfferSpec, categories: tuple[str, ...]) -> bool:
    return not categories or not set(categories).isdisjoint(offer.categories)


# --- Gates --------------------------------------------------------------------------


def test_an_offer_has_the_gates_that_it_names() -> None:
    catalogue = read(
        TEA
        + """
        start = 2026-12-01T00:00:00Z
        end = 2026-12-01T01:00:00.5Z
        eligible = "features.seats > 3.0"
        caps = [{ limit = 1, window = "1d" }, { limit = 100 }]
        dismissal_cool_down = "1d12h"
        """
    )

    start_ms = 1_796_083_200_000
    offer = catalogue.offers["tea"]
    assert (offer.start_ms, offer.end_ms) == (start_ms, start_ms + 3_600_500)
    assert Dates(start_ms=start_ms, end_ms=start_ms + 3_600_500) in offer.gates
    (dismissal,) = [gate for gate in offer.gates if isinstance(gate, Dismissal)]
    assert dismissal.cool_down_ms == 36 * 3_600_000
    caps = [gate.cap for gate in offer.gates if isinstance(gate, OfferCap)]
    assert [(cap.limit, cap.window_ms) for cap in caps] == [(1, DAY), (100, None)]
    assert any(isinstance(gate, Eligibility) for gate in offer.gates)


def test_offers_alike_have_the_same_gates_so_that_they_are_asked_once() -> None:
    rule = 'placements = ["home"]\neligible = "features.seats > 3.0"\n'
    other = rule.replace("3.0", "4.0")
    catalogue = read(
        f"{BASE}[offers.tea]\n{rule}[offers.jam]\n{rule}[offers.oats]\n{other}"
    )

    tea, jam, oats = (catalogue.offers[name] for name in ("tea", "jam", "oats"))

    assert tea.gates is jam.gates
    assert tea.gates != oats.gates


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(catalogue=shops.catalogues())
def test_everything_has_the_gates_that_its_own_facts_make(catalogue: Catalogue) -> None:
    spec = catalogue.spec

    def made(scope: str, **facts: Any) -> list[object]:
        asked = Facts(
            spec,
            lambda source: Rule(source, SAMPLES),
            lambda source: Expression(source, SAMPLES),
            **facts,
        )
        kinds = [kind for kind in GATES if kind.name not in spec.gates.off]
        return [
            plainly(gate)
            for kind in kinds
            if kind.scope == scope
            for gate in kind.of(asked)
        ]

    for offer_id, offer in spec.offers.items():
        gates = catalogue.offers[offer_id].every_gate
        assert plainly(gates) == made("offer", offer_id=offer_id, offer=offer)
    for action in catalogue.actions[NO_OFFER + 1 :]:
        offer = spec.offers[action.offer_id]
        gates = catalogue.action_gates.get(action.index, ())
        assert plainly(gates) == made(
            "action",
            offer_id=action.offer_id,
            offer=offer,
            placement_id=action.placement_id,
            placement=spec.placements[action.placement_id],
            creative_id=action.creative_id,
            creative=offer.creatives.get(action.creative_id, CreativeSpec()),
        )


SAMPLES: dict[str, FeatureValue] = {"seats": 1.0}


def plainly(value: object) -> object:
    """Return a value with the sources of rules in the place of what they compile to."""
    if isinstance(value, Rule | Expression):
        return value.source
    if isinstance(value, tuple):
        return [plainly(part) for part in value]
    if dataclasses.is_dataclass(value):
        fields = [field.name for field in dataclasses.fields(value)]
        return [type(value), *[plainly(getattr(value, name)) for name in fields]]
    return value


def test_a_gate_that_is_off_is_not_asked() -> None:
    text = TEA + 'caps = [{ limit = 1 }]\nmoments = ["renewal"]\n'
    off = 'gates = { off = ["offer_cap", "moments"] }\n' + text

    assert "offer_cap" in {gate.name for gate in read(text).offers["tea"].gates}
    assert read(text).candidates(["home"]) == []
    tea = read(off).offers["tea"]
    assert not {"offer_cap", "moments"} & {gate.name for gate in tea.every_gate}
    assert [a.offer_id for a in read(off).candidates(["home"])] == ["tea"]


def test_a_critical_offer_has_no_caps_to_be_asked_but_to_be_told() -> None:
    offer = read(TEA + 'caps = [{ limit = 1 }]\noverride = "critical"\n').offers["tea"]

    assert offer.critical
    assert "offer_cap" not in {gate.name for gate in offer.gates}
    assert "offer_cap" in {gate.name for gate in offer.every_gate}


def test_a_fallback_is_all_wordings_of_one_offer_at_one_place() -> None:
    catalogue = read(
        """
        [placements.home]
        fallback = "tea"
        [placements.till]
        [offers.tea]
        placements = ["home", "till"]
        [offers.tea.creatives.bold]
        [offers.tea.creatives.calm]
        """
    )

    names = [action.name for action in catalogue.placements["home"].fallback]
    assert names == ["tea/bold/home", "tea/calm/home"]
    assert catalogue.placements["till"].fallback == ()
    assert catalogue.candidates(["home"]) == []
    assert len(catalogue.candidates(["till"])) == 2


# --- What histories are to remember -------------------------------------------------


def test_what_was_chosen_is_remembered_as_it_is_now() -> None:
    catalogue = read(
        """
        provisioned_within = "3d"
        report_grace = "2m"
        [categories.hot]
        [products.pot]
        [products.cup]
        shared = false
        [placements.home]
        kind = "banner"
        sticky = "5m"
        [offers.tea]
        placements = ["home"]
        categories = ["hot"]
        grants = ["pot", "cup"]
        counted = false
        """
    )

    assert catalogue.chosen(catalogue.actions[1]) == Chosen(
        Subject("tea", "default", "home", ("hot",), 1.0),
        counted=False,
        grants=("pot", "cup"),
        shared=("pot",),
        pending_ms=3 * DAY,
        sticky_ms=300_000,
        grace_ms=120_000,
    )


@pytest.mark.parametrize(
    ("top", "offer", "days"),
    [
        ("", "", 35),
        ("", 'caps = [{ limit = 1, window = "40d" }]', 40),
        ("", 'caps = [{ limit = 1, calendar = "month" }]', 35),
        ('caps = [{ limit = 9, window = "50d" }]', "", 50),
        ('attention = { budget = 9, window = "36d" }', "", 36),
        ('spacing = { interruptive = "37d" }', "", 37),
        ('categories = { hot = { dismissals_window = "60d" } }', "", 60),
        ('categories = { hot = { cool_down = "90d" } }', "", 90),
    ],
)
def test_times_are_remembered_for_as_long_as_anything_counts(
    top: str, offer: str, days: int
) -> None:
    catalogue = read(f"{top}\n{TEA}{offer}\n")

    assert catalogue.memory.window_ms == days * DAY


@pytest.mark.parametrize(
    ("flag", "top", "offer", "flagged"),
    [
        ("decided", "", 'caps = [{ limit = 1, counts = "shown" }]', False),
        ("decided", "", 'caps = [{ limit = 1, counts = "decided" }]', True),
        ("wide", "", "caps = [{ limit = 1 }]", False),
        ("wide", "caps = [{ limit = 1 }]", "", True),
        ("wide", "categories = { hot = {} }", "", False),
        ("wide", "categories = { hot = {} }", 'categories = ["hot"]', True),
        ("wide", "attention = { budget = 9 }", "", True),
        ("wide", "fatigue = { ignored = 3 }", "", True),
        ("shared", "", "caps = [{ limit = 1 }]", False),
        ("shared", "", 'caps = [{ limit = 1, per = "account" }]', True),
        ("shared", "categories = { hot = { household = true } }", "", True),
        ("fine", "caps = [{ limit = 1 }]", "caps = [{ limit = 1 }]", False),
        ("fine", "", 'caps = [{ limit = 1, across = "placement" }]', True),
        ("fine", "", "creatives = { bold = { caps = [{ limit = 1 }] } }", True),
        ("fine", "categories = { hot = { caps = [{ limit = 1 }] } }", "", True),
        (
            "fine",
            'categories = { hot = { caps = [{ limit = 1, window = "1d" }] } }',
            "",
            False,
        ),
    ],
)
def test_only_what_anything_looks_at_need_be_remembered(
    flag: str, top: str, offer: str, flagged: bool
) -> None:
    catalogue = read(f"{top}\n{TEA}{offer}\n", linted=False)

    assert getattr(catalogue.memory, flag) is flagged


def test_a_cap_of_a_placement_looks_closer_than_the_same_cap_of_everything() -> None:
    cap = "caps = [{ limit = 1 }]\n"

    assert not read(cap + TEA).memory.fine
    assert read(
        cap + TEA.replace("[placements.till]\n", f"[placements.till]\n{cap}")
    ).memory.fine


def test_where_something_interrupts_what_was_shown_elsewhere_matters() -> None:
    quiet = 'spacing = { interruptive = "0s" }\n'
    banner = TEA.replace("[placements.home]", '[placements.home]\nkind = "banner"')

    assert read(banner).memory.wide
    assert not read(TEA).memory.wide
    assert not read(quiet + banner).memory.wide


# --- Inventories and budgets --------------------------------------------------------


def test_what_an_offer_needs_is_named_with_how_much_there_is() -> None:
    catalogue = read(
        """
        [budgets.spring]
        amount = 9000
        per_day = 500
        [budgets.fall]
        amount = 100
        [placements.home]
        [offers.tea]
        placements = ["home"]
        inventory = 7
        [offers.jam]
        placements = ["home"]
        price = 80
        list_price = 100
        discount = 20
        budget = "spring"
        [offers.oats]
        placements = ["home"]
        price = 50
        list_price = 80
        discount = 30
        budget = "spring"
        [offers.rice]
        placements = ["home"]
        [offers.nuts]
        placements = ["home"]
        price = 90
        list_price = 100
        discount = 10
        budget = "fall"
        """
    )
    tea, jam, oats, rice, nuts = catalogue.actions[1:]

    assert catalogue.supplied == {"tea", "jam", "oats", "nuts"}
    assert catalogue.needs([nuts], "2026-11-27") == {"budget:fall": (100, 10)}
    assert catalogue.needs([rice], "2026-11-27") == {}
    assert catalogue.needs([tea, rice, tea], "2026-11-27") == {"inventory:tea": (7, 1)}
    # Of what several take of, what the dearest takes.
    assert catalogue.needs([oats, jam], "2026-11-27") == {
        "budget:spring": (9_000, 30),
        "budget:spring:2026-11-27": (500, 30),
    }


# --- What is wrong ------------------------------------------------------------------


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
