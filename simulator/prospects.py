"""What opportunities look like on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from simulator.prospecting import Kind, Opportunities, Prospect

__all__ = ["print_opportunities"]

_SHOWN_MAX = 10
_KEYS_MAX = 4
_LUCK_MIN = 0.001
_TITLES: dict[Kind, str] = {
    "together": "Used together without a bundle",
    "adoption": "Adopted less than by others",
    "gap": "Gaps between plans",
    "limit": "Limits that hurt",
    "unserved": "Never reached",
}


def print_opportunities(result: Opportunities, out: Console) -> None:
    """Print what was found, a table for each kind, and what could not be looked at."""
    out.print(
        f"{result.log}: {result.decisions:,} decisions of {result.users:,} users"
        f" ({result.roots:,} users or accounts)"
    )
    settings = result.settings
    if not result.enough:
        out.print(
            f"Too few to tell: fewer than {settings.users_min:,} users or accounts."
        )
        return
    for kind, title in _TITLES.items():
        found = result.of(kind)
        if found:
            out.print(f"\n{title}")
            out.print(_table(found[:_SHOWN_MAX]))
        if len(found) > _SHOWN_MAX:
            out.print(f"and {len(found) - _SHOWN_MAX:,} more; --json has them all")
    if not result.found:
        out.print("Nothing was found.")
    out.print(
        f"\n{result.tests:,} comparisons were tested; of those told, about"
        f" {1 - settings.confidence:.2g} are luck ({result.correction})."
        f" Each is about {settings.users_min:,} users or accounts, or more."
    )
    if result.small:
        tiers = "tier" if result.small == 1 else "tiers"
        out.print(f"Left out: {result.small:,} {tiers} with fewer.")
    for what in result.unchecked:
        out.print(f"Not looked at: {what}.")


def _table(found: list[Prospect]) -> Table:
    table = Table("what", "users", "share", "evidence", "may be worth", show_lines=True)
    for column in table.columns[1:3]:
        column.justify = "right"
    for each in found:
        do = f"→ {each.next}"
        if each.keys:
            more = ", …" if len(each.keys) > _KEYS_MAX else ""
            do += f" [{', '.join(each.keys[:_KEYS_MAX])}{more}]"
        table.add_row(
            f"{each.what}\n{do}",
            f"{each.users:,}",
            f"{each.share:.1%}",
            "\n".join(_evidence(each)),
            _worth(each),
        )
    return table


def _evidence(each: Prospect) -> list[str]:
    lines = [
        f"{name.replace('_', ' ')}: {_number(value)}"
        for name, value in each.evidence.items()
    ]
    lines += [f"held back by {held.gate}: {held.share:.0%}" for held in each.held[:3]]
    if each.adjusted is not None:
        luck = f"{each.adjusted:.2g}" if each.adjusted >= _LUCK_MIN else "below 0.001"
        lines.append(f"luck: {luck}")
    return lines


def _worth(each: Prospect) -> str:
    if each.worth is None:
        return f"no number: {each.untold}"
    worth = each.worth
    ends = f"{worth.low:+,.1f} to {worth.high:+,.1f}"
    percent = float(f"{worth.confidence:.4g}") * 100
    return f"{worth.value:+,.1f} ({ends}, {percent:g} %), {worth.supposed}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.3g}"
