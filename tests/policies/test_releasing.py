"""Releases: which model serves after what was published, promoted or rolled back."""

from __future__ import annotations

import pytest

from policies.releasing import (
    Model,
    Release,
    ReleaseError,
    held,
    model_of,
    name_of,
    promoted,
    published,
    rolled_back,
    state_of,
)
from policies.sharing import place_of


def publish(
    release: Release | None,
    model: Model | None,
    at_ms: int = 0,
    *,
    automatic: bool = True,
    canary: float = 0.0,
) -> Release | None:
    return published(
        release,
        model,
        at_ms=at_ms,
        automatic=automatic,
        canary=canary,
        canary_for_ms=100,
    )


def test_what_is_published_serves_and_what_served_before_is_remembered() -> None:
    first = publish(None, (1, 10), 5)
    assert first is not None
    assert (first.serving, first.previous, first.at_ms) == ((1, 10), None, 5)

    second = publish(first, (1, 20), 6)

    assert second is not None
    assert (second.serving, second.previous) == ((1, 20), (1, 10))
    assert publish(None, None) is None
    assert publish(second, None) == second


def test_what_is_published_again_was_served_by_what_served_before_it() -> None:
    release = publish(publish(None, (1, 10)), (1, 20))

    again = publish(release, (1, 20), 7)

    assert again is not None
    assert (again.serving, again.previous) == ((1, 20), (1, 10))


@pytest.mark.parametrize("canary", [0.0, 0.1])
def test_what_is_published_is_only_staged_where_somebody_has_to_promote_it(
    canary: float,
) -> None:
    release = Release((1, 10))

    for held_one in (Release((1, 10), held=True), held(release)):
        assert publish(held_one, (1, 20), canary=canary) is held_one
    assert publish(release, (1, 20), automatic=False, canary=canary) is release
    assert publish(None, (1, 20), automatic=False, canary=canary) is None
    assert state_of((1, 20), release) == "staged"
    assert state_of((1, 20), None) == "staged"


def test_a_canary_serves_the_first_users_and_then_all() -> None:
    # Given a model that serves
    release = publish(None, (1, 10), canary=0.1)
    assert release is not None
    assert release.canary is None

    # When others are published, the first of them is the canary until its time is over
    for position, at_ms, serving, canary in [
        (20, 0, 10, 20),
        (30, 50, 10, 20),
        (40, 99, 10, 20),
        (50, 100, 20, 50),
        (60, 150, 20, 50),
    ]:
        release = publish(release, (1, position), at_ms, canary=0.1)
        assert release is not None
        assert (release.serving, release.canary) == ((1, serving), (1, canary))
    assert state_of((1, 50), release) == "canary"

    # Then it serves all when its time is over, though no other is published
    assert publish(release, None, 199, canary=0.1) == release
    release = publish(release, None, 200, canary=0.1)
    assert release is not None
    assert (release.serving, release.canary) == ((1, 50), None)
    assert publish(release, None, 900, canary=0.1) == release


def test_a_rolled_back_model_stays_out_until_one_is_promoted() -> None:
    # Given a model that serves after another
    release = publish(publish(None, (1, 10)), (1, 20))

    # When it is rolled back, and others are published
    back = rolled_back(release, None)
    later = publish(back, (1, 30))

    # Then the one before serves, until one is promoted
    assert later == back
    assert (back.serving, back.previous) == ((1, 10), (1, 20))
    kept = promoted((1, 20), back, follow=False)
    assert publish(kept, (1, 40)) == kept
    assert kept.previous == (1, 10)
    follows = promoted((1, 30), back, follow=True)
    after = publish(follows, (1, 40))
    assert after is not None
    assert after.serving == (1, 40)


def test_to_promote_what_serves_keeps_what_served_before() -> None:
    release = Release((1, 20), held=True, previous=(1, 10))

    assert promoted((1, 20), release, follow=True).previous == (1, 10)
    assert promoted((1, 20), None, follow=True) == Release((1, 20))


def test_one_can_roll_back_to_a_certain_model_and_not_to_none() -> None:
    release = Release((1, 20))

    assert rolled_back(release, (1, 5)).serving == (1, 5)
    with pytest.raises(ReleaseError, match="no model served before"):
        rolled_back(release, None)
    with pytest.raises(ReleaseError, match="no model serves yet"):
        rolled_back(None, None)


@pytest.mark.parametrize("name", ["", "1", "1.", ".1", "a.1", "1.b", "-1.2", "1.2.3"])
def test_a_wrong_name_of_a_model_is_refused(name: str) -> None:
    with pytest.raises(ReleaseError, match=r"EPOCH\.POSITION"):
        model_of(name)


def test_a_model_is_known_by_its_name() -> None:
    assert model_of(name_of((3, 400))) == (3, 400)


def test_a_share_of_users_is_about_that_share_and_independent_of_other_shares() -> None:
    roots = [f"user-{number}" for number in range(10_000)]

    canary = {root for root in roots if place_of(root, "canary") < 0.2}
    others = {root for root in roots if place_of(root, "challengers") < 0.5}

    assert 1_880 < len(canary) < 2_120
    assert 880 < len(canary & others) < 1_120
