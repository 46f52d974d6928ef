"""Reports: one file that needs nothing else, with the numbers of the result alone.

Results are real ones, of small logs and worlds. What a page says is read off it as a
browser would: tags are followed, and plots are read as XML.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import pytest
from typer.testing import CliRunner, Result

from policies.comparison import GateSettings
from simulator import (
    Comparison,
    Evaluation,
    Parts,
    Rehearsal,
    ReportError,
    Simulation,
    Sweep,
    compare,
    evaluate,
    player,
    read_result,
    read_world,
    report,
    simulate,
    sweep,
)
from simulator.__main__ import app
from simulator.logs import write_log
from simulator.rehearsing import Effect, Figure
from simulator.reporting import page
from simulator.reporting.axes import Axis
from simulator.simulating import Truth
from tests.simulator import logged

VOID = {"meta", "col", "wbr"}
SCRIPT = "<script>alert('1')</script>"
REAL = re.compile(r"\d\.\d")


class Page(HTMLParser):
    """What is on a page.

    Attributes:
        tags: How often each tag is there.
        addresses: What anything links to, or is loaded from.
        ids: Every id.
        rows: The text of each row of each table.
        heads: The text of headings.
        text: All that can be read.
        plots: The attributes of each thing that is a picture.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.rows: list[str] = []
        self.heads: list[str] = []
        self.plots: list[dict[str, str | None]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        found = dict(attrs)
        for name in ("href", "src", "srcset", "action", "data", "xlink:href"):
            if name in found:
                self.addresses.append(found[name] or "")
        if found.get("id"):
            self.ids.append(found["id"] or "")
        assert not any(name.startswith("on") for name in found)
        if found.get("role") == "img":
            self.plots.append(found)
        if tag in VOID:
            return
        self._open.append(tag)
        if tag == "tr":
            self.rows.append("")
        if tag in {"td", "th"}:
            self.rows[-1] += " "
        if tag in {"h1", "h2", "h3", "h4"}:
            self.heads.append("")

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.text += data
        if "tr" in self._open:
            self.rows[-1] += data
        if self._open and self._open[-1] in {"h1", "h2", "h3", "h4"}:
            self.heads[-1] += data

    def row(self, *names: str) -> str:
        """Return the first row that begins with a name and has all these words."""
        rows = [" ".join(row.split()) for row in self.rows]
        return next(
            row
            for row in rows
            if row.startswith(names[0]) and all(name in row for name in names)
        )


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    few = logged.log(1_500, users=300)
    return evaluate(
        Parts([few]),
        ["logged", "uniform", "tea=fixed:tea", "best=column:best"],
        by=["segment", "day"],
        objectives=["reward", "dismissed"],
        quantiles=[0.9],
    )


@pytest.fixture(scope="module")
def untold() -> Evaluation:
    return evaluate(Parts([logged.log(90)]), ["logged", "jam=fixed:jam"], by=["day"])


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare(
        Parts([logged.log(2_000)]),
        ["logged", "uniform", "best=column:best"],
        promote="best",
        gate_settings=GateSettings(dismissals_rise_max=0.5),
        estimators=["snips"],
    )


@pytest.fixture(scope="module")
def simulations() -> Sequence[Simulation]:
    world = read_world("calm", seed=1)
    return [
        simulate(world, player(name), users=30, days=4, estimates=at == 0).result
        for at, name in enumerate(("uniform", "silent"))
    ]


@pytest.fixture(scope="module")
def swept() -> Sweep:
    players = [player("silent"), player("uniform")]
    return sweep("calm", players, seeds=(0, 1), users=10, days=2)


@pytest.fixture(scope="module")
def rehearsal() -> Rehearsal:
    return Rehearsal(
        log="opportune.db",
        catalogue="284ed28f8592",
        policy="those of the log",
        confidence=0.95,
        decisions=1_500,
        roots=300,
        rewarded=1_400,
        changed=189,
        followed=1_110,
        diverged=94,
        coverage=0.74,
        known=0.95,
        figures=(
            Figure(
                objective="reward",
                logged=0.0653,
                value=0.0437,
                low=0.0344,
                high=0.0648,
                difference=-0.0216,
                difference_low=-0.0291,
                difference_high=-0.0007,
                alike_low=-0.0251,
                alike_high=-0.0183,
            ),
        ),
        effects=(
            Effect(
                gate="offer_cap",
                change="allowed",
                decisions=658,
                roots=211,
                actions=658,
                choices=59.9,
                reward=17.73,
                dismissals=None,
            ),
        ),
        lead="worse",
        verdict="usable",
        doubts=(),
        notes=("budgets are as they were",),
    )


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> dict[str, Any]:
    names = "evaluation", "untold", "comparison", "simulations", "swept", "rehearsal"
    found = {name: request.getfixturevalue(name) for name in names}
    return {**found, "simulation": found["simulations"][0]}


KINDS = pytest.mark.parametrize(
    "kind",
    [
        *("evaluation", "untold", "comparison", "simulations", "simulation"),
        *("swept", "rehearsal"),
    ],
)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


# --- Every report -----------------------------------------------------------------


@KINDS
def test_a_page_is_whole_and_loads_nothing(results: dict[str, Any], kind: str) -> None:
    text = page(results[kind])

    found = Page(text)
    assert text.startswith("<!doctype html>")
    assert all(address.startswith("#") for address in found.addresses)
    assert {address[1:] for address in found.addresses} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))
    assert not set(found.tags) & {"script", "link", "img", "iframe", "object", "use"}
    assert "http" not in text.replace("http-equiv", "")
    assert not re.search(r"url\(|@import|expression", text)
    assert "default-src 'none'" in text
    assert "{{" not in text


