"""Worlds: the truth is true, users are the same under every policy, and time counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from policies.model import NO_OFFER, FloatArray
from policies.policy import EpsilonGreedy, LinUCBSettings, PolicySettings
from simulator import Parts, evaluate
from simulator.__main__ import app
from simulator.simulating import Player, Simulated, player, simulate
from simulator.sweeping import seeds_of, settings_of, sweep
from simulator.worlds import World, WorldError, presets, read_world
from simulator.worlds.people import uniform

SCENARIOS = sorted(
    (Path(__file__).parents[2] / "examples" / "scenarios").glob("*/catalogue.toml")
)
CATALOGUE = """
currency = "EUR"
valid_for = "10m"

[features.seats]
type = "number"
range = [0, 10]

[products.small]
limit = 100
[products.large]
limit = 1000
price = 200

[ladders.room]
rungs = ["small", "large"]
usage = "room"

[spacing]
interruptive = "0s"

[placements.modal]
kind = "modal"

[categories.room]
[categories.jams]

[offers.more]
placements = ["modal"]
categories = ["room"]
grants = ["large"]
price = 200

[offers.jam]
placements = ["modal"]
categories = ["jams"]
dismissal_cool_down = "1h"
"""
WORLD = """
catalogue = "catalogue.toml"
users = 40
days = 10

[[asks]]
placements = ["modal"]

[segments.all]
visits_per_day = 2
worth_per_day = 10
owns = ["small"]
features.seats = { between = [0, 10] }
usage.room = { limit = 100, start = [0.5, 1.0], per_day = [0.05, 0.05] }
needs = { jam = 0.5 }

[moments.limit_hit]
usage = "room"
from_share = 1.0

[answers]
accept = -1.5
dismiss = -1.0
opt_out = -4.0

[[tastes]]
offer = "jam"
needed = true
log_odds = 1.5

[[tastes]]
offer = "jam"
when = ["seats"]
log_odds = -1.0

