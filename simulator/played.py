"""What simulations and sweeps look like on a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from simulator.remote import Remote
from simulator.simulating import Simulation, Truth
from simulator.sweeping import Mean, Sweep, Variant

__all__ = ["print_remote", "print_simulations", "print_sweep"]

_ROWS = {
    "decisions": ("decisions", "{:,.0f}"),
    "shown": ("offers shown", "{:,.0f}"),
    "accepts": ("accepted", "{:,.0f}"),
    "dismissals": ("dismissed", "{:,.0f}"),
    "opt_outs": ("opted out", "{:,.0f}"),
    "refunds": ("refunded", "{:,.0f}"),
    "reward": ("reward a decision, as drawn", "{:.4f}"),
    "expected": ("reward a decision, in truth", "{:.4f}"),
    "regret": ("regret a decision", "{:.4f}"),
    "revenue": ("revenue, minor units", "{:,.0f}"),
    "interruptions": ("interruptions a user", "{:.1f}"),
    "churned": ("users who left", "{:.1%}"),
    "trust": ("trust kept", "{:.1%}"),
    "value": ("value a user, minor units", "{:,.1f}"),
}
_SWEPT = ("expected", "regret", "interruptions", "trust", "value")


def print_simulations(results: Sequence[Simulation], out: Console) -> None:
    """Print what came of each policy, side by side, and how far estimates are off.

    Args:
        results: At least one, all of the same world.
        out: Where to.
    """
    first = results[0]
    out.print(
        f"World {first.world}, seed {first.seed}: {first.users:,} users,"
        f" {first.days:g} days"
    )
    table = Table("", *(result.policy for result in results))
    for column in table.columns[1:]:
        column.justify = "right"
    for name, (said, pattern) in _ROWS.items():
        cells = [pattern.format(getattr(each.figures, name)) for each in results]
        table.add_row(said, *cells)
    out.print(table)
    if any(result.estimates for result in results):
        out.print("\nEstimated from the log, and the truth")
        out.print(_estimates(results))


def print_remote(result: Remote, out: Console) -> None:
    """Print what came of a world that was played against a server."""
    out.print(
        f"World {result.world}, seed {result.seed}: {result.users:,} users came to"
        f" {result.address}"
    )
    table = Table("", "server")
    table.columns[1].justify = "right"
    for name, (said, pattern) in _ROWS.items():
        if name in Remote.__struct_fields__:
            table.add_row(said, pattern.format(getattr(result, name)))
    out.print(table)


def print_sweep(result: Sweep, out: Console) -> None:
    """Print the means of all variants, and how they differ from the first."""
    percent = f"{result.confidence * 100:g}"
    out.print(f"World {result.world}, {len(result.seeds)} seeds, intervals {percent} %")
    for title, attribute in (("mean", "figures"), ("more than the first", "more")):
        variants = result.variants[attribute == "more" :]
        if not variants:
            continue
        table = Table(title, *(_ROWS[name][0] for name in _SWEPT))
        for variant in variants:
            means: dict[str, Mean] = getattr(variant, attribute)
            most = {"trust": 1.0} if attribute == "figures" else {}
            cells = [
                _mean(means[name], _ROWS[name][1], most.get(name, math.inf))
                for name in _SWEPT
            ]
            table.add_row(_called(variant), *cells)
        out.print(table)


def _estimates(results: Sequence[Simulation]) -> Table:
    table = Table("log of", "value of", "by", "estimate", "interval", "truth", "error")
    for column in table.columns[3:]:
        column.justify = "right"
    for result in results:
        for each in result.estimates:
            table.add_row(result.policy, each.policy, each.estimator, *_told(each))
    return table


def _told(each: Truth) -> tuple[str, str, str, str]:
    truth = f"{each.truth:.4f}"
    if each.value is None or each.error is None:
        return "cannot tell", "", truth, ""
    low = "-∞" if each.low is None else f"{each.low:.4f}"
    high = "∞" if each.high is None else f"{each.high:.4f}"
    weak = " (weak)" if each.verdict == "weak" else ""
    return f"{each.value:.4f}{weak}", f"{low} to {high}", truth, f"{each.error:+.4f}"


def _mean(mean: Mean, pattern: str, most: float = math.inf) -> str:
    """Say a mean with its interval, cut off at the most that there can be."""
    ends = mean.mean, mean.low, min(mean.high, most)
    middle, low, high = (pattern.format(x) for x in ends)
    return f"{middle}\n{low} to {high}"


def _called(variant: Variant) -> str:
    said = [f"{key.split('.')[-1]}={value}" for key, value in variant.settings.items()]
    return " ".join([variant.policy, *said])
