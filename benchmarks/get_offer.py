"""GetOffer end to end, against an empty echo on the same kind of server.

Both run at once, each in its own process, and take turns under the same load from
the same client, so that what else the machine does falls on both; numbers are
medians over the rounds, and ratios those of one run. The serving process has a core
of its own; client, learner and supervisor share the others.

There are 50 eligible actions and 10 context features; nine users in ten are new.
Before anything is measured the model has learned from a few hundred outcomes.
"""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import numpy as np
from rich.progress import Progress
from rich.table import Table

from benchmarks import workload
from benchmarks.client import Client, Load
from benchmarks.serving import Cores, Server, run_echo, run_opportune, split_cores
from opportune.v1 import (
    DecisionServiceStub,
    GetOfferRequest,
    GetOfferResponse,
    Outcome,
    OutcomeKind,
    ReportOutcomeRequest,
)

__all__ = ["measure", "tables"]

OFFERS = 50
IN_FLIGHT = 32
MODERATE_SHARE = 0.35
"""The open loop asks this share of what our server answers at most."""

GOALS = {
    "cpu_ratio": ("CPU of a request, in those of the echo", 2.0),
    "bytes_per_decision": ("bytes on disk per decision", 1_500.0),
}

_METHOD = "/opportune.v1.DecisionService/GetOffer"
_LESSONS = 400
_SHOWN_BYTES = 10
_LEARNED_S = 20.0
_KINDS = ("ours", "echo")


def measure(progress: Progress, *, rounds: int, seconds: float) -> dict[str, Any]:
    """Run the benchmark.

    Args:
        progress: Shows how far it is.
        rounds: How often each server has its turn.
        seconds: How long a turn is, twice: closed loop and open loop.
    """
    cores = split_cores()
    own_cores = os.sched_getaffinity(0)
    try:
        with tempfile.TemporaryDirectory(prefix="opportune-bench-") as name:
            folder = Path(name)
            os.sched_setaffinity(0, cores.rest)
            measured = _measure(folder, cores, progress, rounds, seconds)
            return measured | {"pinned": len(own_cores) > 1} | _disk(folder)
    finally:
        os.sched_setaffinity(0, own_cores)


def _measure(
    folder: Path, cores: Cores, progress: Progress, rounds: int, seconds: float
) -> dict[str, Any]:
    settings = folder / "settings.toml"
    settings.write_text(workload.SETTINGS, encoding="utf-8")
    text = workload.catalogue_text(OFFERS)
    (folder / "catalogue.toml").write_text(text, encoding="utf-8")
    requests = workload.requests(seed=1)
    task = progress.add_task("GetOffer", total=4 * rounds + 2)
    with run_opportune(settings, cores) as ours:
        _teach(ours.address)
        progress.advance(task)
        with Client(ours.address, _METHOD) as client:
            warm = client.closed_loop(requests, in_flight=IN_FLIGHT, seconds=2.0)
            _check(warm)
            answer = client.last_message
        with run_echo(answer, folder, cores) as echo:
            progress.advance(task)
            servers = {"ours": ours, "echo": echo}
            runs = _rounds(
                servers, requests, rounds, seconds, lambda: progress.advance(task)
            )
    return _summary(runs) | {
        "request_bytes": len(next(requests)),
        "response_bytes": len(answer),
        "offers": OFFERS,
        "in_flight": IN_FLIGHT,
        "rounds": rounds,
        "seconds": seconds,
    }


