"""The contract of stores towards who runs the server, kept by every kind of URL."""

from __future__ import annotations

import pytest

from server.stores.base import Activation, AdminStore, ServingStore, Switch
from server.stores.opening import open_admin
from tests.contracts.stores import decision, put

WHY = {"who": "ada", "reason": "because"}


async def test_nothing_is_stopped_at_first(
    store: ServingStore, admin: AdminStore
) -> None:
    assert await store.stopped() == ()
    assert admin.switches() == []


async def test_what_is_stopped_is_stopped_for_all_until_it_is_resumed(
    store: ServingStore, other: ServingStore, admin: AdminStore
) -> None:
    for scope in ("offer:tea", "all", "category:drinks"):
        admin.stop(scope, at_ms=1, **WHY)
    for one in (store, other):
        assert await one.stopped() == ("all", "category:drinks", "offer:tea")

    admin.resume("all", at_ms=2, **WHY)
    assert await store.stopped() == ("category:drinks", "offer:tea")

    admin.stop("all", at_ms=3, **WHY)
    assert await other.stopped() == ("all", "category:drinks", "offer:tea")


async def test_to_stop_twice_is_to_stop_and_to_resume_once_is_enough(
    store: ServingStore, admin: AdminStore
) -> None:
    admin.stop("all", at_ms=1, **WHY)
    admin.stop("all", at_ms=2, **WHY)
    admin.resume("all", at_ms=3, **WHY)

    assert await store.stopped() == ()


def test_of_every_scope_it_is_known_who_did_what_last_and_why(
    admin: AdminStore,
) -> None:
    admin.stop("offer:tea", who="ada", reason="recall", at_ms=1)
    admin.stop("all", who="bob", reason="fire", at_ms=2)
    admin.resume("offer:tea", who="eve", reason="checked", at_ms=3)

    assert admin.switches() == [
        Switch("all", stopped=True, at_ms=2, who="bob", reason="fire"),
        Switch("offer:tea", stopped=False, at_ms=3, who="eve", reason="checked"),
    ]
    assert admin.switches()[0].stopped is True


async def test_the_policies_that_served_are_known_the_latest_first(
    store: ServingStore, admin: AdminStore
) -> None:
    for version in ("b", "a", "b"):
        await store.register(("catalogue", ""), (version, f"settings of {version}"))

    assert admin.policies()[:2] == ["settings of a", "settings of b"]


async def test_no_catalogue_is_active_at_first(
    store: ServingStore, admin: AdminStore
) -> None:
    assert await store.active_catalogue() == admin.active_catalogue() == (0, "")
    assert admin.activations(10) == []


async def test_a_catalogue_that_is_activated_holds_for_all(
    store: ServingStore, other: ServingStore, admin: AdminStore
) -> None:
    first = admin.activate("v", "text", at_ms=1, diff="+ tea", **WHY)
    second = admin.activate("w", "more", at_ms=2, diff="+ jam", **WHY)

    assert 0 < first < second
    for one in (store, other):
        assert await one.active_catalogue() == (second, "w")
        assert await one.catalogue("v") == "text"
        assert await one.catalogue("w") == "more"
    assert admin.active_catalogue() == (second, "w")
    assert admin.catalogue("w") == "more"
    assert admin.catalogue("x") is None


async def test_to_go_back_is_to_activate_what_held_before(
    store: ServingStore, admin: AdminStore
) -> None:
    admin.activate("v", "text", at_ms=1, diff="", **WHY)
    admin.activate("w", "more", at_ms=2, diff="", **WHY)

    again = admin.activate("v", "text", at_ms=3, diff="- jam", **WHY)

    assert await store.active_catalogue() == (again, "v")


async def test_a_catalogue_that_is_refused_changes_nothing(
    store: ServingStore, admin: AdminStore
) -> None:
    position = admin.activate("v", "text", at_ms=1, diff="", **WHY)

    admin.refuse("w", at_ms=2, diff="- tea", problems="no tea", **WHY)

    assert await store.active_catalogue() == (position, "v")
    assert await store.catalogue("w") is None


def test_of_every_try_it_is_known_who_made_it_and_what_became_of_it(
    admin: AdminStore,
) -> None:
    positions = [
        admin.activate("v", "text", at_ms=1, who="ada", reason="new", diff="+ tea"),
        admin.refuse(
            "w", at_ms=2, who="bob", reason="less", diff="- tea", problems="no tea"
        ),
        admin.activate("x", "more", at_ms=3, who="eve", reason="jam", diff="+ jam"),
    ]
    made = [
        Activation(
            positions[0], "v", 1, "ada", "new", "", "+ tea", accepted=True, problems=""
        ),
        Activation(
            positions[1],
            *("w", 2, "bob", "less", "v", "- tea"),
            accepted=False,
            problems="no tea",
        ),
        Activation(
            positions[2], "x", 3, "eve", "jam", "v", "+ jam", accepted=True, problems=""
        ),
    ]

    assert admin.activations(10) == made[::-1]
    assert admin.activations(2) == made[:0:-1]


async def test_a_catalogue_in_use_is_not_changed_by_activating_it(
    store: ServingStore, admin: AdminStore
) -> None:
    await store.register(("v", "text"), ("p", "{}"))

    admin.activate("v", "other", at_ms=1, diff="", **WHY)

    assert await store.catalogue("v") == "text"


async def test_the_latest_decisions_are_found_by_their_time(
    store: ServingStore, admin: AdminStore
) -> None:
    made = [decision(request=str(at_ms), at_ms=at_ms) for at_ms in (1, 2, 3, 4)]
    for one in made:
        await put(store, one)

    assert admin.decisions_since(2, 10) == made[:0:-1]
    assert admin.decisions_since(2, 2) == made[:1:-1]
    assert admin.decisions_since(5, 10) == []


def test_what_cannot_be_stored_leaves_nothing(url: str, admin: AdminStore) -> None:
    with pytest.raises(Exception, match=r"."):
        admin.activate("v", "text", at_ms="soon", diff="", **WHY)  # type: ignore[arg-type] # It fails.

    again = open_admin(url)
    assert again.active_catalogue() == (0, "")
    assert again.catalogue("v") is None
    again.close()
