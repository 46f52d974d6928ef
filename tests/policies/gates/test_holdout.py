"""The holdout: the same share of users always sees nothing."""

from __future__ import annotations

from policies.gates.base import Because, Ruling
from policies.gates.holdout import Holdout
from policies.specs import CatalogueSpec, HoldoutSpec
from tests.policies.gates.pasts import TEA, action, ask, gates

USERS = [f"user{n}" for n in range(5_000)]


def held_out(share: float, salt: str = "holdout") -> set[str]:
    (gate,) = gates(Holdout, CatalogueSpec(holdout=HoldoutSpec(share, salt)))
    return {user for user in USERS if gate.reject(TEA, ask(0, user=user)) is not None}


def test_as_many_are_held_out_as_the_catalogue_says() -> None:
    assert 0.04 < len(held_out(0.05)) / len(USERS) < 0.06
    assert 0.48 < len(held_out(0.5)) / len(USERS) < 0.52
    assert len(held_out(1.0)) == len(USERS)


def test_who_is_held_out_never_changes() -> None:
    assert held_out(0.001) == {"user3130", "user3157", "user3530"}
    (gate,) = gates(Holdout, CatalogueSpec(holdout=HoldoutSpec(1.0)))
    asked = ask(10**12, user="ada")
    assert gate.reject(action("jam", "bold", "banner"), asked) == Ruling("HOLDOUT")


def test_a_larger_share_holds_those_of_a_smaller_one_out_too() -> None:
    assert held_out(0.05) < held_out(0.1) < held_out(0.9)


def test_another_salt_holds_others_out() -> None:
    both = held_out(0.5, "spring") & held_out(0.5, "autumn")

    assert 0.22 < len(both) / len(USERS) < 0.28


def test_a_salt_may_be_of_any_length() -> None:
    assert held_out(0.1, "")
    assert held_out(0.1, "ß" * 100)


def test_no_share_is_no_gate() -> None:
    assert not gates(Holdout, CatalogueSpec())


def test_critical_offers_do_not_go_past_it() -> None:
    assert not Holdout.bypassed


def test_it_says_so() -> None:
    (gate,) = gates(Holdout, CatalogueSpec(holdout=HoldoutSpec(0.05)))

    assert gate.because(TEA, ask(0)) == Because(
        "user ada is among the 5 % that are held out", "a user who is not held out"
    )
