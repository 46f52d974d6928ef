"""The command line of the server."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import structlog
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from policies.errors import FileError, OpportuneError, plainly
from policies.specs import CatalogueSpec
from server import (
    accounting,
    activation,
    asking,
    loading,
    modelling,
    supervisor,
    telemetry,
    warming,
    worker,
)
from server.settings import ServerSettings, Settings, names_learner, read_settings
from server.stores.opening import migrate_store, open_admin

__all__ = ["main"]

_log = structlog.get_logger()

app = typer.Typer(
    help="Opportune decides which offer a user sees at a moment, or none.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)
models = typer.Typer(
    help="See what is learned, and say which model decides.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(models, name="models")
_out = Console()
_err = Console(stderr=True, highlight=False)

_LISTED_MAX = 50
_SCOPES = "all, offer:NAME, category:NAME or placement:NAME."

SettingsOption = Annotated[
    Path,
    typer.Option(
        "--settings", "-s", help="The settings file.", exists=True, dir_okay=False
    ),
]
SinceOption = Annotated[
    dt.datetime | None,
    typer.Option(
        help="From when on, in UTC, such as 2026-11-01 or 2026-11-01T12:30:00; all if"
        " left out.",
        show_default=False,
        metavar="TIME",
    ),
]


@app.command()
def serve(settings: SettingsOption = Path("settings.toml")) -> None:
    """Serve GetOffer and ReportOutcome, and learn, until stopped.

    Starts the workers and the learner that the settings ask for, makes the store or
    brings it up to date, and prints the address once requests are answered. SIGTERM
    and Ctrl-C let requests in flight finish.
    """
    telemetry.configure_log()
    loaded = _load(settings)
    with _plain_errors():
        migrate_store(loaded.store.url)
        with closing(open_admin(loaded.store.url)) as store:
            modelling.check_kept(loaded, store, named=names_learner(settings))
        _take_into_use(loaded)
    for warning in loaded.warnings:
        _log.warning("settings that are seldom meant", what=warning)
    try:
        asyncio.run(supervisor.supervise(settings, loaded))
    except OSError as error:
        _fail(f"cannot serve: address {loaded.server.address} {plainly(error)}")
    except RuntimeError as error:
        _fail(str(error))


@app.command()
def lint(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Catalogues, as files or folders, or settings files; a file that"
            " begins with a key of catalogues, such as [offers], is one.",
            exists=True,
        ),
    ],
) -> None:
    """Say everything that is wrong with catalogues and settings files.

    With a settings file, the catalogue that it names is looked at too. Ends with
    status 1 if anything is wrong, naming file, line and key.
    """
    wrong = False
    listed: set[Path] = set()
    for file in files:
        try:
            _lint(file, listed)
        except FileError as error:
            wrong = True
            _err.print(str(error), soft_wrap=True, markup=False)
    if wrong:
        raise typer.Exit(1)


@app.command()
def explain(
    decision_id: Annotated[str, typer.Argument(help="As GetOffer answered it.")],
    settings: SettingsOption = Path("settings.toml"),
) -> None:
    """Say why a decision was as it was: what could be shown, and why the rest not.

    Every gate is asked again about everything that the decision was made from, so that
    the answer is the same years later.
    """
    loaded = _load(settings)
    with _plain_errors():
        explanation, catalogue = asyncio.run(asking.explained(loaded, decision_id))
    _out.print(asking.answer(explanation, catalogue, chosen=True))


@app.command()
def check(
    *,
    user: Annotated[str, typer.Option(help="The user who would see it.")],
    placement: Annotated[
        list[str], typer.Option(help="A placement that can render; repeat for more.")
    ],
    settings: SettingsOption = Path("settings.toml"),
    account: Annotated[str, typer.Option(help="The user's account.")] = "",
    moment: Annotated[str, typer.Option(help="What just happened.")] = "",
    role: Annotated[str, typer.Option(help="The user's role.")] = "",
    segment: Annotated[str, typer.Option(help="The user's segment.")] = "",
    session: Annotated[str, typer.Option(help="The user's visit.")] = "",
    offer: Annotated[
        list[str] | None, typer.Option(help="Consider this offer only; repeat.")
    ] = None,
    usage: Annotated[
        list[str] | None,
        typer.Option(help="storage_gb=92/100, or tasks=95/100@2.5 a day; repeat."),
    ] = None,
    feature: Annotated[
        list[str] | None, typer.Option(help="pages=30, plan=basic, beta=true; repeat.")
    ] = None,
    cart: Annotated[
        list[str] | None, typer.Option(help="A product in the cart; repeat.")
    ] = None,
    at: Annotated[
        dt.datetime | None,
        typer.Option(help="When, in UTC; now if left out.", show_default=False),
    ] = None,
    catalogue: Annotated[
        Path | None,
        typer.Option(help="Try this catalogue instead of what is in use.", exists=True),
    ] = None,
) -> None:
    """Say what would be shown to a user now, without deciding anything.

    What is remembered of the user counts, and nothing is stored. For example: check
    --user ada --placement sidebar --moment limit_near --usage storage_gb=92/100
    """
    loaded = _load(settings)
    at_ms = worker.system_clock()
    if at is not None:
        at_ms = round(at.replace(tzinfo=dt.UTC).timestamp() * 1_000)
    with _plain_errors():
        opportunity = asking.opportunity_of(
            user=user,
            account=account,
            session=session,
            placements=placement,
            offers=offer or (),
            moment=moment,
            role=role,
            segment=segment,
            usage=usage or (),
            features=feature or (),
            cart=cart or (),
            at_ms=at_ms,
        )
        draft = None if catalogue is None else activation.compile_source(catalogue)
        explanation, compiled = asyncio.run(asking.check(loaded, opportunity, draft))
    _out.print(asking.answer(explanation, compiled, chosen=False))


@app.command()
def load(
    *,
    settings: SettingsOption = Path("settings.toml"),
    file: Annotated[
        Path | None,
        typer.Argument(
            help="A catalogue to take the place of the one in the settings.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    who: Annotated[
        str, typer.Option(help="Who, for the record; you if left out.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing, only say what would be.")
    ] = False,
) -> None:
    """Take a catalogue into use: linted, compared, tried on the last day, recorded.

    Prints what is different from the catalogue that is in use, and what it would have
    meant for up to 10,000 decisions of the last 24 hours. A running server follows
    within seconds. With FILE, the file that the settings name is replaced by it. A bad
    catalogue is refused, and the one before stays in use.
    """
    loaded = _load(settings)
    path = Path(loaded.catalogue.file)
    with _plain_errors():
        migrate_store(loaded.store.url)
        with closing(open_admin(loaded.store.url)) as store:
            if dry_run:
                loading.preview(store, file or path, _out)
                return
            done = activation.load(
                file or path,
                store,
                who=who or activation.me(),
                reason=reason,
                at_ms=worker.system_clock(),
                before_use=lambda: loading.preview(store, file or path, _out),
            )
            if file is not None:
                loading.replace(path, file)
    state = "in use" if done.fresh else "in use already"
    _out.print(f"catalogue {done.catalogue.version} is {state}", highlight=False)


@app.command()
def loads(
    settings: SettingsOption = Path("settings.toml"),
    limit: Annotated[int, typer.Option(help="How many of the last ones.", min=1)] = 20,
) -> None:
    """List the catalogues that were taken into use or refused: who, when, what, why."""
    with _plain_errors(), closing(open_admin(_load(settings).store.url)) as store:
        _out.print(loading.history(store.activations(limit)))


@app.command()
def revenue(
    *,
    settings: SettingsOption = Path("settings.toml"),
    since: SinceOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The file to write; standard output if left out."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, and no CSV.")
    ] = False,
) -> None:
    """Write the table of revenue: what was bought, for how much, by which decision.

    There is a row for each outcome that was accepted, converted or refunded, with
    offer, creative, placement, moment, campaign, list price, discount, revenue and
    margin. When several decisions claim the same purchase, the one that was shown last
    before it is credited, within the time that `[rewards] attribution` says.
    """
    loaded = _load(settings)
    write = accounting.write_json if json else accounting.write_csv
    with _plain_errors(), closing(open_admin(loaded.store.url)) as store:
        rows = accounting.revenue(store, loaded.rewards, since_ms=_ms(since))
        if out is None:
            write(rows, sys.stdout)
        else:
            with out.open("w", encoding="utf-8", newline="") as file:
                write(rows, file)


@app.command()
def discounts(
    *,
    settings: SettingsOption = Path("settings.toml"),
    since: SinceOption = None,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, and no table.")
    ] = False,
) -> None:
    """Say what became of discounts: how much was wasted, and what was gained.

    An offer with a `discount` is compared with the same one without: what it is `like`,
    or what grants the same products. Those who were shown the full price stand for
    those who were shown the discount, weighed by what was likelier for whom. Wasted is
    what went to those who would have accepted the full price; gained is what is left in
    margins above what the full price would have left.
    """
    loaded = _load(settings)
    with (
        _plain_errors(),
        closing(open_admin(loaded.store.url)) as store,
        _err.status("reading the log"),
    ):
        rows = accounting.discounts(store, loaded.rewards, since_ms=_ms(since))
    if json:
        accounting.write_json(rows, sys.stdout)
    else:
        _out.print(accounting.discounts_table(rows))


def _ms(at: dt.datetime | None) -> int:
    """Return a time in UTC in milliseconds since 1970; 0 for none."""
    return 0 if at is None else round(at.replace(tzinfo=dt.UTC).timestamp() * 1_000)


@app.command()
def stop(
    scope: Annotated[str, typer.Argument(help=_SCOPES)],
    settings: SettingsOption = Path("settings.toml"),
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    who: Annotated[
        str, typer.Option(help="Who, for the record; you if left out.")
    ] = "",
) -> None:
    """Stop showing offers, on every worker within a second.

    What was decided and not shown yet is withdrawn too: CheckDecision says so.
    """
    _switch(settings, scope, reason, who, on=False)


@app.command()
def resume(
    scope: Annotated[str, typer.Argument(help=_SCOPES)],
    settings: SettingsOption = Path("settings.toml"),
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    who: Annotated[
        str, typer.Option(help="Who, for the record; you if left out.")
    ] = "",
) -> None:
    """Show again what was stopped."""
    _switch(settings, scope, reason, who, on=True)


@app.command()
def stops(settings: SettingsOption = Path("settings.toml")) -> None:
    """List what was stopped, and what was resumed: who, when, why."""
    with _plain_errors(), closing(open_admin(_load(settings).store.url)) as store:
        _out.print(loading.switches(store.switches()))


def _switch(settings: Path, scope: str, reason: str, who: str, *, on: bool) -> None:
    with _plain_errors(), closing(open_admin(_load(settings).store.url)) as store:
        loading.check_scope(store, scope)
        change = store.resume if on else store.stop
        change(
            scope,
            who=who or activation.me(),
            reason=reason,
            at_ms=worker.system_clock(),
        )
    _out.print(f"{scope} is {'on again' if on else 'stopped'}", highlight=False)


PolicyOption = Annotated[
    str,
    typer.Option(
        help="A policy: the name of a challenger, or `default` for [policy]; the one"
        " that decides, if left out."
    ),
]
ReasonOption = Annotated[str, typer.Option(help="Why, for the record.")]
WhoOption = Annotated[str, typer.Option(help="Who, for the record; you if left out.")]


@models.command("list")
def list_models(
    *,
    settings: SettingsOption = Path("settings.toml"),
    policy: PolicyOption = "",
    limit: Annotated[int, typer.Option(help="How many of the last ones.", min=1)] = 10,
) -> None:
    """List the models that are kept, the policies, and what was done to models.

    A model is `serving`, `canary` (it serves a few users first), `staged` (later than
    the one that serves) or `retired` (earlier). Its name is EPOCH.POSITION: which
    training stream, and how many resolutions of it were learned.
    """
    loaded = _load(settings)
    with _plain_errors(), closing(open_admin(loaded.store.url)) as store:
        _out.print(modelling.listed(loaded, store, policy, limit))


@models.command()
def show(
    *,
    model: Annotated[
        str, typer.Argument(help="Such as 1.250; the one that serves if left out.")
    ] = "",
    settings: SettingsOption = Path("settings.toml"),
    policy: PolicyOption = "",
) -> None:
    """Say what a model has learned: of each action, and by which features.

    Ends with its calibration: decisions of which about the same was predicted, and what
    they earned. Where the predicted value lies outside of what was observed, the model
    is wrong there.
    """
    loaded = _load(settings)
    with _plain_errors(), closing(open_admin(loaded.store.url)) as store:
        _out.print(modelling.shown(loaded, store, model, policy))


@models.command()
def promote(
    *,
    model_or_policy: Annotated[
        str,
        typer.Argument(
            help="A model such as 1.250, which is then kept to; a policy, which then"
            " decides; or nothing: the latest model, and later ones follow.",
        ),
    ] = "",
    settings: SettingsOption = Path("settings.toml"),
    policy: PolicyOption = "",
    reason: ReasonOption = "",
    who: WhoOption = "",
) -> None:
    """Let a model serve all users, or a policy decide, on every worker within a second.

    The model is checked first. After a rollback, or where later models stay out because
    exploration has collapsed, `promote` without a model lets them serve again.
    """
    loaded = _load(settings)
    author = modelling.Author(who or activation.me(), reason, worker.system_clock())
    with _plain_errors(), closing(open_admin(loaded.store.url)) as store:
        said = modelling.promote(loaded, store, model_or_policy, policy, author)
    _out.print(said, highlight=False)


@models.command()
def rollback(
    *,
    settings: SettingsOption = Path("settings.toml"),
    to: Annotated[
        str, typer.Option(help="Such as 1.250; the one that served before if left out.")
    ] = "",
    policy: PolicyOption = "",
    reason: ReasonOption = "",
    who: WhoOption = "",
) -> None:
    """Let an earlier model serve again, on every worker within a second.

    What is learned meanwhile is published and staged, and stays out until `promote`.
    """
    loaded = _load(settings)
    author = modelling.Author(who or activation.me(), reason, worker.system_clock())
    with _plain_errors(), closing(open_admin(loaded.store.url)) as store:
        said = modelling.rollback(loaded, store, to, policy, author)
    _out.print(said, highlight=False)


@models.command()
def rebuild(
    *,
    judge_anew: Annotated[
        bool,
        typer.Option(
            help="Say what each decision earned by the settings of today, and not by"
            " those under which it was learned."
        ),
    ] = False,
    settings: SettingsOption = Path("settings.toml"),
    reason: ReasonOption = "",
    who: WhoOption = "",
) -> None:
    """Learn everything anew, from the final reward of each decision.

    Begins a new epoch of the training stream. What serves goes on serving until the
    new models have learned all of it. With a server running, its learner does the work;
    else it is done here.
    """
    loaded = _load(settings)
    with _plain_errors(), closing(open_admin(loaded.store.url)) as store:
        epoch = store.ask_rebuild(
            "judged_anew" if judge_anew else "as_learned",
            who=who or activation.me(),
            reason=reason,
            at_ms=worker.system_clock(),
        )
        if not store.learner_runs():
            with Progress(console=_err, transient=True) as bar:
                task = bar.add_task("learning anew", total=None)
                worker.relearn(
                    loaded, lambda done, of: bar.update(task, completed=done, total=of)
                )
        with _err.status("learning anew"):
            said = modelling.await_rebuild(loaded, store, epoch, patience_s=60.0)
    _out.print(said, highlight=False)


@models.command()
def export(
    *,
    file: Annotated[Path, typer.Argument(help="Where to write it.", dir_okay=False)],
    settings: SettingsOption = Path("settings.toml"),
    model: Annotated[
        str, typer.Option(help="Such as 1.250; the one that serves if left out.")
    ] = "",
    policy: PolicyOption = "",
) -> None:
    """Write a model to a file: its settings and its bytes, as JSON.

    Another server begins with it where its settings say so: `warm_start` in [learning].
    """
    loaded = _load(settings)
    with (
        _plain_errors(),
        closing(open_admin(loaded.store.url)) as store,
        Progress(console=_err, transient=True) as bar,
    ):
        task = bar.add_task("writing", total=None)
        said = modelling.export(
            loaded,
            store,
            file,
            model,
            policy,
            watcher=lambda done, of: bar.update(task, completed=done, total=of),
        )
    _out.print(said, highlight=False, soft_wrap=True)


@app.command(hidden=True)
def work(
    settings: SettingsOption,
    address: Annotated[str, typer.Option(help="Where to listen.")],
    index: Annotated[int, typer.Option(help="Which worker this is.")],
) -> None:
    """Serve, as one of the processes that `serve` starts."""
    telemetry.configure_log()
    loaded = _load(settings)
    here: ServerSettings = msgspec.structs.replace(loaded.server, address=address)
    loaded = msgspec.structs.replace(loaded, server=here)
    with _plain_errors():
        asyncio.run(worker.serve(loaded, index=index))


@app.command(hidden=True)
def learn(settings: SettingsOption) -> None:
    """Learn, as the process that `serve` starts."""
    telemetry.configure_log()
    loaded = _load(settings)
    with _plain_errors():
        worker.learn(loaded)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Say what an operator can mend in a line."""
    try:
        yield
    except OSError as error:
        name = "" if error.filename is None else f"{error.filename} "
        _fail(f"{name}{plainly(error)}")
    except (RuntimeError, ValueError, OpportuneError) as error:
        _fail(str(error))


