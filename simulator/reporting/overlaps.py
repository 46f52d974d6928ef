"""Plots of how well a log covers policies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from policies.diagnostics import Calibration, DiagnosticsSettings
from policies.overlap import OverlapSettings
from simulator.evaluation import Evaluation, Subject, Support
from simulator.reporting.axes import Axis, Tick
from simulator.reporting.blocks import (
    Bar,
    Bars,
    Chart,
    Column,
    Line,
    Panel,
    Point,
    Stat,
    Table,
    Tone,
    badge,
    said,
)
from simulator.reporting.numbers import count, decimals, fixed, ordinary, share

__all__ = ["diagnostics"]

_BARS_MAX = 12
_COLUMNS_MAX = 24
_OVERLAP = OverlapSettings()
_SETTINGS = DiagnosticsSettings()
_NEUTRAL = 7


def diagnostics(result: Evaluation) -> tuple[Panel, ...]:
    """Return what there is to know of the log, then of each policy."""
    panels = [
        _panel(one, at, result.log.chosen, result.log.decisions)
        for at, one in enumerate(result.policies)
    ]
    return (_of_log(result), *panels)


# --- The log ----------------------------------------------------------------------


def _of_log(result: Evaluation) -> Panel:
    charts: list[Chart | Bars] = []
    chances = _distinct(result, "propensities")
    for names, found in chances:
        charts.append(
            _calibration(
                found,
                title="Propensities" + names,
                reading="How often what had a chance was chosen, beside that chance."
                " On the line the logged propensities are right.",
                x_name="logged probability",
                y_name="chosen",
            )
        )
    for names, found in _distinct(result, "model"):
        charts.append(
            _calibration(
                found,
                title="Reward model" + names,
                reading="What a model expected of actions of users that it had not"
                " seen, and what they earned. An estimate by dr corrects what is"
                " off, one by dm does not.",
                x_name="expected",
                y_name="earned",
            )
        )
    days = result.policies[0].diagnostics.days
    if len(days) > 1:
        first = result.question.objectives[0]
        charts.append(
            _by_day(
                {day: one.reward_mean for day, one in days.items()},
                days,
                title=f"{first.capitalize()} by day, as logged",
                reading="Where it differs by more than chance, a value is that of"
                " these days.",
                level=None,
                series=_NEUTRAL,
            )
        )
    chosen = result.log.chosen
    charts.append(_chosen(chosen, result.log.decisions))
    return Panel(
        title="The log itself",
        about=f"{result.log.decisions:,} decisions among {len(chosen):,} actions",
        charts=tuple(charts),
    )


def _distinct(result: Evaluation, name: str) -> Iterator[tuple[str, Calibration]]:
    """Yield each calibration once, with whose it is where there are several."""
    found: dict[Calibration, list[str]] = {}
    for one in result.policies:
        calibration = getattr(one.diagnostics, name)
        if calibration is not None and any(calibration.counts):
            found.setdefault(calibration, []).append(one.name)
    for calibration, names in found.items():
        yield f": {', '.join(names)}" if len(found) > 1 else "", calibration


def _calibration(
    found: Calibration, *, title: str, reading: str, x_name: str, y_name: str
) -> Chart:
    rows: list[tuple[float, float, float, float]] = []
    for n, predicted, came, variance in zip(
        found.counts, found.predicted, found.came, found.variances, strict=True
    ):
        if n:
            error = max(variance, 0.0) ** 0.5 / n
            rows.append((n, predicted / n, came / n, error))
    axis = Axis.around(
        x for _, predicted, came, error in rows for x in (predicted, came)
    )
    places = decimals([(axis.high - axis.low) / 10])
    points = tuple(
        Point(
            x=axis.place(predicted),
            y=100 - axis.place(came),
            low=100 - axis.place(came - 2 * error),
            high=100 - axis.place(came + 2 * error),
            label=f"{fixed(predicted, places)} {x_name}, {fixed(came, places)} {y_name}"
            f" ({count(n)})",
        )
        for n, predicted, came, error in rows
    )
    ticks = tuple(axis.ticks(4))
    off = f"Off by {share(found.gap)} on average; "
    is_chance = found.p_value >= _SETTINGS.p_min
    chance = "so much is chance" if is_chance else "not by chance"
    return Chart(
        title=title,
        reading=f"{reading} {off}{chance}.",
        says=f"{title}: {len(rows)} groups. {off}{chance}.",
        x_name=x_name,
        y_name=y_name,
        x_ticks=ticks,
        y_ticks=tuple(Tick(round(100 - t.at, 3), t.label) for t in ticks),
        lines=(Line(name=y_name, series=_NEUTRAL, points=points, is_joined=False),),
        has_diagonal=True,
        is_square=True,
        table=Table(
            caption=title,
            heads=(x_name, y_name, "standard error", "how many"),
            rows=tuple(
                (*(fixed(x, places) for x in (p, c)), fixed(e, places + 1), count(n))
                for n, p, c, e in rows
            ),
            words=0,
        ),
    )


def _chosen(chosen: Mapping[str, int], decisions: int) -> Bars:
    shown = list(chosen.items())[:_BARS_MAX]
    most = max(chosen.values(), default=1)
    rest = len(chosen) - len(shown)
    more = f" {rest:,} more are in the table." if rest else ""
    return Bars(
        title="What was chosen",
        reading=f"As a share of all decisions.{more}",
        rows=tuple(
            Bar(name=name, width=round(n / most * 100, 3), said=share(n / decisions))
            for name, n in shown
        ),
        series=_NEUTRAL,
        table=Table(
            caption="What was chosen",
            heads=("action", "decisions", "share"),
            rows=tuple((a, count(n), share(n / decisions)) for a, n in chosen.items()),
        ),
    )


# --- A policy ---------------------------------------------------------------------


def _panel(
    one: Subject, series: int, chosen: Mapping[str, int], decisions: int
) -> Panel:
    found = one.diagnostics
    figures = found.figures
    is_log = figures["largest_weight"] == 1.0 and figures["ess_share"] > 1 - 1e-9
    charts: list[Chart | Bars] = []
    if not is_log:
        if found.weight_counts:
            charts.append(_weights(one, series))
        charts += _days(found.days, series)
        if len(found.segments) > 1:
            charts.append(_segments(found.segments, series))
        if one.actions:
            shares = {name: n / decisions for name, n in chosen.items()}
            charts.append(_actions(one.actions, shares, series))
    words = [*found.doubts, *found.notes]
    if is_log:
        words.append("it does what the log did: every weight is 1")
    return Panel(
        title=one.name,
        about=one.about,
        badge=badge(one.verdict),
        series=series,
        stats=tuple(_stats(figures)),
        words=said(words),
        charts=tuple(charts),
    )


def _stats(figures: Mapping[str, float]) -> Iterator[Stat]:
    ess, ess_share = figures["ess"], figures["ess_share"]
    yield Stat(
        name="ESS",
        value=count(ess),
        note=f"{_OVERLAP.ess_min:g} are needed",
        tone="good" if ess >= _OVERLAP.ess_min else "bad",
    )
    yield Stat(
        name="ESS, share of decisions",
        value=share(ess_share),
        note=f"at least {share(_OVERLAP.ess_share_min, 0)}",
        tone="good" if ess_share >= _OVERLAP.ess_share_min else "fair",
    )
    largest = figures["largest_share"]
    yield Stat(
        name="largest weight, of all weight",
        value=share(largest),
        note=f"at most {share(_OVERLAP.weight_share_max, 0)}",
        tone="good" if largest <= _OVERLAP.weight_share_max else "fair",
    )
    yield Stat(
        name="heaviest 1\u00a0% of decisions",
        value=share(figures["top_1_percent_share"]),
        note="of all weight",
    )
    mean, error = figures["mean_weight"], figures["mean_weight_error"]
    places = max(decimals([error]), 2)
    within = abs(mean - 1) <= _OVERLAP.weight_z_max * error + 1e-9
    yield Stat(
        name="mean weight",
        value=fixed(mean, places),
        note=f"± {fixed(error, places)}; 1 is right",
        tone="good" if within else "plain",
    )
    untried = figures["untried"]
    tone: Tone = "good"
    if untried > _SETTINGS.untried_max:
        tone = "bad" if untried > _SETTINGS.untried_refused else "fair"
    yield Stat(
        name="untried",
        value=share(untried),
        note=f"at most {share(_SETTINGS.untried_max)}",
        tone=tone,
    )


def _weights(one: Subject, series: int) -> Chart:
    """Return a histogram of weights, of no more columns than can be told apart."""
    found = one.diagnostics
    rows = int(found.figures["rows"])
    edges, counts = list(found.weight_bins), list(found.weight_counts)
    ratio = 2 ** (1 / 8)
    while len(counts) > _COLUMNS_MAX:
        counts = [sum(counts[at : at + 2]) for at in range(0, len(counts), 2)]
        edges, ratio = edges[::2], ratio**2
    none = rows - sum(counts)
    bins = [("0", none)] if none else []
    bins += [
        (f"{ordinary(low)} to {ordinary(low * ratio)}", n)
        for low, n in zip(edges, counts, strict=True)
    ]
    most = max(n for _, n in bins)
    width = 100 / len(bins)
    upwards = Axis(0.0, most / rows * 1.05)
    every = -(-len(bins) // 4)
    labels = [*(["0"] if none else []), *(ordinary(edge) for edge in edges)]
    top = found.figures["top_1_percent_share"]
    reading = (
        "How many decisions have which weight. Columns are of a ratio, not of a width."
        f" The heaviest 1\u00a0% of the decisions have {share(top)} of all weight."
    )
    return Chart(
        title="Weights",
        reading=reading,
        says=f"Histogram of the weights of {one.name}. {reading}",
        x_name="weight",
        y_name="decisions",
        x_ticks=tuple(
            Tick(round((at + 0.5) * width, 3), labels[at])
            for at in range(0, len(bins), every)
        ),
        y_ticks=tuple(
            Tick(round(100 - t.at, 3), t.label) for t in upwards.ticks(4, percent=True)
        ),
        columns=tuple(
            Column(
                x=round(at * width + width * 0.06, 3),
                width=round(width * 0.88, 3),
                height=upwards.place(n / rows),
                label=f"{name}: {count(n)}",
            )
            for at, (name, n) in enumerate(bins)
        ),
        columns_series=series,
        table=Table(
            caption=f"Weights of {one.name}",
            heads=("weight", "decisions", "share"),
            rows=tuple((name, count(n), share(n / rows)) for name, n in bins),
        ),
    )


def _days(days: Mapping[str, Support], series: int) -> Iterator[Chart]:
    if len(days) > 1:
        yield _by_day(
            {day: one.weight_mean for day, one in days.items()},
            days,
            title="Mean weight by day",
            reading="1 on average on every day, or its propensities are wrong, or"
            " actions came and went.",
            level=1.0,
            series=series,
        )


def _by_day(
    numbers: Mapping[str, float],
    days: Mapping[str, Support],
    *,
    title: str,
    reading: str,
    level: float | None,
    series: int,
) -> Chart:
    more = [] if level is None else [level]
    upwards = Axis.around([*numbers.values(), *more, *([0.0] if level else [])])
    names = list(numbers)
    places = max(decimals([(upwards.high - upwards.low) / 10]), 2)
    points = tuple(
        Point(
            x=round((at + 0.5) / len(names) * 100, 3),
            y=100 - upwards.place(number),
            label=f"{name}: {fixed(number, places)}",
        )
        for at, (name, number) in enumerate(numbers.items())
    )
    last = len(names) - 1
    chosen = sorted({round(last * part / 3) for part in range(4)})
    low, high = min(numbers.values()), max(numbers.values())
    return Chart(
        title=title,
        reading=reading,
        says=f"{title}, {names[0]} to {names[-1]}: between {fixed(low, places)} and"
        f" {fixed(high, places)}.",
        x_ticks=tuple(
            Tick(round((at + 0.5) / len(names) * 100, 3), names[at][5:])
            for at in chosen
        ),
        y_ticks=tuple(Tick(round(100 - t.at, 3), t.label) for t in upwards.ticks(4)),
        lines=(Line(name=title, series=series, points=points),),
        level=None if level is None else 100 - upwards.place(level),
        table=Table(
            caption=title,
            heads=("day", "number", "decisions", "ESS", "untried"),
            rows=tuple(
                (
                    name,
                    fixed(number, places),
                    count(days[name].n),
                    count(days[name].ess),
                    share(days[name].untried),
                )
                for name, number in numbers.items()
            ),
        ),
    )


def _segments(segments: Mapping[str, Support], series: int) -> Bars:
    ordered = sorted(segments.items(), key=lambda each: -each[1].n)
    rest = len(ordered) - _BARS_MAX
    more = f" {rest:,} smaller ones are in the table." if rest > 0 else ""
    return Bars(
        title="ESS by segment",
        reading="How many decisions of the policy each segment is worth, as a share of"
        f" its decisions. A larger one is to be worth {_SETTINGS.segment_ess_min:g}."
        f"{more}",
        rows=tuple(
            Bar(
                name=name,
                width=round(min(one.ess / one.n, 1.0) * 100, 3),
                said=f"{count(one.ess)} of {count(one.n)}",
            )
            for name, one in ordered[:_BARS_MAX]
        ),
        series=series,
        table=Table(
            caption="What the log holds about each segment",
            heads=("segment", "decisions", "ESS", "mean weight", "earned", "untried"),
            rows=tuple(
                (
                    name,
                    count(one.n),
                    count(one.ess),
                    fixed(one.weight_mean, 3),
                    fixed(one.reward_mean, 4),
                    share(one.untried),
                )
                for name, one in ordered
            ),
        ),
    )


def _actions(
    wanted: Mapping[str, float], logged: Mapping[str, float], series: int
) -> Bars:
    names: Sequence[str] = sorted(
        {*wanted, *logged},
        key=lambda name: (-max(wanted.get(name, 0), logged.get(name, 0)), name),
    )
    most = max([*wanted.values(), *logged.values()]) or 1.0
    rest = len(names) - _BARS_MAX
    more = f" {rest:,} more are in the table." if rest > 0 else ""
    return Bars(
        title="What it would choose",
        reading=f"As a share of all decisions. The upright line is the log's.{more}",
        rows=tuple(
            Bar(
                name=name,
                width=round(wanted.get(name, 0.0) / most * 100, 3),
                other=round(logged.get(name, 0.0) / most * 100, 3),
                said=share(wanted.get(name, 0.0)),
            )
            for name in names[:_BARS_MAX]
        ),
        series=series,
        table=Table(
            caption="What it would choose",
            heads=("action", "policy", "log"),
            rows=tuple(
                (name, share(wanted.get(name, 0.0)), share(logged.get(name, 0.0)))
                for name in names
            ),
        ),
    )
