"""Catalogues: their actions, the candidates, and what histories are to remember."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.catalogue import Catalogue, read
from policies.history import Chosen
from policies.model import NO_OFFER, Action, Subject
from policies.specs import OfferSpec
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


def test_an_offer_is_like_the_same_wording_at_the_same_place_where_there_is_one() -> (
    None
):
    catalogue = read(
        BASE
        + """
        [offers.tea]
        placements = ["home", "till"]
        like = "old"
        [offers.tea.creatives.bold]
        [offers.tea.creatives.calm]
        [offers.mint]
        placements = ["till"]
        like = "tea"
        like_doubt = 0.5
        [offers.mint.creatives.calm]
        [offers.lime]
        placements = ["home"]
        like = "mint"
        [offers.old]
        placements = ["home"]
        state = "archived"
        """
    )

    like = {a.name: a.like for a in catalogue.actions if a.like}
    assert like == {
        "tea/bold/home": ("old/default/home",),
        "tea/bold/till": ("old/default/home",),
        "tea/calm/home": ("old/default/home",),
        "tea/calm/till": ("old/default/home",),
        "mint/calm/till": ("tea/calm/till", "old/default/home"),
        "lime/default/home": ("mint/calm/till", "tea/calm/till", "old/default/home"),
    }
    assert {a.offer_id: a.doubt for a in catalogue.actions} == {
        "": 0.0,
        "tea": 0.1,
        "mint": 0.5,
        "lime": 0.1,
        "old": 0.0,
    }


def test_an_offer_has_the_names_that_what_it_is_like_has_with_others_in_common() -> (
    None
):
    catalogue = read(
        BASE
        + """
        [offers.tea]
        placements = ["home", "till"]
        [offers.mint]
        placements = ["home"]
        like = "tea"
        """
    )

    mint = catalogue.actions[-1]
    assert mint.features == (("placement=home", 1.0), ("offer=tea", 1.0))


def test_a_circle_that_nobody_linted_has_an_end() -> None:
    text = BASE + '[offers.a]\nplacements = ["home"]\nlike = "b"\n'
    text += '[offers.b]\nplacements = ["home"]\nlike = "a"\n'

    catalogue = read(text, linted=False)

    assert [action.like for action in catalogue.actions[1:]] == [
        ("b/default/home",),
        ("a/default/home",),
    ]


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
        and offer.state == "approved"
        and (not offer.moments or moment in offer.moments or "moments" in off)
        and (owned.issuperset(offer.requires) or "requires" in off)
        and (is_of(offer, placement.categories) or "room" in off)
    )


def is_of(offer: OfferSpec, categories: tuple[str, ...]) -> bool:
    return not categories or not set(categories).isdisjoint(offer.categories)


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