def _teach(address: str) -> None:
    """Let the model learn, so that it has opinions, and wait until it is in use."""
    contexts = workload.contexts(seed=2)
    with grpc.insecure_channel(address) as channel:
        stub = DecisionServiceStub(channel)

        def ask(number: int) -> GetOfferResponse:
            user = f"pupil-{number}"
            request = GetOfferRequest(
                request_id=user,
                user_id=user,
                placement_ids=[workload.PLACEMENT],
                context=next(contexts),
            )
            return stub.GetOffer(request, timeout=10)

        for number in range(_LESSONS):
            decision = ask(number).decisions[0]
            kinds = [OutcomeKind.OUTCOME_KIND_SHOWN]
            if decision.offer_id:
                accepted = number % 5 == 0
                kinds.append(
                    OutcomeKind.OUTCOME_KIND_ACCEPTED
                    if accepted
                    else OutcomeKind.OUTCOME_KIND_DISMISSED
                )
            outcomes = [Outcome(outcome_id=str(kind), kind=kind) for kind in kinds]
            stub.ReportOutcome(
                ReportOutcomeRequest(
                    decision_id=decision.decision_id, outcomes=outcomes
                ),
                timeout=10,
            )
        give_up = time.monotonic() + _LEARNED_S
        for number in itertools.count(_LESSONS):
            if ask(number).decisions[0].model_version != "0.0":
                return
            if time.monotonic() > give_up:
                raise RuntimeError("the server has learned nothing")
            time.sleep(0.2)


def _rounds(
    servers: dict[str, Server],
    requests: Iterator[bytes],
    rounds: int,
    seconds: float,
    advance: Callable[[], None],
) -> dict[str, list[dict[str, Any]]]:
    """Let the servers take turns: first as much as they can, then a moderate rate."""
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _KINDS}
    clients = {
        kind: Client(server.address, _METHOD) for kind, server in servers.items()
    }
    for _ in range(rounds):
        for kind in _KINDS:
            saturated = _turn(
                servers[kind],
                lambda c=clients[kind]: c.closed_loop(  # type: ignore[misc]
                    requests, in_flight=IN_FLIGHT, seconds=seconds
                ),
            )
            runs[kind].append({"saturated": saturated})
            advance()
        rate = MODERATE_SHARE * median(r["saturated"]["rate"] for r in runs["ours"])
        for kind in _KINDS:
            runs[kind][-1]["moderate"] = _turn(
                servers[kind],
                lambda c=clients[kind], r=rate: c.open_loop(  # type: ignore[misc]
                    requests, rate=r, seconds=seconds
                ),
            )
            advance()
    for client in clients.values():
        client.__exit__()
    return runs


def _turn(server: Server, run: Callable[[], Load]) -> dict[str, Any]:
    cpu_s, others_s = server.cpu_s(), server.others_cpu_s()
    client_s = time.process_time()
    load = run()
    client_s = time.process_time() - client_s
    _check(load)
    count = len(load.latencies_ms)
    p50, p90, p99 = np.percentile(load.latencies_ms, [50, 90, 99]).tolist()
    after = server.others_cpu_s()
    return {
        "requests": count,
        "rate": load.rate,
        "cpu_us": (server.cpu_s() - cpu_s) / count * 1e6,
        "client_cpu_us": client_s / count * 1e6,
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        **{f"{n}_cpu_us": (after[n] - others_s[n]) / count * 1e6 for n in after},
    }


def _check(load: Load) -> None:
    if load.failures or not load.latencies_ms:
        raise RuntimeError(f"{load.failures} of the requests failed")


