"""Nobody is offered what they have; what goes with what they have, they may be."""

from __future__ import annotations

from policies.gates.base import Because, Ruling
from policies.gates.ownership import Complements, Owned, Requires
from policies.model import Context, History, State
from policies.specs import OfferSpec
from tests.policies.gates import kit
from tests.policies.gates.kit import DAY, HOUR, NOW

OWNED = Ruling("ALREADY_OWNED")
PAIR = ("photoshop", "lightroom")
HDMI = OfferSpec(kind="cross_sell", grants=("hdmi",), complements=("tv",))
SUITE = OfferSpec(kind="bundle", grants=PAIR)
CREDITED = OfferSpec(kind="bundle", grants=PAIR, credit=True)
PACK = OfferSpec(kind="add_on", grants=PAIR)


def about_to_have(**pending: int) -> History:
    return History(state=State(pending=pending))


def test_an_offer_that_gives_requires_and_complements_nothing_has_no_such_gates() -> (
    None
):
    for kind in (Owned, Requires, Complements):
        assert not kit.gates(kind, OfferSpec())


def test_amazon_offers_hdmi_to_who_has_a_tv_or_is_buying_one() -> None:
    owned, goes_with = kit.gate(Owned, HDMI), kit.gate(Complements, HDMI)
    having = kit.moment(history=kit.having("tv"))
    buying = kit.moment(Context(cart=("tv",)))
    bought = kit.moment(history=about_to_have(tv=NOW + DAY))

    for situation in (having, buying, bought):
        assert owned.reject(kit.ACTION, situation) is None
        assert goes_with.reject(kit.ACTION, situation) is None


def test_amazon_offers_no_hdmi_to_who_has_it_in_the_cart() -> None:
    gate = kit.gate(Owned, HDMI)
    cart = kit.moment(Context(cart=("tv", "hdmi", "tv", "hdmi")))

    assert gate.reject(kit.ACTION, cart) == OWNED
    assert gate.because(kit.ACTION, cart) == Because("hdmi in the cart", "not hdmi")


def test_amazon_offers_no_hdmi_to_who_has_nothing_it_goes_with() -> None:
    gate = kit.gate(Complements, HDMI)
    unrelated = kit.moment(Context(cart=("book",)), history=kit.having("radio"))

    for situation in (kit.moment(), unrelated):
        assert gate.reject(kit.ACTION, situation) == Ruling("NOT_COMPLEMENTARY")
    assert gate.because(kit.ACTION, unrelated) == Because(
        "the user has nothing that it goes with", "tv, owned, pending or in the cart"
    )


def test_one_complement_is_enough() -> None:
    gate = kit.gate(Complements, OfferSpec(complements=("tv", "monitor")))

    assert kit.reason(gate, kit.moment(history=kit.having("monitor"))) == ""
    needed = gate.because(kit.ACTION, kit.moment()).needed
    assert needed == "one of tv, monitor, owned, pending or in the cart"


def test_what_the_user_or_the_account_has_is_not_offered() -> None:
    gate = kit.gate(Owned, HDMI)
    mine, ours = kit.having("hdmi"), kit.having("hdmi")

    assert gate.reject(kit.ACTION, kit.moment(history=mine)) == OWNED
    assert gate.reject(kit.ACTION, kit.moment(account=ours)) == OWNED
    assert gate.because(kit.ACTION, kit.moment(history=mine)) == Because(
        "hdmi owned since 1970-01-01 00:00:00 UTC", "not hdmi"
    )


def test_what_is_about_to_be_had_is_not_offered_while_that_is_believed() -> None:
    gate = kit.gate(Owned, HDMI)
    pending = kit.moment(history=about_to_have(hdmi=NOW + HOUR))
    ran_out = kit.moment(history=about_to_have(hdmi=NOW))

    ruling = gate.reject(kit.ACTION, pending)
    assert ruling == Ruling("PENDING_PURCHASE", NOW + HOUR)
    found = gate.because(kit.ACTION, pending).found
    assert found == "hdmi pending until 1972-09-27 01:00:00 UTC"
    assert gate.reject(kit.ACTION, ran_out) is None


