"""The command line of the simulator."""

from __future__ import annotations

import errno
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from policies.comparison import GateSettings
from policies.errors import OpportuneError
from policies.estimators import ESTIMATORS
from policies.model import Split
from policies.overlap import Verdict
from simulator.candidates import CHOICES
from simulator.checking import Check
from simulator.checking import check as check_source
from simulator.comparing import Comparison
from simulator.comparing import compare as compare_log
from simulator.evaluation import POLICIES, Evaluation
from simulator.evaluation import evaluate as evaluate_log
from simulator.gating import Gating
from simulator.gating import gates as ask_gates
from simulator.judging import DEFAULT_ESTIMATORS, FOLDS, INTERVALS
from simulator.logs import (
    Format,
    Log,
    Target,
    Watcher,
    Written,
    open_log,
    write_log,
)
from simulator.logs.times import text_of
from simulator.memory import Parts
from simulator.played import print_remote, print_simulations, print_sweep
from simulator.prospecting import Opportunities, OpportunitySettings
from simulator.prospecting import opportunities as find_opportunities
from simulator.prospects import print_opportunities
from simulator.rehearsals import print_gating, print_rehearsal
from simulator.rehearsing import Rehearsal
from simulator.rehearsing import rehearse as rehearse_log
from simulator.remote import Remote, play_remotely
from simulator.replaying import Different, Replay
from simulator.replaying import replay as replay_log
from simulator.reporting import Reportable, read_result
from simulator.reporting import report as write_report
from simulator.simulating import WORDS, Simulation, player
from simulator.simulating import simulate as play_world
from simulator.surveying import REWARD
from simulator.sweeping import Sweep, seeds_of, settings_of
from simulator.sweeping import sweep as sweep_worlds
from simulator.tables import print_comparison, print_evaluation, print_walk
from simulator.walking import DEFAULT_EVALUATORS, EVALUATORS, Walk
from simulator.walking import walk as walk_log
from simulator.worlds import read_world

__all__ = ["main"]

_DIFFERS = 1
_CANNOT = 2
_CANNOT_TELL = 3
_UNEXPECTED = 70
_GATE = {"deploy": 0, "keep": 1, "cannot tell": _CANNOT_TELL}
_SHOWN_MAX = 5
_WIDTH_MAX = 60
_WIDTH = 100

_REASONS = {
    "unreadable": "the record is no decision",
    "missing": "the log lacks what it was made from",
    "failed": "the engine refused it",
    "catalogue": "the catalogue is not the one that was named",
    "policy": "the policy is not the one that was named",
    "model": "the model is written otherwise",
    "actions": "other actions are eligible",
    "probabilities": "other probabilities",
    "chosen": "another draw",
    "valid_until_ms": "another end of validity",
    "opportunity": "another opportunity",
    "history": "another history",
}

app = typer.Typer(
    help="Reads logs of decisions, and says what would have been.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_out = Console(
    emoji=False,
    markup=False,
    highlight=False,
    width=None if sys.stdout.isatty() else _WIDTH,
)
_err = Console(stderr=True, markup=False, highlight=False)

LogArgument = Annotated[
    str,
    typer.Argument(
        metavar="LOG",
        help="The server's file, or its URL as in the server's settings:"
        " sqlite:///PATH. It is only read, and the server may be running.",
    ),
]


def _writable(path: Path | None) -> Path | None:
    """Refuse a place that nothing can be written to before there is a result."""
    if path is None:
        return None
    why = 0
    if path.is_dir():
        why = errno.EISDIR
    elif not path.parent.is_dir():
        why = errno.ENOENT
    elif not os.access(path if path.exists() else path.parent, os.W_OK):
        why = errno.EACCES
    if why:
        _fail(f"{path}: cannot be written: {os.strerror(why)}")
    return path


JSONOption = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="FILE",
        callback=_writable,
        help="Also write the result to a file, as JSON.",
    ),
]
ReportOption = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE.html",
        callback=_writable,
        help="Also write a report: one page with plots, in a file that needs nothing"
        " else.",
    ),
]
AnyLogArgument = Annotated[
    str,
    typer.Argument(
        metavar="LOG",
        help="A server's file, Parquet (a file or a folder), VW's dsjson or text, a"
        " folder of the Open Bandit Dataset, its pipeline's arrays (.npz), or CSV.",
    ),
]
FormatOption = Annotated[
    Format | None,
    typer.Option("--format", help="What the log is, where its beginning is unclear."),
]
MappingOption = Annotated[
    Path | None,
    typer.Option(
        "--mapping",
        metavar="FILE",
        help="For CSV: a TOML file that says which column is what.",
    ),
]