@KINDS
def test_plots_are_well_formed_and_have_words(
    results: dict[str, Any], kind: str
) -> None:
    text = page(results[kind])

    found = Page(text)
    svgs = re.findall(r"<svg(?:(?!<svg)(?!</svg>).)*</svg>", text, re.DOTALL)
    assert svgs
    for svg in svgs:
        ET.fromstring(svg)  # noqa: S314 - it is our own
    assert not re.search(r"\b(nan|None|Undefined)\b", text)
    assert all(plot["aria-label"] for plot in found.plots)
    assert found.tags["details"] >= found.tags["figure"]
    assert found.tags["h1"] == 1
    assert found.tags["caption"] == found.tags["table"]


@KINDS
def test_a_result_makes_the_same_bytes_also_when_it_was_stored(
    results: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    result = results[kind]
    (tmp_path / "result.json").write_bytes(msgspec.json.encode(result))

    report(result, tmp_path / "first.html")
    report(read_result(tmp_path / "result.json"), tmp_path / "second.html")

    first = (tmp_path / "first.html").read_bytes()
    assert first == (tmp_path / "second.html").read_bytes()
    assert b"\r" not in first


def test_names_are_text_and_never_markup(
    evaluation: Evaluation, comparison: Comparison, swept: Sweep
) -> None:
    def named(result: Any, *names: str) -> Any:
        told = msgspec.json.encode(result).decode()
        for name in names:
            told = told.replace(f'"{name}"', msgspec.json.encode(SCRIPT).decode())
        return msgspec.json.decode(told, type=type(result))

    for result in (
        named(evaluation, "tea", "free"),
        named(comparison, "best"),
        named(swept, "uniform"),
    ):
        text = page(result)
        found = Page(text)
        assert "script" not in found.tags
        assert "<script" not in text
        assert SCRIPT in found.text


# --- Evaluations ------------------------------------------------------------------


def test_an_evaluation_tells_each_value_with_its_interval(
    evaluation: Evaluation,
) -> None:
    found = Page(page(evaluation))

    value = evaluation.of("best")
    assert value.value is not None
    assert value.low is not None
    assert value.high is not None
    row = next(row for row in found.rows if f"{value.value:.3f}" in row)
    assert f"{value.low:.3f} to {value.high:.3f}" in row
    assert "The log can tell what logged, uniform, tea and best earn." in found.heads
    assert f"The highest usable value is that of best: {value.value:.3f}" in found.text
    for text in ("By segment", "By day", "Quantiles", "Weights", "ESS by segment"):
        assert text in found.heads
    figures = evaluation.policies[2].diagnostics.figures
    assert f"{figures['ess']:,.0f}" in found.text
    assert f"{figures['top_1_percent_share'] * 100:.1f}\u00a0%" in found.text


def test_what_the_log_cannot_tell_has_no_number(untold: Evaluation) -> None:
    text = page(untold)

    found = Page(text)
    jam = [
        row
        for row in found.rows
        if "unusable" in row and not re.search(r"\d{4}-\d\d", row)
    ]
    assert jam
    for row in jam:
        assert "no number" in row
        assert not REAL.search(row)
    marks = re.findall(r'<tr role="row" class="[^"]*none[" ].*?</tr>', text, re.DOTALL)
    assert len(marks) == len(jam)
    assert all('class="hatch"' in mark for mark in marks)
    assert not any("sign" in mark or "whisker" in mark for mark in marks)
    needed = untold.of("jam").rows_needed
    assert needed is not None
    assert "decisions like these would do for jam" in found.text
    assert "jam is unusable: " in found.text


def test_numbers_of_what_is_unusable_are_withheld_whoever_wrote_them(
    evaluation: Evaluation, simulations: Sequence[Simulation], rehearsal: Rehearsal
) -> None:
    loud = {"value": 765_432.1, "low": 765_432.1, "high": 765_432.1}
    values = [
        msgspec.structs.replace(value, verdict="unusable", **loud)
        for value in evaluation.values
    ]
    policies = [
        msgspec.structs.replace(one, verdict="unusable") for one in evaluation.policies
    ]
    truths = [
        msgspec.structs.replace(truth, verdict="unusable", error=765_432.1, **loud)
        for truth in simulations[0].estimates
    ]
    figures = [
        msgspec.structs.replace(
            one,
            difference=765_432.1,
            alike_low=765_432.1,
            alike_high=765_432.1,
            **loud,
        )
        for one in rehearsal.figures
    ]

    for changed in (
        msgspec.structs.replace(
            evaluation, values=tuple(values), policies=tuple(policies), quantiles=()
        ),
        msgspec.structs.replace(simulations[0], estimates=tuple(truths)),
        msgspec.structs.replace(rehearsal, figures=tuple(figures), verdict="unusable"),
    ):
        text = page(changed)
        assert "765,43" not in text
        assert "no number" in text


def test_where_nothing_is_told_an_axis_has_no_numbers(untold: Evaluation) -> None:
    text = page(untold)

    forest = re.findall(r'<table class="forest.*?</table>', text, re.DOTALL)[0]
    assert "<text" not in forest


def test_an_end_beyond_the_axis_is_an_arrow_and_stays_a_number(
    evaluation: Evaluation,
) -> None:
    first = evaluation.of("tea")
    wide = msgspec.structs.replace(first, verdict="weak", low=-40.0, high=None)
    changed = msgspec.structs.replace(
        evaluation,
        values=tuple(wide if v is first else v for v in evaluation.values),
    )

    text = page(changed)

    rows = re.findall(r"<tr role.*?</tr>", text, re.DOTALL)
    (row,) = [row for row in rows if "∞" in row]
    assert "−40.000 to ∞" in row
    assert row.count('class="cap" d="M6-5') + row.count('class="cap" d="M-6-5') == 2
    assert "weak" in row


def test_days_that_cannot_be_told_are_crosses(evaluation: Evaluation) -> None:
    days = [v for v in evaluation.values if v.by == "day" and v.policy == "logged"]
    gone = msgspec.structs.replace(
        days[0], value=None, low=None, high=None, verdict="unusable"
    )
    changed = msgspec.structs.replace(
        evaluation,
        values=tuple(gone if v is days[0] else v for v in evaluation.values),
    )

    text = page(changed)

    assert f"{gone.group}: cannot tell" in text
    mark = 'class="missing"'
    assert text.count(mark) == page(evaluation).count(mark) + 1


def test_a_policy_that_has_learned_from_its_judges_is_marked(
    evaluation: Evaluation,
) -> None:
    policies = [
        msgspec.structs.replace(one, trained_on_log=one.name == "best")
        for one in evaluation.policies
    ]
    changed = msgspec.structs.replace(evaluation, policies=tuple(policies))

    found = Page(page(changed))

    assert "best (†) has learned from the rewards that it is judged by" in found.text


# --- Comparisons ------------------------------------------------------------------


def test_a_comparison_begins_with_what_can_be_concluded(comparison: Comparison) -> None:
    found = Page(page(comparison))

    one = next(o for o in comparison.differences if o.policy == "best")
    assert one.value is not None
    assert comparison.winner == "best"
    assert one.low is not None
    assert found.heads[0].startswith(f"best earns {one.low:.2f} to ")
    assert found.heads[0].endswith(" more reward a decision than logged.")
    assert "Deploy best over logged? Yes, deploy: it earns at least" in found.text
    assert f"+{one.value:.3f}" in found.row("best", "better")
    assert found.heads.index("What each earns more than logged") < found.heads.index(
        "What each policy earns"
    )


@pytest.mark.parametrize(
    ("changes", "headline"),
    [
        ({"winner": "logged"}, "logged is the best: all others earn less."),
        ({"winner": None, "better": ()}, "The log cannot tell which policy is better."),
        (
            {"winner": None, "better": ("best", "uniform")},
            (
                "best and uniform are better than logged; which of all is the best the"
                " log cannot tell."
            ),
        ),
    ],
)
def test_no_winner_is_named_where_there_is_none(
    comparison: Comparison, changes: dict[str, Any], headline: str
) -> None:
    changed = msgspec.structs.replace(comparison, **changes)

    assert Page(page(changed)).heads[0] == headline


def test_an_open_difference_says_how_many_decisions_would_tell(
    comparison: Comparison,
) -> None:
    first = comparison.differences[0]
    gone = msgspec.structs.replace(
        first, value=None, low=None, high=None, lead="open", rows_to_tell=123_456
    )
    changed = msgspec.structs.replace(
        comparison,
        winner=None,
        better=(),
        differences=(gone, *comparison.differences[1:]),
    )

    found = Page(page(changed))

    assert "About 130,000 decisions like these would tell uniform from" in found.text
    assert not REAL.search(found.row("uniform", "open"))


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1e-17), (1.0, 1.0 + 1e-15), (3.0, 3.0), (-1e9, 1e9)]
)
def test_an_axis_has_marks_whatever_is_on_it(low: float, high: float) -> None:
    axis = Axis.around([low, None, high, float("inf")])

    labels = [tick.label for tick in axis.ticks()]

    assert 2 <= len(labels) <= 9
    assert len(set(labels)) == len(labels)
    assert axis.holds(low)
    assert axis.holds(high)


