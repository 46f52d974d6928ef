"""The table of revenue: what was bought, for how much, and by which decision."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from policies.model import Decision, Moment, Money, Outcome
from policies.revenue import Revenue
from policies.rewards import RewardSettings
from policies.toml import Duration
from server import accounting
from server.__main__ import app
from server.stores.opening import open_admin
from tests.server.till import DAY_MS, MINUTE_MS, NOON_MS, Till

CATALOGUE = """
currency = "USD"

[placements.list]
[placements.popup]
kind = "modal"

[offers.tea]
placements = ["list", "popup"]
campaign = "spring"
tags = ["hot", "green"]
price = 900
list_price = 1200
discount = 300
margin = 200
"""


@pytest.fixture
def till(tmp_path: Path) -> Till:
    rewards = RewardSettings(rates={"EUR": 1.1}, attribution=Duration(7 * DAY_MS))
    return Till(tmp_path / "opportune.db", rewards, catalogue=CATALOGUE)


def table(till: Till, since_ms: int = 0) -> list[Revenue]:
    admin = open_admin(till.url)
    rows = list(accounting.revenue(admin, till.rewards, since_ms=since_ms))
    admin.close()
    return rows


def shown_and_bought(
    till: Till, order: str, shown_ms: int, bought_ms: int, user: str = "ada"
) -> Decision:
    decision = till.decide(user_id=user)
    outcomes = [
        Outcome("s", "shown", NOON_MS + shown_ms),
        Outcome(order, "accepted", NOON_MS + bought_ms),
    ]
    till.report((decision, outcomes))
    return decision


def name_of(decision: Decision) -> str:
    return decision.opportunity.decision_id


def test_what_was_accepted_carries_all_there_is_to_say(till: Till) -> None:
    # Given an offer at a moment, accepted as the catalogue prices it
    decision = till.decide("tea", "popup")
    moment = Moment("limit_hit")
    opportunity = msgspec.structs.replace(
        decision.opportunity,
        context=msgspec.structs.replace(decision.opportunity.context, moment=moment),
    )
    decision = msgspec.structs.replace(decision, opportunity=opportunity)
    till.report((decision, till.said("shown", "clicked", "accepted")))

    (row,) = table(till)

    assert row == Revenue(
        at_ms=NOON_MS + 2_000,
        kind="accepted",
        decision_id=name_of(decision),
        outcome_id="accepted",
        user_id="ada",
        account_id="",
        offer_id="tea",
        creative_id="default",
        placement_id="popup",
        moment="limit_hit",
        campaign="spring",
        tags=("hot", "green"),
        currency="USD",
        list_price=1200,
        discount=300,
        revenue=900,
        margin=200,
        reported=False,
        shown_ms=NOON_MS,
        claims=1,
        tied=False,
        credited=True,
    )


def test_what_was_reported_goes_before_the_catalogue_in_its_currency(
    till: Till,
) -> None:
    decision = till.decide()
    paid = Outcome(
        "order-1",
        "accepted",
        NOON_MS + 1,
        revenue=Money("EUR", 1_000),
        margin=Money("GBP", 100),
    )
    till.report((decision, [*till.said("shown"), paid]))

    (row,) = table(till)

    assert row.reported
    assert row.revenue == pytest.approx(1_100)
    assert row.margin is None, "nobody knows what a pound is worth"
    assert (row.list_price, row.discount) == (1200, 300)


def test_a_refund_is_taken_from_who_had_the_credit(till: Till) -> None:
    decision = till.sold("shown", "accepted")
    till.now_ms += 9 * DAY_MS
    back = Outcome("back", "refunded", till.now_ms, revenue=Money("USD", 900))
    till.report((decision, [back]))

    bought, refunded = table(till)

    assert (bought.revenue, refunded.revenue) == (900, -900)
    assert (bought.credited, refunded.credited) == (True, True)
    assert table(till, since_ms=till.now_ms) == [refunded]


def test_a_refund_that_does_not_say_how_much_gives_back_what_was_asked(
    till: Till,
) -> None:
    # Given something accepted and refunded, of neither of which an amount is reported
    till.sold("shown", "accepted", "refunded")

    # When the table is made
    bought, refunded = table(till)

    # Then what was earned is given back, as it is for the learner
    assert (bought.revenue, bought.margin) == (900, 200)
    assert (refunded.revenue, refunded.margin) == (-900, -200)
    assert (refunded.list_price, refunded.discount) == (None, None)


def test_of_several_that_claim_a_purchase_the_last_that_was_shown_has_it(
    till: Till,
) -> None:
    # Given three decisions that claim one order, one of which was shown after it
    early = shown_and_bought(till, "order-1", 0, 5 * MINUTE_MS)
    late = shown_and_bought(till, "order-1", 3 * MINUTE_MS, 5 * MINUTE_MS)
    after = shown_and_bought(till, "order-1", 6 * MINUTE_MS, 5 * MINUTE_MS)
    other = shown_and_bought(till, "order-2", MINUTE_MS, 4 * MINUTE_MS)
    stranger = shown_and_bought(till, "order-1", MINUTE_MS, 5 * MINUTE_MS, user="bob")

    rows = {row.decision_id: row for row in table(till)}

    # Then each purchase is credited once
    credited = {name for name, row in rows.items() if row.credited}
    assert credited == {name_of(late), name_of(other), name_of(stranger)}
    assert [rows[name_of(d)].claims for d in (early, late, after)] == [3, 3, 3]
    assert rows[name_of(other)].claims == 1
    assert rows[name_of(after)].shown_ms is None
    assert not any(row.tied for row in rows.values())


def test_ties_are_told_and_one_of_them_has_it(till: Till) -> None:
    pair = [shown_and_bought(till, "order-1", 0, MINUTE_MS) for _ in range(2)]

    rows = table(till)

    assert [row.tied for row in rows] == [True, True]
    (credited,) = [row.decision_id for row in rows if row.credited]
    assert credited == min(map(name_of, pair))


@pytest.mark.parametrize(
    ("shown_ms", "bought_ms", "credited"),
    [(0, 7 * DAY_MS, True), (0, 7 * DAY_MS + 1, False), (2, 1, False)],
)
def test_what_was_not_shown_in_time_has_no_credit(
    till: Till, shown_ms: int, bought_ms: int, credited: bool
) -> None:
    shown_and_bought(till, "order-1", shown_ms, bought_ms)

    (row,) = table(till)

    assert (row.credited, row.revenue) == (credited, 900)


def test_the_same_name_long_after_is_another_purchase(till: Till) -> None:
    shown_and_bought(till, "order", 0, MINUTE_MS)
    shown_and_bought(till, "order", 8 * DAY_MS, 8 * DAY_MS + MINUTE_MS)

    assert [(row.claims, row.credited) for row in table(till)] == [(1, True)] * 2


def test_what_converts_has_the_revenue_that_was_reported_and_silence_no_credit(
    till: Till,
) -> None:
    silence, offer = till.decide(""), till.decide()
    for decision in (silence, offer):
        paid = Outcome("goal", "converted", NOON_MS + 1, revenue=Money("USD", 50))
        till.report((decision, [*till.said("shown"), paid]))
    till.report((offer, till.said("converted")))

    rows = table(till)

    told = [(row.offer_id, row.revenue, row.credited) for row in rows]
    assert sorted(told, key=str) == [
        ("", 50, False),
        ("tea", 50, True),
        ("tea", None, True),
    ]


def test_more_decisions_than_are_read_at_once(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.stores.sqlite.admin._READ", 3)
    decisions = [till.decide(user_id=f"user-{n % 4}") for n in range(11)]
    till.report(*((d, till.said("shown", "accepted")) for d in decisions))

    assert {row.decision_id for row in table(till)} == set(map(name_of, decisions))


def test_the_command_writes_csv_or_json(till: Till, tmp_path: Path) -> None:
    till.sold("shown", "accepted")
    settings = tmp_path / "settings.toml"
    settings.write_text('[store]\nurl = "sqlite:///opportune.db"\n')
    run = ["revenue", "--settings", str(settings)]

    printed = CliRunner().invoke(app, run)
    as_json = CliRunner().invoke(app, [*run, "--json"])
    out = tmp_path / "revenue.csv"
    CliRunner().invoke(app, [*run, "--out", str(out), "--since", "2020-01-01"])
    later = CliRunner().invoke(app, [*run, "--since", "2099-01-01"])

    (row,) = csv.DictReader(io.StringIO(printed.stdout))
    assert (row["campaign"], row["tags"], row["credited"]) == (
        "spring",
        "hot green",
        "1",
    )
    assert (row["list_price"], row["discount"], row["revenue"]) == (
        "1200",
        "300",
        "900",
    )
    assert json.loads(as_json.stdout)["margin"] == 200
    assert out.read_text() == printed.stdout
    assert len(later.stdout.splitlines()) == 1


DISCOUNTED = (
    CATALOGUE
    + """