EstimatorOption = Annotated[
    list[str] | None,
    typer.Option(
        "--estimator",
        "-e",
        metavar="NAME",
        help="What to estimate by, as often as wanted; NAME@NUMBER sets the parameter"
        " of those that have one, NAME@auto lets the log choose it. Without it:"
        f" {', '.join(DEFAULT_ESTIMATORS)}. There are {', '.join(ESTIMATORS)}.",
    ),
]
ObjectiveOption = Annotated[
    list[str] | None,
    typer.Option(
        "--objective",
        "-o",
        metavar="NAME",
        help="What is earned, as often as wanted: reward, or another outcome that the"
        " log has, such as accepted, dismissed or margin. Without it: reward.",
    ),
]
ConfidenceOption = Annotated[
    float,
    typer.Option(
        min=0.5, max=0.9999, help="How often an interval is to hold the truth."
    ),
]
IntervalOption = Annotated[
    str,
    typer.Option(help=f"Which kind of interval: {', '.join(INTERVALS)}."),
]
SplitOption = Annotated[
    Split | None,
    typer.Option(
        help="Judge by these users alone; nothing was learned from those of eval,"
        " control and holdout.",
        show_default=False,
    ),
]
TrainUntilOption = Annotated[
    str | None,
    typer.Option(
        metavar="WHEN",
        help="Policies that learn from the log learn what was decided before, and all"
        " are judged by the rest: a date such as 2026-11-01, a date and time (UTC), or"
        " a share of the decisions such as 0.7.",
    ),
]
FoldsOption = Annotated[
    int,
    typer.Option(
        min=0,
        max=20,
        help="Into how many parts users fall for policies that learn from the log: each"
        " part is judged by what was learned from the others. 0: by all that was"
        " learned, which is too good.",
    ),
]
DaskOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="The scheduler of a Dask cluster that is to do the work, such as"
        " tcp://10.0.0.5:8786.",
    ),
]
WorldArgument = Annotated[
    str,
    typer.Argument(
        metavar="WORLD",
        help="The path of a world's file, or a world that comes with the program: calm,"
        " delayed, drifting, rare, silence, tiring.",
    ),
]
PlayerOption = Annotated[
    list[str] | None,
    typer.Option(
        "--policy",
        "-p",
        metavar="NAME",
        help=f"What decides, as often as wanted: {', '.join(WORDS)}, or the path of a"
        " settings file with [policy]. WORD=NAME calls it WORD in tables.",
    ),
]
UsersOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="How many users; as the world says without it.", show_default=False
    ),
]
DaysOption = Annotated[
    float | None,
    typer.Option(
        min=0.01,
        max=3_660.0,
        help="For how many days; as the world says without it.",
        show_default=False,
    ),
]
SkipBadOption = Annotated[
    bool,
    typer.Option("--skip-bad", help="Leave out rows that cannot be read."),
]


@app.command()
def replay(
    log: LogArgument,
    json: JSONOption = None,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="By how much probabilities may differ, for a log from another kind"
            " of machine; 1e-8 forgives rounding.",
        ),
    ] = 0.0,
) -> None:
    """Make every decision of a log again, and compare.

    Ends with status 0 if all came out as they were logged, 1 if any did not, and 2 if
    the log cannot be read.

    \b
    Examples:
      opportune-simulator replay opportune.db
      opportune-simulator replay sqlite:///opportune.db --json replay.json
    """  # noqa: D301 - a sign of click's: leave the lines as they are
    started = time.perf_counter()
    with _told(), Log(log) as opened, _progress() as watcher:
        result = replay_log(opened, tolerance=tolerance, watcher=watcher)
    _print_replay(result, time.perf_counter() - started)
    _write(json, result)
    if result.differing:
        raise typer.Exit(_DIFFERS)