# --- Worlds and rules -------------------------------------------------------------


def test_simulations_are_side_by_side_with_the_truth(
    simulations: Sequence[Simulation],
) -> None:
    found = Page(page(simulations))

    uniform, silent = (one.figures for one in simulations)
    row = found.row("decisions", f"{uniform.decisions:,}")
    assert f"{silent.decisions:,}" in row
    for head in ("Reward a decision", "Regret so far", "Users who stayed"):
        assert head in found.heads
    truth = simulations[0].estimates[0].truth
    assert "truth" in found.text
    assert any(f"{truth:.3f}" in row or f"{truth:.2f}" in row for row in found.rows)
    assert "Estimates beside the truth" in found.heads


def test_an_estimate_that_cannot_be_told_has_a_truth_and_no_number(
    simulations: Sequence[Simulation],
) -> None:
    gone = Truth(
        policy="best",
        estimator="snips",
        value=None,
        low=None,
        high=None,
        truth=0.25,
        error=None,
        verdict="unusable",
    )
    changed = msgspec.structs.replace(simulations[0], estimates=(gone,))

    row = Page(page(changed)).row("log of uniform", "best by snips")

    assert "no number" in row
    assert REAL.findall(row) == ["0.2"]


def test_a_sweep_says_what_is_more_for_certain(swept: Sweep) -> None:
    found = Page(page(swept))

    more = swept.variants[1].more["expected"]
    if more.low > 0:
        assert found.heads[0].startswith("uniform earns more than silent, by ")
    else:
        assert found.heads[0] == "Nothing is certain to earn more than silent."
    assert "What each has more than silent" in found.heads
    assert "Means over the seeds" in found.heads


