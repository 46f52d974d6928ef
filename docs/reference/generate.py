"""Writes the parts of the reference that follow from the code.

Each function returns Markdown. The pages of this folder call them between the
markers of cog; `make docs` refreshes them, `make docs-check` compares.
"""

from __future__ import annotations

import ast
import datetime as dt
import importlib
import inspect
import itertools
import re
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import prometheus_client.metrics
import sqlite_utils
import typer
import typer.main
from google.api import field_behavior_pb2
from google.protobuf import descriptor_pb2
from google.rpc import code_pb2, error_details_pb2
from typer.testing import CliRunner

from policies import (
    commands,
    errors,
    features,
    model,
    policy,
    records,
    rewards,
    specs,
)
from policies.estimators import ESTIMATORS, SLATES
from policies.gates import GATES, life
from policies.toml import Duration
from server import settings, telemetry
from server.status import status_of
from server.stores.sqlite import migrate
from simulator import worlds
from simulator.logs.table import CsvMapping
from simulator.worlds import spec as world_specs

_ROOT = Path(__file__).parents[2]

_SAMPLES: tuple[Exception, ...] = (
    errors.InvalidRequestError([errors.Problem("user_id", "is required")]),
    errors.NotFoundError("decision", "d"),
    errors.OverloadedError(retry_after_s=0.1),
    errors.StoreUnavailableError(retry_after_s=1.0),
    RuntimeError(),
)


# --- Settings and catalogue -------------------------------------------------------


def setting_tables() -> str:
    """Describe every section of a settings file."""
    amount = _struct(rewards.Amount, "## A reward that comes of money")
    return "\n".join([*_section(settings.Settings, ()), *amount])


def catalogue_tables() -> str:
    """Describe every table of a catalogue."""
    parts: tuple[tuple[str, type[msgspec.Struct]], ...] = (
        ("At the top", specs.CatalogueSpec),
        ("`[offers.ID]`", specs.OfferSpec),
        ("`[offers.ID.creatives.ID]`", specs.CreativeSpec),
        ("`[offers.ID.creatives.ID.parameters.NAME]`", specs.ParameterSpec),
        ("`caps`, wherever they stand", specs.CapSpec),
        ("`limit`, in an offer", specs.LimitSpec),
        ("`dismissal`, in an offer or at the top", specs.DismissalSpec),
        ("`snooze`, in an offer or at the top", specs.SnoozeSpec),
        ("`traffic`, in an offer", specs.TrafficSpec),
        ("`[placements.ID]`", specs.PlacementSpec),
        ("`[categories.NAME]`", specs.CategorySpec),
        ("`[products.NAME]`", specs.ProductSpec),
        ("`[ladders.NAME]`", specs.LadderSpec),
        ("`[budgets.NAME]`", specs.BudgetSpec),
        ("`[suppressors.NAME]`", specs.SuppressorSpec),
        ("`[features.NAME]`", features.FeatureSpec),
        ("`[attention]`", specs.AttentionSpec),
        ("`[spacing]`", specs.SpacingSpec),
        ("`[quiet_hours]`", specs.QuietSpec),
        ("`[fatigue]`", specs.FatigueSpec),
        ("`[engagement]`", specs.EngagementSpec),
        ("`[contacts]`", specs.ContactSpec),
        ("`[sentiment]`", specs.SentimentSpec),
        ("`[holdout]`", specs.HoldoutSpec),
        ("`[gates]`", specs.GatesSpec),
    )
    lines = [f"There are at most {model.ACTIONS_MAX:,} actions.\n"]
    for title, kind in parts:
        plain = [f for f in msgspec.structs.fields(kind) if not _is_table(f.type)]
        lines += _struct(kind, f"## {title}", only=plain)
    return "\n".join(lines)


def moment_list() -> str:
    """Name the moments that every catalogue knows."""
    return ", ".join(f"`{moment}`" for moment in sorted(specs.MOMENTS)) + ".\n"