@app.command()
def rehearse(
    log: LogArgument,
    *,
    catalogue: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="The catalogue with the new rules; without it, that of the log.",
        ),
    ] = "logged",
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="SETTINGS",
            help="A settings file with the [policy] that is to decide everywhere."
            " Without it those of the log do, and the last of them decides where the"
            " new rules leave other actions.",
            show_default=False,
        ),
    ] = None,
    snooze: Annotated[
        float,
        typer.Option(help="How many times as long snoozes are to last, above 0."),
    ] = 1.0,
    confidence: ConfidenceOption = 0.95,
    json: JSONOption = None,
    report: ReportOption = None,
) -> None:
    """Say what would have been under other rules.

    Takes each user through the log again under the new rules, with the past that they
    would have had, and says where the new rules leave the log, which gates make the
    difference, and what it is worth as far as the log can tell.

    Ends with status 0 if the log can tell, 3 if it cannot, and 2 if the log, the
    catalogue or the policy cannot be read.

    \b
    Examples:
      opportune-simulator rehearse opportune.db --catalogue looser.toml
      opportune-simulator rehearse opportune.db --snooze 2 --json longer.json
      opportune-simulator rehearse opportune.db --catalogue new.toml --policy new.toml
    """  # noqa: D301 - as above
    started = time.perf_counter()
    with _told(), Log(log) as opened, _progress() as watcher:
        result = rehearse_log(
            opened,
            catalogue,
            policy=policy,
            snooze=snooze,
            confidence=confidence,
            watcher=watcher,
        )
    print_rehearsal(result, _out, time.perf_counter() - started)
    _write(json, result)
    _report(report, result)
    _end(result.verdict)


@app.command()
def gates(
    log: LogArgument,
    *,
    confidence: Annotated[
        float,
        typer.Option(
            min=0.5, max=0.9999, help="How often all intervals at once are to hold."
        ),
    ] = 0.95,
    json: JSONOption = None,
) -> None:
    """Say what gating cost: what each gate held back, and what that was worth.

    Explains every decision, and rehearses the log without each gate that rejects
    anything; also with none but those that say who may see an offer at all, and without
    levers where they count. Where too much of what a gate held back was never tried,
    there is no number.

    Ends with status 0 if the log can tell of all, 3 if it cannot tell of one, and 2 if
    it cannot be read.

    \b
    Examples:
      opportune-simulator gates opportune.db
      opportune-simulator gates opportune.db --json gates.json
    """  # noqa: D301 - as above
    with _told(), Log(log) as opened, _progress() as watcher:
        result = ask_gates(opened, confidence=confidence, watcher=watcher)
    print_gating(result, _out)
    _write(json, result)
    _end(result.verdict)


@app.command()
def opportunities(
    log: AnyLogArgument,
    *,
    users_min: Annotated[
        int,
        typer.Option(
            min=5,
            max=1_000_000,
            help="How many users or accounts there must be in whatever is told of.",
        ),
    ] = 20,
    uses: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FEATURE",
            help="A feature of requests that says that a user uses something, as often"
            " as wanted: a flag that is true, a number above 0.",
        ),
    ] = None,
    near: Annotated[
        float,
        typer.Option(
            min=0.01, max=1.0, help="From which share of a limit on it is near."
        ),
    ] = 0.8,
    lift: Annotated[
        float,
        typer.Option(
            min=1.0,
            max=100.0,
            help="How many times as often as by chance things are used together.",
        ),
    ] = 1.2,
    price_step: Annotated[
        float,
        typer.Option(
            min=1.01,
            max=100.0,
            help="How many times as much as the plan before one costs, to be a gap.",
        ),
    ] = 2.0,
    confidence: Annotated[
        float,
        typer.Option(
            min=0.51,
            max=0.9999,
            help="How much of what is told is more than luck, and how often intervals"
            " hold, on average.",
        ),
    ] = 0.95,
    json: JSONOption = None,
    format_: FormatOption = None,
    mapping: MappingOption = None,
    skip_bad: SkipBadOption = False,
) -> None:
    """Find what the log says that the catalogue does not answer.

    What is used together without a bundle; who takes an offer less than others; between
    which plans users stand; which limits hurt; who and what is never reached, and which
    gate holds it back. Each with how many users it is about, what it may be worth where
    the log can tell, and the key of the catalogue to edit.

    Ends with status 0 if the log was looked at, whatever was found, 3 if it has too few
    users to tell of any, and 2 if it cannot be read.

    \b
    Examples:
      opportune-simulator opportunities opportune.db
      opportune-simulator opportunities opportune.db --uses shares --json found.json
      opportune-simulator opportunities events.parquet --users-min 50
    """  # noqa: D301 - as above
    settings = OpportunitySettings(
        users_min=users_min,
        confidence=confidence,
        lift_min=lift,
        near=near,
        price_step=price_step,
        uses=tuple(uses or ()),
    )
    with (
        _told(),
        open_log(log, format=format_, mapping=mapping, skip_bad=skip_bad) as source,
        _progress() as watcher,
    ):
        result = find_opportunities(source, settings, watcher=watcher)
    print_opportunities(result, _out)
    _write(json, result)
    if not result.enough:
        raise typer.Exit(_CANNOT_TELL)


