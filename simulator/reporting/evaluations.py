"""Reports of evaluations: what each policy earns, and whether the log can tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from policies.overlap import Verdict
from simulator.comparing import Difference
from simulator.evaluation import Evaluation, LogSummary, Quantile, Subject, Value
from simulator.logs.times import text_of
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
    Words,
    badge,
    closed,
    said,
)
from simulator.reporting.numbers import (
    among,
    count,
    decimals,
    fixed,
    interval,
    ordinary,
    percent,
    roughly,
)
from simulator.reporting.overlaps import diagnostics
from simulator.reporting.withholding import withheld
from simulator.reporting.words import (
    FIGURES,
    estimators_of,
    meanings,
    values_reading,
)

__all__ = ["Telling", "axis_of", "of_evaluation", "subject"]

_MEAN = "mean"
_NAMES_MAX = 4
_CARDS_MAX = 12
_TRAINED = Badge("†", "fair")
_WEEK = {"day", "week"}


def of_evaluation(result: Evaluation) -> Page:
    """Return the report of an evaluation."""
    telling = Telling(result)
    return Page(
        title=f"Evaluation of {result.log.path}",
        kicker="What other policies would have earned",
        subject=subject(result.log),
        headline=telling.headline(),
        badges=tuple(telling.badges()),
        leads=closed([*telling.values_in_words(), *telling.needed()]),
        cards=tuple(telling.cards()),
        sections=tuple(telling.sections()),
        asked=tuple(telling.asked()),
        definitions=telling.definitions(),
        format=result.format,
    )


def _withheld(result: Evaluation) -> Evaluation:
    return msgspec.structs.replace(
        result,
        values=tuple(withheld(value, value.verdict) for value in result.values),
        quantiles=tuple(withheld(one, one.verdict) for one in result.quantiles),
    )


def subject(log: LogSummary) -> str:
    """Say which log it is, and how much of it there is."""
    noun = "decision" if log.rewarded == 1 else "decisions"
    users = "user" if log.users == 1 else "users or accounts"
    return f"{log.path}: {log.rewarded:,} {noun} of {log.users:,} {users}{_when(log)}"


def _when(log: LogSummary) -> str:
    if log.first_ms is None or log.last_ms is None:
        return ""
    first, last = text_of(log.first_ms)[:10], text_of(log.last_ms)[:10]
    return f", {first}" if first == last else f", {first} to {last}"


class Telling:
    """Says what an evaluation tells.

    Args:
        result: The evaluation.
    """

    def __init__(self, result: Evaluation) -> None:
        result = _withheld(result)
        self._result = result
        self._series = {one.name: at for at, one in enumerate(result.policies)}
        self._by = {one.name: one.estimator for one in result.policies}
        self._first = result.question.objectives[0]
        self._percent = percent(result.question.confidence)
        self._places = {
            objective: decimals(
                value.high - value.low
                for value in result.values
                if value.objective == objective
                and not value.by
                and value.low is not None
                and value.high is not None
            )
            for objective in result.question.objectives
        }

    # --- In words -----------------------------------------------------------------

    def headline(self) -> str:
        """Say of which policies the log can tell."""
        told = self._named("usable")
        weak, untold = self._named("weak"), self._named("unusable")
        if not untold and not weak:
            verb = "earns" if len(told) == 1 else "earn"
            return f"The log can tell what {_short(told, 'all ')} {verb}."
        if not told and not weak:
            return f"The log cannot tell what {_short(untold, 'any of ')} would earn."
        parts = [
            f"{verb} {_short(names)}"
            for verb, names in (
                ("can tell of", told),
                ("tells only weakly of", weak),
                ("cannot tell of", untold),
            )
            if names
        ]
        return f"The log {'; it '.join(parts)}."

    def badges(self) -> Iterator[Badge]:
        """Yield each verdict; of how many policies, where there are several."""
        verdicts: tuple[Verdict, ...] = ("usable", "weak", "unusable")
        found = {verdict: len(self._named(verdict)) for verdict in verdicts}
        several = sum(map(bool, found.values())) > 1
        for verdict, policies in found.items():
            if policies:
                of = f"{policies} {verdict}" if several else verdict
                yield Badge(of, badge(verdict).tone)

    def values_in_words(self) -> Iterator[str]:
        """Say which usable value is the highest."""
        places = self._places[self._first]
        found = [self._result.of(name) for name in self._named("usable")]
        if len(found) < 2:
            return
        value = max(found, key=lambda each: each.value or 0.0)
        yield (
            f"The highest usable value is that of {value.policy}:"
            f" {fixed(value.value, places)} {self._first} a decision,"
            f" {interval(value.low, value.high, places)}"
        )
        yield "Values alone name no winner: compare the policies for that"

    def needed(self) -> Iterator[str]:
        """Say why a policy is not usable, and how many decisions would do."""
        doubted = [*self._named("unusable"), *self._named("weak")]
        for name in doubted[:_NAMES_MAX]:
            value = self._result.of(name)
            why = value.doubts[0] if value.doubts else "the log says too little of it"
            enough = ""
            if value.rows_needed is not None:
                rows = roughly(value.rows_needed)
                enough = f". About {rows} decisions like these would do for {name}"
            yield f"{name} is {value.verdict}: {why}{enough}"
        if len(doubted) > _NAMES_MAX:
            rest = len(doubted) - _NAMES_MAX
            yield f"Of {rest} more it is said below why they are not usable"
        for one in self._result.policies:
            if one.trained_on_log:
                yield (
                    f"{one.name} (†) has learned from the rewards that it is judged by:"
                    " expect less"
                )

    def _named(self, verdict: Verdict) -> list[str]:
        return [one.name for one in self._result.policies if one.verdict == verdict]

    def cards(self) -> Iterator[Card]:
        """Yield the policies at a glance, unless there are too many."""
        places = self._places[self._first]
        if len(self._result.policies) > _CARDS_MAX:
            return
        for one in self._result.policies:
            value = self._result.of(one.name)
            told = value.value is not None
            detail = (
                f"{interval(value.low, value.high, places)}, by {value.estimator}"
                if told
                else _enough(value)
            )
            yield Card(
                name=one.name + (" †" if one.trained_on_log else ""),
                value=fixed(value.value, places) if told else NOTHING,
                unit=f"{self._first} a decision" if told else "",
                detail=detail,
                badge=badge(one.verdict),
                series=self._series[one.name],
            )

    # --- Values -------------------------------------------------------------------

    def sections(self) -> Iterator[Section]:
        """Yield values, parts of the log, quantiles, and diagnostics."""
        yield Section(
            id="values",
            title="What each policy earns",
            intro=values_reading(self._percent),
            blocks=tuple(self._values()),
        )
        for by in self._result.question.by:
            blocks = tuple(self._parts(by))
            if blocks:
                yield Section(
                    id=f"by-{by}",
                    title=f"By {by}",
                    intro="Each part of the log, by the estimator that a policy is"
                    " judged by. With many parts, some interval of a hundred misses"
                    " by chance.",
                    blocks=blocks,
                )
        if self._result.quantiles:
            yield Section(
                id="quantiles",
                title="Quantiles",
                intro="What a share of the decisions does not exceed.",
                blocks=tuple(self._quantiles()),
            )
        yield Section(
            id="overlap",
            title="Whether the log can tell",
            intro=FIGURES,
            blocks=diagnostics(self._result),
        )

    def _values(self) -> Iterator[Block]:
        for objective in self._result.question.objectives:
            values = [
                value
                for value in self._result.values
                if value.objective == objective and not value.by
            ]
            yield self._forest(
                f"{objective.capitalize()} a decision",
                values,
                lambda value: value.policy,
                "policy, estimator",
            )
        yield from self._doubts()

    def _doubts(self) -> Iterator[Words]:
        """Say why not to decide on a policy, once for all that it is said of."""
        doubts: dict[Verdict, dict[tuple[str, str], dict[str, None]]] = {}
        for value in self._result.values:
            if not value.by:
                for doubt in value.doubts:
                    of = doubts.setdefault(value.verdict, {})
                    of.setdefault((value.policy, doubt), {})[value.estimator] = None
        for verdict, found in doubts.items():
            lines = [f"{p} ({among(e)}): {d}" for (p, d), e in found.items()]
            yield Words(lines=closed(lines), badge=badge(verdict))
        notes = said(self._result.notes)
        if notes:
            yield Words(lines=notes)

    def _forest(
        self,
        caption: str,
        values: Sequence[Value],
        name_of: Callable[[Value], str],
        head: str,
    ) -> Forest:
        objective = values[0].objective
        places = self._places[objective]
        axis = axis_of(values)
        rows: list[Mark] = []
        before = ""
        for value in values:
            name = name_of(value)
            told = value.value is not None
            badges = [badge(value.verdict)]
            if self._subject(value.policy).trained_on_log:
                badges.append(_TRAINED)
            rows.append(
                Mark.on(
                    axis,
                    value.value,
                    value.low,
                    value.high,
                    name="" if name == before else name,
                    about=value.policy if value.by else value.estimator,
                    value=fixed(value.value, places) if told else NOTHING,
                    interval=interval(value.low, value.high, places)
                    if told
                    else _enough(value),
                    badges=tuple(badges),
                    series=self._series[value.policy],
                    is_main=value.estimator == self._main(value),
                    is_weak=value.verdict == "weak",
                )
            )
            before = name
        return Forest(
            caption=caption,
            heads=(head, "value", f"{self._percent} interval"),
            rows=tuple(rows),
            ticks=tuple(axis.ticks()),
            reference=self._reference(objective, axis),
            is_folded=len(rows) > ROWS_MAX,
        )

    def _main(self, value: Value) -> str:
        """Return what a policy is judged by, where that is there."""
        names = {
            each.estimator
            for each in self._result.values
            if (each.policy, each.objective, each.by, each.group)
            == (value.policy, value.objective, value.by, value.group)
        }
        by = self._by[value.policy]
        return by if by in names else value.estimator

    def _reference(self, objective: str, axis: Axis) -> Tick | None:
        """Return where that is which was observed."""
        for value in self._result.values:
            if (value.estimator, value.objective, value.by) != (_MEAN, objective, ""):
                continue
            if value.value is not None and axis.holds(value.value):
                return Tick(axis.place(value.value), "as logged")
        return None

    def _subject(self, name: str) -> Subject:
        return next(one for one in self._result.policies if one.name == name)

    # --- Parts --------------------------------------------------------------------

    def _parts(self, by: str) -> Iterator[Block]:
        for objective in self._result.question.objectives:
            values = [
                value
                for value in self._result.values
                if (value.by, value.objective) == (by, objective)
                and value.estimator == self._main(value)
            ]
            if not values:
                continue
            values.sort(key=lambda value: (value.group, self._series[value.policy]))
            caption = f"{objective.capitalize()} a decision, by {by}"
            if by in _WEEK:
                yield from self._across(caption, values)
            else:
                yield self._forest(
                    caption, values, lambda value: value.group, f"{by}, policy"
                )

    def _across(self, caption: str, values: Sequence[Value]) -> Iterator[Block]:
        """Yield charts of what the log can tell, and say of what it cannot."""
        charts = tuple(self._windows(caption, values))
        if charts:
            yield Figures(title=caption, charts=charts)
        told = {value.policy for value in values if value.value is not None}
        untold = [name for name in self._series if name not in told]
        if untold:
            word = values[0].by
            yield Words(
                lines=(f"{among(untold)}: of no {word} alone the log can tell.",),
                badge=badge("unusable"),
            )

    def _windows(self, caption: str, values: Sequence[Value]) -> Iterator[Chart]:
        """Yield a chart for each policy that there is a number of, all on one axis."""
        across = sorted({value.group for value in values})
        upwards = axis_of(values)
        places = self._places[values[0].objective]
        for one in self._result.policies:
            mine = [value for value in values if value.policy == one.name]
            if all(value.value is None for value in mine):
                continue
            line = Line(
                name=one.name,
                series=self._series[one.name],
                points=tuple(_point(value, across, upwards, places) for value in mine),
                is_joined=False,
            )
            untold = sum(value.value is None for value in mine)
            missing = f" {untold} of {len(mine)}: no number." if untold else ""
            yield Chart(
                title=one.name,
                reading=f"× is where the log cannot tell.{missing}" if untold else "",
                says=f"{caption}: {one.name}, {len(mine)} numbers from"
                f" {across[0]} to {across[-1]}.{missing}",
                x_ticks=tuple(_dates(across)),
                y_ticks=_upwards(upwards),
                lines=(line,),
                table=Table(
                    caption=f"{caption}: {one.name}",
                    heads=(
                        values[0].by,
                        "value",
                        f"{self._percent} interval",
                        "decisions",
                        "verdict",
                    ),
                    rows=tuple(
                        (
                            value.group,
                            fixed(value.value, places),
                            CANNOT
                            if value.value is None
                            else interval(value.low, value.high, places),
                            count(value.n),
                            badge(value.verdict),
                        )
                        for value in mine
                    ),
                ),
            )

    def _quantiles(self) -> Iterator[Block]:
        for objective in self._result.question.objectives:
            found = [q for q in self._result.quantiles if q.objective == objective]
            if not found:
                continue
            axis = Axis.around(x for q in found for x in (q.value, q.low, q.high))
            rows = tuple(
                Mark.on(
                    axis,
                    q.value,
                    q.low,
                    q.high,
                    name="" if at and found[at - 1].policy == q.policy else q.policy,
                    about=f"{q.quantile:g}",
                    value=NOTHING if q.value is None else ordinary(q.value),
                    interval=_quantile_ends(q),
                    badges=(badge(q.verdict),),
                    series=self._series[q.policy],
                    is_weak=q.verdict == "weak",
                )
                for at, q in enumerate(found)
            )
            yield Forest(
                caption=f"{objective.capitalize()} of a decision",
                heads=("policy, quantile", "value", f"{self._percent} interval"),
                rows=rows,
                ticks=tuple(axis.ticks()),
            )

    # --- What was asked -----------------------------------------------------------

    def asked(self) -> Iterator[tuple[str, str]]:
        """Yield what was asked, of which log."""
        log, question = self._result.log, self._result.question
        yield "log", f"{log.path} ({log.format})"
        yield "decisions", f"{log.decisions:,}, of which {log.rewarded:,} have a reward"
        yield "users or accounts", f"{log.users:,}"
        if log.first_ms is not None and log.last_ms is not None:
            yield "from", f"{text_of(log.first_ms)} to {text_of(log.last_ms)}"
        for name, rows in log.loggers.items():
            if name or len(log.loggers) > 1:
                yield "logged by", f"{name or 'no name'}: {rows:,} decisions"
        for one in self._result.policies:
            yield "policy", f"{one.name}: {one.about}"
        yield "estimators", ", ".join(question.estimators)
        yield "objectives", ", ".join(question.objectives)
        yield "confidence", f"{self._percent}, {question.interval} intervals"
        if question.split is not None:
            yield "judged by", f"users of {question.split}"
        if question.train_until is not None:
            yield "learned from", f"what was decided until {question.train_until}"
        learned = any(one.cross_fitted for one in self._result.policies)
        if learned and question.folds:
            yield "users fall into", f"{question.folds} parts for policies that learn"

    def definitions(self) -> tuple[tuple[str, str], ...]:
        """Return what the words of the report mean."""
        return (
            *meanings("value", "interval", "usable", "weak", "unusable"),
            *meanings("weight", "ESS", "untried", "propensity", "mean"),
            *estimators_of(value.estimator for value in self._result.values),
        )


# --- Helpers ----------------------------------------------------------------------


def axis_of(found: Iterable[Value | Difference], more: Iterable[float] = ()) -> Axis:
    """Return an axis with room for what is usable, and every number.

    A weak interval may be many times as wide as the others, which would be dots beside
    it: it goes on beyond the axis.
    """
    told = [one for one in found if one.value is not None]
    firm = [one for one in told if one.verdict == "usable"] or told
    ends = [end for one in firm for end in (one.low, one.high)]
    return Axis.around([*ends, *(one.value for one in told), *more])


def _short(names: Sequence[str], before: str = "") -> str:
    """Name policies, or say how many they are where they are many."""
    return (
        among(names) if len(names) <= _NAMES_MAX else f"{before}{len(names)} policies"
    )


def _enough(value: Value) -> str:
    if value.rows_needed is None:
        return CANNOT
    return f"about {roughly(value.rows_needed)} would do"


def _quantile_ends(found: Quantile) -> str:
    if found.value is None or found.low is None or found.high is None:
        return CANNOT
    return f"{ordinary(found.low)} to {ordinary(found.high)}"


def _point(value: Value, across: Sequence[str], upwards: Axis, places: int) -> Point:
    at = (across.index(value.group) + 0.5) / len(across) * 100
    if value.value is None:
        return Point(x=round(at, 3), y=None, label=f"{value.group}: {CANNOT}")
    low = upwards.low if value.low is None else value.low
    high = upwards.high if value.high is None else value.high
    told = interval(value.low, value.high, places)
    return Point(
        x=round(at, 3),
        y=100 - upwards.place(value.value),
        low=100 - upwards.place(low),
        high=100 - upwards.place(high),
        label=f"{value.group}: {fixed(value.value, places)} ({told})",
    )


def _dates(across: Sequence[str]) -> Iterator[Tick]:
    """Yield a few of the windows, the first and the last among them."""
    last = len(across) - 1
    for at in sorted({round(last * part / 3) for part in range(4)}):
        name = across[at]
        short = name[5:] if last and len(name) == 10 else name
        yield Tick(round((at + 0.5) / len(across) * 100, 3), short)


def _upwards(axis: Axis, *, percent: bool = False) -> tuple[Tick, ...]:
    return tuple(
        Tick(round(100 - tick.at, 3), tick.label)
        for tick in axis.ticks(4, percent=percent)
    )
