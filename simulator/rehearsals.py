"""What a rehearsal looks like on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from simulator.rehearsing import Effect, Figure, Rehearsal

__all__ = ["print_rehearsal"]

_NOTHING = "cannot tell"
_LEADS = {
    "better": "The new rules earn more.",
    "worse": "The new rules earn less.",
    "same": "Nothing changes.",
    "open": "The log cannot tell which rules earn more.",
}


def print_rehearsal(result: Rehearsal, out: Console, seconds: float) -> None:
    """Print a rehearsal: where it leaves the log, which gates, and what it is worth."""
    out.print(
        f"{result.log} under catalogue {result.catalogue}: {result.decisions:,}"
        f" decisions of {result.roots:,} users or accounts"
    )
    out.print(f"Policy: {result.policy}")
    out.print(_course(result))
    if result.effects:
        out.print(_effects(result.effects))
    out.print(_figures(result))
    for note in result.notes:
        out.print(f"Note: {note}.")
    for doubt in result.doubts:
        out.print(f"{result.verdict.capitalize()}: {doubt}.")
    out.print(_LEADS[result.lead])
    out.print(f"{result.decisions / seconds:,.0f} decisions/s")


def _course(result: Rehearsal) -> Table:
    table = Table("under the new rules", "decisions", "share")
    for column in table.columns[1:]:
        column.justify = "right"
    for what, count in (
        ("other actions are eligible", result.changed),
        ("decided as in the log, with all before", result.followed),
    ):
        table.add_row(what, f"{count:,}", f"{count / result.decisions:.2%}")
    table.add_row("known by the log's probabilities", "", f"{result.known:.2%}")
    table.add_section()
    diverged = result.diverged / result.roots
    table.add_row("users or accounts that leave the log", "", f"{diverged:.2%}")
    return table


def _effects(effects: tuple[Effect, ...]) -> Table:
    table = Table(
        "gate", "now", "decisions", "actions", "choices", "reward", "dismissed"
    )
    for column in table.columns[2:]:
        column.justify = "right"
    for effect in effects:
        guessed = "≈" if effect.change == "allowed" else ""
        worth = [
            "—" if value is None else f"{guessed}{value:,.1f}"
            for value in (effect.reward, effect.dismissals)
        ]
        table.add_row(
            effect.gate,
            effect.change,
            f"{effect.decisions:,}",
            f"{effect.actions:,}",
            f"{guessed}{effect.choices:,.1f}",
            *worth,
        )
    return table


def _figures(result: Rehearsal) -> Table:
    head = f"{float(f'{result.confidence:.4g}') * 100:g} %"
    table = Table("a decision", "log", "new rules", head, "difference", head)
    for column in table.columns[1:]:
        column.justify = "right"
    for figure in result.figures:
        table.add_row(figure.objective, f"{figure.logged:.4f}", *_cells(figure))
    return table


def _cells(figure: Figure) -> tuple[str, ...]:
    if figure.value is None or figure.difference is None:
        return _NOTHING, "", _NOTHING, ""
    return (
        f"{figure.value:.4f}",
        f"{figure.low:.4f} to {figure.high:.4f}",
        f"{figure.difference:+.4f}",
        f"{figure.difference_low:+.4f} to {figure.difference_high:+.4f}",
    )