@app.command()
def evaluate(
    log: AnyLogArgument,
    *,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            "-p",
            metavar="NAME",
            help=f"What to evaluate, as often as wanted: {CHOICES}. WORD=NAME calls it"
            f" WORD in tables. Without it: {', '.join(POLICIES)} for a server's log,"
            " logged and uniform for others.",
        ),
    ] = None,
    estimator: EstimatorOption = None,
    objective: ObjectiveOption = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="segment|day|week|logger",
            help="Also evaluate each part of the log, as often as wanted.",
        ),
    ] = None,
    quantile: Annotated[
        list[float] | None,
        typer.Option(
            help="Also tell this quantile of what is earned, above 0, below 1; as"
            " often as wanted.",
        ),
    ] = None,
    json: JSONOption = None,
    report: ReportOption = None,
    confidence: ConfidenceOption = 0.95,
    interval: IntervalOption = "default",
    split: SplitOption = None,
    train_until: TrainUntilOption = None,
    folds: FoldsOption = FOLDS,
    dask: DaskOption = None,
    format_: FormatOption = None,
    mapping: MappingOption = None,
    skip_bad: SkipBadOption = False,
) -> None:
    """Estimate what other policies would have earned.

    Values are rewards per decision, over the decisions that have one. `ips` is
    unbiased and noisy, `snips` calmer, `dr` calmer still where rewards can be
    predicted. Policies that learn from the log are judged by users from whom they have
    not learned. Where the log cannot tell, the table says so, why, and how many
    decisions would do.

    Ends with status 0 if every policy is usable by the first objective, 3 if the log
    cannot tell of one (weak or unusable), or of any by another objective, and 2 if the
    log or a policy cannot be read.

    \b
    Examples:
      opportune-simulator evaluate opportune.db
      opportune-simulator evaluate opportune.db -p logged -p fixed:no_offer
      opportune-simulator evaluate opportune.db -p latest -p bolder.toml --json out.json
      opportune-simulator evaluate events.parquet -p uniform --by segment --by week
      opportune-simulator evaluate opportune.db -p bolder.toml --train-until 2026-11-01
    """  # noqa: D301 - as above
    with (
        _told(),
        open_log(log, format=format_, mapping=mapping, skip_bad=skip_bad) as source,
        _progress() as watcher,
    ):
        result = evaluate_log(
            source,
            policy or (POLICIES if source.format == "server" else POLICIES[:2]),
            estimators=estimator or DEFAULT_ESTIMATORS,
            objectives=objective or (REWARD,),
            by=by or (),
            quantiles=quantile or (),
            confidence=confidence,
            interval=interval,
            split=split,
            train_until=train_until,
            folds=folds,
            dask=dask,
            watcher=watcher,
        )
    print_evaluation(result, _out)
    _write(json, result)
    _report(report, result)
    _end(result.verdict)


