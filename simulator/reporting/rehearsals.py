"""Reports of rehearsals: what would have been under other rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from simulator.rehearsing import Effect, Figure, Rehearsal
from simulator.reporting.axes import Axis, Tick
from simulator.reporting.blocks import (
    CANNOT,
    NOTHING,
    Badge,
    Bar,
    Bars,
    Block,
    Card,
    Figures,
    Forest,
    Mark,
    Page,
    Section,
    Table,
    Words,
    badge,
    said,
)
from simulator.reporting.numbers import (
    count,
    decimals,
    fixed,
    interval,
    percent,
    share,
)
from simulator.reporting.withholding import withheld
from simulator.reporting.words import meanings

__all__ = ["of_rehearsal"]

_LEADS: Mapping[str, str] = {
    "better": "The new rules earn more.",
    "worse": "The new rules earn less.",
    "same": "Nothing changes.",
    "open": "The log cannot tell which rules earn more.",
}
_CHANGES: Mapping[str, Badge] = {
    "blocked": Badge("blocked", "plain"),
    "allowed": Badge("allowed", "plain"),
}


def of_rehearsal(result: Rehearsal) -> Page:
    """Return the report of a rehearsal."""
    result = msgspec.structs.replace(
        result,
        figures=tuple(withheld(figure, result.verdict) for figure in result.figures),
    )
    sections = [
        Section(
            id="worth",
            title="What it is worth",
            intro="Of decisions that have a reward, and of silence, which earns 0. The"
            " log's number is observed. The other is estimated: its interval holds the"
            f" truth in {percent(result.confidence)} of logs like this one, and counts"
            " what was never tried as the least and as the most that any decision"
            " earned.",
            blocks=tuple(_worth(result)),
        ),
        Section(
            id="course",
            title="How far the log goes along",
            intro="A user leaves the log with the first decision that comes out"
            " otherwise: what was logged of them afterwards followed from something"
            " that did not happen.",
            blocks=(Figures(charts=(_course(result),)),),
        ),
    ]
    if result.effects:
        sections.append(
            Section(
                id="gates",
                title="Which gates make the difference",
                intro="What is blocked earned in the log what is told. What is allowed"
                " was not there to earn anything: ≈ is what the same actions earned"
                " elsewhere in the log.",
                blocks=(_effects(result.effects),),
            )
        )
    return Page(
        title=f"Rehearsal of {result.log}",
        kicker="What would have been under other rules",
        subject=f"{result.log} under catalogue {result.catalogue}:"
        f" {result.decisions:,} decisions of {result.roots:,} users or accounts",
        headline=_LEADS[result.lead],
        badges=(badge(result.verdict),),
        leads=said(_leads(result)),
        cards=tuple(_cards(result)),
        sections=tuple(sections),
        asked=(
            ("log", result.log),
            ("catalogue", result.catalogue),
            ("policy", result.policy),
            ("decisions", f"{result.decisions:,}, of which {result.rewarded:,} count"),
            ("confidence", percent(result.confidence)),
        ),
        definitions=meanings(
            *("value", "interval", "usable", "weak", "unusable"),
            *("leaves the log", "known"),
        ),
        format=result.format,
    )


def _leads(result: Rehearsal) -> Iterator[str]:
    for figure in result.figures:
        if figure.difference is None:
            continue
        places = _places(figure)
        told = interval(
            figure.difference_low, figure.difference_high, places, signed=True
        )
        more = fixed(figure.difference, places, signed=True)
        yield f"{figure.objective.capitalize()}: {more} a decision, {told}"
        if result.known < 1.0 and None not in (figure.alike_low, figure.alike_high):
            alike = interval(figure.alike_low, figure.alike_high, places, signed=True)
            yield (
                f"{figure.objective.capitalize()}: {alike} more, if what was never"
                " tried is like what was tried in its segment"
            )
    yield from result.doubts
    left = result.diverged / result.roots if result.roots else 0.0
    yield f"{share(left)} of the users or accounts leave the log"


def _places(figure: Figure) -> int:
    ends = (
        (figure.low, figure.high),
        (figure.difference_low, figure.difference_high),
    )
    return decimals(
        high - low for low, high in ends if low is not None and high is not None
    )


def _cards(result: Rehearsal) -> Iterator[Card]:
    for figure in result.figures:
        places = _places(figure)
        told = figure.value is not None
        detail = interval(figure.low, figure.high, places) if told else CANNOT
        yield Card(
            name=f"{figure.objective}, new rules",
            value=fixed(figure.value, places) if told else NOTHING,
            unit="a decision" if told else "",
            detail=f"{detail}; the log has {fixed(figure.logged, places)}",
            badge=badge(result.verdict),
            series=1,
        )


def _worth(result: Rehearsal) -> Iterator[Block]:
    confidence = percent(result.confidence)
    for figure in result.figures:
        places = _places(figure)
        axis = Axis.around((figure.logged, figure.value, figure.low, figure.high))
        told = figure.value is not None
        logged = Mark.on(
            axis,
            figure.logged,
            figure.logged,
            figure.logged,
            name="the log",
            value=fixed(figure.logged, places),
            interval="observed",
        )
        new = Mark.on(
            axis,
            figure.value,
            figure.low,
            figure.high,
            name="the new rules",
            value=fixed(figure.value, places) if told else NOTHING,
            interval=interval(figure.low, figure.high, places) if told else CANNOT,
            badges=(badge(result.verdict),),
            series=1,
            is_weak=result.verdict == "weak",
        )
        yield Forest(
            caption=f"{figure.objective.capitalize()} a decision",
            heads=("", "value", f"{confidence} interval"),
            rows=(logged, new),
            ticks=tuple(axis.ticks()),
        )
    yield _differences(result)
    if result.doubts:
        yield Words(lines=said(result.doubts), badge=badge(result.verdict))
    if result.notes:
        yield Words(lines=said(result.notes))


def _differences(result: Rehearsal) -> Forest:
    found = result.figures
    axis = Axis.around(
        [
            0.0,
            *(x for f in found for x in (f.difference, f.difference_low)),
            *(f.difference_high for f in found),
        ]
    )
    rows: list[Mark] = []
    for figure in found:
        places = _places(figure)
        told = figure.difference is not None
        ends = figure.difference_low, figure.difference_high
        rows.append(
            Mark.on(
                axis,
                figure.difference,
                *ends,
                name=figure.objective,
                value=fixed(figure.difference, places, signed=True)
                if told
                else NOTHING,
                interval=interval(*ends, places, signed=True) if told else CANNOT,
                badges=(badge(result.verdict),),
                series=1,
                is_weak=result.verdict == "weak",
            )
        )
    return Forest(
        caption="What the new rules have more than the log, a decision",
        heads=("", "difference", f"{percent(result.confidence)} interval"),
        rows=tuple(rows),
        ticks=tuple(axis.ticks()),
        reference=Tick(axis.place(0.0), "no difference"),
    )


def _course(result: Rehearsal) -> Bars:
    decisions, roots = result.decisions or 1, result.roots or 1
    rows: tuple[tuple[str, float, str], ...] = (
        ("other actions are eligible", result.changed / decisions, "decisions"),
        ("decided as in the log, with all before", result.coverage, "decisions"),
        ("known by the log's probabilities", result.known, "what the new rules do"),
        ("leave the log", result.diverged / roots, "users or accounts"),
    )
    return Bars(
        title="Under the new rules",
        reading="As shares: of decisions, of what the new rules do, of users.",
        rows=tuple(
            Bar(name=name, width=round(part * 100, 3), said=share(part))
            for name, part, _ in rows
        ),
        series=1,
        table=Table(
            caption="Under the new rules",
            heads=("what", "of", "share"),
            rows=tuple((name, of, share(part, 2)) for name, part, of in rows),
            words=2,
        ),
    )


def _effects(effects: tuple[Effect, ...]) -> Table:
    rows: list[tuple[str | Badge, ...]] = []
    for effect in effects:
        about = "≈ " if effect.change == "allowed" else ""
        worth = [
            "—" if number is None else f"{about}{fixed(number, 1)}"
            for number in (effect.reward, effect.dismissals)
        ]
        rows.append(
            (
                effect.gate,
                _CHANGES[effect.change],
                count(effect.decisions),
                count(effect.roots),
                count(effect.actions),
                f"{about}{fixed(effect.choices, 1)}",
                *worth,
            )
        )
    return Table(
        caption="Gates",
        heads=(
            *("gate", "now", "decisions", "users", "actions", "choices", "reward"),
            "dismissed",
        ),
        rows=tuple(rows),
        words=2,
    )
