from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress

from benchmarks import gated, gates
from benchmarks.gates import CASES, Sizes, gates_of, measure
from policies import catalogue as catalogues
from policies.catalogue import Catalogue
from policies.engine import eligible
from policies.gates import GATES, Gate, Sentiment

SMALL = [Sizes(10, 10), Sizes(60, 50, 9)]


def made(sizes: Sizes) -> Catalogue:
    offers, candidates, placements = sizes
    text = gated.catalogue_text(offers, candidates=candidates, placements=placements)
    return catalogues.read(text)


def asked_here(catalogue: Catalogue) -> set[type[Gate]]:
    """Return the kinds of gates of what a user can be shown."""
    candidates = catalogue.candidates(
        gated.PLACEMENTS, moment="limit_near", owned=["core"]
    )
    every: list[Gate] = []
    for placement_id in gated.PLACEMENTS:
        every += catalogue.placements[placement_id].gates
    for action in candidates:
        every += catalogue.offers[action.offer_id].gates
        every += catalogue.action_gates.get(action.index, ())
    return {type(gate) for gate in every if not gate.indexed}


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    cases = dict.fromkeys(CASES, SMALL[0])
    with Progress(disable=True) as progress:
        return measure(progress, rounds=1, cases=cases, users=30, asked=5)


@pytest.mark.parametrize("sizes", SMALL)
def test_the_catalogue_is_as_large_as_it_is_said_to_be(sizes: Sizes) -> None:
    catalogue = made(sizes)
    (asked,) = gated.opportunities(1, seed=1)
    found = catalogue.candidates(
        asked.placements, moment=asked.context.moment.kind, owned=["core"]
    )

    assert len(catalogue.offers) == sizes.offers
    assert len(catalogue.placements) == sizes.placements
    assert len(found) == sizes.candidates


@pytest.mark.parametrize("sizes", SMALL)
def test_the_catalogue_has_every_kind_of_gate(sizes: Sizes) -> None:
    # What waits after a complaint is either all offers or those with a price.
    assert gates_of(made(sizes)) == {*GATES} - {Sentiment}


@pytest.mark.parametrize("sizes", SMALL)
def test_every_kind_that_the_index_leaves_is_asked_of_the_candidates(
    sizes: Sizes,
) -> None:
    left = {kind for kind in GATES if not kind.indexed}

    assert asked_here(made(sizes)) == left - {Sentiment}


def test_a_year_of_use_leaves_offers_to_choose_from() -> None:
    catalogue = made(SMALL[1])
    past = gated.past_of_a_year(catalogue, seed=3)

    for opportunity in gated.opportunities(20, seed=1):
        actions, _ = eligible(opportunity, catalogue, past)
        assert 10 < len(actions) < 50


def test_a_year_of_use_is_two_offers_shown_a_week_and_the_same_each_time() -> None:
    catalogue = made(SMALL[1])
    past = gated.past_of_a_year(catalogue, seed=3)
    shown = [track.tallies["shown"] for track in past.history.tracks]

    assert sum(len(tally.times) + tally.past for tally in shown) == 104
    assert past == gated.past_of_a_year(catalogue, seed=3)


def test_what_was_measured_is_under_the_keys_that_others_read(
    result: dict[str, Any],
) -> None:
    assert result["median_us"].keys() == {
        "actions_50",
        "actions_1000",
        "catalogue_10",
        "catalogue_1000",
        "catalogue_10000",
    }
    assert all(us > 0 for us in result["median_us"].values())
    assert result["users_ratio_1e6_1e3"] > 0
    assert result["history_bytes_year"] > 1_000


def test_what_was_measured_can_be_shown(result: dict[str, Any]) -> None:
    console = Console(width=100, file=io.StringIO())
    for table in gates.tables(result):
        console.print(table)

    assert isinstance(console.file, io.StringIO)
    assert "its gates" in console.file.getvalue()