@app.command()
def compare(
    log: AnyLogArgument,
    policies: Annotated[
        list[str],
        typer.Argument(
            metavar="POLICY...",
            help=f"Two or more policies: {CHOICES}. WORD=NAME calls it WORD in tables.",
        ),
    ],
    *,
    over: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What all others are compared with; the first one without it.",
        ),
    ] = None,
    daily: Annotated[
        bool,
        typer.Option(
            "--daily",
            help="Intervals that hold however often they are looked at, for a job that"
            " runs every day on a log that grows. They are wider.",
        ),
    ] = False,
    promote: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Say whether this policy may be deployed in the place of --over.",
        ),
    ] = None,
    gain_at_least: Annotated[
        float | None,
        typer.Option(
            help="For --promote: what it must earn more a decision, with the confidence"
            " of --confidence; 0 without it.",
            show_default=False,
        ),
    ] = None,
    dismissals_at_most: Annotated[
        float | None,
        typer.Option(
            min=-1.0,
            max=1.0,
            help="For --promote: by how much dismissals a decision may rise, with the"
            " confidence of --confidence; not looked at without it.",
            show_default=False,
        ),
    ] = None,
    estimator: EstimatorOption = None,
    objective: ObjectiveOption = None,
    json: JSONOption = None,
    report: ReportOption = None,
    confidence: ConfidenceOption = 0.95,
    split: SplitOption = None,
    train_until: TrainUntilOption = None,
    folds: FoldsOption = FOLDS,
    dask: DaskOption = None,
    format_: FormatOption = None,
    mapping: MappingOption = None,
    skip_bad: SkipBadOption = False,
) -> None:
    """Say which of several policies is better, and whether to deploy one.

    Differences are of the same decisions, so that they are known better than values.
    Their intervals hold for all policies at once. A winner is named only where the log
    can tell; what is weak or unusable wins nothing.

    Ends with status 0 if a winner is named, 3 if the log cannot tell, and 2 if the log
    or a policy cannot be read. With --promote: 0 to deploy, 1 to keep what is there, 3
    if the log cannot tell.

    \b
    Examples:
      opportune-simulator compare opportune.db logged bolder.toml
      opportune-simulator compare opportune.db now=latest new=bolder.toml --daily
      opportune-simulator compare opportune.db logged new=bolder.toml --promote new
        --over logged --dismissals-at-most 0.002
    """  # noqa: D301 - as above
    if promote is None and (gain_at_least, dismissals_at_most) != (None, None):
        _fail("--gain-at-least and --dismissals-at-most need --promote")
    with (
        _told(),
        open_log(log, format=format_, mapping=mapping, skip_bad=skip_bad) as source,
        _progress() as watcher,
    ):
        settings = GateSettings(
            gain_min=gain_at_least or 0.0,
            dismissals_rise_max=dismissals_at_most,
            confidence=confidence,
        )
        result = compare_log(
            source,
            policies,
            over=over,
            daily=daily,
            promote=promote,
            gate_settings=settings,
            estimators=estimator or DEFAULT_ESTIMATORS,
            objectives=objective or (REWARD,),
            confidence=confidence,
            split=split,
            train_until=train_until,
            folds=folds,
            dask=dask,
            watcher=watcher,
        )
    print_comparison(result, _out)
    _write(json, result)
    _report(report, result)
    if result.gate is not None:
        raise typer.Exit(_GATE[result.gate.verdict])
    if result.winner is None:
        raise typer.Exit(_CANNOT_TELL)


