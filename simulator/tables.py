"""What an evaluation or a comparison looks like on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.table import Table

from simulator.comparing import Comparison, Difference
from simulator.evaluation import Evaluation, LogSummary, Quantile, Subject, Value
from simulator.walking import Walk

__all__ = ["interval", "print_comparison", "print_evaluation", "print_walk"]

_NOTHING = "cannot tell"
_IS = {"better": "more", "worse": "less", "open": "open"}
"""Of what is not the first objective nobody says whether more of it is better."""


def print_evaluation(result: Evaluation, out: Console) -> None:
    """Print an evaluation: the whole log, parts of it, quantiles, and doubts."""
    whole = [value for value in result.values if not value.by]
    out.print(_title(result.question.objectives, result.log))
    out.print(_table(result, whole))
    for by in result.question.by:
        _print_parts(result, by, out)
    if result.quantiles:
        out.print("\nQuantiles")
        out.print(_quantiles(result))
    for subject in result.policies:
        out.print(f"{_marked(subject)}: {subject.about}")
    if any(subject.trained_on_log for subject in result.policies):
        out.print(
            "† has learned, or may have, from the rewards that it is judged by: expect"
            " less"
        )
    for note in result.notes:
        out.print(f"Note: {note}.")
    for line in _doubts(whole):
        out.print(line)


def print_comparison(result: Comparison, out: Console) -> None:
    """Print a comparison: differences, the winner or that there is none, and a gate."""
    evaluation = result.evaluation
    out.print(_title(evaluation.question.objectives, evaluation.log))
    out.print(_differences(result))
    for subject in evaluation.policies:
        out.print(f"{_marked(subject)}: {subject.about}")
    for note in evaluation.notes:
        out.print(f"Note: {note}.")
    if result.daily:
        out.print("Intervals hold however often this is looked at.")
    for difference in result.differences:
        for line in _untold(difference):
            out.print(line)
    out.print(_verdict(result))
    if result.gate is not None:
        gate = result.gate
        said = {"deploy": "yes", "keep": "no, keep", "cannot tell": "cannot tell"}
        question = f"Deploy {gate.promote} over {gate.over}: {said[gate.verdict]}"
        out.print(f"{question}: {'; '.join(gate.reasons)}.")


def print_walk(result: Walk, out: Console) -> None:
    """Print what policies that learn would have earned, and doubts."""
    confidence = result.runs[0].confidence
    head = f"{float(f'{confidence:.4g}') * 100:g} % interval"
    table = Table("policy", "evaluator")
    for name in ("value", head, "one run", "updates", "observed"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict")
    for run in result.runs:
        told = run.value is not None
        table.add_row(
            *(run.policy, run.evaluator, _number(run.value, "—")),
            interval(run.low, run.high) if told else _NOTHING,
            interval(run.run_low, run.run_high) if told else _NOTHING,
            *(f"{run.updates:,.0f}", f"{run.observed:,.0f}", run.verdict),
        )
    out.print(
        "Reward per decision of policies that learn, by"
        f" {result.decisions:,} decisions of {result.log}"
    )
    out.print(table)
    for run in result.runs:
        for doubt in run.doubts:
            said = f"{run.policy}, {run.evaluator}: {doubt}"
            out.print(f"{run.verdict.capitalize()}: {said}.")


def _differences(result: Comparison) -> Table:
    question = result.evaluation.question
    several = len(question.objectives) > 1
    table = Table(
        "policy", *(["objective"] if several else []), "estimator", show_lines=False
    )
    head = f"{float(f'{question.confidence:.4g}') * 100:g} % interval"
    for name in ("value", f"over {result.over}", head):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("verdict", "is"):
        table.add_column(name)
    values = {
        (value.policy, value.objective, value.estimator): value
        for value in result.evaluation.values
        if not value.by
    }
    for objective in question.objectives:
        if objective != question.objectives[0]:
            table.add_section()
        names = [objective] if several else []
        base = result.evaluation.of(result.over, objective=objective)
        table.add_row(
            *(result.over, *names, base.estimator, _number(base.value, "—")),
            *("", "", base.verdict, ""),
        )
        for one in result.differences:
            if one.objective != objective:
                continue
            mine = values.get((one.policy, objective, one.estimator))
            value = _number(mine.value if mine else None, "—")
            is_ = one.lead if objective == question.objectives[0] else _IS[one.lead]
            cells = *_difference(one), one.verdict, is_
            table.add_row(one.policy, *names, one.estimator, value, *cells)
    return table


def _difference(one: Difference) -> tuple[str, str]:
    if one.value is None:
        return "—", _NOTHING
    return f"{one.value:+.4f}", interval(one.low, one.high)


def _untold(one: Difference) -> Iterator[str]:
    for doubt in one.doubts:
        yield f"{one.verdict.capitalize()}: {one.policy} over {one.over}: {doubt}."
    if one.lead == "open" and one.rows_to_tell is not None:
        yield (
            f"About {one.rows_to_tell:,} decisions like these would tell {one.policy}"
            f" from {one.over} by {one.objective}, if the difference is what it seems."
        )


def _verdict(result: Comparison) -> str:
    if result.winner is not None:
        return f"Winner: {result.winner}."
    if result.better:
        names = " and ".join(result.better)
        are = "are" if len(result.better) > 1 else "is"
        return (
            f"No winner: {names} {are} better than {result.over}, and the log cannot"
            " tell which of all is the best."
        )
    return "No winner: the log cannot tell which is better."


def interval(low: float | None, high: float | None) -> str:
    """Write an interval; where nothing bounds it, without end."""
    return f"{_number(low, '−∞')} … {_number(high, '∞')}"


def _title(objectives: Sequence[str], log: LogSummary) -> str:
    what = ", ".join(objectives).capitalize()
    noun = "decision" if log.rewarded == 1 else "decisions"
    return f"{what} per decision, by {log.rewarded:,} {noun} of {log.path}"


def _table(result: Evaluation, values: Sequence[Value]) -> Table:
    several = len(result.question.objectives) > 1
    table = Table()
    columns = ["policy", *(["objective"] if several else []), "estimator"]
    for name in columns:
        table.add_column(name)
    for name in ("value", _percent(result), "n", "ESS"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict")
    marks = {subject.name: _marked(subject) for subject in result.policies}
    before = ("", "")
    for value in values:
        now = (value.policy, value.objective)
        if before[0] and now != before:
            table.add_section()
        names = [marks[value.policy], *([value.objective] if several else [])]
        table.add_row(*names, value.estimator, *_cells(value))
        before = now
    return table


def _print_parts(result: Evaluation, by: str, out: Console) -> None:
    """Print a part of the log a row, by the estimator that a policy is judged by."""
    first = result.question.objectives[0]
    estimators = {subject.name: subject.estimator for subject in result.policies}
    table = Table(by, "policy", "estimator")
    for name in ("value", _percent(result), "n", "ESS"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict")
    values = [
        value
        for value in result.values
        if value.by == by
        and value.objective == first
        and value.estimator == estimators[value.policy]
    ]
    order = {subject.name: place for place, subject in enumerate(result.policies)}
    before = ""
    for value in sorted(values, key=lambda value: (value.group, order[value.policy])):
        if before and value.group != before:
            table.add_section()
        table.add_row(value.group, value.policy, value.estimator, *_cells(value))
        before = value.group
    out.print(f"\nBy {by}")
    out.print(table)


def _quantiles(result: Evaluation) -> Table:
    table = Table("policy", "objective", "quantile")
    for name in ("value", _percent(result)):
        table.add_column(name, justify="right", no_wrap=True)
    for each in result.quantiles:
        table.add_row(
            each.policy, each.objective, f"{each.quantile:g}", *_quantile(each)
        )
    return table


def _quantile(each: Quantile) -> tuple[str, str]:
    if each.value is None:
        return "—", _NOTHING
    return f"{each.value:.4g}", f"{each.low:.4g} … {each.high:.4g}"


def _cells(value: Value) -> tuple[str, ...]:
    told = value.value is not None
    return (
        _number(value.value, "—"),
        interval(value.low, value.high) if told else _NOTHING,
        f"{value.n:,}",
        f"{value.ess:,.0f}",
        value.verdict,
    )


def _percent(result: Evaluation) -> str:
    return f"{float(f'{result.question.confidence:.4g}') * 100:g} % interval"


def _marked(subject: Subject) -> str:
    return subject.name + (" †" if subject.trained_on_log else "")


def _number(number: float | None, otherwise: str) -> str:
    return otherwise if number is None else f"{number:.4f}"


def _doubts(values: Iterable[Value]) -> Iterator[str]:
    """Say why not to decide on a number, once for all that it is said of."""
    values = list(values)
    several = len({value.objective for value in values}) > 1
    doubts: dict[tuple[str, str, str], dict[str, None]] = {}
    needed: dict[str, int] = {}
    for value in values:
        of = f"{value.policy}, {value.objective}" if several else value.policy
        for doubt in value.doubts:
            key = (value.verdict, of, doubt)
            doubts.setdefault(key, {})[value.estimator] = None
        if value.rows_needed is not None:
            needed[of] = max(needed.get(of, 0), value.rows_needed)
    for (verdict, of, doubt), estimators in doubts.items():
        yield f"{verdict.capitalize()}: {of} ({', '.join(estimators)}): {doubt}."
    for of, rows in needed.items():
        yield f"About {rows:,} decisions like these would do for {of}."
