"""Serves the customers of a real experiment, and shows what was earned.

Run it by `make demo`, or by `python examples/hillstrom/demo.py --help`.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NamedTuple, NoReturn

import grpc.aio
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from examples.hillstrom import audit, figures, story, traffic
from examples.hillstrom.customers import OFFERS, Customer, read_customers, shuffled
from examples.hillstrom.process import ServerEndedError, ServerProcess, serving
from examples.hillstrom.story import Story
from examples.hillstrom.traffic import Answer, Traffic
from opportune.v1 import DecisionServiceStub
from policies import catalogue as catalogues
from policies.errors import OpportuneError
from simulator.evaluation import evaluate
from simulator.logs import Log, Watcher
from simulator.replaying import replay

try:
    from examples.hillstrom.report import Report
except ModuleNotFoundError as error:
    sys.exit(
        f"The demo draws a plot and needs {error.name}:"
        " run it by `make demo`, or install it by `pip install -e '.[demo]'`."
    )

__all__ = ["main"]

_CATALOGUE = Path(__file__).with_name("catalogue.toml")
_OUTPUT = Path(__file__).parents[2] / "build" / "demo"
_AGAIN = 200
_CUSTOMERS_MIN = 1_000

_console = Console(highlight=False)
if not _console.is_terminal:
    _console.width = 100


class _Clock:
    """How long each part took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[part] = time.perf_counter() - started


