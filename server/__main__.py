"""The command line of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from policies import catalogue as catalogues
from policies.catalogue import Catalogue
from policies.errors import CatalogueError, FileError, Problem
from server import supervisor, telemetry, worker
from server.settings import ServerSettings, Settings, read_settings
from server.stores.opening import migrate_store

__all__ = ["main"]

app = typer.Typer(
    help="Opportune decides which offer a user sees at a moment, or none.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_out = Console()
_err = Console(stderr=True, highlight=False)

SettingsOption = Annotated[
    Path,
    typer.Option(
        "--settings", "-s", help="The settings file.", exists=True, dir_okay=False
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
    _read_catalogue(loaded)
    try:
        migrate_store(loaded.store.url)
    except RuntimeError as error:
        _fail(str(error))
    try:
        asyncio.run(supervisor.supervise(settings, loaded))
    except OSError as error:
        _fail(f"cannot serve on {loaded.server.address}: {error}")
    except RuntimeError as error:
        _fail(str(error))


@app.command()
def lint(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Catalogues or settings files; one with [offers] or [placements] is"
            " a catalogue.",
            exists=True,
            dir_okay=False,
        ),
    ],
) -> None:
    """Say everything that is wrong with catalogues and settings files.

    With a settings file, the catalogue that it names is looked at too. Ends with
    status 1 if anything is wrong, naming file, line and key.
    """
    wrong = False
    for file in files:
        try:
            _lint(file)
        except FileError as error:
            wrong = True
            for problem in error.problems:
                _err.print(f"{file}: {problem}", soft_wrap=True, markup=False)
    if wrong:
        raise typer.Exit(1)


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
    catalogue = _read_catalogue(loaded)
    loaded = msgspec.structs.replace(loaded, server=here)
    with _plain_errors():
        asyncio.run(worker.serve(loaded, catalogue.text, index=index))


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
    except (OSError, RuntimeError) as error:
        _fail(str(error))


def _load(path: Path) -> Settings:
    try:
        return read_settings(path)
    except FileError as error:
        _fail(str(error))


def _read_catalogue(settings: Settings) -> Catalogue:
    try:
        return _catalogue(Path(settings.catalogue.file))
    except FileError as error:
        _fail(str(error))


def _catalogue(path: Path) -> Catalogue:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogueError(str(path), [Problem("file", str(error))]) from None
    return catalogues.read(text, str(path))


def _lint(path: Path) -> None:
    """Check a file, and say what is in it."""
    text = path.read_bytes()
    if b"[offers" not in text and b"[placements" not in text:
        settings = read_settings(path)
        _out.print(f"{path}: settings, no problems", highlight=False, soft_wrap=True)
        path = Path(settings.catalogue.file)
    catalogue = _catalogue(path)
    _out.print(f"{path}: catalogue, no problems", highlight=False, soft_wrap=True)
    table = Table("offer", "actions")
    for offer_id in catalogue.offers:
        actions = sum(action.offer_id == offer_id for action in catalogue.actions)
        table.add_row(offer_id, str(actions))
    _out.print(table)


def _fail(message: str) -> NoReturn:
    _err.print(message, soft_wrap=True, markup=False)
    raise typer.Exit(1)


def main() -> None:
    """Run the command that was typed."""
    app()


if __name__ == "__main__":
    main()
