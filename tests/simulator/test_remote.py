"""A world against a real server: what it decides comes out again, twice over."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from policies.model import Decision
from policies.policy import Policy
from policies.records import decode_outcome
from simulator import Log, replay
from simulator.__main__ import app
from simulator.desk import Desk
from simulator.folding import Folding
from tests.server import kit
from tests.simulator.test_simulating import CATALOGUE, WORLD

SETTINGS = """
[server]
address = "127.0.0.1:0"

[policy.learner]
kind = "linucb"
dim = 16

[policy.exploration]
kind = "epsilon_greedy"
epsilon = 0.5

[rewards]
silence_confirms_itself = true
"""

REFUNDS = """
[refunds]
share = 0.5
after = "12h"

[delays]
share = 0.5
mean = "1d"
"""


def test_decisions_over_the_wire_are_those_of_the_engine(tmp_path: Path) -> None:
    text = CATALOGUE.replace('grants = ["large"]', "")
    settings = kit.write_settings(tmp_path, text, SETTINGS)
    with_snoozes = WORLD.replace("accept = -1.5", "accept = -1.5\nsnooze = 0.5")
    alone = with_snoozes.replace('owns = ["small"]', 'role = "owner"')
    (tmp_path / "world.toml").write_text(f"{alone}\n{REFUNDS}")

    with kit.serving(settings) as server:
        arguments = ["--server", server.address, "--users", "8", "--days", "4"]
        world, result = tmp_path / "world.toml", tmp_path / "out.json"
        said = CliRunner().invoke(
            app, ["simulate", str(world), *arguments, "--json", str(result)]
        )

    assert said.exit_code == 0, said.output
    told = json.loads(result.read_text())
    assert told["shown"] > 10
    assert told["regret"] > 0.0
    assert told["accepts"] >= told["refunds"] > 0
    with Log(tmp_path / "opportune.db") as log:
        again = replay(log)
        assert (again.decisions, again.identical) == (told["decisions"],) * 2
        outcomes = [
            (name, decode_outcome(record))
            for name, record in log.outcomes(log.first, log.last)
        ]
        assert {o.kind for _, o in outcomes} >= {"accepted", "refunded", "snoozed"}
        earlier: dict[str, Decision] = {}
        desk: Desk | None = None
        models: set[str] = set()
        for _, logged in log.decisions():
            if desk is None:
                catalogue = log.catalogue(logged.catalogue)
                desk = Desk(catalogue, Policy(log.policy(logged.policy)))
            epoch, _, position = logged.model.partition(".")
            if logged.model not in models:
                policy = log.policy(logged.policy)
                models.add(logged.model)
                folding = Folding(log, policy, int(epoch))
                folding.advance(int(position))
                desk.policy = folding.policy(policy)
            asked = logged.opportunity
            for name, outcome in list(outcomes):
                if name in earlier and outcome.at_ms <= asked.at_ms:
                    desk.report(earlier[name], outcome)
                    outcomes.remove((name, outcome))
            assert desk.decide(asked).decision == logged
            earlier[asked.decision_id] = logged


def test_a_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["simulate", "calm", "--server", "127.0.0.1:1"])

    assert said.exit_code == 2
    assert "127.0.0.1:1: " in said.output


def test_a_server_decides_by_its_own_policy(tmp_path: Path) -> None:
    arguments = ["--server", "127.0.0.1:1", "-p", "uniform"]
    said = CliRunner().invoke(app, ["simulate", "calm", *arguments])

    assert said.exit_code == 2
    assert "--server decides by its own policy" in said.output
