"""Reports of simulations: what came of each policy in a world, day by day."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from simulator.reporting.axes import Axis, Tick
from simulator.reporting.blocks import (
    CANNOT,
    NOTHING,
    ROWS_MAX,
    Badge,
    Block,
    Card,
    Chart,
    Figures,
    Forest,
    Line,
    Mark,
    Page,
    Point,
    Section,
    Table,
    badge,
    closed,
)
from simulator.reporting.numbers import (
    among,
    count,
    decimals,
    fixed,
    interval,
    share,
)
from simulator.reporting.withholding import withheld
from simulator.reporting.words import estimators_of, meanings
from simulator.simulating import Period, Simulation, Truth

__all__ = ["of_simulations"]

_KNOWN = Badge("truth known", "plain")
_COUNTS = {
    "decisions": "decisions",
    "shown": "offers shown",
    "accepts": "accepted",
    "dismissals": "dismissed",
    "opt_outs": "opted out",
    "refunds": "refunded",
}
_SHARES = {"trust": "trust kept", "churned": "users who left"}


def of_simulations(results: Sequence[Simulation]) -> Page:
    """Return the report of simulations in one world.

    Args:
        results: At least one, each of another policy.
    """
    results = [
        msgspec.structs.replace(
            one, estimates=tuple(withheld(t, t.verdict) for t in one.estimates)
        )
        for one in results
    ]
    first = results[0]
    most = max(results, key=lambda one: one.figures.expected)
    sections = [
        Section(
            id="figures",
            title="What came of each policy",
            intro="In truth is what the chosen actions earn on average, which no luck"
            " of the users is in. As drawn is what these users did.",
            blocks=tuple(_figures(results)),
        ),
        Section(
            id="days",
            title="Day by day",
            intro="The same users come at the same times under each policy, as long as"
            " they stay.",
            blocks=(Figures(charts=tuple(_days(results))),),
        ),
    ]
    if any(one.estimates for one in results):
        sections.append(
            Section(
                id="estimates",
                title="Estimates beside the truth",
                intro="What an evaluation says of the log that each policy left: of"
                " uniform, which chooses evenly, and of best, which always chooses"
                " what earns the most. The upright bar is the truth. A log of a policy"
                " that hardly explores cannot tell, and says so.",
                blocks=(_estimates(results),),
            )
        )
    return Page(
        title=f"Simulation of {first.world}",
        kicker="A world of simulated users whose tastes are known",
        subject=f"World {first.world}, seed {first.seed}: {first.users:,} users,"
        f" {first.days:g} days",
        headline=_simulated(results, most),
        badges=(_KNOWN,),
        leads=closed(_leads(results, most)),
        cards=tuple(_cards(results)),
        sections=tuple(sections),
        asked=(
            ("world", first.world),
            ("seed", str(first.seed)),
            ("users", f"{first.users:,}"),
            ("days", f"{first.days:g}"),
            ("catalogue", first.catalogue),
            *(("policy", f"{one.policy}: version {one.version}") for one in results),
        ),
        definitions=(
            *meanings("truth", "regret", "trust kept", "value a user"),
            *meanings("interval", "usable", "weak", "unusable"),
            *estimators_of(t.estimator for one in results for t in one.estimates),
        ),
        format=first.format,
    )


def _places(results: Sequence[Simulation]) -> int:
    found = [abs(one.figures.expected) for one in results]
    return min(max(decimals([max(found)]) + 1, 2), 6)


def _simulated(results: Sequence[Simulation], most: Simulation) -> str:
    places = _places(results)
    earned = fixed(most.figures.expected, places)
    if len(results) == 1:
        return (
            f"{most.policy} earns {earned} a decision in truth, and keeps the trust of"
            f" {share(most.figures.trust)} of the users."
        )
    return f"{most.policy} earns the most a decision: {earned}, in truth."


def _leads(results: Sequence[Simulation], most: Simulation) -> Iterator[str]:
    if len(results) > 1:
        trust = max(one.figures.trust for one in results)
        names = [one.policy for one in results if one.figures.trust == trust]
        keep = "keep" if len(names) > 1 else "keeps"
        yield f"{among(names)} {keep} the most trust, of {share(trust)} of the users"
        value = max(results, key=lambda one: one.figures.value)
        yield (
            f"A user is worth the most under {value.policy}:"
            f" {fixed(value.figures.value, 1)} minor units"
        )
    off = [t for one in results for t in one.estimates if t.error is not None]
    if off:
        held = sum(_holds(t) for t in off)
        yield (
            f"{held} of {len(off)} intervals that were estimated from the logs hold the"
            " truth"
        )
    untold = sum(t.value is None for one in results for t in one.estimates)
    if untold:
        yield f"Of {untold} more the log cannot tell, and no number is told"
    yield f"This is one seed, {most.seed}: a sweep says how sure differences are"


def _holds(found: Truth) -> bool:
    above = found.low is None or found.low <= found.truth
    return above and (found.high is None or found.truth <= found.high)


def _cards(results: Sequence[Simulation]) -> Iterator[Card]:
    places = _places(results)
    for at, one in enumerate(results):
        yield Card(
            name=one.policy,
            value=fixed(one.figures.expected, places),
            unit="a decision, in truth",
            detail=f"regret {fixed(one.figures.regret, places)}, trust kept"
            f" {share(one.figures.trust)}",
            series=at,
        )


def _figures(results: Sequence[Simulation]) -> Iterator[Block]:
    places = _places(results)
    rows: list[tuple[str, ...]] = [
        (said_, *(count(getattr(one.figures, name)) for one in results))
        for name, said_ in _COUNTS.items()
    ]
    for name, said_ in (
        ("reward", "reward a decision, as drawn"),
        ("expected", "reward a decision, in truth"),
        ("best", "the best actions would have earned"),
        ("regret", "regret a decision"),
    ):
        cells = (fixed(getattr(one.figures, name), places) for one in results)
        rows.append((said_, *cells))
    for name, said_ in (
        ("interruptions", "interruptions a user"),
        ("value", "value a user, minor units"),
    ):
        cells = (fixed(getattr(one.figures, name), 1) for one in results)
        rows.append((said_, *cells))
    rows.append(
        ("revenue, minor units", *(count(one.figures.revenue) for one in results))
    )
    for name, said_ in _SHARES.items():
        rows.append((said_, *(share(getattr(one.figures, name)) for one in results)))
    yield Table(
        caption="What came of it",
        heads=("figure", *(one.policy for one in results)),
        rows=tuple(rows),
    )


def _days(results: Sequence[Simulation]) -> Iterator[Chart]:
    yield _over_days(
        results,
        lambda one: [day.expected for day in one.by_day],
        title="Reward a decision",
        reading="In truth, the mean of each day.",
    )
    yield _over_days(
        results,
        lambda one: [day.regret for day in one.by_day],
        title="Regret a decision",
        reading="What the best action would have earned more: it falls where a policy"
        " learns.",
    )
    yield _over_days(
        results,
        lambda one: _summed(one.by_day),
        title="Regret so far",
        reading="Of all decisions up to each day, together.",
    )
    yield _over_days(
        results,
        lambda one: [1.0 - day.churned / one.users for day in one.by_day],
        title="Users who stayed",
        reading="The share who had not left by the end of each day.",
        percent=True,
    )


def _summed(days: Sequence[Period]) -> list[float]:
    total, found = 0.0, []
    for day in days:
        total += day.regret * day.decisions
        found.append(total)
    return found


def _over_days(
    results: Sequence[Simulation],
    numbers_of: Callable[[Simulation], Sequence[float]],
    *,
    title: str,
    reading: str,
    percent: bool = False,
) -> Chart:
    numbers = [list(numbers_of(one)) for one in results]
    days = sorted({day.day for one in results for day in one.by_day})
    base = None if percent else 0.0
    upwards = Axis.around([base, *(x for some in numbers for x in some)])
    across = Axis(days[0] - 0.5, days[-1] + 0.5) if days else Axis(0.0, 1.0)
    places = decimals([(upwards.high - upwards.low) / 10])

    def told(number: float) -> str:
        return share(number) if percent else fixed(number, places)

    lines = tuple(
        Line(
            name=one.policy,
            series=at,
            points=tuple(
                Point(
                    x=across.place(day.day),
                    y=round(100 - upwards.place(number), 3),
                    label=f"{one.policy}, day {day.day}: {told(number)}",
                )
                for day, number in zip(one.by_day, some, strict=True)
            ),
        )
        for at, (one, some) in enumerate(zip(results, numbers, strict=True))
    )
    by_day = [
        {day.day: told(x) for day, x in zip(one.by_day, some, strict=True)}
        for one, some in zip(results, numbers, strict=True)
    ]
    ends = ", ".join(
        f"{one.policy} {told(some[0])} to {told(some[-1])}"
        for one, some in zip(results, numbers, strict=True)
        if some
    )
    last = len(days) - 1
    some_days = sorted({days[round(last * part / 4)] for part in range(5) if days})
    return Chart(
        title=title,
        reading=reading,
        says=f"{title} by day, from the first to the last: {ends}.",
        x_name="day",
        x_ticks=tuple(Tick(across.place(day), str(day)) for day in some_days),
        y_ticks=tuple(
            Tick(round(100 - t.at, 3), t.label)
            for t in upwards.ticks(4, percent=percent)
        ),
        lines=lines,
        table=Table(
            caption=title,
            heads=("day", *(one.policy for one in results)),
            rows=tuple(
                (str(day), *(found.get(day, "—") for found in by_day)) for day in days
            ),
        ),
    )


def _estimates(results: Sequence[Simulation]) -> Forest:
    found = [t for one in results for t in one.estimates]
    axis = Axis.around(x for t in found for x in (t.truth, t.value, *_firm(t)))
    widths = [t.high - t.low for t in found if t.low is not None and t.high is not None]
    places = decimals(widths)
    rows: list[Mark] = []
    for at, one in enumerate(results):
        for place, each in enumerate(one.estimates):
            told = each.value is not None
            rows.append(
                Mark.on(
                    axis,
                    each.value,
                    each.low,
                    each.high,
                    name="" if place else f"log of {one.policy}",
                    about=f"{each.policy} by {each.estimator}",
                    value=fixed(each.value, places) if told else NOTHING,
                    interval=(interval(each.low, each.high, places) if told else CANNOT)
                    + f", truth {fixed(each.truth, places)}",
                    badges=(badge(each.verdict),),
                    series=at,
                    truth=axis.place(each.truth),
                    is_weak=each.verdict == "weak",
                )
            )
    return Forest(
        caption="Estimated from the log, and the truth",
        heads=("log, policy", "estimate", "interval, and the truth"),
        rows=tuple(rows),
        ticks=tuple(axis.ticks()),
        is_folded=len(rows) > ROWS_MAX,
    )


def _firm(found: Truth) -> tuple[float | None, ...]:
    return (found.low, found.high) if found.verdict == "usable" else ()
