"""What rehearsals, and what gates cost by them, look like on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from simulator.gating import Cost, Gating
from simulator.rehearsing import Effect, Figure, Rehearsal

__all__ = ["print_gating", "print_rehearsal"]

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
    for figure in result.figures:
        if result.known < 1.0 and None not in (figure.alike_low, figure.alike_high):
            out.print(
                f"{figure.objective}: {figure.alike_low:+.4f} to"
                f" {figure.alike_high:+.4f} more, if what was never tried is like what"
                " was, of the same segment"
            )
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
    head = _percent(result.confidence)
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


def print_gating(result: Gating, out: Console) -> None:
    """Print what gates held back, and what that may have been worth."""
    out.print(
        f"{result.log}: {result.decisions:,} decisions of {result.roots:,} users or"
        f" accounts, by the gates of catalogue {result.catalogue}"
    )
    out.print(_held(result))
    sums = f"a reward of {result.reward:,.1f} in all"
    out.print(f"What would be more without it, of {sums}:")
    out.print(_worth(result))
    out.print(
        f"All {result.intervals} intervals of a kind hold at once,"
        f" {_percent(result.confidence)} of the time (Bonferroni). Alike: if what was"
        " held back earns as the same does in the same segment where it was tried."
    )
    for each in result.alternatives:
        why = f"; not asked: {each.untold}" if each.untold else ""
        out.print(f"{each.name}: {each.about}{why}.")
    for note in result.notes:
        out.print(f"Note: {note}.")
    for name, cost in _costs(result):
        for doubt in cost.doubts:
            out.print(f"{cost.verdict.capitalize()}: {name}: {doubt}.")


def _held(result: Gating) -> Table:
    table = Table("gate", "rejects in", "share", "users", "alone in", "choices")
    for column in table.columns[1:]:
        column.justify = "right"
    for gate in result.gates:
        asked = gate.cost is not None
        table.add_row(
            gate.gate,
            f"{gate.decisions:,}",
            f"{gate.decisions / result.decisions:.1%}",
            f"{gate.users:,}",
            f"{gate.alone:,}" if asked else "always asked",
            f"≈{gate.choices:,.1f}" if asked else "",
        )
    return table


def _worth(result: Gating) -> Table:
    head = _percent(result.confidence)
    table = Table(
        "without",
        "more",
        "≈",
        f"{head}, if alike",
        f"{head}, whatever",
        "verdict",
        "it",
    )
    for column in table.columns[2:5]:
        column.justify = "right"
    for name, cost in _costs(result):
        rewards = (cost.reward, cost.reward_alike_low, cost.reward_alike_high)
        table.add_row(
            *(name, "reward", *_sums(*rewards, cost.reward_low, cost.reward_high)),
            *(cost.verdict, cost.lead),
        )
        dismissals = (
            cost.dismissals,
            cost.dismissals_alike_low,
            cost.dismissals_alike_high,
        )
        bounds = cost.dismissals_low, cost.dismissals_high
        table.add_row("", "dismissals", *_sums(*dismissals, *bounds), end_section=True)
    return table


def _costs(result: Gating) -> list[tuple[str, Cost]]:
    gates = [(gate.gate, gate.cost) for gate in result.gates]
    others = [(each.name, each.cost) for each in result.alternatives]
    return [(name, cost) for name, cost in (*gates, *others) if cost is not None]


def _sums(value: float | None, *ends: float | None) -> tuple[str, ...]:
    if value is None:
        return _NOTHING, "", ""
    low, high, least, most = ends
    alike = "never tried"
    if low is not None and high is not None:
        alike = f"{_signed(low)} to {_signed(high)}"
    whatever = [
        end if bound is None else _signed(bound)
        for bound, end in ((least, "−∞"), (most, "∞"))
    ]
    return _signed(value), alike, " to ".join(whatever)


def _signed(value: float) -> str:
    return f"{value:+,.0f}" if abs(value) >= 100 else f"{value:+,.1f}"


def _percent(confidence: float) -> str:
    return f"{float(f'{confidence:.4g}') * 100:g} %"
