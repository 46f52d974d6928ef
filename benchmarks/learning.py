"""How soon a running server decides by what it was told, and what a swap costs.

    make bench-learning ARGS='--seconds 120 --rate 60'

A server of its own with the default policy is asked for offers, evenly, by users of
whom nine in ten are new, and told at once what became of each: shown, and accepted or
dismissed. An outcome is published when the store first holds a snapshot that has
learned it, looked at every 20 ms, and in use when a decision first names such a model.
Both count from when the report was acknowledged, on one clock.

A request is with a swap if any of it is between 100 ms before a snapshot was published
and 100 ms after the first decision by it; without one otherwise. Latencies count from
when a request was due. The worker has a core of its own, where there are several; the
client, the learner and the supervisor share the others.

Writes build/bench/learning.json, and ends with status 1 if a goal is missed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import grpc.aio
import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import workload
from benchmarks.machine import describe, summary
from benchmarks.serving import run_opportune, split_cores
from opportune.v1 import (
    Decision,
    DecisionServiceStub,
    GetOfferRequest,
    Outcome,
    OutcomeKind,
    ReportOutcomeRequest,
)

__all__ = ["GOALS", "Answer", "Publication", "Seen", "figures", "table"]

OFFERS = 50
GOALS = {
    "published_s": ("outcome to published model, p95 s", 2.0),
    "in_use_s": ("outcome to a decision by that model, p95 s", 2.0),
    "swap_ratio": ("p99 of GetOffer with a swap, in those without", 1.25),
}
"""By figure, what it is and what it may be at most."""

_FILE = Path("build/bench/learning.json")
_LOOK_S = 0.02
_AROUND_S = 0.1
_WARM_UP_S = 5.0
_PATIENCE_S = 10.0
_ACCEPTED_EVERY = 5
_PERCENTILES = (50, 95, 99)
_out = Console(highlight=False)


class Answer(NamedTuple):
    """A request, by a clock in seconds, and how much the model had learned."""

    due_s: float
    answered_s: float
    position: int


class Publication(NamedTuple):
    """When a snapshot was first seen in the store, and how much it had learned."""

    at_s: float
    position: int


class Seen(NamedTuple):
    """What was seen of a run.

    Attributes:
        answers: The requests, in the order of their answers.
        publications: The snapshots, in order.
        told: For each outcome, when it was acknowledged, and the position at which it
            is in the training stream.
    """

    answers: list[Answer]
    publications: list[Publication]
    told: list[tuple[float, int]]


def figures(seen: Seen) -> dict[str, Any]:
    """Return delays in seconds and latencies in milliseconds, by percentile.

    Raises:
        ValueError: If no outcome was learned, or no model was swapped, or requests
            never were without a swap: the machine is too busy.
    """
    uses = _first_uses(seen.answers)
    published = _delays(seen.told, seen.publications)
    in_use = _delays(seen.told, uses)
    swaps = _swaps(seen.publications, uses)
    with_swap: list[float] = []
    without: list[float] = []
    for answer in seen.answers:
        ms = 1_000.0 * (answer.answered_s - answer.due_s)
        during = any(
            answer.due_s <= until and since <= answer.answered_s
            for since, until in swaps
        )
        (with_swap if during else without).append(ms)
    if not published or not in_use:
        raise ValueError("nothing was learned while it was looked at")
    if not without or not with_swap:
        raise ValueError("the machine is too busy: no request was without a swap")
    found: dict[str, Any] = {
        "outcomes": len(seen.told),
        "swaps": len(swaps),
        "requests": {"with_swap": len(with_swap), "without": len(without)},
        "published_s": _percentiles(published),
        "in_use_s": _percentiles(in_use),
        "with_swap_ms": _percentiles(with_swap),
        "without_ms": _percentiles(without),
    }
    found["goals"] = _judged(found)
    return found


def _judged(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    reached = {
        "published_s": found["published_s"]["p95"],
        "in_use_s": found["in_use_s"]["p95"],
        "swap_ratio": found["with_swap_ms"]["p99"] / found["without_ms"]["p99"],
    }
    return {
        name: {"at_most": most, "reached": reached[name], "met": reached[name] <= most}
        for name, (_, most) in GOALS.items()
    }


def _first_uses(answers: Iterable[Answer]) -> list[Publication]:
    """Return when each model first decided."""
    uses: list[Publication] = []
    for answer in answers:
        if answer.position > (uses[-1].position if uses else 0):
            uses.append(Publication(answer.answered_s, answer.position))
    return uses


def _delays(
    told: Iterable[tuple[float, int]], models: Sequence[Publication]
) -> list[float]:
    """Return how long after each outcome the first model was there that knew it."""
    positions = [model.position for model in models]
    firsts = ((at_s, int(np.searchsorted(positions, at))) for at_s, at in told)
    return [
        max(models[first].at_s - at_s, 0.0)
        for at_s, first in firsts
        if first < len(models)
    ]


def _swaps(
    publications: Iterable[Publication], uses: Sequence[Publication]
) -> list[tuple[float, float]]:
    """Return from when until when each model that came into use was taken up."""
    used = {use.position: use.at_s for use in uses}
    return [
        (at_s - _AROUND_S, used[position] + _AROUND_S)
        for at_s, position in publications
        if position in used
    ]


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{p}": float(np.percentile(values, p)) for p in _PERCENTILES}


def table(found: dict[str, Any]) -> list[Table]:
    """Show the figures, and which goals were met."""
    shown = Table("what", *(f"p{p}" for p in _PERCENTILES))
    for name, label, digits in (
        ("published_s", "outcome to published model, s", 2),
        ("in_use_s", "outcome to a decision by it, s", 2),
        ("with_swap_ms", "GetOffer with a swap, ms", 1),
        ("without_ms", "GetOffer without one, ms", 1),
    ):
        cells = (f"{found[name][f'p{p}']:.{digits}f}" for p in _PERCENTILES)
        shown.add_row(label, *cells)
    shown.caption = (
        f"{found['outcomes']} outcomes, {found['swaps']} swaps,"
        f" {sum(found['requests'].values())} requests"
    )
    goals = Table("goal", "at most", "reached", "")
    for name, judged in found["goals"].items():
        verdict = "met" if judged["met"] else "missed"
        limit, reached = f"{judged['at_most']:.2f}", f"{judged['reached']:.2f}"
        goals.add_row(GOALS[name][0], limit, reached, verdict)
    return [shown, goals]


class _Users:
    """Who asks for offers, and tells what became of them."""

    def __init__(self, stub: DecisionServiceStub) -> None:
        self._stub: Any = stub  # Its calls are to be awaited.
        self._requests = workload.requests(seed=3)
        self.answers: list[Answer] = []
        self.acknowledged: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def come(self, *, rate: float, seconds: float, progress: Progress) -> None:
        """Ask `rate` times a second, evenly, whether answers come or not."""
        count = int(rate * seconds)
        started = time.perf_counter()
        for number in progress.track(range(count), description="learning"):
            due_s = started + number / rate
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            task = asyncio.create_task(self._come(number, due_s))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await asyncio.gather(*self._tasks)

    async def _come(self, number: int, due_s: float) -> None:
        request = GetOfferRequest.FromString(next(self._requests))
        answer = await self._stub.GetOffer(request, timeout=_PATIENCE_S)
        answered_s = time.perf_counter()
        decision: Decision = answer.decisions[0]
        position = int(decision.model_version.partition(".")[2])
        self.answers.append(Answer(due_s, answered_s, position))
        if not decision.offer_id:
            return
        accepted = number % _ACCEPTED_EVERY == 0
        kinds = (
            OutcomeKind.OUTCOME_KIND_SHOWN,
            OutcomeKind.OUTCOME_KIND_ACCEPTED
            if accepted
            else OutcomeKind.OUTCOME_KIND_DISMISSED,
        )
        report = ReportOutcomeRequest(
            decision_id=decision.decision_id,
            outcomes=[Outcome(outcome_id=str(kind), kind=kind) for kind in kinds],
        )
        await self._stub.ReportOutcome(report, timeout=_PATIENCE_S)
        self.acknowledged[decision.decision_id] = time.perf_counter()


async def _follow(store: sqlite3.Connection, seen: list[Publication]) -> None:
    """Notice every snapshot, until cancelled."""
    while True:
        ((position,),) = store.execute("select max(position) from snapshot")
        if position and position > (seen[-1].position if seen else 0):
            seen.append(Publication(time.perf_counter(), position))
        await asyncio.sleep(_LOOK_S)


async def _watch(
    address: str, file: Path, *, rate: float, seconds: float, progress: Progress
) -> Seen:
    """Ask and tell a server, and return what was seen after it had warmed up."""
    publications: list[Publication] = []
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as store:
        following = asyncio.create_task(_follow(store, publications))
        async with grpc.aio.insecure_channel(address) as channel:
            users = _Users(DecisionServiceStub(channel))
            begun_s = time.perf_counter() + _WARM_UP_S
            whole_s = _WARM_UP_S + seconds
            await users.come(rate=rate, seconds=whole_s, progress=progress)
        following.cancel()
        positions = dict(
            store.execute("select decision_id, position from resolutions_v1")
        )
    return Seen(
        [answer for answer in users.answers if answer.due_s >= begun_s],
        publications,
        [
            (at_s, positions[decision_id])
            for decision_id, at_s in users.acknowledged.items()
            if at_s >= begun_s and decision_id in positions
        ],
    )


def main(
    *,
    seconds: Annotated[
        float, typer.Option(min=5.0, help="For how long offers are asked for.")
    ] = 60.0,
    rate: Annotated[
        float, typer.Option(min=1.0, help="How many times a second.")
    ] = 30.0,
) -> None:
    """Measure, print tables, and write build/bench/learning.json."""
    machine = describe()
    cores, own_cores = split_cores(), os.sched_getaffinity(0)
    with (
        tempfile.TemporaryDirectory(prefix="opportune-learning-") as name,
        Progress(transient=True) as progress,
    ):
        settings = Path(name, "settings.toml")
        settings.write_text(workload.SETTINGS, encoding="utf-8")
        catalogue = settings.with_name("catalogue.toml")
        catalogue.write_text(workload.catalogue_text(OFFERS), encoding="utf-8")
        os.sched_setaffinity(0, cores.rest)
        try:
            with run_opportune(settings, cores) as server:
                file = settings.with_name("opportune.db")
                watched = _watch(
                    server.address, file, rate=rate, seconds=seconds, progress=progress
                )
                seen = asyncio.run(watched)
        finally:
            os.sched_setaffinity(0, own_cores)
    try:
        found = figures(seen)
    except ValueError as error:
        _out.print(str(error))
        raise typer.Exit(1) from error
    _FILE.parent.mkdir(parents=True, exist_ok=True)
    result = {"machine": machine, "rate": rate, "seconds": seconds, **found}
    _FILE.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    _out.print(summary(machine), soft_wrap=True)
    for part in table(found):
        _out.print(part)
    _out.print(str(_FILE))
    if not all(judged["met"] for judged in found["goals"].values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