@app.command()
def walk(
    log: AnyLogArgument,
    *,
    policy: Annotated[
        list[str],
        typer.Option(
            "--policy",
            "-p",
            metavar="SETTINGS",
            help="The path of a settings file with the [policy] that is to learn, as"
            " often as wanted. WORD=PATH calls it WORD in tables.",
        ),
    ],
    evaluator: Annotated[
        list[str] | None,
        typer.Option(
            "--evaluator",
            "-e",
            metavar="NAME",
            help="What to evaluate by, as often as wanted:"
            f" {', '.join(EVALUATORS)}. Without it: {', '.join(DEFAULT_EVALUATORS)}.",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            help="For completed: which share of a policy's choices to keep, above 0, at"
            " most 1. Without it, twice the smallest propensity.",
            show_default=False,
        ),
    ] = None,
    in_order: Annotated[
        bool,
        typer.Option(
            "--in-order",
            help="For completed: keep the order of the log, where what pleases"
            " changes.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 0,
    confidence: ConfidenceOption = 0.95,
    json: JSONOption = None,
    format_: FormatOption = None,
    mapping: MappingOption = None,
    skip_bad: SkipBadOption = False,
) -> None:
    """Say what a policy that goes on learning would have earned from the start.

    It begins with nothing learned, and learns from the rows in which the log did what
    it would have done. Values are rewards per decision of a run of so many updates.
    What `evaluate` says of the same settings is of what it has learned in the end.

    Ends with status 0 if every value is usable, 3 if the log cannot tell (weak or
    unusable), and 2 if the log or a policy cannot be read.

    \b
    Examples:
      opportune-simulator walk opportune.db -p opportune.toml
      opportune-simulator walk log.parquet -p bolder.toml -p calm=calmer.toml
      opportune-simulator walk events.dsjson -p opportune.toml -e rejection -e dr_ns
    """  # noqa: D301 - as above
    with (
        _told(),
        open_log(log, format=format_, mapping=mapping, skip_bad=skip_bad) as source,
        _progress() as watcher,
    ):
        result = walk_log(
            source,
            policy,
            evaluators=evaluator or DEFAULT_EVALUATORS,
            confidence=confidence,
            rate=rate,
            in_order=in_order,
            seed=seed,
            watcher=watcher,
        )
    print_walk(result, _out)
    _write(json, result)
    _end(result.verdict)


@app.command()
def simulate(
    world: WorldArgument,
    *,
    policy: PlayerOption = None,
    users: UsersOption = None,
    days: DaysOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other users.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write the log of the first policy, as `convert` writes it:"
            " .parquet, .dsjson, .csv, .npz.",
        ),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Let a running server decide, such as 127.0.0.1:50051, in the place of"
            " policies. It must serve the world's catalogue; visits come as fast as it"
            " answers, in real time.",
        ),
    ] = None,
    json: JSONOption = None,
    report: ReportOption = None,
) -> None:
    """Play a world of simulated users whose tastes are known.

    The same users come under every policy. `oracle` chooses what earns the most at
    once, knowing everything of the user; `silent` never shows anything. Regret is what
    the best eligible action would have earned more, by the truth, a decision.

    \b
    Examples:
      opportune-simulator simulate calm
      opportune-simulator simulate tiring -p default -p silent -p oracle --users 200
      opportune-simulator simulate my_world.toml -p bolder.toml --out log.parquet
    """  # noqa: D301 - as above
    if server is not None:
        if policy or out:
            _fail("--server decides by its own policy, and keeps the log itself")
        if report is not None:
            _fail("there is no report of what a server did: use --json")
        with _told(), _progress() as watcher:
            remote = play_remotely(
                read_world(world, seed),
                server,
                users=users,
                days=days,
                watcher=watcher,
            )
        print_remote(remote, _out)
        _write(json, remote)
        return
    with _told(), _progress() as watcher:
        results: list[Simulation] = []
        for text in policy or ["default"]:
            found = play_world(
                read_world(world, seed),
                player(text),
                users=users,
                days=days,
                watcher=watcher,
            )
            if out is not None and not results:
                write_log(Parts([found.log], str(out)), out)
            results.append(found.result)
    print_simulations(results, _out)
    _write(json, results)
    _report(report, results)


@app.command()
def sweep(
    world: WorldArgument,
    *,
    policy: PlayerOption = None,
    seeds: Annotated[
        str,
        typer.Option(help="The seeds, as in 0-9 or 1,5,7: at least two."),
    ] = "0-4",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUES",
            help="Try each of these values, with a comma between them: of a setting,"
            " as policy.exploration.epsilon=0.01,0.05, or of the world, as"
            " world.fatigue.accept=0,1. All combinations are tried.",
        ),
    ] = None,
    users: UsersOption = None,
    days: DaysOption = None,
    confidence: ConfidenceOption = 0.95,
    json: JSONOption = None,
    report: ReportOption = None,
) -> None:
    """Play a world with several policies, settings and seeds.

    Every policy and setting meets the same users, seed by seed, so that differences
    from the first one are known better than the values: they are of pairs.

    \b
    Examples:
      opportune-simulator sweep calm -p default -p uniform --seeds 0-9
      opportune-simulator sweep tiring --set policy.exploration.epsilon=0.01,0.05
    """  # noqa: D301 - as above
    with _told(), _progress() as watcher:
        result = sweep_worlds(
            world,
            [player(text) for text in policy or ["default"]],
            seeds=seeds_of(seeds),
            settings=settings_of(set_ or ()),
            users=users,
            days=days,
            confidence=confidence,
            watcher=watcher,
        )
    print_sweep(result, _out)
    _write(json, result)
    _report(report, result)


@app.command("report")
def report_result(
    result: Annotated[
        Path,
        typer.Argument(
            metavar="RESULT",
            help="What evaluate, compare, rehearse, simulate or sweep wrote by --json.",
        ),
    ],
    page: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.html",
            help="Where to; a file that is there is replaced.",
        ),
    ],
) -> None:
    """Make a report of a result that was stored.

    A report is one page with the conclusion in words, plots, tables, and what words
    mean. It is one file that loads nothing and runs nothing, and can be read on a phone
    or printed. The same result makes the same file, also by --report of the command
    that found it. Ends with status 2 if the result cannot be read, or there is no
    report of such a result.

    \b
    Examples:
      opportune-simulator report out.json report.html
    """  # noqa: D301 - as above
    with _told():
        write_report(read_result(result), page)