def suppressor_table() -> str:
    """Describe what life-states hold back in every catalogue."""
    rows = [
        (
            f"`{state}`",
            f'`"{spec.blocks}"`',
            f'`"{_span(spec.cool_down)}"`',
            f"`{str(spec.topic_matched).lower()}`",
        )
        for state, spec in life.SUPPRESSORS.items()
    ]
    return _table(("life-state", "blocks", "cool_down", "topic_matched"), rows)


def gate_table() -> str:
    """Describe every gate, in the order in which they are asked."""
    rows = []
    for scope in ("placement", "offer", "action"):
        for kind in GATES:
            if kind.scope == scope:
                critical = "" if kind.bypassed else "yes"
                said = _summary(kind).split("\n\n")[0]
                rows.append((f"`{kind.name}`", scope, critical, said))
    head = ("gate", "asked once for each", "binds critical offers", "what it does")
    return _table(head, rows)


def _is_table(kind: Any) -> bool:
    """Say whether a type is described under a heading of its own."""
    return bool(_structs_of(kind)) or (
        get_origin(kind) is dict and bool(_structs_of(get_args(kind)[1]))
    )


def _usual(default: msgspec.Struct) -> str:
    """Return the kind of a struct, with the keys that are not its kind's defaults."""
    kind = type(default)
    keys = [
        f"`{name} = {getattr(default, name)}`"
        for name in default.__struct_fields__
        if getattr(default, name) != getattr(kind(), name)
    ]
    tag = f"`{kind.__struct_config__.tag}`"
    return f"{tag} with {', '.join(keys)}" if keys else tag


def _section(kind: type[msgspec.Struct], path: tuple[str, ...]) -> Iterator[str]:
    """Describe a table of the settings, then the tables in it."""
    keys: list[msgspec.structs.FieldInfo] = []
    tables: list[msgspec.structs.FieldInfo] = []
    for field in msgspec.structs.fields(kind):
        (tables if _structs_of(_entry(field.type)) else keys).append(field)
    if keys:
        yield from _struct(kind, f"## `[{'.'.join(path)}]`", only=keys)
    if kind is policy.PolicySettings and path != ("policy",):
        yield "The tables in it are as in `[policy]`.\n"
        return
    for field in tables:
        here = (*path, field.name)
        kinds = _structs_of(_entry(field.type))
        if len(kinds) == 1:
            yield from _section(kinds[0], here)
            continue
        yield f"## `[{'.'.join(here)}]`\n"
        yield f"{_docs(kind)[field.name]} `kind` says which one.\n"
        yield f"Without the section it is {_usual(field.default)}.\n"
        for each in kinds:
            yield from _struct(each, f'### `kind = "{each.__struct_config__.tag}"`')
            for inner in msgspec.structs.fields(each):
                for one in _choices(inner.type):
                    tag = one.__struct_config__.tag
                    yield from _struct(
                        one, f'### `{inner.name} = {{ kind = "{tag}" }}`'
                    )


def _entry(kind: Any) -> Any:
    """Return what a table of settings holds if it is there, or each of several."""
    arguments = get_args(kind)
    if get_origin(kind) is tuple and arguments[1:] == (...,):
        return arguments[0]
    others = [each for each in arguments if each is not type(None)]
    optional = get_origin(kind) in (Union, UnionType) and len(others) == 1
    return others[0] if optional else kind


def _struct(
    kind: type[msgspec.Struct],
    title: str,
    only: Sequence[msgspec.structs.FieldInfo] = (),
) -> Iterator[str]:
    docs = _docs(kind)
    yield f"{title}\n"
    yield f"{_summary(kind)}\n"
    rows = [
        (f"`{field.name}`", _type(field.type), _default(field), docs[field.name])
        for field in only or msgspec.structs.fields(kind)
    ]
    yield _table(("key", "type", "default", "meaning"), rows)


def _structs_of(kind: Any) -> list[type[msgspec.Struct]]:
    """Return the structs that a type is, or is one of."""
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    structs = [k for k in kinds if _is_struct(k)]
    return structs if len(structs) == len(kinds) else []


