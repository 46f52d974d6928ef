"""Reports of sweeps: settings and seeds, and what differs for certain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from simulator.reporting.axes import Axis, Tick
from simulator.reporting.blocks import (
    ROWS_MAX,
    Badge,
    Card,
    Forest,
    Mark,
    Page,
    Section,
    Table,
    closed,
)
from simulator.reporting.numbers import (
    among,
    decimals,
    fixed,
    interval,
    percent,
    share,
)
from simulator.reporting.words import meanings
from simulator.sweeping import Mean, Sweep, Variant

__all__ = ["of_sweep"]

_KNOWN = Badge("truth known", "plain")
_NAMES = {
    "expected": "reward a decision, in truth",
    "regret": "regret a decision",
    "trust": "trust kept",
    "interruptions": "interruptions a user",
    "value": "value a user, minor units",
}


def of_sweep(result: Sweep) -> Page:
    """Return the report of a sweep."""
    first, rest = result.variants[0], result.variants[1:]
    sections = []
    if rest:
        sections.append(
            Section(
                id="more",
                title=f"What each has more than {_called(first)}",
                intro="Seed by seed: the same users are in both, so that differences"
                " are known better than the means.",
                blocks=tuple(
                    _dots(result, name, rest, _more_of, is_difference=True)
                    for name in _NAMES
                ),
            )
        )
    sections.append(
        Section(
            id="means",
            title="Means over the seeds",
            intro="The line is an interval for what it is on average over all seeds,"
            " Student's.",
            blocks=tuple(
                _dots(result, name, result.variants, _figures_of, is_difference=False)
                for name in _NAMES
            ),
        )
    )
    sections.append(
        Section(
            id="all",
            title="All figures",
            blocks=(_all(result),),
        )
    )
    keys = sorted({key for one in result.variants for key in one.settings})
    return Page(
        title=f"Sweep of {result.world}",
        kicker="Settings and seeds in a world whose users are known",
        subject=f"World {result.world}: {len(result.variants)} variants,"
        f" {len(result.seeds)} seeds",
        headline=_swept(result),
        badges=(_KNOWN,),
        leads=closed(_swept_leads(result)),
        cards=tuple(_swept_cards(result)),
        sections=tuple(sections),
        asked=(
            ("world", result.world),
            ("seeds", ", ".join(map(str, result.seeds))),
            ("confidence", percent(result.confidence)),
            ("policies", ", ".join(dict.fromkeys(v.policy for v in result.variants))),
            *(
                (key, ", ".join(dict.fromkeys(_set(v, key) for v in result.variants)))
                for key in keys
            ),
        ),
        definitions=meanings("truth", "regret", "trust kept", "value a user"),
        format=result.format,
    )


def _swept(result: Sweep) -> str:
    first, rest = result.variants[0], result.variants[1:]
    if not rest:
        mean = first.figures["expected"]
        places = _places_of([mean])
        return (
            f"{_called(first)} earns {fixed(mean.mean, places)} a decision in truth,"
            f" {interval(mean.low, mean.high, places)}."
        )
    better = [v for v in rest if v.more["expected"].low > 0]
    worse = [v for v in rest if v.more["expected"].high < 0]
    if better:
        best = max(better, key=lambda v: v.more["expected"].mean)
        more = best.more["expected"]
        places = _places_of([more])
        told = interval(more.low, more.high, places)
        return (
            f"{_called(best)} earns more than {_called(first)}, by {told} a decision."
        )
    if len(worse) == len(rest):
        return f"{_called(first)} earns the most a decision of all that were tried."
    return f"Nothing is certain to earn more than {_called(first)}."


def _swept_leads(result: Sweep) -> Iterator[str]:
    rest = result.variants[1:]
    first = _called(result.variants[0])
    for name, word in (("expected", "reward"), ("trust", "trust"), ("value", "value")):
        more = [_called(v) for v in rest if v.more[name].low > 0]
        less = [_called(v) for v in rest if v.more[name].high < 0]
        for names, is_ in ((more, "more"), (less, "less")):
            if 0 < len(names) <= 4:
                yield f"{is_.capitalize()} {word} than {first}: {among(names)}"
            elif names:
                yield f"{is_.capitalize()} {word} than {first}: {len(names)} variants"
    if len(rest) > 1:
        yield (
            f"Each interval holds by itself: of {len(rest)} variants, some may lead by"
            " chance"
        )


def _swept_cards(result: Sweep) -> Iterator[Card]:
    if len(result.variants) > 6:
        return
    places = _places_of([v.figures["expected"] for v in result.variants])
    for at, one in enumerate(result.variants):
        mean = one.figures["expected"]
        yield Card(
            name=_called(one),
            value=fixed(mean.mean, places),
            unit="a decision, in truth",
            detail=f"{interval(mean.low, mean.high, places)}; trust kept"
            f" {share(one.figures['trust'].mean)}",
            series=at,
        )


def _places_of(means: Sequence[Mean]) -> int:
    return decimals(mean.high - mean.low for mean in means)


def _figures_of(variant: Variant) -> Mapping[str, Mean]:
    return variant.figures


def _more_of(variant: Variant) -> Mapping[str, Mean]:
    return variant.more


def _dots(
    result: Sweep,
    name: str,
    variants: Sequence[Variant],
    of: Callable[[Variant], Mapping[str, Mean]],
    *,
    is_difference: bool,
) -> Forest:
    means = [of(one)[name] for one in variants]
    ends = [x for mean in means for x in (mean.mean, mean.low, mean.high)]
    axis = Axis.around([*ends, 0.0] if is_difference else ends)
    places = _places_of(means)
    rows = []
    for mean, one in zip(means, variants, strict=True):
        badges: tuple[Badge, ...] = ()
        if is_difference:
            sure = mean.low > 0 or mean.high < 0
            word = ("more" if mean.low > 0 else "less") if sure else "open"
            badges = (Badge(word, "plain" if sure else "fair"),)
        rows.append(
            Mark.on(
                axis,
                mean.mean,
                mean.low,
                mean.high,
                name=one.policy,
                about=_settings(one),
                value=fixed(mean.mean, places, signed=is_difference),
                interval=interval(mean.low, mean.high, places, signed=is_difference),
                badges=badges,
                series=result.variants.index(one),
            )
        )
    return Forest(
        caption=_NAMES[name].capitalize(),
        heads=("variant", "mean", f"{percent(result.confidence)} interval"),
        rows=tuple(rows),
        ticks=tuple(axis.ticks()),
        reference=Tick(axis.place(0.0), "no difference") if is_difference else None,
        is_folded=len(rows) > ROWS_MAX,
    )


def _all(result: Sweep) -> Table:
    names = list(result.variants[0].figures)
    rows = []
    for one in result.variants:
        cells = []
        for name in names:
            mean = one.figures[name]
            places = decimals([mean.high - mean.low])
            cells.append(fixed(mean.mean, min(places, 4)))
        rows.append((_called(one), *cells))
    return Table(
        caption="Means over the seeds",
        heads=("variant", *(name.replace("_", " ") for name in names)),
        rows=tuple(rows),
    )


def _called(variant: Variant) -> str:
    return " ".join(filter(None, (variant.policy, _settings(variant))))


def _settings(variant: Variant) -> str:
    said_ = [f"{key.split('.')[-1]}={value}" for key, value in variant.settings.items()]
    return " ".join(said_)


def _set(variant: Variant, key: str) -> str:
    return str(variant.settings.get(key, "as it was"))