def test_what_has_arrived_is_owned_even_if_it_is_still_pending() -> None:
    arrived = kit.having("hdmi", pending={"hdmi": NOW + HOUR})
    in_cart = kit.moment(Context(cart=("hdmi",)), history=about_to_have(hdmi=NOW + 1))

    gate = kit.gate(Owned, HDMI)

    assert gate.reject(kit.ACTION, kit.moment(history=arrived)) == OWNED
    assert gate.reject(kit.ACTION, in_cart) == OWNED


def test_an_offer_of_several_products_is_shown_to_who_lacks_one() -> None:
    gate = kit.gate(Owned, PACK)
    part, whole = kit.having("photoshop"), kit.having(*PAIR)

    assert kit.reason(gate, kit.moment(history=part)) == ""
    assert kit.reason(gate, kit.moment(history=whole)) == "ALREADY_OWNED"
    assert gate.because(kit.ACTION, kit.moment(history=whole)).needed == (
        "not all of photoshop, lightroom"
    )


def test_several_products_are_had_if_some_are_owned_and_some_in_the_cart() -> None:
    both = kit.moment(Context(cart=("lightroom",)), history=kit.having("photoshop"))

    assert kit.gate(Owned, PACK).reject(kit.ACTION, both) == OWNED


def test_several_products_are_pending_until_the_first_is_not_believed_to_come() -> None:
    gate = kit.gate(Owned, PACK)
    two = about_to_have(photoshop=NOW + DAY, lightroom=NOW + HOUR)
    one = about_to_have(photoshop=NOW + DAY)
    rest = kit.having("photoshop", pending={"lightroom": NOW + HOUR, "tv": NOW + 1})

    for history in (two, rest):
        ruling = gate.reject(kit.ACTION, kit.moment(history=history))
        assert ruling == Ruling("PENDING_PURCHASE", NOW + HOUR)
    assert gate.reject(kit.ACTION, kit.moment(history=one)) is None


def test_adobe_sells_no_bundle_to_who_has_one_of_it() -> None:
    gate = kit.gate(Owned, SUITE)
    part = kit.moment(history=kit.having("lightroom"))

    assert gate.reject(kit.ACTION, kit.moment(history=kit.having("tv"))) is None
    assert gate.reject(kit.ACTION, part) == OWNED
    assert gate.because(kit.ACTION, part) == Because(
        "lightroom owned since 1970-01-01 00:00:00 UTC",
        "none of photoshop, lightroom",
    )


def test_adobe_sells_a_bundle_with_credit_to_who_lacks_one_of_it() -> None:
    gate = kit.gate(Owned, CREDITED)

    assert kit.reason(gate, kit.moment(history=kit.having("lightroom"))) == ""
    assert kit.reason(gate, kit.moment(history=kit.having(*PAIR))) == "ALREADY_OWNED"


def test_a_bundle_waits_until_nothing_of_it_is_believed_to_come() -> None:
    gate = kit.gate(Owned, SUITE)
    coming = about_to_have(photoshop=NOW + DAY, lightroom=NOW + HOUR)

    ruling = gate.reject(kit.ACTION, kit.moment(history=coming))

    assert ruling == Ruling("PENDING_PURCHASE", NOW + DAY)
    other = about_to_have(tv=NOW + DAY)
    assert gate.reject(kit.ACTION, kit.moment(history=other)) is None


def test_what_an_offer_builds_on_must_be_there_already() -> None:
    gate = kit.gate(Requires, OfferSpec(requires=("docs", "wiki")))
    part = kit.having("docs")
    coming = kit.having("docs", pending={"wiki": NOW + DAY})

    assert kit.reason(gate, kit.moment(history=kit.having("wiki", "docs"))) == ""
    assert kit.reason(gate, kit.moment(history=part, account=kit.having("wiki"))) == ""
    for situation in (
        kit.moment(history=part),
        kit.moment(history=coming),
        kit.moment(Context(cart=("wiki",)), history=part),
    ):
        assert gate.reject(kit.ACTION, situation) == Ruling("REQUIREMENT_MISSING")
    assert gate.because(kit.ACTION, kit.moment(history=part)) == Because(
        "the user does not have wiki", "all of docs, wiki"
    )


def test_one_requirement_is_told_by_its_name() -> None:
    gate = kit.gate(Requires, OfferSpec(requires=("docs",)))

    assert gate.because(kit.ACTION, kit.moment()) == Because(
        "the user does not have docs", "docs"
    )
