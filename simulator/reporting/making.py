"""From a result, or the file that it is in, to a file of HTML."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from policies.errors import OpportuneError
from simulator.comparing import Comparison
from simulator.evaluation import Evaluation
from simulator.rehearsing import Rehearsal
from simulator.reporting.blocks import Page
from simulator.reporting.comparisons import of_comparison
from simulator.reporting.evaluations import of_evaluation
from simulator.reporting.rehearsals import of_rehearsal
from simulator.reporting.simulations import of_simulations
from simulator.reporting.sweeps import of_sweep
from simulator.simulating import Simulation
from simulator.sweeping import Sweep

__all__ = ["READABLE", "ReportError", "Reportable", "page", "read_result", "report"]

Reportable = (
    Evaluation | Comparison | Rehearsal | Sweep | Simulation | Sequence[Simulation]
)

_TEMPLATES = Path(__file__).with_name("templates")
_KINDS: Mapping[str, Any] = {
    "opportune.evaluation.v2": Evaluation,
    "opportune.comparison.v1": Comparison,
    "opportune.rehearsal.v1": Rehearsal,
    "opportune.sweep.v1": Sweep,
    "opportune.simulation.v1": Simulation,
}
_PAGES: Mapping[type, Callable[[Any], Page]] = {
    Evaluation: of_evaluation,
    Comparison: of_comparison,
    Rehearsal: of_rehearsal,
    Sweep: of_sweep,
}

READABLE = tuple(_KINDS)
"""The formats of results that there are reports of."""


class ReportError(OpportuneError):
    """There is no report of it, or it cannot be read or written: the message says."""


class _Head(msgspec.Struct):
    format: str


def report(result: Reportable, path: str | Path) -> None:
    """Write a report of a result: one file of HTML that needs nothing else.

    Args:
        result: What `evaluate`, `compare`, `rehearse` or `sweep` returned, or the
            `result` of one or several simulations in the same world.
        path: Where to; a file that is there is replaced.

    Raises:
        ReportError: If it cannot be written, or there is no report of such a thing.
    """
    text = page(result)
    try:
        Path(path).write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ReportError(f"{path}: cannot be written: {error.strerror}") from None


def page(result: Reportable) -> str:
    """Return a report of a result, as HTML; the same result gives the same text.

    Args:
        result: As of `report`.

    Raises:
        ReportError: If there is no report of such a thing.
    """
    made = _page(result)
    template = _environment().get_template("page.html")
    style = (_TEMPLATES / "style.css").read_text(encoding="utf-8")
    return template.render(page=made, style=style).lstrip()


def read_result(path: str | Path) -> Reportable:
    """Read a result that was stored as JSON, with `--json` or `msgspec.json.encode`.

    Args:
        path: The file.

    Raises:
        ReportError: If it cannot be read, or there are no reports of what is in it.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ReportError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        several = data.lstrip()[:1] == b"["
        head = (
            msgspec.json.decode(data, type=tuple[_Head, ...])
            if several
            else (msgspec.json.decode(data, type=_Head),)
        )
        formats = {one.format for one in head}
        if len(formats) != 1 or not formats <= _KINDS.keys():
            this = ", ".join(sorted(formats)) or "nothing"
            raise ReportError(
                f"{path}: there is no report of {this}; there is of"
                f" {', '.join(READABLE)}"
            )
        kind = _KINDS[formats.pop()]
        if several and kind is not Simulation:
            raise ReportError(f"{path}: a report is of one result, not of a list")
        wanted = tuple[Simulation, ...] if several else kind
        found: Reportable = msgspec.json.decode(data, type=wanted)
    except msgspec.DecodeError as error:
        raise ReportError(f"{path}: this is no result: {error}") from None
    return found


def _page(result: Reportable) -> Page:
    if isinstance(result, Simulation):
        return of_simulations((result,))
    made = _PAGES.get(type(result))
    if made is not None:
        return made(result)
    if isinstance(result, list | tuple) and result:
        kinds = {type(one) for one in result}
        if kinds == {Simulation}:
            return of_simulations(tuple(result))
    raise ReportError(f"there is no report of {type(result).__name__}")


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