@app.command("check-log")
def check_log(
    log: AnyLogArgument,
    json: JSONOption = None,
    format: FormatOption = None,  # noqa: A002 - it is the option's name
    mapping: MappingOption = None,
    tolerance: Annotated[
        float,
        typer.Option(
            min=1e-12,
            max=0.5,
            help="By how much probabilities may be off: sums from 1, and the propensity"
            " from the probability of what was chosen.",
        ),
    ] = 1e-4,
) -> None:
    """Say what is wrong with a log, with the numbers of the rows.

    Looks at propensities and probabilities, what was eligible, duplicates, gaps,
    clocks and rewards, and lists the policies that logged it. Ends with status 0 if
    nothing is wrong, 1 if anything is, and 2 if the log cannot be read at all.

    \b
    Examples:
      opportune-simulator check-log opportune.db
      opportune-simulator check-log events.dsjson.gz --json check.json
      opportune-simulator check-log visits.csv --mapping visits.toml
    """  # noqa: D301 - as above
    with (
        _told(),
        open_log(log, format=format, mapping=mapping, skip_bad=True) as source,
        _progress() as watcher,
    ):
        now_ms = time.time_ns() // 1_000_000
        result = check_source(
            source, now_ms=now_ms, tolerance=tolerance, watcher=watcher
        )
    _print_check(result)
    _write(json, result)
    if result.wrong:
        raise typer.Exit(_DIFFERS)


@app.command()
def convert(  # noqa: PLR0917 - the options of a command
    log: AnyLogArgument,
    dst: Annotated[
        Path,
        typer.Argument(
            metavar="DST",
            help="Where to; it must not exist. Without a suffix a folder of Parquet,"
            " with one folder per day; .parquet, .dsjson, .csv and .npz (arrays of Open"
            " Bandit Pipeline) are files, and .dsjson.gz and .csv.gz packed ones.",
        ),
    ],
    to: Annotated[
        Target | None,
        typer.Option("--to", help="As what, where DST does not say so."),
    ] = None,
    json: JSONOption = None,
    format: FormatOption = None,  # noqa: A002 - as above
    mapping: MappingOption = None,
    skip_bad: Annotated[  # noqa: FBT002 - a flag of the command line
        bool,
        typer.Option(
            "--skip-bad",
            help="Leave out what cannot be read, and say how much, instead of ending.",
        ),
    ] = False,
) -> None:
    """Write a log anew, as something else.

    Parquet keeps all; dsjson, CSV and arrays what they have a place for. Ends with
    status 2 if the log cannot be read, or not be written.

    \b
    Examples:
      opportune-simulator convert opportune.db log
      opportune-simulator convert events.dsjson.gz log --skip-bad
      opportune-simulator convert log events.dsjson
    """  # noqa: D301 - as above
    with (
        _told(),
        open_log(log, format=format, mapping=mapping, skip_bad=skip_bad) as source,
        _progress() as watcher,
    ):
        result = write_log(source, dst, to, watcher=watcher)
    _out.print(f"{_plural(result.rows, 'decision', 'decisions')} in {result.path}")
    for reason, count in result.left_out.items():
        _out.print(f"Left out: {count:,} {reason}")
    for message in result.first[:_SHOWN_MAX]:
        _out.print(f"  {message}", soft_wrap=True)
    if result.without:
        without = ", ".join(result.without)
        _out.print(f"Not in it, as {result.format} has no place for it: {without}")
    _write(json, result)


def _print_check(result: Check) -> None:
    table = Table("what", "rows", "first rows", "meaning")
    table.columns[1].justify = "right"
    for finding in result.findings:
        rows = ", ".join(map(str, finding.rows[:_SHOWN_MAX]))
        more = " …" if finding.rows and finding.count > _SHOWN_MAX else ""
        mark = "" if finding.severity == "wrong" else " (a note)"
        told = f"{finding.meaning}: {finding.detail}" if finding.detail else ""
        table.add_row(
            finding.kind + mark,
            f"{finding.count:,}",
            rows + more,
            told or finding.meaning,
        )
    actions = _plural(result.actions, "action", "actions")
    decisions = _plural(result.rows, "decision", "decisions")
    _out.print(f"{result.log} ({result.log_format}): {decisions} among {actions}")
    if result.first_ms:
        _out.print(f"from {text_of(result.first_ms)} to {text_of(result.last_ms)}")
    if result.findings:
        _out.print(table)
    for logger in result.loggers:
        if logger.policy or len(result.loggers) > 1:
            name = logger.policy or "no name"
            rows = _plural(logger.rows, "decision", "decisions")
            _out.print(
                f"Logged by {name}: {rows}, from {logger.first} to {logger.last}",
                soft_wrap=True,
            )
    for unchecked in result.unchecked:
        _out.print(f"Not looked at: {unchecked}.")
    _out.print("Something is wrong." if result.wrong else "Nothing is wrong.")


