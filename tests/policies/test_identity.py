"""Ids of decisions: the same for a retry, different for all else, for ever."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.identity import decision_id, is_decision_id, root_key, root_of

names = st.text(max_size=5)


def test_an_id_is_the_same_for_ever() -> None:
    root = root_key("shop", "", "ada")

    assert root == "d1a4027154a1f520"
    assert decision_id(root, "ada", "1") == root + "d18ca091e3c1fbfe0ef1"
    assert decision_id(root, "ada", "1", 1) == root + "e3d134355d061451d67f"


@given(names, names, names, names, st.integers(0, 19))
def test_an_id_is_one_and_carries_its_root(
    tenant: str, account: str, user: str, request: str, slot: int
) -> None:
    root = root_key(tenant, account, user)
    made = decision_id(root, user, request, slot)

    assert is_decision_id(made)
    assert root_of(made) == root
    assert made == decision_id(root_key(tenant, account, user), user, request, slot)


def test_no_two_decisions_share_an_id() -> None:
    # Among them such as are alike when written one after the other.
    parts = ["", "a", "ab", "\0", "a\0b", "user", "account", "1"]
    different = [
        (tenant, account, user, request)
        for tenant, account, user, request in itertools.product(parts, repeat=4)
        if account or user
    ]

    made = {
        decision_id(root_key(tenant, account, user), user, request, slot)
        for tenant, account, user, request in different
        for slot in (0, 1, 11)
    }

    assert len(made) == 3 * len(different)


def test_the_first_decision_of_a_request_is_named_as_the_only_one() -> None:
    root = root_key("shop", "", "ada")

    assert decision_id(root, "ada", "1", 0) == decision_id(root, "ada", "1")


def test_users_of_an_account_share_its_root() -> None:
    assert root_key("shop", "acme", "ada") == root_key("shop", "acme", "bob")
    assert root_key("shop", "acme", "ada") != root_key("shop", "", "ada")
    assert root_key("shop", "acme", "ada") != root_key("shop", "", "acme")
    assert root_key("shop", "acme", "ada") != root_key("other", "acme", "ada")


@pytest.mark.parametrize(
    "text", ["", "0" * 35, "0" * 37, "g" * 36, "A" * 36, "0" * 35 + "\n", "٠" * 36]
)
def test_what_cannot_be_an_id_is_known(text: str) -> None:
    assert not is_decision_id(text)