[[tastes]]
offer = "more"
when = ["moment=limit_hit"]
log_odds = 2.0
"""
LEARNING = PolicySettings(LinUCBSettings(dim=16), EpsilonGreedy(epsilon=0.2))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """The world as it is, played by chance."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "catalogue.toml").write_text(CATALOGUE)
    return simulate(world(folder), player("uniform"), users=60)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The folder of a world, its file and its catalogue."""
    (tmp_path / "catalogue.toml").write_text(CATALOGUE)
    (tmp_path / "world.toml").write_text(WORLD)
    return tmp_path


def world(folder: Path, more: str = "", seed: int = 0, **changes: Any) -> World:
    (folder / "world.toml").write_text(WORLD + more)
    keyed = {key.replace("__", "."): value for key, value in changes.items()}
    return read_world(folder / "world.toml", seed, keyed)


def play(place: World, name: str = "uniform", **arguments: Any) -> Simulated:
    return simulate(place, player(name), estimates=False, **arguments)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


# --- The truth --------------------------------------------------------------------


def chosen_truth(played: Simulated) -> FloatArray:
    log = played.log
    rows = np.repeat(np.arange(len(log)), np.diff(log.offsets))
    found: FloatArray = played.truth[log.actions == log.chosen[rows]]
    return found


@pytest.mark.parametrize(
    "more",
    [
        "[fatigue]\naccept = 0.3\ndismiss = 0.3\nopt_out = 0.2\n",
        '[delays]\nshare = 0.5\nlongest = "5d"\n[refunds]\nshare = 0.4\n',
        '[rewards]\noutcomes = { accepted = { money = "price" } }\ndefault = -0.1\n',
    ],
    ids=["fatigue", "delays and refunds", "money"],
)
def test_rewards_are_on_average_what_the_truth_says(
    made: Path, plain: Simulated, more: str
) -> None:
    for played in (plain, play(world(made, more), users=30)):
        _check_rewards(played)


def _check_rewards(played: Simulated) -> None:
    off = played.log.rewards - chosen_truth(played)
    error = off.std() / np.sqrt(len(off))

    assert len(off) > 400
    assert abs(off.mean()) < 3.5 * error
    assert played.result.figures.reward == pytest.approx(played.log.rewards.mean())


def test_estimates_from_the_log_are_near_the_truth(plain: Simulated) -> None:
    result = plain.result

    assert {(e.policy, e.estimator) for e in result.estimates} == {
        ("uniform", "snips"),
        ("uniform", "dr"),
        ("best", "snips"),
    }
    for each in result.estimates:
        assert each.low is not None
        assert each.high is not None
        assert each.low <= each.truth <= each.high
        assert each.error == pytest.approx((each.value or 0.0) - each.truth)


def test_the_log_can_be_evaluated_as_any_other(plain: Simulated) -> None:
    found = evaluate(Parts([plain.log]), ["logged", "fixed:jam"], estimators=["snips"])

    assert found.of("logged").value == pytest.approx(plain.result.figures.reward)


def test_the_oracle_regrets_nothing_and_silence_bothers_nobody(made: Path) -> None:
    place = world(made, churn__per_day=0.0)
    oracle, silent, uniform = (
        play(place, name, users=15).result.figures
        for name in ("oracle", "silent", "uniform")
    )

    assert oracle.regret == 0.0
    assert oracle.expected > uniform.expected
    assert (silent.shown, silent.expected, silent.trust) == (0, 0.0, 1.0)
    assert silent.value == pytest.approx(100.0)


def test_a_need_a_feature_and_a_moment_make_an_accept_likelier(made: Path) -> None:
    place = world(made)
    jam, more = (
        next(a for a in place.catalogue.actions if a.offer_id == name)
        for name in ("jam", "more")
    )
    users = [place.person(number) for number in range(40)]
    needing = next(user for user in users if user.needs)
    other = next(user for user in users if not user.needs)
    found = {}
    for name, someone, seats in (
        ("few", needing, 0.0),
        ("many", needing, 10.0),
        ("no need", other, 0.0),
    ):
        user = someone._replace(features={"seats": seats})
        visit = next(place.visits(user, place.start_ms + 10**10))
        mood = place.mood(user)
        context = place.opportunity(user, visit, mood, "d").context
        found[name] = place.answers(user, mood, context, jam, visit.at_ms).accepted
        full = msgspec.structs.replace(
            context, moment=msgspec.structs.replace(context.moment, kind="limit_hit")
        )
        assert (
            place.answers(user, mood, full, more, visit.at_ms).accepted
            > place.answers(
                user,
                mood,
                msgspec.structs.replace(
                    context, moment=msgspec.structs.replace(context.moment, kind="")
                ),
                more,
                visit.at_ms,
            ).accepted
        )

    assert found["few"] == pytest.approx(0.5)
    assert found["many"] == pytest.approx(1 / (1 + np.e))
    assert found["no need"] == pytest.approx(1 / (1 + np.exp(1.5)))


# --- The users --------------------------------------------------------------------


def test_the_same_users_come_at_the_same_times_under_every_policy(made: Path) -> None:
    place = world(made, churn__per_day=0.0)

    one, other = (
        play(place, name, users=12, days=4).log for name in ("uniform", "silent")
    )

    assert one.ids == other.ids
    assert one.times_ms.tolist() == other.times_ms.tolist()
    again = play(world(made, churn__per_day=0.0), users=12, days=4).log
    assert again.rewards.tolist() == one.rewards.tolist()
    elsewhere = play(world(made, seed=1), users=5, days=1).log
    assert not set(elsewhere.ids) & set(one.ids)


def test_more_users_do_not_change_those_who_are_there(made: Path) -> None:
    place = world(made)

    few, many = play(place, users=5).log, play(place, users=10).log

    rewards = dict(zip(many.ids, many.rewards.tolist(), strict=True))
    assert [rewards[name] for name in few.ids] == few.rewards.tolist()


def test_who_is_pushed_accepts_less_and_leaves(made: Path) -> None:
    tired = (
        "[fatigue]\naccept = 0.6\ndismiss = 0.5\n[churn]\nper_day = 0.002\n"
        "annoyance = 1.5\nfatigue = 0.3\n"
    )
    calm, tiring = (
        play(world(made, more), users=25).result.figures
        for more in ("[churn]\nper_day = 0.002\n", tired)
    )

    assert tiring.accepts / tiring.shown < calm.accepts / calm.shown
    assert tiring.dismissals / tiring.shown > calm.dismissals / calm.shown
    assert tiring.churned > calm.churned + 0.2
    silent = play(world(made, tired), "silent", users=25).result.figures
    assert silent.churned < 0.1


def test_usage_grows_to_the_limit_and_past_it_once_there_is_more(made: Path) -> None:
    place = world(made)
    user = place.person(3)
    mood = place.mood(user)
    shares = []
    for visit in place.visits(user, place.start_ms + 20 * 86_400_000):
        usage = place.opportunity(user, visit, mood, "d").context.usage["room"]
        assert usage.limit == 100.0
        shares.append(usage.value / usage.limit)

    assert shares == sorted(shares)
    assert shares[0] < 1.0
    assert shares[-1] == 1.0
    mood.owned.add("large")
    larger = place.opportunity(user, visit, mood, "d").context.usage["room"]
    assert larger.limit == 1_000.0
    assert larger.value > 100.0


def test_what_was_bought_is_owned_and_not_offered_again(made: Path) -> None:
    played = play(world(made, answers__accept=1.0), "oracle", users=15)
    log = played.log
    more = next(i for i, a in enumerate(log.vocabulary) if a.offer_id == "more")
    bought: set[int] = set()
    for row in range(len(log)):
        key = int(log.keys[row])
        eligible = log.actions[log.offsets[row] : log.offsets[row + 1]]
        assert not (key in bought and more in eligible)
        if log.chosen[row] == more and log.objectives["accepted"][row]:
            bought.add(key)

    assert bought


def test_an_accept_that_comes_late_counts_and_nobody_decides_twice(made: Path) -> None:
    late = '[delays]\nshare = 1.0\nmean = "3d"\nlongest = "5d"\n'
    soon, later = (
        play(world(made, more, answers__accept=0.0), users=15) for more in ("", late)
    )

    assert later.result.figures.accepts > 0
    accepted = later.log.objectives["accepted"].astype(bool)
    assert later.log.rewards[accepted].min() == pytest.approx(0.97)
    assert later.result.figures.accepts < soon.result.figures.accepts


def test_features_change_with_time_within_their_range(made: Path) -> None:
    older = "features.seats = { between = [8, 8], per_day = 0.5 }"
    (made / "world.toml").write_text(
        WORLD.replace("features.seats = { between = [0, 10] }", older)
    )
    place = read_world(made / "world.toml")
    user = place.person(3)

    contexts = [
        place.opportunity(user, visit, place.mood(user), "d").context
        for visit in place.visits(user, place.start_ms + 20 * 86_400_000)
    ]
    seats = [float(context.features["seats"]) for context in contexts]

    assert seats == sorted(seats)
    assert 8.0 < seats[0] < 9.0
    assert seats[-1] == 10.0


def test_use_goes_on_beyond_a_limit_where_nothing_stops_it(made: Path) -> None:
    place = world(made, segments__all__usage__room__stops=False)
    user = place.person(3)
    *_, last = place.visits(user, place.start_ms + 40 * 86_400_000)

    usage = place.opportunity(user, last, place.mood(user), "d").context.usage["room"]

    assert usage.limit == 100.0
    assert usage.value > 150.0


def test_only_who_may_buy_or_is_ready_is_offered_what_is_for_them(made: Path) -> None:
    text = CATALOGUE.replace(
        'categories = ["jams"]',
        'categories = ["jams"]\neligible = "\'keen\' in states"',
    )
    (made / "catalogue.toml").write_text(f'buyers = ["owner"]\n{text}')
    place = world(
        made, segments__all__role="guest", segments__all__states={"keen": 0.5}
    )
    keen = {n for n in range(20) if place.person(n).states}
    assert 0 < len(keen) < 20
    for role, sold in (("owner", {"more"}), ("guest", set())):
        log = play(
            world(made, segments__all__role=role, segments__all__states={"keen": 0.5}),
            users=20,
            days=5,
        ).log
        jams = 0
        for row in range(len(log)):
            codes = log.actions[log.offsets[row] : log.offsets[row + 1]]
            offers = {log.vocabulary[code].offer_id for code in codes}
            assert offers - {"", "jam"} <= sold
            jams += "jam" in offers
        assert 0 < jams < len(log)


SUPPLIES = {
    "inventory": 'inventory = 5\nhold = "1h"',
    "budget": 'list_price = 260\ndiscount = 60\nbudget = "spring"\nhold = "1h"',
}


@pytest.mark.parametrize("supply", SUPPLIES)
def test_no_more_is_accepted_than_there_is(made: Path, supply: str) -> None:
    limited = f'categories = ["room"]\n{SUPPLIES[supply]}'
    text = CATALOGUE.replace('categories = ["room"]', limited)
    if supply == "budget":
        text += "\n[budgets.spring]\namount = 300\n"
    (made / "catalogue.toml").write_text(text)

    played = play(world(made, '[refunds]\nshare = 0.3\nafter = "1d"\n'), users=30)

    log = played.log
    more = next(i for i, a in enumerate(log.vocabulary) if a.offer_id == "more")
    taken = log.objectives["accepted"][log.chosen == more]
    given_back = log.objectives["refunded"][log.chosen == more]
    assert taken.sum() - given_back.sum() == 5
    late = log.times_ms > log.times_ms.max() - 86_400_000
    rows = np.repeat(np.arange(len(log)), np.diff(log.offsets))
    assert not (log.actions[late[rows]] == more).any()


def test_drift_begins_on_its_day(made: Path) -> None:
    drift = '[[tastes]]\noffer = "jam"\nfrom_day = 5\nlog_odds = 10.0\n'
    by_day = play(world(made, drift), "uniform", users=20).result.by_day

    before = np.mean([day.expected for day in by_day[:5]])
    after = np.mean([day.expected for day in by_day[5:]])
    assert after > before + 0.2
    assert [day.day for day in by_day] == list(range(10))


# --- Learning ---------------------------------------------------------------------


def test_a_policy_that_learns_regrets_less_than_chance(made: Path) -> None:
    place = world(made, answers__dismiss=2.0)
    learning = simulate(place, Player("learning", LEARNING), users=30, estimates=False)
    chance = play(place, "uniform", users=30)

    later = slice(5, 10)
    assert sum(d.regret for d in learning.result.by_day[later]) < 0.7 * sum(
        d.regret for d in chance.result.by_day[later]
    )


def test_what_was_learned_decides_at_intervals_only(made: Path) -> None:
    plain = PolicySettings(LinUCBSettings(dim=16, alpha=0.0), LEARNING.exploration)
    hourly, never = (
        simulate(
            world(made, publish=publish),
            Player("p", plain),
            users=20,
            days=2,
            estimates=False,
        )
        for publish in ("1h", "30d")
    )

    assert hourly.log.propensities.tolist() != never.log.propensities.tolist()
    sizes = np.diff(never.log.offsets)
    greedy = never.log.propensities > 0.5
    # Nothing was learned: where there are several offers, they are all alike.
    assert not greedy[sizes > 2].any()


# --- Files and commands -----------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fatigue__half_life": "0s"}, "fatigue.half_life: half_life must be above 0"),
        ({"answers__accept": 99.0}, "answers.accept: accept must be -30 to 30, not 99"),
        ({"fatigues": 1}, "fatigues: is not known"),
        ({"asks": []}, "asks: asks must be at least one"),
        (
            {"segments__all__visits_per_day": 0.0},
            "visits_per_day must be above 0, not 0",
        ),
        ({"segments__all__needs": {"tea": 0.1}}, "the catalogue has no offer 'tea'"),
        ({"segments__all__features": {"age": {"chance": 0.5}}}, "no feature 'age'"),
        ({"segments__all__features": {"seats": {}}}, "between, among or chance"),
        (
            {"delays__share": 0.5, "delays__longest": "200d"},
            "delays.longest: must be at most the wait and late of rewards",
        ),
        ({"catalogue": "nowhere.toml"}, "nowhere.toml"),
    ],
)
def test_a_world_that_is_wrong_is_refused_with_key_and_range(
    made: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(WorldError) as caught:
        world(made, **changes)

    assert said in str(caught.value)


def test_placements_that_keep_to_a_decision_are_refused(made: Path) -> None:
    sticky = CATALOGUE.replace('kind = "modal"', 'kind = "modal"\nsticky = "5m"')
    (made / "catalogue.toml").write_text(sticky)

    with pytest.raises(WorldError, match=r"placements\.modal\.sticky"):
        read_world(made / "world.toml")


def test_every_scenario_is_a_world_of_its_own_catalogue() -> None:
    assert {path.parent.name for path in SCENARIOS} <= set(presets())
    for path in SCENARIOS:
        place = read_world(path.parent.name)
        assert place.catalogue.text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", presets())
def test_in_every_preset_there_is_something_to_learn(name: str) -> None:
    place = read_world(name)

    played = play(place, "oracle", users=15, days=8)

    assert place.spec.description
    uniform = play(place, users=15, days=8).result.figures
    oracle = played.result.figures
    assert oracle.shown > 0 or name == "silence"
    assert oracle.expected > 0.0 or name == "silence"
    assert oracle.regret == 0.0 < uniform.regret
    if name == "silence":
        guided = {"", "guide"}
        chosen = {played.log.vocabulary[code].offer_id for code in played.log.chosen}
        assert chosen <= guided


def test_the_command_prints_a_table_and_writes_json_and_a_log(made: Path) -> None:
    said = run(
        *("simulate", made / "world.toml", "-p", "uniform", "-p", "idle=silent"),
        *("--users", "40", "--days", "3", "--seed", "3"),
        *("--json", made / "out.json", "--out", made / "log.parquet"),
    )

    assert said.exit_code == 0, said.output
    assert "World world, seed 3: 40 users, 3 days" in said.output
    assert "idle" in said.output
    assert "interruptions a user" in said.output
    first, second = json.loads((made / "out.json").read_text())
    assert first["format"] == "opportune.simulation.v1"
    assert (first["policy"], second["policy"], first["seed"]) == ("uniform", "idle", 3)
    assert first["figures"]["decisions"] > 60
    evaluated = run("evaluate", made / "log.parquet", "-p", "logged")
    assert evaluated.exit_code == 0, evaluated.output
    assert f"{first['figures']['reward']:.4f}"[:5] in evaluated.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "adjacent_product, bought_together, calm, commitment"),
        (["calm", "-p", "nothing.toml"], "no settings file 'nothing.toml': default"),
    ],
)
def test_what_is_not_there_is_named(arguments: list[str], said: str) -> None:
    result = run("simulate", *arguments)

    assert result.exit_code == 2
    assert said in result.output.replace("\n", " ")


# --- Sweeps -----------------------------------------------------------------------


def test_a_sweep_pairs_seeds_so_that_differences_are_known_better(made: Path) -> None:
    found = sweep(
        str(made / "world.toml"),
        [player("uniform"), player("silent")],
        seeds=(0, 1, 2),
        users=8,
        days=3,
    )

    first, second = found.variants
    assert first.more["expected"].mean == 0.0
    assert second.more["expected"].high < 0.0
    mean, more = second.figures["value"], second.more["value"]
    assert more.mean == pytest.approx(mean.mean - first.figures["value"].mean)
    assert mean.low <= mean.mean <= mean.high


def test_a_sweep_sets_what_it_is_told_to_set(made: Path) -> None:
    said = run(
        *("sweep", made / "world.toml", "-p", "uniform", "--seeds", "0,1"),
        *("--set", "policy.exploration.epsilon=1.0,0.0"),
        *("--set", "world.answers.accept=-8.0"),
        *("--users", "10", "--days", "2", "--json", made / "sweep.json"),
    )

    assert said.exit_code == 0, said.output
    assert "more than" in said.output
    found = json.loads((made / "sweep.json").read_text())
    assert found["seeds"] == [0, 1]
    one, other = found["variants"]
    assert one["settings"] == {
        "policy.exploration.epsilon": 1.0,
        "world.answers.accept": -8.0,
    }
    assert one["figures"]["accepts"]["mean"] <= 1.0
    assert other["figures"]["decisions"] == one["figures"]["decisions"]
    assert other["figures"]["shown"] != one["figures"]["shown"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["epsilon=1"], "--set is written like"),
        (["policy.exploration.epsilon=2"], "epsilon"),
        (["policy.nothing=1"], "nothing"),
        (["world.answers.accept=99"], "must be -30 to 30"),
    ],
)
def test_a_sweep_of_what_cannot_be_set_is_refused(
    made: Path, settings: list[str], said: str
) -> None:
    with pytest.raises(WorldError, match=said):
        sweep(
            str(made / "world.toml"),
            [player("uniform")],
            seeds=(0, 1),
            settings=settings_of(settings),
            users=2,
            days=1,
        )


def test_seeds_must_be_two_or_more() -> None:
    with pytest.raises(WorldError, match="two seeds or more"):
        seeds_of("4")
    with pytest.raises(WorldError, match="written like"):
        seeds_of("a-b")


def test_draws_are_even() -> None:
    drawn = np.array([uniform(0, number, "what") for number in range(4_000)])

    counts, _ = np.histogram(drawn, bins=10, range=(0.0, 1.0))
    assert ((counts - 400.0) ** 2 / 400.0).sum() < 28  # χ², 9 degrees of freedom.


def test_silence_is_an_action_of_every_decision(plain: Simulated) -> None:
    log = plain.log
    silent = next(i for i, a in enumerate(log.vocabulary) if a.index == NO_OFFER)

    assert (log.actions[log.offsets[:-1]] == silent).all()