def _choices(kind: Any) -> list[type[msgspec.Struct]]:
    """Return the structs of which a type is one, or none of them."""
    return [k for k in get_args(kind) if _is_struct(k)]


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _type(kind: Any) -> str:
    names: Mapping[Any, str] = {
        str: "string",
        int: "integer",
        float: "number",
        bool: "flag",
        Duration: "duration",
        dt.datetime: "date-time",
    }
    if kind in names:
        return names[kind]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(f'`"{value}"`' for value in arguments)
    if origin is dict:
        return f"table of {_several(arguments[1])}"
    if origin is tuple and arguments[-1] is ...:
        return f"list of {_several(arguments[0])}"
    if origin is tuple:
        return f"list of {len(arguments)} {_several(arguments[0])}"
    if origin in (Union, UnionType):
        names_of = (_type(k) for k in arguments if k is not type(None))
        return " or ".join(dict.fromkeys(names_of))
    return "table" if issubclass(kind, msgspec.Struct) else str(kind.__name__)


def _several(kind: Any) -> str:
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    nouns = [_type(each).partition(" of ") for each in kinds]
    return " or ".join(f"{noun}s{of}{rest}" for noun, of, rest in nouns)


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value = field.default
    if value is msgspec.NODEFAULT:
        value = field.default_factory()
    if value is None:
        return "none"
    if isinstance(value, Duration):
        return f'`"{_span(value)}"`'
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`' if value else "empty"
    if isinstance(value, tuple | list | dict):
        return f"`{str(list(value)).replace(chr(39), chr(34))}`" if value else "empty"
    return f"`{value}`"


def _span(span_ms: int) -> str:
    if span_ms == 0:
        return "0s"
    for unit, length_ms in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000)):
        if span_ms % length_ms == 0:
            return f"{span_ms // length_ms}{unit}"
    return f"{span_ms // 1_000}s" if span_ms % 1_000 == 0 else f"{span_ms}ms"


def _summary(kind: type) -> str:
    """Return what a docstring says before its sections."""
    text = inspect.cleandoc(kind.__doc__ or "")
    text = re.split(r"\n(?:Attributes|Args|Examples|References|Raises):\n", text)[0]
    return "\n\n".join(_line(paragraph) for paragraph in text.split("\n\n")).strip()


def _docs(kind: type) -> dict[str, str]:
    """Return what is said of each attribute, in the docstring or below it."""
    text = inspect.cleandoc(kind.__doc__ or "")
    _, _, listed = text.partition("\nAttributes:\n")
    listed = re.split(r"\n\S", listed)[0]
    docs = {
        name: _line(said)
        for name, said in re.findall(
            r"^    (\w+): (.*(?:\n {8}.*)*)", listed, flags=re.MULTILINE
        )
    }
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    for field, said in itertools.pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(said, ast.Expr)
            and isinstance(said.value, ast.Constant)
        ):
            docs[field.target.id] = _line(str(said.value.value))
    return docs


# --- The contract -----------------------------------------------------------------


def api() -> str:
    """Describe the service, its messages and its enums."""
    files = _descriptors()
    lines: list[str] = []
    for file, said in files:
        for at, service in enumerate(file.service):
            lines += [f"## {service.name}\n", f"`{file.package}.{service.name}`\n"]
            lines.append(said[6, at] + "\n")
            for nth, method in enumerate(service.method):
                asked, answered = (
                    kind.rpartition(".")[2]
                    for kind in (method.input_type, method.output_type)
                )
                lines.append(f"### {method.name}\n")
                lines.append(f"Takes a [{asked}](#{asked.lower()}), ")
                lines[-1] += f"answers a [{answered}](#{answered.lower()}).\n"
                lines.append(said[6, at, 2, nth] + "\n")
    lines.append("## Messages\n")
    for file, said in files:
        for at, message in enumerate(file.message_type):
            lines += [f"### {message.name}\n", said[4, at] + "\n"]
            rows = [
                (f"`{f.name}`", _field_type(f, message), said[4, at, 2, nth])
                for nth, f in enumerate(message.field)
            ]
            lines.append(_table(("field", "type", "meaning"), rows))
    lines.append("## Enums\n")
    for file, said in files:
        for at, enum in enumerate(file.enum_type):
            lines += [f"### {enum.name}\n", said[5, at] + "\n"]
            values = [
                (f"`{value.name}`", said[5, at, 2, nth])
                for nth, value in enumerate(enum.value)
            ]
            lines.append(_table(("value", "meaning"), values))
    return "\n".join(lines)


_Said = dict[tuple[int, ...], str]


def _descriptors() -> list[tuple[descriptor_pb2.FileDescriptorProto, _Said]]:
    """Compile the contract, and return its files with their comments."""
    protos = sorted((_ROOT / "proto" / "opportune").rglob("*.proto"))
    with TemporaryDirectory() as folder:
        image = Path(folder, "image")
        command = [sys.executable, "-m", "grpc_tools.protoc", "--include_source_info"]
        command += ["-I", "proto", "-I", sysconfig.get_path("purelib")]
        command += [f"--descriptor_set_out={image}"]
        command += [str(proto.relative_to(_ROOT / "proto")) for proto in protos]
        subprocess.run(command, check=True, cwd=_ROOT)  # noqa: S603 - our own words
        files = descriptor_pb2.FileDescriptorSet.FromString(image.read_bytes()).file
    return [
        (
            file,
            {
                tuple(location.path): _paragraphs(location.leading_comments)
                for location in file.source_code_info.location
            },
        )
        for file in files
    ]


def _paragraphs(comment: str) -> str:
    paragraphs = textwrap.dedent(comment).strip().split("\n\n")
    return "\n\n".join(_line(paragraph) for paragraph in paragraphs)


def _field_type(
    field: descriptor_pb2.FieldDescriptorProto, message: descriptor_pb2.DescriptorProto
) -> str:
    name = field.type_name.rpartition(".")[2]
    entries = {nested.name: nested for nested in message.nested_type}
    if name in entries:
        key, value = entries[name].field
        return f"map of {_scalar(key)} to {_scalar(value)}"
    kind = _scalar(field)
    if field.label == descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED:
        kind = f"repeated {kind}"
    behaviors = field.options.Extensions[field_behavior_pb2.field_behavior]
    required = field_behavior_pb2.REQUIRED in behaviors
    return f"{kind}, required" if required else kind


def _scalar(field: descriptor_pb2.FieldDescriptorProto) -> str:
    name = field.type_name.rpartition(".")[2]
    if field.type_name.startswith(".opportune."):
        return f"[{name}](#{name.lower()})"
    if name:
        return name
    scalar = descriptor_pb2.FieldDescriptorProto.Type.Name(field.type)
    return scalar.removeprefix("TYPE_").lower()


# --- Errors, commands, metrics, the log -------------------------------------------


def error_table() -> str:
    """Describe what each error becomes on the wire."""
    advice = dict(re.findall(r"── (\w+) {2,}(.*)", errors.__doc__ or ""))
    rows = []
    for kind in status_of.registry:
        if kind is object:
            continue
        sample = next((s for s in _SAMPLES if isinstance(s, kind)), None)
        if sample is None:
            raise LookupError(f"docs/reference/generate.py has no sample of {kind}")
        rows.append(_error_row(sample, advice))
    rows.append(_error_row(_SAMPLES[-1], {}))
    return _table(("reason", "code", "details", "when", "then"), rows)


def _error_row(error: Exception, advice: Mapping[str, str]) -> tuple[str, ...]:
    status = status_of(error)
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    others = [detail.type_url.rpartition("/")[2] for detail in status.details[1:]]
    details = ", ".join(f"`{other}`" for other in others) or "none"
    if info.reason == "INTERNAL":
        when, then = "Anything else: a bug of ours.", "report it, with the time"
    else:
        when = _line((type(error).__doc__ or "").split("\n\n")[0])
        then = advice[type(error).__name__]
    code = code_pb2.Code.Name(status.code)
    return f"`{info.reason}`", f"`{code}`", details, when, then


def command_lines(module: str, program: str) -> str:
    """Show the help of a program and of each of its commands.

    Args:
        module: Where its `app` is.
        program: What it is called.
    """
    scope = vars(importlib.import_module(module))
    app = next(value for value in scope.values() if isinstance(value, typer.Typer))
    group = typer.main.get_command(app)
    known = getattr(group, "commands", {})
    names = [name for name, command in known.items() if not command.hidden]
    lines = [f"## {program}\n", _help(app, program)]
    for name in names:
        lines += [f"### {program} {name}\n", _help(app, program, name)]
        for below in getattr(known[name], "commands", {}):
            title = f"#### {program} {name} {below}\n"
            lines += [title, _help(app, program, name, below)]
    return "\n".join(lines)


def _help(app: typer.Typer, program: str, *command: str) -> str:
    env = {"COLUMNS": "80", "TERMINAL_WIDTH": "80", "NO_COLOR": "1"}
    shown = CliRunner().invoke(app, [*command, "--help"], prog_name=program, env=env)
    if shown.exit_code != 0:
        raise RuntimeError(shown.output)
    text = "\n".join(line.rstrip() for line in shown.output.strip().splitlines())
    return f"```text\n{text}\n```\n"


def metric_table() -> str:
    """Describe every metric."""
    rows = []
    for metric in vars(telemetry).values():
        if isinstance(metric, prometheus_client.metrics.MetricWrapperBase):
            (family,) = metric.describe()
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = ", ".join(f"`{label}`" for label in metric._labelnames)  # noqa: SLF001 - has no other name
            rows.append((f"`{name}`", family.type, labels, family.documentation))
    return _table(("metric", "type", "labels", "meaning"), sorted(rows))


def estimator_table() -> str:
    """Describe every estimator of single decisions."""
    rows = []
    for name, estimator in ESTIMATORS.items():
        what, formula = _first_line(estimator.terms)
        needs = ", ".join(f"`{column}`" for column in estimator.needs)
        parameter = ""
        if (tunable := estimator.tunable) is not None:
            signature = inspect.signature(estimator.terms)
            parameter = (
                f"`{tunable.name}`, {signature.parameters[tunable.name].default:g}"
            )
        whole = "" if estimator.whole else "yes"
        rows.append((f"`{name}`", what, formula, needs, parameter, whole))
    head = ("estimator", "is", "value", "also needs", "parameter, default", "adds up")
    return _table(head, rows)


def _first_line(function: Callable[..., Any]) -> tuple[str, str]:
    """Return what it is and what its value is."""
    line = (function.__doc__ or "").splitlines()[0].rstrip(".")
    what, _, value = line.partition(": ")
    return what, value


def slate_table() -> str:
    """Describe every estimator of slates."""
    rows = [
        (f"`{name}`", *_first_line(estimator)) for name, estimator in SLATES.items()
    ]
    return _table(("estimator", "is", "value"), rows)


def estimator_papers() -> str:
    """List what each estimator is from."""
    lines = []
    for name, function in [
        *((name, estimator.terms) for name, estimator in ESTIMATORS.items()),
        *SLATES.items(),
    ]:
        _, _, papers = (inspect.getdoc(function) or "").partition("References:")
        if papers:
            lines.append(f"- `{name}`: {' '.join(papers.split())}")
    return "\n".join(lines)


def view_table() -> str:
    """Describe the views of a store."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "opportune.db")
        migrate(path)
        views = {
            view.name: [column.name for column in view.columns]
            for view in sqlite_utils.Database(path).views
        }
    rows = [
        (f"`{name}`", ", ".join(f"`{column}`" for column in columns))
        for name, columns in views.items()
    ]
    return _table(("view", "columns"), rows)


def record_tables(*nouns: str) -> str:
    """Describe nouns as the log writes them."""
    lines: list[str] = []
    for noun in nouns:
        kind = getattr(records, f"{noun}Record", None) or getattr(model, noun)
        lines += _noun(kind, noun)
    return "\n".join(lines)


def mapping_table() -> str:
    """Describe the keys of a mapping, by which a table is read."""
    docs = _docs(CsvMapping)
    rows = [
        (f"`{field.name}`", docs[field.name])
        for field in msgspec.structs.fields(CsvMapping)
    ]
    return _table(("key", "meaning"), rows)


def world_tables() -> str:
    """Describe every table of a world."""
    parts: tuple[tuple[str, type[msgspec.Struct]], ...] = (
        ("At the top", world_specs.WorldSpec),
        ("`[segments.NAME]`", world_specs.SegmentSpec),
        ("`features.NAME`, of a segment", world_specs.FeatureDraw),
        ("`usage.NAME`, of a segment", world_specs.UsageSpec),
        ("`[[asks]]`", world_specs.AskSpec),
        ("`[moments.NAME]`", world_specs.MomentSpec),
        ("`[[tastes]]`", world_specs.TasteSpec),
        ("`[answers]`", world_specs.AnswerSpec),
        ("`[fatigue]`", world_specs.FatigueSpec),
        ("`[annoyance]`", world_specs.AnnoyanceSpec),
        ("`[churn]`", world_specs.ChurnSpec),
        ("`[delays]`", world_specs.DelaySpec),
        ("`[refunds]`", world_specs.RefundSpec),
    )
    lines: list[str] = []
    for title, kind in parts:
        fields = msgspec.structs.fields(kind)
        only = [f for f in fields if not _structs_of(_entry(f.type))]
        plain = [f for f in only if not _is_table(f.type)]
        lines += _struct(kind, f"## {title}", only=plain)
    return "\n".join(lines)


def preset_table() -> str:
    """List the worlds that come with the package."""
    rows = [(f"`{name}`", said) for name, said in worlds.presets().items()]
    return _table(("world", "is there to show"), rows)


def command_tables() -> str:
    """Describe what the ledger holds."""
    lines: list[str] = []
    for kind in get_args(commands.Command):
        lines += _noun(kind, f"`{kind.__struct_config__.tag}`")
    lines += _noun(commands.LifeChange, commands.LifeChange.__name__)
    return "\n".join(lines)


def _noun(kind: type[msgspec.Struct], title: str) -> Iterator[str]:
    docs, hints = _docs(kind), get_type_hints(kind)
    yield f"### {title}\n"
    yield f"{_summary(kind)}\n"
    if kind.__struct_config__.array_like:
        yield "Written as a list, in this order.\n"
    rows = [
        (f"`{field.name}`", _noun_type(hints[field.name]), docs.get(field.name, ""))
        for field in msgspec.structs.fields(kind)
    ]
    yield _table(("field", "type", "meaning"), rows)


def _plural(noun: str) -> str:
    first, of, rest = noun.partition(" of ")
    return f"{first}s{of}{rest}s" if first == "pair" else f"{first}s{of}{rest}"


def _noun_type(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "string"
    if origin in (Union, UnionType):
        return " or ".join(_noun_type(k) for k in arguments if k is not type(None))
    if origin is dict:
        return f"map of string to {_noun_type(arguments[1])}"
    if origin is tuple and arguments[1:] == arguments[:1]:
        return f"pair of {_noun_type(arguments[0])}"
    if origin is tuple:
        return f"list of {_plural(_noun_type(arguments[0]))}"
    if _is_struct(kind):
        return str(kind.__name__).removesuffix("Record")
    return _type(kind)


# --- Markdown ---------------------------------------------------------------------


def _line(text: str) -> str:
    """Return a text as one line; a word parted at its hyphen is whole again."""
    return re.sub(r"\s+", " ", re.sub(r"(?<=\w)-\n\s*", "-", text)).strip()


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [head, ["---"] * len(head), *rows]
    escaped = [[_line(cell).replace("|", "\\|") for cell in row] for row in cells]
    return "\n".join(f"| {' | '.join(row)} |" for row in escaped) + "\n"