def _summary(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return medians over the rounds, and the ratios of ours to the echo's."""
    medians: dict[str, Any] = {}
    for kind, turns in runs.items():
        medians[kind] = {
            phase: {
                key: median(turn[phase][key] for turn in turns)
                for key in turns[0][phase]
            }
            for phase in ("saturated", "moderate")
        }

    def ratio(phase: str, key: str) -> float:
        """Return the median of the rounds' own ratios."""
        pairs = zip(runs["ours"], runs["echo"], strict=True)
        ratios = [float(ours[phase][key] / echo[phase][key]) for ours, echo in pairs]
        return median(ratios)

    return {
        "cpu_ratio": ratio("saturated", "cpu_us"),
        "throughput_ratio": ratio("saturated", "rate"),
        "p99_ratio": ratio("moderate", "p99_ms"),
        "p50_ratio": ratio("moderate", "p50_ms"),
        "cpu_ratio_moderate": ratio("moderate", "cpu_us"),
        "p99_ratio_saturated": ratio("saturated", "p99_ms"),
        "medians": medians,
        "runs": runs,
    }


def _disk(folder: Path) -> dict[str, Any]:
    """Say what a decision takes on the disk, once the server has stopped."""
    file = folder / "opportune.db"
    with closing(sqlite3.connect(file)) as db:
        db.execute("pragma wal_checkpoint(truncate)").fetchone()
        (decisions,) = db.execute("select count(*) from decision").fetchone()
        (record,) = db.execute("select avg(length(record)) from decision").fetchone()
        total = file.stat().st_size
        try:
            parts = db.execute(
                "select name, sum(pgsize) from dbstat group by name order by 2 desc"
            ).fetchall()
        except sqlite3.OperationalError:
            parts = []  # This SQLite was built without it.
        example = db.execute("select record from decision order by position desc")
        decision = json.loads(example.fetchone()[0])
    return {
        "bytes_per_decision": total / decisions,
        "decisions": decisions,
        "record_bytes": record,
        "record_parts_bytes": {
            name: len(json.dumps(value, separators=(",", ":")))
            for name, value in decision.items()
        },
        "bytes_per_decision_by_table": {
            name: size / decisions for name, size in parts if size / decisions >= 1
        },
    }


def tables(result: dict[str, Any]) -> list[Table]:
    """Show the result."""
    return [_speed_table(result), _disk_table(result), _goals_table(result)]


def _goals_table(result: dict[str, Any]) -> Table:
    table = Table("goal", "at most", "measured", "", title="Goals")
    for key, (label, most) in GOALS.items():
        met = "met" if result[key] <= most else "missed"
        table.add_row(label, _shown(most), _shown(result[key]), met)
    return table


def _speed_table(result: dict[str, Any]) -> Table:
    table = Table(
        "load", "", "ours", "echo", "ratio",
        title=f"GetOffer, {result['offers']} actions, against an empty echo",
    )  # fmt: skip
    medians = result["medians"]
    rows = [
        ("saturated", "requests/s", "rate", "throughput_ratio"),
        ("saturated", "CPU µs/request", "cpu_us", "cpu_ratio"),
        ("saturated", "p99 ms", "p99_ms", "p99_ratio_saturated"),
        ("moderate", "requests/s", "rate", None),
        ("moderate", "CPU µs/request", "cpu_us", "cpu_ratio_moderate"),
        ("moderate", "p50 ms", "p50_ms", "p50_ratio"),
        ("moderate", "p99 ms", "p99_ms", "p99_ratio"),
    ]
    for phase, label, key, ratio in rows:
        ours, echo = (medians[kind][phase][key] for kind in _KINDS)
        shown = "" if ratio is None else f"{result[ratio]:.2f}"
        table.add_row(phase, label, _shown(ours), _shown(echo), shown)
    for name in ("client", "learner", "supervisor"):
        values = [medians[k]["saturated"].get(f"{name}_cpu_us") for k in _KINDS]
        cells = ["" if v is None else _shown(v) for v in values]
        table.add_row("saturated", f"{name}: CPU µs/request", *cells, "")
    return table


def _disk_table(result: dict[str, Any]) -> Table:
    table = Table("", "bytes", title="On disk, per decision with 50 actions")
    rest = result["bytes_per_decision"]
    for name, size in result["bytes_per_decision_by_table"].items():
        if size >= _SHOWN_BYTES:
            table.add_row(name, f"{size:.0f}")
            rest -= size
    table.add_row("everything else", f"{rest:.0f}")
    table.add_section()
    table.add_row("the whole file", f"{result['bytes_per_decision']:.0f}")
    table.add_section()
    table.add_row("a record", f"{result['record_bytes']:.0f}")
    for name, size in result["record_parts_bytes"].items():
        table.add_row(f"  {name}", f"{size}")
    return table


def _shown(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"
