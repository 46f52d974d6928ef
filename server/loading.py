"""What people see of catalogues and switches on the command line."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from policies.errors import NotFoundError
from server import activation
from server.stores.base import Activation, AdminStore, Switch
from server.trial import Trial, try_out

__all__ = ["check_scope", "history", "preview", "replace", "switches"]

_DAY_MS = 86_400_000
_TRIED_MAX = 10_000
_LINES_MAX = 20


def preview(store: AdminStore, path: Path, out: Console) -> None:
    """Print what a catalogue would change, and would have meant for the last day.

    Raises:
        CatalogueError: If anything in it is wrong.
    """
    before = activation.in_use(store)
    catalogue = activation.compile_source(path, before)
    if before is None:
        out.print("the first catalogue")
        return
    lines = activation.changes(before.text, catalogue.text)
    out.print(Text("\n".join(["different:", *_indented(lines or ["nothing"])])))
    if not lines:
        return
    since_ms = time.time_ns() // 1_000_000 - _DAY_MS
    decisions = store.decisions_since(since_ms, _TRIED_MAX)
    if not decisions:
        return
    watched = track(decisions, "trying", console=out, transient=True)
    out.print(_tried(try_out(watched, catalogue, before)))


def _tried(trial: Trial) -> Table:
    """Return what a trial came to, as a table."""
    table = Table("offer", "would be eligible", "would not be any more")
    for offer_id in sorted({*trial.gained, *trial.lost}):
        gained, lost = trial.gained[offer_id], trial.lost[offer_id]
        table.add_row(offer_id, f"+{gained}", f"-{lost}")
    table.caption = (
        f"of {trial.decisions} decisions of the last 24 hours, asked again under both;"
        f" {trial.silenced} would have no offer to choose from any more"
    )
    if trial.other:
        table.caption += f"; {trial.other} name placements that one of them lacks"
    return table


def replace(path: Path, file: Path) -> None:
    """Put a file in the place of another, all at once.

    Raises:
        OSError: If it cannot be written.
        ValueError: If the catalogue is a folder.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder: put {file} into it, then load")
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    os.close(descriptor)
    shutil.copyfile(file, temporary)
    if path.exists():
        shutil.copymode(path, temporary)
    Path(temporary).replace(path)


def check_scope(store: AdminStore, scope: str) -> None:
    """Refuse what names nothing of the catalogue that is in use.

    Raises:
        NotFoundError: If the catalogue has no such thing.
        ValueError: If it is no scope.
    """
    if scope == "all":
        return
    kind, _, name = scope.partition(":")
    catalogue = activation.in_use(store)
    if catalogue is None:
        raise ValueError("no catalogue is in use yet; start the server once")
    known = {
        "offer": catalogue.offers,
        "placement": catalogue.placements,
        "category": catalogue.spec.categories,
    }
    if kind not in known or not name:
        raise ValueError(
            "a scope is all, offer:NAME, category:NAME or placement:NAME, not"
            f" {scope!r}"
        )
    if name not in known[kind]:
        raise NotFoundError(kind, name)


def history(activations: Sequence[Activation]) -> Text:
    """Return the catalogues that were taken into use or refused, the latest first."""
    lines: list[str] = []
    for each in activations:
        state = "in use" if each.accepted else "refused"
        why = f": {each.reason}" if each.reason else ""
        lines.append(f"{_time(each.at_ms)} {each.version} {state}, by {each.who}{why}")
        what = each.diff if each.accepted else each.problems
        if not each.previous and each.accepted:
            what = "the first catalogue"
        lines += _indented(what.splitlines())
    return Text("\n".join(lines or ["no catalogue was ever in use"]))


def _indented(lines: Sequence[str]) -> list[str]:
    shown = [f"  {line}" for line in lines[:_LINES_MAX]]
    more = len(lines) - len(shown)
    return [*shown, f"  and {more} more"] if more else shown


def switches(found: Sequence[Switch]) -> Table:
    """Return what was stopped and resumed, as a table."""
    table = Table("what", "now", "since", "who", "why")
    for each in found:
        state = "stopped" if each.stopped else "on"
        table.add_row(each.scope, state, _time(each.at_ms), each.who, each.reason)
    return table


def _time(at_ms: int) -> str:
    at = dt.datetime.fromtimestamp(at_ms / 1_000, dt.UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}Z"