def test_a_rehearsal_says_what_the_new_rules_earn(rehearsal: Rehearsal) -> None:
    found = Page(page(rehearsal))

    assert found.heads[0] == "The new rules earn less."
    assert "0.044 0.034 to 0.065" in found.row("the new rules")
    assert "≈ 59.9 ≈ 17.7 —" in found.row("offer_cap")
    assert "−0.025 to −0.018 more, if what was never tried is like" in found.text
    assert "74.0\u00a0%" in found.text


def test_a_rehearsal_that_cannot_be_told_has_no_number(rehearsal: Rehearsal) -> None:
    nothing = {
        "value": None,
        "low": None,
        "high": None,
        "difference": None,
        "difference_low": None,
        "difference_high": None,
    }
    figure = msgspec.structs.replace(rehearsal.figures[0], **nothing)
    changed = msgspec.structs.replace(
        rehearsal, figures=(figure,), verdict="unusable", lead="open"
    )

    found = Page(page(changed))

    assert found.row("the new rules").endswith("no number cannot tell ✕ unusable")


# --- Files ------------------------------------------------------------------------


def test_the_commands_write_the_report_that_their_json_makes(tmp_path: Path) -> None:
    write_log(Parts([logged.log(600)]), tmp_path / "log.parquet", to="parquet")

    evaluated = run(
        *("evaluate", tmp_path / "log.parquet", "-p", "uniform", "-e", "snips"),
        *("--json", tmp_path / "out.json", "--report", tmp_path / "first.html"),
    )
    made = run("report", tmp_path / "out.json", tmp_path / "second.html")

    assert (evaluated.exit_code, made.exit_code) == (0, 0), evaluated.output
    first = (tmp_path / "first.html").read_bytes()
    assert first == (tmp_path / "second.html").read_bytes()


