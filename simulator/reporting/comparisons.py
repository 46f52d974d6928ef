"""Reports of comparisons: which of several policies is better, by how much."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from policies.overlap import Verdict
from simulator.comparing import Comparison, Difference, Gate
from simulator.reporting.axes import Tick
from simulator.reporting.blocks import (
    CANNOT,
    NOTHING,
    Badge,
    Forest,
    Mark,
    Page,
    Panel,
    Section,
    Stat,
    Words,
    badge,
    closed,
    said,
)
from simulator.reporting.evaluations import Telling, axis_of, subject
from simulator.reporting.numbers import (
    among,
    decimals,
    fixed,
    interval,
    percent,
    roughly,
)
from simulator.reporting.withholding import withheld
from simulator.reporting.words import (
    DIFFERENCES,
    worst,
)

__all__ = ["of_comparison"]

_LEADS: Mapping[str, Badge] = {
    "better": Badge("better", "good"),
    "worse": Badge("worse", "plain"),
    "open": Badge("open", "fair"),
}
_IS: Mapping[str, Badge] = {
    "better": Badge("more", "plain"),
    "worse": Badge("less", "plain"),
    "open": Badge("open", "fair"),
}
_GATES: Mapping[str, tuple[str, Badge]] = {
    "deploy": ("Yes, deploy", Badge("deploy", "good")),
    "keep": ("No, keep", Badge("keep", "bad")),
    "cannot tell": ("The log cannot tell", Badge("cannot tell", "fair")),
}


def of_comparison(result: Comparison) -> Page:
    """Return the report of a comparison."""
    result = msgspec.structs.replace(
        result,
        differences=tuple(withheld(d, d.verdict) for d in result.differences),
    )
    telling = Telling(result.evaluation)
    comparing = _Comparing(result)
    return Page(
        title=f"Comparison on {result.evaluation.log.path}",
        kicker="Which policy is better",
        subject=subject(result.evaluation.log),
        headline=comparing.headline(),
        badges=tuple(comparing.badges()),
        leads=closed([*comparing.leads(), *telling.needed()]),
        cards=tuple(telling.cards()),
        sections=(*comparing.sections(), *telling.sections()),
        asked=(*comparing.asked(), *telling.asked()),
        definitions=telling.definitions(),
        format=result.format,
    )


class _Comparing:
    """Says what a comparison tells beside its evaluation."""

    def __init__(self, result: Comparison) -> None:
        self._result = result
        self._question = result.evaluation.question
        self._first = self._question.objectives[0]
        self._series = {
            one.name: at for at, one in enumerate(result.evaluation.policies)
        }
        self._firsts = [o for o in result.differences if o.objective == self._first]

    def badges(self) -> Iterator[Badge]:
        """Yield whether there is a winner, whether the log can tell, and the gate's."""
        named = self._result.winner is not None
        yield Badge("winner" if named else "no winner", "good" if named else "fair")
        yield badge(worst(one.verdict for one in self._firsts))
        if self._result.gate is not None:
            yield _GATES[self._result.gate.verdict][1]

    def headline(self) -> str:
        result = self._result
        over, winner = result.over, result.winner
        if winner == over:
            others = "the other policy" if len(self._firsts) == 1 else "all others"
            return f"{over} is the best: {others} earn{self._s()} less."
        if winner is not None:
            one = next(o for o in self._firsts if o.policy == winner)
            return f"{winner} earns {_how_much(one)} than {over}."
        if result.better:
            are = "are" if len(result.better) > 1 else "is"
            return (
                f"{among(result.better)} {are} better than {over}; which of all is the"
                " best the log cannot tell."
            )
        if len(self._firsts) == 1:
            other = self._firsts[0].policy
            return f"The log cannot tell which is better, {other} or {over}."
        return "The log cannot tell which policy is better."

    def _s(self) -> str:
        return "s" if len(self._firsts) == 1 else ""

    def leads(self) -> Iterator[str]:
        gate = self._result.gate
        if gate is not None:
            words, _ = _GATES[gate.verdict]
            kept = f" {gate.over}" if gate.verdict == "keep" else ""
            reasons = "; ".join(gate.reasons)
            yield f"Deploy {gate.promote} over {gate.over}? {words}{kept}: {reasons}"
        for one in self._firsts:
            if one.lead == "open" and one.rows_to_tell is not None:
                yield (
                    f"About {roughly(one.rows_to_tell)} decisions like these would tell"
                    f" {one.policy} from {one.over}, if the difference is what it seems"
                )
        if self._result.daily:
            yield "Intervals hold however often this is looked at"

    def sections(self) -> Iterator[Section]:
        gate = self._result.gate
        if gate is not None:
            yield Section(
                id="gate",
                title=f"Whether to deploy {gate.promote} over {gate.over}",
                blocks=(_gate(gate),),
            )
        doubts: dict[Verdict, list[str]] = {}
        for one in self._result.differences:
            of = f"{one.policy} over {one.over}"
            doubts.setdefault(one.verdict, []).extend(f"{of}: {d}" for d in one.doubts)
        yield Section(
            id="differences",
            title=f"What each earns more than {self._result.over}",
            intro=DIFFERENCES,
            blocks=(
                *(self._forest(name) for name in self._question.objectives),
                *(
                    Words(lines=closed(lines), badge=badge(verdict))
                    for verdict, lines in doubts.items()
                    if lines
                ),
            ),
        )

    def _forest(self, objective: str) -> Forest:
        found = [o for o in self._result.differences if o.objective == objective]
        is_first = objective == self._first
        axis = axis_of(found, more=(0.0,))
        places = decimals(
            one.high - one.low
            for one in found
            if one.low is not None and one.high is not None
        )
        leads = _LEADS if is_first else _IS
        rows = tuple(
            Mark.on(
                axis,
                one.value,
                one.low,
                one.high,
                name=one.policy,
                about=one.estimator,
                value=NOTHING
                if one.value is None
                else fixed(one.value, places, signed=True),
                interval=CANNOT
                if one.value is None
                else interval(one.low, one.high, places, signed=True),
                badges=(leads[one.lead], badge(one.verdict)),
                series=self._series[one.policy],
                is_weak=one.verdict == "weak",
            )
            for one in found
        )
        confidence = percent(self._question.confidence)
        return Forest(
            caption=f"{objective.capitalize()} a decision above {self._result.over}",
            heads=("policy, estimator", "difference", f"{confidence} interval"),
            rows=rows,
            ticks=tuple(axis.ticks()),
            reference=Tick(axis.place(0.0), "no difference"),
        )

    def asked(self) -> Iterator[tuple[str, str]]:
        yield "compared with", self._result.over
        if self._result.daily:
            yield "intervals", "hold however often they are looked at"


def _gate(found: Gate) -> Panel:
    words, mark = _GATES[found.verdict]
    settings = found.settings
    stats = [Stat(name="it must earn more than", value=f"{settings.gain_min:g}")]
    if settings.dismissals_rise_max is not None:
        most = f"{settings.dismissals_rise_max:g}"
        stats.append(Stat(name="dismissals may rise by", value=most))
    stats.append(Stat(name="for certain, which is", value=percent(settings.confidence)))
    kept = f" {found.over}" if found.verdict == "keep" else ""
    return Panel(
        title=f"{words}{kept}",
        about="What was asked for is of a decision.",
        badge=mark,
        stats=tuple(stats),
        words=said(found.reasons),
    )


def _how_much(one: Difference) -> str:
    if one.low is None or one.high is None:
        return f"more {one.objective} a decision"
    told = interval(one.low, one.high, decimals([one.high - one.low]))
    return f"{told} more {one.objective} a decision"
