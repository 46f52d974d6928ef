"""The docs name all there is, and what they show works.

Examples of catalogues and settings are read by their readers; what is a part of a
catalogue is read together with the page's `catalogue.toml`. Pages with programs run
against a server that is started from the pages' own files: what a page calls
`# NAME` in the first line of an example is written to a file of that name. What a page
shows below a command is what comes, but for times and versions. A package of gates that
a page makes is installed for it.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec
import prometheus_client
import prometheus_client.metrics
import pytest
import sqlite_utils
import typer
import typer.main
from google.protobuf.descriptor import FileDescriptor
from google.rpc import error_details_pb2

from opportune.v1 import (
    context_pb2,
    decision_pb2,
    decision_service_pb2,
    message_pb2,
    outcome_pb2,
    user_pb2,
    user_service_pb2,
)
from policies import catalogue, commands, errors, features, model, records, specs
from policies.errors import FileError
from policies.gates import GATES
from policies.gates.life import SUPPRESSORS
from policies.gates.plugins import GROUP
from policies.learners.vw_explorers import VwExplorer
from policies.policy import (
    Exploration,
    LearnerSettings,
    PolicySettings,
    VowpalWabbitExploration,
)
from policies.toml import join_texts
from server import telemetry
from server.settings import Settings, read_settings
from server.status import status_of
from server.stores.sqlite import migrate
from simulator.logs import open_log
from simulator.logs.parquet import table_of
from simulator.logs.table import CsvMapping, read_mapping
from simulator.worlds import PRESETS, read_world
from tests.server import kit

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
FILES = (
    context_pb2,
    decision_pb2,
    decision_service_pb2,
    message_pb2,
    outcome_pb2,
    user_pb2,
    user_service_pb2,
)
ADDRESS = "127.0.0.1:50051"


class Example(NamedTuple):
    """A fenced block of a page."""

    page: Path
    language: str
    text: str

    @property
    def file(self) -> str:
        """The file that it is to be saved as; empty where it does not say."""
        named = re.match(r"# (\S+\.\w+)\n", self.text)
        return named.group(1) if named else ""

    @property
    def name(self) -> str:
        """What to call it in the name of a test."""
        place = self.page.relative_to(ROOT)
        return f"{place}:{self.file or self.text.splitlines()[0]}"


def examples(page: Path, language: str) -> list[Example]:
    """Return a page's blocks in a language."""
    fence = rf"^```{language}\n(.*?)^```$"
    found = re.findall(fence, page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [Example(page, language, text) for text in found]


def named(example: Example) -> str:
    return example.name


TOMLS = [example for page in PAGES for example in examples(page, "toml")]
PROGRAMS = [
    page
    for page in PAGES
    if any(">>>" not in example.text for example in examples(page, "python"))
]


def is_settings(example: Example) -> bool:
    """Say whether an example holds sections of a settings file."""
    sections = [field.name for field in msgspec.structs.fields(Settings)]
    return (
        re.search(rf"^\[({'|'.join(sections)})\b", example.text, re.MULTILINE)
        is not None
    )


def is_mapping(example: Example) -> bool:
    """Say whether an example says what the columns of a table are."""
    return re.search(r"^propensity = ", example.text, re.MULTILINE) is not None


def is_world(example: Example) -> bool:
    """Say whether an example is a world of simulated users."""
    return re.search(r"^\[\[asks\]\]", example.text, re.MULTILINE) is not None


def is_package(example: Example) -> bool:
    return example.file == "pyproject.toml"


def catalogue_text(example: Example) -> str:
    """Return the text of a catalogue: its own or, of a part, the page's with it."""
    if "[placements." in example.text:
        return example.text
    (whole,) = (e for e in examples(example.page, "toml") if e.file == "catalogue.toml")
    return join_texts([(whole.file, whole.text), (example.file, example.text)])


# --- All there is is named --------------------------------------------------------


def reference(page: str) -> str:
    return (DOCS / "reference" / page).read_text()


def section(text: str, title: str) -> str:
    """Return what stands under a heading, up to the next of its level or above."""
    match = re.search(rf"^(#+) {re.escape(title)}$", text, flags=re.MULTILINE)
    assert match is not None, title
    rest = text[match.end() :]
    end = re.search(rf"^#{{1,{len(match.group(1))}}} ", rest, flags=re.MULTILINE)
    return rest[: end.start()] if end else rest


def descriptors() -> list[FileDescriptor]:
    return [module.DESCRIPTOR for module in FILES]


MESSAGES = {
    message.name: message
    for file in descriptors()
    for message in file.message_types_by_name.values()
}
ENUMS = {
    enum.name: enum
    for file in descriptors()
    for enum in file.enum_types_by_name.values()
}
METHODS = [
    method.name
    for file in descriptors()
    for service in file.services_by_name.values()
    for method in service.methods
]


@pytest.mark.parametrize("method", METHODS)
def test_every_call_is_documented(method: str) -> None:
    assert section(reference("api.md"), method).strip()


@pytest.mark.parametrize("message", MESSAGES)
def test_every_field_of_a_message_is_documented(message: str) -> None:
    said = section(reference("api.md"), message)
    for field in MESSAGES[message].fields:
        assert f"| `{field.name}` |" in said


@pytest.mark.parametrize("enum", ENUMS)
def test_every_value_of_an_enum_is_documented(enum: str) -> None:
    said = section(reference("api.md"), enum)
    for value in ENUMS[enum].values:
        assert f"| `{value.name}` |" in said


@pytest.mark.parametrize("reason", decision_pb2.Reason.keys()[1:])
def test_every_reason_is_explained_to_those_who_write_catalogues(reason: str) -> None:
    page = section((DOCS / "how-to" / "why-not.md").read_text(), "The reasons")
    cells = re.findall(r"^\| (`.*?`) \|", page, flags=re.MULTILINE)
    assert f"`{reason.removeprefix('REASON_')}`" in ", ".join(cells).split(", ")


@pytest.mark.parametrize("kind", outcome_pb2.OutcomeKind.keys()[1:])
def test_every_outcome_is_explained_to_those_who_report_it(kind: str) -> None:
    page = (DOCS / "how-to" / "report-outcomes.md").read_text()
    assert f"`{kind.removeprefix('OUTCOME_KIND_')}`" in page


def setting_keys(kind: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield the heading under which each setting is, and its key."""
    for field in msgspec.structs.fields(kind):
        here = f"{path}.{field.name}".lstrip(".")
        kinds = [k for k in (get_args(field.type) or (field.type,)) if is_struct(k)]
        if not kinds:
            yield f"`[{path}]`", field.name
        for each in kinds:
            tag = each.__struct_config__.tag
            if each is PolicySettings and here != "policy":
                yield f"`[{here}]`", "salt"  # Its tables are as in [policy].
            elif tag is None:
                yield from setting_keys(each, here)
            else:
                title = f'`kind = "{tag}"`'
                for inner in msgspec.structs.fields(each):
                    yield title, inner.name
                    yield from inner_keys(inner)


def inner_keys(field: msgspec.structs.FieldInfo) -> Iterator[tuple[str, str]]:
    """Yield the same for a table in a table that is one of several kinds."""
    for one in filter(is_struct, get_args(field.type)):
        title = f'`{field.name} = {{ kind = "{one.__struct_config__.tag}" }}`'
        yield from ((title, inner.name) for inner in msgspec.structs.fields(one))


def is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


@pytest.mark.parametrize(("title", "key"), list(setting_keys(Settings, "")))
def test_every_setting_is_documented(title: str, key: str) -> None:
    assert f"| `{key}` |" in section(reference("settings.md"), title)


CATALOGUE_TABLES: dict[str, type[msgspec.Struct]] = {
    "At the top": specs.CatalogueSpec,
    "`[offers.ID]`": specs.OfferSpec,
    "`[offers.ID.creatives.ID]`": specs.CreativeSpec,
    "`[offers.ID.creatives.ID.parameters.NAME]`": specs.ParameterSpec,
    "`caps`, wherever they stand": specs.CapSpec,
    "`limit`, in an offer": specs.LimitSpec,
    "`dismissal`, in an offer or at the top": specs.DismissalSpec,
    "`snooze`, in an offer or at the top": specs.SnoozeSpec,
    "`traffic`, in an offer": specs.TrafficSpec,
    "`[placements.ID]`": specs.PlacementSpec,
    "`[categories.NAME]`": specs.CategorySpec,
    "`[products.NAME]`": specs.ProductSpec,
    "`[ladders.NAME]`": specs.LadderSpec,
    "`[budgets.NAME]`": specs.BudgetSpec,
    "`[suppressors.NAME]`": specs.SuppressorSpec,
    "`[features.NAME]`": features.FeatureSpec,
    "`[attention]`": specs.AttentionSpec,
    "`[spacing]`": specs.SpacingSpec,
    "`[quiet_hours]`": specs.QuietSpec,
    "`[fatigue]`": specs.FatigueSpec,
    "`[engagement]`": specs.EngagementSpec,
    "`[contacts]`": specs.ContactSpec,
    "`[sentiment]`": specs.SentimentSpec,
    "`[holdout]`": specs.HoldoutSpec,
    "`[gates]`": specs.GatesSpec,
}


def test_every_table_of_a_catalogue_is_known_to_these_tests() -> None:
    known = {spec for name, spec in vars(specs).items() if name.endswith("Spec")}
    assert known - {specs._Spec} == set(CATALOGUE_TABLES.values())


@pytest.mark.parametrize("title", CATALOGUE_TABLES)
def test_every_key_of_a_catalogue_is_documented(title: str) -> None:
    page = reference("catalogue.md")
    said = section(page, title)
    for field in msgspec.structs.fields(CATALOGUE_TABLES[title]):
        # A table has a heading of its own.
        heading = rf"^#+ `(?:\[{field.name}|\[[\w.]+\.{field.name}\.|{field.name}`)"
        assert f"| `{field.name}` |" in said or re.search(heading, page, re.MULTILINE)


@pytest.mark.parametrize("moment", sorted(specs.MOMENTS))
def test_every_moment_is_documented(moment: str) -> None:
    assert f"`{moment}`" in section(reference("catalogue.md"), "Moments")
    how_to = (DOCS / "how-to" / "write-a-catalogue.md").read_text()
    assert f"`{moment}`" in section(how_to, "When")


@pytest.mark.parametrize("state", SUPPRESSORS)
def test_every_life_state_that_holds_something_back_is_documented(state: str) -> None:
    assert f"| `{state}` |" in section(reference("catalogue.md"), "Life-states")
    how_to = (DOCS / "how-to" / "limit-how-often.md").read_text()
    assert f"| `{state}` |" in section(how_to, "When something else goes on")


@pytest.mark.parametrize("gate", [gate.name for gate in GATES])
def test_every_gate_is_documented(gate: str) -> None:
    assert f"| `{gate}` |" in reference("gates.md")


ERRORS = [
    errors.InvalidRequestError([]),
    errors.NotFoundError("decision", "d"),
    errors.OverloadedError(1.0),
    errors.StoreUnavailableError(1.0),
    RuntimeError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_reason_of_an_error_is_documented(error: Exception) -> None:
    info = error_details_pb2.ErrorInfo()
    status_of(error).details[0].Unpack(info)
    assert f"| `{info.reason}` |" in reference("errors.md")


def test_every_error_with_a_status_is_known_to_these_tests() -> None:
    with_status = {kind for kind in status_of.registry if kind is not object}
    assert with_status == {type(error) for error in ERRORS[:-1]}


METRICS = [
    metric
    for metric in vars(telemetry).values()
    if isinstance(metric, prometheus_client.metrics.MetricWrapperBase)
]


@pytest.mark.parametrize(
    "metric", METRICS, ids=lambda metric: metric.describe()[0].name
)
def test_every_metric_is_documented(
    metric: prometheus_client.metrics.MetricWrapperBase,
) -> None:
    (family,) = metric.describe()
    name = family.name + ("_total" if family.type == "counter" else "")
    assert f"| `{name}` | {family.type} |" in reference("metrics.md")


def typed_commands(module: str) -> Mapping[str, Any]:
    scope = vars(importlib.import_module(module))
    app = next(value for value in scope.values() if isinstance(value, typer.Typer))
    found: Mapping[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize(
    ("module", "program"),
    [
        ("server.__main__", "opportune-server"),
        ("simulator.__main__", "opportune-simulator"),
    ],
)
def test_every_command_is_documented_with_its_options(
    module: str, program: str
) -> None:
    known = dict(typed_commands(module))
    for name, group in list(known.items()):
        below = getattr(group, "commands", {})
        known |= {f"{name} {each}": command for each, command in below.items()}
    for name, command in known.items():
        if command.hidden:
            continue
        said = section(reference("commands.md"), f"{program} {name}")
        for parameter in command.params:
            for option in parameter.opts:
                assert option in said or option in said.lower()


def test_every_view_and_its_columns_are_documented(tmp_path: Path) -> None:
    path = tmp_path / "opportune.db"
    migrate(path)
    said = section(reference("log.md"), "Views")
    for view in sqlite_utils.Database(path).views:
        columns = ", ".join(f"`{column.name}`" for column in view.columns)
        assert f"| `{view.name}` | {columns} |" in said


UNWRITTEN = (
    model.Action,
    model.Merits,
    model.Rejection,
    model.Resolution,
    model.Tally,
    model.Traffic,
)
"""Nouns that the log does not hold, or not by themselves."""

LOGGED = {
    name: getattr(records, f"{name}Record", noun)
    for name, noun in vars(model).items()
    if is_struct(noun)
    and noun.__module__ == model.__name__
    and noun not in UNWRITTEN
    and not name.startswith("_")
}
COMMANDS = {
    f"`{kind.__struct_config__.tag}`": kind for kind in get_args(commands.Command)
}


@pytest.mark.parametrize("noun", [*LOGGED, *COMMANDS])
def test_every_field_of_a_record_is_documented(noun: str) -> None:
    said = section(reference("log.md"), noun)
    for field in msgspec.structs.fields({**LOGGED, **COMMANDS}[noun]):
        assert f"| `{field.name}` |" in said


@pytest.mark.parametrize("field", msgspec.structs.fields(CsvMapping), ids=str)
def test_every_key_of_a_mapping_is_documented(field: Any) -> None:
    assert f"| `{field.name}` |" in reference("log-files.md")


def test_every_column_of_parquet_is_documented() -> None:
    with open_log(ROOT / "tests/data/logs/personalizer.dsjson") as source:
        (part,) = source.parts()
    names = ["segment" for _ in part.ids]
    full = msgspec.structs.replace(
        part, segments=names, splits=names, targets={"greedy": part.rewards}
    )
    for name in table_of(full).schema.names:
        kind, colon, _ = name.partition(":")
        assert f"| `{kind}{colon and ':NAME'}` |" in reference("log-files.md")


@pytest.mark.parametrize(
    "word",
    [
        "action",
        "activation",
        "cap",
        "creative",
        "decision",
        "gate",
        "hold",
        "ladder",
        "floor",
        "lease",
        "life-state",
        "moment",
        "opportunity",
        "outcome",
        "reservation",
        "rung",
        "session",
        "slot",
        "snooze",
        "stop",
        "subject",
        "suppressor",
        "tally",
        "tier",
        "track",
    ],
)
def test_the_glossary_explains_the_nouns(word: str) -> None:
    assert f"| {word} |" in reference("glossary.md")


# --- What is shown works ----------------------------------------------------------


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Installs the package that a page makes, if any, as pip would: here and below."""

    def installed(page: Path) -> None:
        for example in filter(is_package, examples(page, "toml")):
            project = tomllib.loads(example.text)["project"]
            name, version = project["name"], project["version"]
            info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
            info.mkdir()
            about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            (info / "METADATA").write_text(about)
            points = project["entry-points"][GROUP]
            lines = [f"{gate} = {place}" for gate, place in points.items()]
            listed = "\n".join([f"[{GROUP}]", *lines])
            (info / "entry_points.txt").write_text(listed)
            for module in (e for e in examples(page, "python") if e.file):
                (tmp_path / module.file).write_text(module.text)
            monkeypatch.syspath_prepend(str(tmp_path))
            monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return installed


@pytest.mark.parametrize("example", TOMLS, ids=named)
def test_an_example_of_a_file_is_read_by_its_reader(
    example: Example, tmp_path: Path, install: Callable[[Path], None]
) -> None:
    install(example.page)
    if is_package(example):
        assert tomllib.loads(example.text)["project"]["entry-points"][GROUP]
    elif is_mapping(example):
        path = tmp_path / "mapping.toml"
        path.write_text(example.text)
        assert read_mapping(path).columns()
    elif is_world(example):
        path = tmp_path / "world.toml"
        path.write_text(example.text)
        shutil.copy(PRESETS / "catalogues" / "files.toml", tmp_path / "catalogue.toml")
        assert read_world(path).spec.users
    elif is_settings(example):
        path = tmp_path / "settings.toml"
        path.write_text(example.text)
        assert isinstance(read_settings(path), Settings)
    else:
        assert catalogue.read(catalogue_text(example), example.name).actions


def test_a_broken_example_would_be_noticed() -> None:
    example = next(e for e in TOMLS if "placements =" in e.text)
    with pytest.raises(FileError):
        catalogue.read(example.text.replace("placements =", "placement ="))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_links_to_are_there(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text())
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_that_a_page_names_are_there(page: Path) -> None:
    named = re.findall(r"`(tests/[^`]+)`", page.read_text())
    missing = [name for name in named if not (ROOT / name).exists()]
    assert missing == []


@pytest.mark.timeout(180)  # A page is followed from its first command to its last.
@pytest.mark.parametrize("page", PROGRAMS, ids=lambda page: str(page.relative_to(ROOT)))
def test_programs_of_a_page_run_against_a_server(
    page: Path, tmp_path: Path, install: Callable[[Path], None]
) -> None:
    # Given a server of the page's files or, where it has none, the README's.
    install(page)
    files = {
        e.file: e.text for e in [*examples(README, "toml"), *examples(page, "toml")]
    }
    if ADDRESS not in files["settings.toml"]:
        files["settings.toml"] += f'\n[server]\naddress = "{ADDRESS}"\n'
    for name, text in files.items():
        if name:
            (tmp_path / name).write_text(text.replace(ADDRESS, "127.0.0.1:0"))
    with kit.serving(tmp_path / "settings.toml") as served:
        # When the page is followed.
        for number, example in enumerate(examples(page, "python")):
            if ">>>" not in example.text:
                program = tmp_path / (example.file or f"example_{number}.py")
                program.write_text(example.text.replace(ADDRESS, served.address))
        unnamed = sorted(tmp_path.glob("example_*.py"))
        for program in unnamed:
            run(f"python {program.name}", tmp_path)
        # Then every command ends well, and what comes is what the page shows.
        for line, shown in typed(page):
            came = run(line, tmp_path)
            if shown:
                assert re.fullmatch(pattern(shown), blurred(came), re.DOTALL), came


def typed(page: Path) -> list[tuple[str, str]]:
    """Return the commands of a page that can be run here, with what they show."""
    if page == README:
        return []  # `make demo` and `make test` are not for here.
    blocks = [example.text.replace("\\\n", "") for example in examples(page, "console")]
    parts = re.findall(
        # A command goes on below where a quotation is open.
        r"^\$ ((?:[^\n\"]|\"[^\"]*\")*)\n((?:(?!\$ ).*\n)*)",
        "".join(blocks),
        flags=re.MULTILINE,
    )
    ours = r"python |sqlite-utils |opportune-simulator |opportune-server (?!serve)"
    return [(line, shown) for line, shown in parts if re.match(ours, line)]


def blurred(text: str) -> str:
    """Return a text without what is different each time: times, versions, names."""
    for pattern, instead in (
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME"),
        (r"\b[0-9a-f]{12}\b", "VERSION"),
        (r"by \w+: the server", "by SOMEBODY: the server"),
        (r"\b(model|promote|rollback) \d+\.\d+", r"\1 MODEL"),
        (r"[ \t]+$", ""),
    ):
        text = re.sub(pattern, instead, text, flags=re.MULTILINE)
    return text.strip()


def pattern(shown: str) -> str:
    """Return what an output must match; a line with an ellipsis is any lines."""
    return "\n.*\n".join(re.escape(part) for part in blurred(shown).split("\n…\n"))


def run(line: str, folder: Path) -> str:
    """Type a command in a folder, with this environment's programs on the path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env={**os.environ, "PATH": path, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done.stdout


def test_every_explorer_is_in_the_table_of_what_goes_on() -> None:
    page = (DOCS / "explanation" / "vowpal-wabbit.md").read_text(encoding="utf-8")
    table = page.partition("## What goes on where it stopped")[2]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| `")]

    told = {row[0].strip("| `"): row[1].replace("`", "").split(", ") for row in rows}

    explorers = get_args(VwExplorer)
    assert {e.__struct_config__.tag: list(e.cb_types) for e in explorers} == {
        name: sorted(types, key=["mtr", "dr", "ips"].index)
        for name, types in told.items()
    }
    assert all(row[-1].strip(" |") == "same bytes" for row in rows)


def test_every_learner_and_exploration_is_in_the_table_of_what_goes_with_what() -> None:
    page = (DOCS / "explanation" / "learners.md").read_text(encoding="utf-8")
    table = page.partition("## What goes with what")[2].partition("*Same bytes*")[0]
    head, *rows = [line for line in table.splitlines() if line.startswith("| ")]

    def tags(*kinds: Any) -> set[str]:
        return {kind.__struct_config__.tag for kind in kinds}

    learners = {re.findall(r"`(\w+)`", row)[0] for row in rows}
    assert learners == tags(*get_args(LearnerSettings))
    explorations = tags(*get_args(Exploration), VowpalWabbitExploration)
    assert explorations <= set(re.findall(r"`(\w+)`", head))
    assert all("| same bytes |" in row for row in rows)