[offers.tea_full]
placements = ["list"]
price = 1200
margin = 500
like = "tea"
"""
)


def test_the_command_says_what_discounts_were_worth(tmp_path: Path) -> None:
    # Given a discount that two of four took who could have been shown the full price
    till = Till(tmp_path / "opportune.db", catalogue=DISCOUNTED)
    for number in range(8):
        offer_id = ("tea", "tea_full")[number % 2]
        decision = till.decide(offer_id, user_id=f"user-{number}")
        names = [a.name for a in till.catalogue.actions]
        places = ("tea/default/list", "tea_full/default/list")
        decision = msgspec.structs.replace(
            decision,
            actions=(0, *map(names.index, places)),
            probabilities=(200_000_000, 400_000_000, 400_000_000),
        )
        kinds = ("shown", "accepted") if number % 4 < 2 else ("shown",)
        till.report((decision, till.said(*kinds)))
    settings = tmp_path / "settings.toml"
    settings.write_text('[store]\nurl = "sqlite:///opportune.db"\n')
    run = ["discounts", "--settings", str(settings)]

    # When it is asked for, as a table, as JSON, and since never
    printed = CliRunner(env={"COLUMNS": "120"}).invoke(app, run)
    as_json = CliRunner().invoke(app, [*run, "--json"])
    later = CliRunner().invoke(app, [*run, "--json", "--since", "2099-01-01"])

    # Then it says so
    row = json.loads(as_json.stdout)
    assert (row["offer_id"], row["instead"], row["shown"]) == ("tea", ["tea_full"], 4)
    assert (row["given"], row["wasted"]["value"], row["share"]["value"]) == (
        600,
        600,
        1,
    )
    assert row["gained"]["value"] == 2 * 200 - 2 * 500
    assert "100%" in printed.stdout
    assert "100 are needed" in printed.stdout
    assert "minor units of USD" in printed.stdout

    # And in a narrow window all of it, too
    narrow = CliRunner(env={"COLUMNS": "50"}).invoke(app, run)
    assert "…" not in narrow.stdout
    assert later.stdout == ""
    later = CliRunner().invoke(app, [*run, "--since", "2099-01-01"])
    assert later.stdout.startswith("no discount was shown")
