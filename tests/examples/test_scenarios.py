"""The scenarios: each is played against a real server, and holds every case it must.

What a scenario shows is in its own files. Here is the list of what must be shown.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from examples.scenarios.playing import play
from examples.scenarios.script import (
    FOLDER,
    Expect,
    Scenario,
    names,
    read_scenario,
)
from policies.errors import FileError

ROOT = Path(__file__).parents[2]

COMPANIES = {
    "bought_together": "Amazon",
    "adjacent_product": "Notion",
    "demonstrated_need": "Dropbox",
    "precision": "HubSpot",
    "middle_bundle": "Adobe",
    "free_team_limit": "Slack",
    "small_steps": "Netflix",
    "pay_for_use": "AWS",
    "running_out": "Zapier",
    "commitment": "Salesforce",
    "human_touch": "Intercom",
    "household": "Spotify",
}
"""Whose pattern it is; the two scenarios that are not here are for all of them."""

OFFERED = {
    "bought_together": ["cable with a television", "batteries with electronics"],
    "adjacent_product": ["projects rank above AI"],
    "demonstrated_need": [
        "near the storage limit",
        "blocked at the limit",
        "shares a lot",
        "photo backup is on",
    ],
    "precision": ["small and basic", "large and advanced"],
    "middle_bundle": ["three slots in order"],
    "free_team_limit": [
        "administrator at the limit",
        "ask an administrator",
        "higher tier",
    ],
    "small_steps": ["basic to standard", "standard to premium"],
    "pay_for_use": ["inline saving"],
    "running_out": ["runs out in two days", "higher tier"],
    "commitment": ["monthly to annual", "annual to multi-year"],
    "human_touch": ["flag and milestone"],
    "household": ["three of a household"],
    "conflicts": [],
    "manners": [],
}
"""The cases in which there is an offer, and none once the user is held back."""

HELD_BACK = {
    "bought_together": [
        "preselected is refused",
        "already in the cart",
        "checkout is not interrupted",
    ],
    "adjacent_product": ["new user", "enterprise is a jump"],
    "demonstrated_need": ["no need", "dismissed yesterday"],
    "precision": ["enterprise offer to a start-up", "half the shows"],
    "middle_bundle": ["owns a member", "anchor is for sale", "never in two slots"],
    "free_team_limit": [
        "role without billing",
        "one price for the account",
        "800 messages",
    ],
    "small_steps": ["three weeks in", "basic to premium", "declined twice"],
    "pay_for_use": [
        "never modal",
        "no upsell of metered products",
        "incident",
        "spike alarm",
        "median interruptions",
    ],
    "running_out": ["reset tomorrow", "one-off bulk run", "automation is failing"],
    "commitment": [
        "payment failed",
        "support escalation",
        "11 months left",
        "budget exhausted",
        "margin floor",
    ],
    "human_touch": [
        "mailed within three days",
        "open conversation with support",
        "two weeks after",
    ],
    "household": ["single listener", "free in the first week", "a member dismissed"],
    "conflicts": ["onboarding", "support", "urgency"],
    "manners": [
        "snooze",
        "hide",
        "frequency cap",
        "dismissals are remembered",
        "preferences",
        "active section",
        "sentiment",
    ],
}
"""The cases in which there is none, or not that one, or only this often."""

FOUND_OUT = {
    "adjacent_product": ["no adjacent problem"],
    "precision": ["segments differ after learning", "enterprise offer to a start-up"],
    "middle_bundle": ["reward goes to the slot", "bundle wins for photographers"],
    "pay_for_use": ["median interruptions"],
    "running_out": ["reward scales with usage"],
    "commitment": ["would convert anyway"],
    "household": ["accepted and cancelled", "retention of 90 days"],
    "manners": ["success moments", "attribution"],
}
"""The cases in which it is learned, or counted, what was worth something."""

NOT_YET = {"manners": ["value of customers", "expansion", "tests"]}
"""The cases that wait for a ledger, or for experiments."""


@pytest.mark.parametrize("name", names())
async def test_what_comes_is_what_the_script_expects(name: str, tmp_path: Path) -> None:
    rows = await play(read_scenario(name), tmp_path)

    assert {row.title: row.misses for row in rows if row.misses} == {}


def test_there_are_all_scenarios() -> None:
    assert set(names()) == {*COMPANIES, "conflicts", "manners"}
    for name, company in COMPANIES.items():
        assert read_scenario(name).script.company == company


@pytest.mark.parametrize("name", names())
def test_every_case_with_an_offer_is_held_back_once_as_well(name: str) -> None:
    guarded = {step.case for step in read_scenario(name).script.step if step.guards}

    assert guarded.issuperset(OFFERED[name])


@pytest.mark.parametrize("name", names())
def test_every_case_without_an_offer_is_there(name: str) -> None:
    assert read_scenario(name).script.checked.issuperset(HELD_BACK[name])


@pytest.mark.parametrize("name", FOUND_OUT)
def test_every_case_that_is_found_out_is_there(name: str) -> None:
    assert read_scenario(name).script.checked.issuperset(FOUND_OUT[name])


@pytest.mark.parametrize("name", names())
def test_what_waits_is_said_to_wait(name: str) -> None:
    later = {entry.case for entry in read_scenario(name).script.later}

    assert later == set(NOT_YET.get(name, ()))


@pytest.mark.parametrize(
    "page", ["examples/scenarios/README.md", "docs/how-to/scenarios.md"]
)
def test_every_scenario_is_in_the_lists(page: str) -> None:
    text = (ROOT / page).read_text()

    for name in names():
        assert f"`{name}`" in text
        assert COMPANIES.get(name, name) in text


async def test_an_offer_that_does_not_come_is_noticed(tmp_path: Path) -> None:
    scenario = changed("bought_together", expect=Expect(offer="batteries"))
    (row,) = await play(scenario, tmp_path)

    assert row.misses == ("hdmi_cable came, not batteries",)


async def test_an_offer_that_comes_is_noticed(tmp_path: Path) -> None:
    scenario = changed("bought_together", expect=Expect(silence="ALREADY_OWNED"))
    (row,) = await play(scenario, tmp_path)

    assert row.misses == ("hdmi_cable came, not nothing",)


async def test_another_reason_is_noticed(tmp_path: Path) -> None:
    why_not = {"batteries": "ALREADY_OWNED", "hdmi_cable": "DISMISSED"}
    expect = Expect(offer="hdmi_cable", why_not=why_not)
    (row,) = await play(changed("bought_together", expect=expect), tmp_path)

    assert row.misses == (
        "batteries is held back by NOT_COMPLEMENTARY, not ALREADY_OWNED",
        "hdmi_cable is held back by nothing, not DISMISSED",
    )


async def test_a_user_who_is_not_held_back_is_noticed(tmp_path: Path) -> None:
    scenario = changed("bought_together", guards=True)
    text = scenario.catalogue.replace("limit = 1,", "limit = 20,")
    text = text.replace("limit = 3,", "limit = 60,")
    scenario = msgspec.structs.replace(scenario, catalogue=text)
    _, row = await play(scenario, tmp_path)

    assert row.misses == ("cap: hdmi_cable came all the same",)


async def test_a_reward_that_is_not_earned_is_noticed(tmp_path: Path) -> None:
    expect = Expect(offer="hdmi_cable", earned={"hdmi_cable": 1.0})
    (row,) = await play(changed("bought_together", expect=expect), tmp_path)

    assert row.misses == ("earned by hdmi_cable: none, not 1",)


async def test_a_sale_that_is_not_counted_is_noticed(tmp_path: Path) -> None:
    expect = Expect(offer="hdmi_cable", sold={"hdmi_cable": {"kind": "accepted"}})
    (row,) = await play(changed("bought_together", expect=expect), tmp_path)

    assert row.misses == ("kind of hdmi_cable: None, not accepted",)


async def test_what_is_not_learned_is_noticed(tmp_path: Path) -> None:
    scenario = read_scenario("adjacent_product")
    (learning,) = scenario.script.learning
    few = msgspec.structs.replace(learning, asks=10)
    script = msgspec.structs.replace(scenario.script, step=(), learning=(few,))
    rows = await play(msgspec.structs.replace(scenario, script=script), tmp_path)

    missed = [row.misses for row in rows if row.misses]
    assert ("not projects above 0.9",) in missed


async def test_a_year_with_too_few_offers_is_noticed(tmp_path: Path) -> None:
    scenario = read_scenario("pay_for_use")
    year = scenario.script.year
    assert year is not None
    few = msgspec.structs.replace(year, users=1, every=90 * 86_400_000, offers=9)
    script = msgspec.structs.replace(scenario.script, step=(), end=None, year=few)
    scenario = msgspec.structs.replace(scenario, script=script)
    (row,) = [row for row in await play(scenario, tmp_path) if row.asked == "1 users"]

    assert row.misses == ("not 9 offers or more",)


async def test_a_catalogue_that_is_not_refused_is_noticed(tmp_path: Path) -> None:
    scenario = read_scenario("bought_together")
    refused = msgspec.structs.replace(scenario.script.refused[0], add="")
    script = msgspec.structs.replace(scenario.script, step=(), refused=(refused,))
    scenario = msgspec.structs.replace(scenario, script=script)
    (row,) = await play(scenario, tmp_path)

    assert row.misses == ("the catalogue is taken as it is",)


def test_a_script_that_says_what_is_not_known_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tea").mkdir()
    (tmp_path / "tea" / "catalogue.toml").write_text("")
    (tmp_path / "tea" / "script.toml").write_text(
        'company = "us"\npattern = "tea"\n'
        '\n[[step]]\ntitle = "Tea?"\ncase = "tea"\nasks = 1\n'
    )
    with pytest.raises(FileError, match=r"line 7: step\.0\.asks: is not known"):
        read_scenario("tea", tmp_path)


def test_the_runner_shows_what_comes_and_what_waits() -> None:
    ended = run("manners")

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "FREQUENCY_CAP" in ended.stdout
    assert "to be completed with the ledger" in ended.stdout
    assert "0 not as expected" in ended.stdout


def test_the_runner_knows_its_scenarios() -> None:
    ended = run("no_such_thing")

    assert ended.returncode == 1
    assert "there is no no_such_thing" in ended.stdout
    assert "bought_together" in ended.stdout


def changed(name: str, **fields: object) -> Scenario:
    """Return a scenario of the first step alone, with something else in it."""
    scenario = read_scenario(name)
    fields = {"guards": False} | fields
    step = msgspec.structs.replace(scenario.script.step[0], **fields)
    script = msgspec.structs.replace(
        scenario.script, step=(step,), refused=(), learning=(), year=None
    )
    return msgspec.structs.replace(scenario, script=script)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