def _print_replay(result: Replay, seconds: float) -> None:
    table = Table("made again", "decisions")
    table.columns[1].justify = "right"
    table.add_row("identical", f"{result.identical:,}")
    if result.close:
        table.add_row("within the tolerance", f"{result.close:,}")
    for reason, count in result.reasons.items():
        table.add_row(f"differ: {_REASONS[reason]}", f"{count:,}")
    table.add_section()
    table.add_row("all", f"{result.decisions:,}")
    _out.print(f"Replay of {result.log}")
    _out.print(table)
    by = ", ".join(
        [
            _plural(result.models, "model", "models"),
            _plural(result.policies, "policy", "policies"),
            _plural(result.catalogues, "catalogue", "catalogues"),
        ]
    )
    _out.print(f"{by}; {result.decisions / seconds:,.0f} decisions/s")
    for different in result.first[:_SHOWN_MAX]:
        _print_different(different)
    more = result.differing - _SHOWN_MAX
    if more > 0:
        _out.print(f"and {more:,} more that differ")


def _print_different(different: Different) -> None:
    where = f"decision {different.position}, {different.decision_id}"
    reason = _REASONS[different.reason]
    _out.print(f"\n{where}: {reason}")
    if different.detail:
        _out.print(f"  {different.detail}")
    for field in different.fields:
        logged, again = _short(field.logged), _short(field.again)
        _out.print(f"  {field.field}: logged {logged}, again {again}")


def _plural(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _short(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _WIDTH_MAX else text[: _WIDTH_MAX - 1] + "…"


def _end(verdict: Verdict) -> None:
    """End with the status for a log that cannot tell, where it cannot."""
    if verdict != "usable":
        raise typer.Exit(_CANNOT_TELL)


def _write(
    path: Path | None,
    result: Replay
    | Evaluation
    | Comparison
    | Check
    | Written
    | Rehearsal
    | Gating
    | Opportunities
    | Sweep
    | Remote
    | Walk
    | list[Simulation],
) -> None:
    if path is None:
        return
    text = msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n"
    try:
        path.write_bytes(text)
    except OSError as error:
        _fail(f"{path}: cannot be written: {error.strerror}")


def _report(path: Path | None, result: Reportable) -> None:
    if path is not None:
        with _told():
            write_report(result, path)


@contextmanager
def _told() -> Iterator[None]:
    """Say what is wrong with a log or a policy, and end."""
    try:
        yield
    except OpportuneError as error:
        _fail(str(error))


@contextmanager
def _progress() -> Iterator[Watcher]:
    """Show on a terminal how far the work is, a line for each part of it."""
    with Progress(
        console=_err, transient=True, disable=not _err.is_terminal
    ) as progress:
        tasks: dict[str, TaskID] = {}

        def watch(doing: str, done: int, total: int) -> None:
            if doing not in tasks:
                tasks[doing] = progress.add_task(doing)
            progress.update(tasks[doing], completed=done, total=total)

        yield watch


def _fail(message: str) -> NoReturn:
    _err.print(message, soft_wrap=True)
    raise typer.Exit(_CANNOT)


def main() -> None:
    """Run the command that was typed.

    Status 1 is an answer. What nobody expected, as a defect or output that cannot be
    written, is none, and ends with 70.
    """
    try:
        app()
    except SystemExit as ended:
        if ended.code == 1 and not isinstance(ended.__context__, typer.Exit):
            raise SystemExit(_UNEXPECTED) from None
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, it is no answer
        _err.print(_unexpected(error), soft_wrap=True)
        raise SystemExit(_UNEXPECTED) from None


def _unexpected(error: Exception) -> str:
    """Say what nobody expected, and where."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return (
        "This is a defect of opportune-simulator, and no answer:"
        f" {type(error).__name__}: {error} ({where.filename}, line {where.lineno})"
    )


if __name__ == "__main__":
    main()