def _load(path: Path) -> Settings:
    try:
        return read_settings(path)
    except FileError as error:
        _fail(str(error))


def _take_into_use(settings: Settings) -> None:
    path = Path(settings.catalogue.file)
    store = open_admin(settings.store.url)
    try:
        activation.load(
            path,
            store,
            who=activation.me(),
            reason="the server was started",
            at_ms=worker.system_clock(),
        )
    finally:
        store.close()


def _lint(path: Path, listed: set[Path]) -> None:
    """Check a file, and say what is in it.

    Args:
        path: The file.
        listed: The catalogues whose offers were listed, each once; it is added to.
    """
    if not path.is_dir() and not _is_catalogue(path.read_bytes()):
        settings = read_settings(path)
        _out.print(f"{path}: settings, no problems", highlight=False, soft_wrap=True)
        for warning in [*settings.warnings, *warming.doubts(settings)]:
            _out.print(f"warning: {warning}", highlight=False, soft_wrap=True)
        path = Path(settings.catalogue.file)
    catalogue = activation.compile_source(path)
    _out.print(f"{path}: catalogue, no problems", highlight=False, soft_wrap=True)
    if path.resolve() in listed:
        return
    listed.add(path.resolve())
    counts = Counter(action.offer_id for action in catalogue.actions)
    table = Table("offer", "state", "actions")
    for offer_id, offer in islice(catalogue.offers.items(), _LISTED_MAX):
        table.add_row(offer_id, offer.spec.state, str(counts[offer_id]))
    if len(catalogue.offers) > _LISTED_MAX:
        table.add_row(f"and {len(catalogue.offers) - _LISTED_MAX} more", "", "")
    _out.print(table)


def _is_catalogue(text: bytes) -> bool:
    """Say whether a file begins with a key that catalogues have."""
    first = re.search(rb"^[ \t]*\[*[ \t]*(\w+)", text, re.MULTILINE)
    keys = {field.encode_name for field in msgspec.structs.fields(CatalogueSpec)}
    return first is not None and first.group(1).decode() in keys


def _fail(message: str) -> NoReturn:
    _err.print(message, soft_wrap=True, markup=False)
    raise typer.Exit(1)


def main() -> None:
    """Run the command that was typed."""
    app()


if __name__ == "__main__":
    main()
