from __future__ import annotations

from benchmarks.promises import MOMENT, OFFERS, Memory, Offer, catalogue_text
from policies import catalogue as catalogues

TEA = Offer(limit=2, window_s=10, cool_down_s=60)


def decided(memory: Memory, name: str, at_ms: int, *, offer: str = "tea") -> list[str]:
    return memory.decided(name, offer, at_ms=at_ms, until_ms=at_ms + 5_000, moment="")


def test_a_cap_that_is_kept_is_no_complaint() -> None:
    memory = Memory({"tea": TEA})
    assert decided(memory, "d1", 0) == []
    memory.shown("d1", at_ms=0)
    assert decided(memory, "d2", 1) == []
    memory.not_shown("d2")
    assert decided(memory, "d3", 2) == []
    assert decided(memory, "d4", 10_000) == []


def test_a_broken_cap_is_noticed_reservations_counting() -> None:
    memory = Memory({"tea": TEA})
    decided(memory, "d1", 0)
    memory.shown("d1", at_ms=1)
    decided(memory, "d2", 2)
    assert len(decided(memory, "d3", 3)) == 1


def test_an_offer_that_comes_back_within_its_cool_down_is_noticed() -> None:
    memory = Memory({"tea": TEA})
    decided(memory, "d1", 0)
    memory.shown("d1", at_ms=0)
    memory.dismissed("d1", at_ms=0)
    assert len(decided(memory, "d2", 59_999)) == 1
    assert decided(memory, "d3", 60_000) == []


def test_an_offer_outside_its_moment_is_noticed() -> None:
    memory = Memory({"tea": TEA._replace(moment_only=True)})
    assert len(decided(memory, "d1", 0)) == 1
    assert memory.decided("d2", "tea", at_ms=0, until_ms=5_000, moment=MOMENT) == []


def test_the_catalogue_makes_the_promises_that_are_checked() -> None:
    catalogue = catalogues.read(catalogue_text())
    assert catalogue.offers.keys() == OFFERS.keys()