def main(
    *,
    seed: Annotated[
        int,
        typer.Option(envvar="SEED", help="Fixes the customers' order and every draw."),
    ] = 1,
    customers: Annotated[
        int | None,
        typer.Option(
            help="How many of the 64,000 customers to serve.", min=_CUSTOMERS_MIN
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option(help="Where to write demo.json and demo.png.")
    ] = _OUTPUT,
    keep: Annotated[
        bool,
        typer.Option(help="Keep the server's file beside them, as demo.db."),
    ] = False,
) -> None:
    """Serve 64,000 real customers, learn from them, and show what was earned."""
    # To be told to end is the same as a Ctrl-C: the server ends first.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        _demo(seed, customers, output, keep=keep)
    except KeyboardInterrupt:
        _fail("stopped, and the server too")
    except (ServerEndedError, audit.NotLearnedError, OpportuneError, OSError) as error:
        _fail(str(error))
    except grpc.aio.AioRpcError as error:
        _fail(f"the server answered {error.code().name}: {error.details()}")


def _demo(seed: int, count: int | None, output: Path, *, keep: bool) -> None:
    clock = _Clock()
    everybody = read_customers()
    customers = shuffled(everybody, seed, count)
    with tempfile.TemporaryDirectory(prefix="opportune-demo-") as name:
        live = asyncio.run(_live(Path(name), customers, seed, clock))
        report = _look_back(live, customers, seed, clock)
        written = report.write(output)
        if keep:
            written.append(Path(shutil.copyfile(live.store, output / "demo.db")))
    _console.print()
    _console.print(report.table())
    for line in report.summary():
        _console.print(f"• {line}")
    _console.print()
    for path in written:
        _console.print(str(path), soft_wrap=True)


class _Live(NamedTuple):
    """What came of the time with the server."""

    store: Path
    story: Story
    traffic: Traffic
    learned_rows: int
    again_after_shown: tuple[int, int]
    again_after_not_shown: tuple[int, int]


async def _live(
    folder: Path, customers: list[Customer], seed: int, clock: _Clock
) -> _Live:
    """Do all that needs a server; it has ended when this returns."""
    starting = time.perf_counter()
    async with serving(folder) as server:
        clock.seconds["start"] = time.perf_counter() - starting
        _console.print(f"opportune-server on {server.address}, store {server.store}")
        live = await server.during(_use(server, customers, seed, clock))
        with clock("stop"):
            await server.stop()
    return live


async def _use(
    server: ServerProcess, customers: list[Customer], seed: int, clock: _Clock
) -> _Live:
    """Tell the story, serve the customers, wait until all of it is learned."""
    with clock("story"):
        told = await _tell(server, seed)
    with clock("serve"):
        served = await _serve(server, customers, seed)
    matched = [answer for answer in served.answers if answer.matched]
    unmatched = [answer for answer in served.answers if not answer.matched]
    with clock("learn"):
        learned_rows = await _until_learned(server, len(matched) + told.shown)
    with clock("again"):
        shown = [answer for answer in matched if answer.offer_id][-_AGAIN:]
        hidden = [answer for answer in unmatched if answer.offer_id][-_AGAIN:]
        await traffic.release(server, hidden)
        after_shown = await traffic.ask_again(server, shown, seed)
        after_hidden = await traffic.ask_again(server, hidden, seed)
    return _Live(
        server.store,
        told,
        served,
        learned_rows,
        _same(shown, after_shown),
        _same(hidden, after_hidden),
    )


async def _tell(server: ServerProcess, seed: int) -> Story:
    _console.print("\n[bold]A user's story[/], on the banner of a product:")
    lines = itertools.count(1)
    async with server.channel() as channel:
        return await story.tell(
            DecisionServiceStub(channel),
            seed,
            learned=lambda shown: audit.until_learned(server.store, shown),
            say=lambda line: _console.print(f"{next(lines):>3}. {line}", markup=False),
        )


async def _serve(
    server: ServerProcess, customers: list[Customer], seed: int
) -> Traffic:
    _console.print(f"\n[bold]{len(customers):,} customers[/] of the shop, SEED={seed}:")
    matched = visited = 0
    with _progress() as progress:
        task = progress.add_task("serving", total=len(customers), note="")

        def watch(answer: Answer) -> None:
            nonlocal matched, visited
            if answer.matched:
                matched += 1
                visited += answer.customer.visited
                note = f"{visited / matched:.2%} of {matched:,} matched visited"
                progress.update(task, advance=1, note=note)
            else:
                progress.advance(task)

        return await traffic.send(server, customers, seed, watch)


async def _until_learned(server: ServerProcess, shown: int) -> int:
    with _progress() as progress:
        task = progress.add_task("learning", total=shown, note="what was shown")
        return await audit.until_learned(
            server.store, shown, lambda done: progress.update(task, completed=done)
        )


def _same(before: list[Answer], after: list[Answer]) -> tuple[int, int]:
    """Return how many were given the same offer again, and of how many."""
    pairs = zip(before, after, strict=True)
    return sum(a.offer_id == b.offer_id for a, b in pairs), len(before)


def _look_back(
    live: _Live, customers: list[Customer], seed: int, clock: _Clock
) -> Report:
    """Look at what the server has left, and count it all again."""
    store, answers = live.store, live.traffic.answers
    acknowledged = [*live.traffic.acknowledged, *live.story.acknowledged]
    unmatched = [answer.decision_id for answer in answers if not answer.matched]
    with clock("audit"):
        # Who was asked again after an offer was shown must not get it a second time.
        caps_broken = audit.caps_broken(store) + live.again_after_shown[0]
        outcomes_lost = audit.lost(store, acknowledged)
        unmatched_trained = audit.trained(store, unmatched)
    with Log(store) as log, _progress() as progress:
        with clock("evaluate"):
            evaluation = evaluate(
                log, ["latest"], folds=0, watcher=_watcher(progress, "evaluating")
            )
        with clock("replay"):
            replayed = replay(log, watcher=_watcher(progress, "replaying"))
    with clock("best"):
        catalogue = catalogues.read(_CATALOGUE.read_text(encoding="utf-8"))
        best = figures.learnable(customers, catalogue)
    return Report(
        seed=seed,
        decisions=len(answers),
        learned=figures.observed([a.customer for a in answers if a.matched]),
        uniform=figures.observed(customers),
        fixed={
            offer_id: figures.observed([c for c in customers if c.sent == offer_id])
            for offer_id in OFFERS.values()
        },
        learnable=best,
        frozen={
            value.estimator: value
            for value in evaluation.values
            if value.estimator in ("snips", "dr")
        },
        get_offer=figures.get_offer(live.traffic),
        curve=figures.curve(answers),
        caps_broken=caps_broken,
        outcomes=len(acknowledged),
        outcomes_lost=outcomes_lost,
        unmatched_trained=unmatched_trained,
        again_after_shown=live.again_after_shown,
        again_after_not_shown=live.again_after_not_shown,
        replayed=replayed.decisions,
        identical=replayed.identical,
        models=replayed.models,
        learned_rows=live.learned_rows,
        story=live.story.lines,
        seconds=clock.seconds,
    )


def _watcher(progress: Progress, name: str) -> Watcher:
    task = progress.add_task(name, total=None, note="")

    def watch(doing: str, done: int, total: int) -> None:
        progress.update(task, note=doing, completed=done, total=max(total, 1))

    return watch


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=_console,
        refresh_per_second=4,
    )


def _fail(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