def test_comparisons_and_worlds_have_reports_too(tmp_path: Path) -> None:
    write_log(Parts([logged.log(600)]), tmp_path / "log.parquet", to="parquet")
    world = ("calm", "-p", "uniform", "--users", "8", "--days", "2")

    for arguments in (
        ("compare", tmp_path / "log.parquet", "logged", "uniform", "-e", "snips"),
        ("simulate", *world),
        ("sweep", *world, "-p", "silent", "--seeds", "0,1"),
    ):
        path = tmp_path / f"{arguments[0]}.html"
        result = run(*arguments, "--report", path)
        assert result.exit_code in {0, 3}, result.output
        assert Page(path.read_text(encoding="utf-8")).heads


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"format": "opportune.replay.v1"}', "there is no report of opportune.replay"),
        ('{"format": "opportune.sweep.v1"}', "this is no result: "),
        ('[{"format": "opportune.sweep.v1"}]', "a report is of one result"),
        ("[]", "there is no report of nothing"),
        ("Good morning.", "this is no result: "),
    ],
)
def test_what_there_is_no_report_of_is_said(
    tmp_path: Path, text: str, told: str
) -> None:
    path = tmp_path / "result.json"
    path.write_text(text, encoding="utf-8")

    result = run("report", path, tmp_path / "report.html")

    assert result.exit_code == 2
    assert f"{path}: {told}" in result.stderr
    assert not (tmp_path / "report.html").exists()


def test_files_that_cannot_be_read_or_written_are_named(
    tmp_path: Path, rehearsal: Rehearsal
) -> None:
    with pytest.raises(ReportError, match=r"nothing\.json: cannot be read"):
        read_result(tmp_path / "nothing.json")
    with pytest.raises(ReportError, match=r"out\.html: cannot be written"):
        report(rehearsal, tmp_path / "no" / "out.html")
    with pytest.raises(ReportError, match="there is no report of int"):
        report(7, tmp_path / "out.html")  # type: ignore[arg-type]


def test_a_server_that_decides_has_no_report(tmp_path: Path) -> None:
    result = run(
        *("simulate", "calm", "--server", "127.0.0.1:1"),
        *("--report", tmp_path / "out.html"),
    )

    assert result.exit_code == 2
    assert "there is no report of what a server did" in result.stderr
