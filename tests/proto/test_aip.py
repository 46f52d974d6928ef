"""The contract's style: the API improvement proposals (aip.dev) that no linter knows.

One case a field, an enum or a component, named by what it is about.
"""

from __future__ import annotations

import ast
import re
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import get_args

import pytest
from google.api import field_behavior_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from grpc_tools import protoc  # type: ignore[import-untyped] # It has no types.

import policies
from opportune.v1 import (
    context_pb2,
    decision_pb2,
    decision_service_pb2,
    message_pb2,
    outcome_pb2,
    user_pb2,
    user_service_pb2,
)
from policies.commands import UserEventKind
from policies.model import OutcomeKind

FILES = [
    module.DESCRIPTOR
    for module in (
        context_pb2,
        decision_pb2,
        decision_service_pb2,
        message_pb2,
        outcome_pb2,
        user_pb2,
        user_service_pb2,
    )
]
SOURCES = Path(__file__).parents[2] / "proto"
NOT_TIMES = {"valid_until", "snooze_until", "pending_until", "time"}
"""Timestamps that say until when, and are documented so, and one that is a value."""

RESOURCES = {"ExplainDecision": "Explanation", "GetUser": "User"}
"""What methods return that return no response of their own."""


def messages() -> Iterator[Descriptor]:
    for file in FILES:
        yield from file.message_types_by_name.values()


def enums() -> Iterator[EnumDescriptor]:
    for file in FILES:
        yield from file.enum_types_by_name.values()
    for message in messages():
        yield from message.enum_types


MESSAGES = list(messages())
METHODS = [
    method
    for file in FILES
    for service in file.services_by_name.values()
    for method in service.methods
]
FIELDS = [field for message in MESSAGES for field in message.fields]
ENUMS = list(enums())

every_field = pytest.mark.parametrize("field", FIELDS, ids=lambda f: f.full_name)
every_enum = pytest.mark.parametrize("enum", ENUMS, ids=lambda e: e.full_name)


def reachable(kinds: Iterable[Descriptor]) -> set[str]:
    """Return the names of messages, and of all that they hold."""
    found: dict[str, Descriptor] = {}
    waiting = list(kinds)
    while waiting:
        kind = waiting.pop()
        if kind.name not in found:
            found[kind.name] = kind
            waiting += [f.message_type for f in kind.fields if f.message_type]
    return set(found)


def behavior(field: FieldDescriptor) -> list[str]:
    values = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return [field_behavior_pb2.FieldBehavior.Name(value) for value in values]


def type_name(field: FieldDescriptor) -> str:
    return field.containing_type.name if field.containing_type else ""


def type_of(field: FieldDescriptor) -> str:
    return field.message_type.full_name if field.message_type else ""


def test_every_file_of_the_contract_is_looked_at() -> None:
    there = {str(p.relative_to(SOURCES)) for p in SOURCES.glob("opportune/v1/*.proto")}

    assert there == {file.name for file in FILES}


@every_field
def test_aip_203_every_field_declares_its_behavior(field: FieldDescriptor) -> None:
    assert behavior(field) in (["REQUIRED"], ["OPTIONAL"], ["OUTPUT_ONLY"])


@every_field
def test_aip_203_only_what_is_answered_is_output_only(field: FieldDescriptor) -> None:
    asked = reachable(method.input_type for method in METHODS)
    answered = reachable(method.output_type for method in METHODS)
    kind = type_name(field)

    assert kind in asked | answered
    assert (behavior(field) == ["OUTPUT_ONLY"]) == (kind not in asked)


@every_field
def test_aip_142_a_timestamp_is_a_time(field: FieldDescriptor) -> None:
    is_time = type_of(field) == "google.protobuf.Timestamp"

    assert is_time == (field.name.endswith("_time") or field.name in NOT_TIMES)


@every_field
def test_aip_142_and_214_a_span_is_a_duration(field: FieldDescriptor) -> None:
    is_span = type_of(field) == "google.protobuf.Duration"

    assert is_span == (field.name.endswith("_duration") or field.name == "ttl")
    assert not field.name.endswith(("_ms", "_seconds", "_minutes"))


@every_field
def test_aip_141_no_number_is_unsigned_nor_single(field: FieldDescriptor) -> None:
    assert field.cpp_type not in {
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_UINT64,
        FieldDescriptor.CPPTYPE_FLOAT,
    }
    assert not field.name.startswith("num_")


@every_field
def test_aip_140_names_are_snake_case_and_lists_are_plural(
    field: FieldDescriptor,
) -> None:
    assert field.name == field.name.lower()
    assert not field.name.startswith(("is_", "has_"))
    kind = field.message_type
    if field.is_repeated and not (kind and kind.GetOptions().map_entry):
        assert field.name.endswith("s")


@every_field
def test_aip_216_a_state_is_no_status(field: FieldDescriptor) -> None:
    assert "status" not in field.name


@every_enum
def test_aip_126_an_enum_begins_with_unspecified_and_its_name(
    enum: EnumDescriptor,
) -> None:
    words = "".join(f"_{c}" if c.isupper() else c for c in enum.name).strip("_")
    prefix = words.upper() + "_"

    assert enum.values_by_number[0].name == prefix + "UNSPECIFIED"
    assert all(value.name.startswith(prefix) for value in enum.values)
    assert sorted(v.number for v in enum.values) == list(range(len(enum.values)))


def test_aip_131_methods_take_messages_of_their_own_and_give_them_or_resources() -> (
    None
):
    for method in METHODS:
        assert method.containing_service.name.endswith("Service")
        assert method.input_type.name == f"{method.name}Request"
        given = RESOURCES.get(method.name, f"{method.name}Response")
        assert method.output_type.name == given


def test_aip_231_a_batch_holds_the_requests_and_responses_of_the_single_method() -> (
    None
):
    batch = decision_service_pb2.BatchGetOffersRequest.DESCRIPTOR
    answer = decision_service_pb2.BatchGetOffersResponse.DESCRIPTOR

    assert type_of(batch.fields_by_name["requests"]).endswith(".GetOfferRequest")
    assert type_of(answer.fields_by_name["responses"]).endswith(".GetOfferResponse")


def test_aip_191_the_package_is_the_folder_and_has_a_version() -> None:
    assert {file.package for file in FILES} == {"opportune.v1"}
    assert {str(Path(file.name).parent) for file in FILES} == {"opportune/v1"}


def test_every_kind_of_outcome_and_event_has_its_place() -> None:
    kinds = {
        name.removeprefix("OUTCOME_KIND_").lower()
        for name in outcome_pb2.OutcomeKind.keys()  # noqa: SIM118 - it is no dict
    }

    assert kinds == {*get_args(OutcomeKind), "unspecified"}
    event = user_service_pb2.RecordEventRequest.DESCRIPTOR.oneofs_by_name["event"]
    assert [field.name for field in event.fields] == [*get_args(UserEventKind)]


def codes(file: Path) -> set[str]:
    """Return the words in capitals that a file holds, beside what it exports."""
    words: set[str] = set()
    for statement in ast.parse(file.read_text()).body:
        if not ast.unparse(statement).startswith("__all__"):
            words |= {
                node.value
                for node in ast.walk(statement)
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            }
    return {word for word in words if re.fullmatch(r"[A-Z][A-Z_]+", word)}


def test_every_reason_that_a_gate_or_the_engine_gives_is_in_the_contract() -> None:
    folder = Path(str(policies.__file__)).parent
    files = [folder / "engine.py", *(folder / "gates").glob("*.py")]
    given = set[str]().union(*map(codes, files)) - {"UTC"}
    known = {
        name.removeprefix("REASON_")
        for name in decision_pb2.Reason.keys()  # noqa: SIM118 - it is no dict
    }

    assert given >= {"DISMISSED", "EXPIRED", "LOW_VALUE"}
    assert given <= known


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> descriptor_pb2.FileDescriptorSet:
    """The contract compiled with its comments."""
    out = tmp_path_factory.mktemp("proto") / "api.binpb"
    status = protoc.main(
        [
            "protoc",
            f"-I{SOURCES}",
            f"-I{sysconfig.get_path('purelib')}",
            f"-I{Path(protoc.__file__).parent / '_proto'}",
            "--include_source_info",
            f"--descriptor_set_out={out}",
            *(file.name for file in FILES),
        ]
    )
    assert status == 0
    return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())


def components(
    file: descriptor_pb2.FileDescriptorProto,
) -> Iterator[tuple[tuple[int, ...], str]]:
    """Return the path and the name of all that is to be commented."""
    for m, message in enumerate(file.message_type):
        yield (4, m), message.name
        for f, field in enumerate(message.field):
            yield (4, m, 2, f), f"{message.name}.{field.name}"
        for o, oneof in enumerate(message.oneof_decl):
            if not oneof.name.startswith("_"):
                yield (4, m, 8, o), f"{message.name}.{oneof.name}"
    for e, enum in enumerate(file.enum_type):
        yield (5, e), enum.name
        for v, value in enumerate(enum.value):
            yield (5, e, 2, v), value.name
    for s, service in enumerate(file.service):
        yield (6, s), service.name
        for n, method in enumerate(service.method):
            yield (6, s, 2, n), f"{service.name}.{method.name}"


def test_aip_192_every_component_is_commented_in_sentences(
    image: descriptor_pb2.FileDescriptorSet,
) -> None:
    bare = []
    for file in image.file:
        comments = {
            tuple(place.path): place.leading_comments.strip()
            for place in file.source_code_info.location
        }
        bare += [
            name
            for path, name in components(file)
            if not comments.get(path, "").endswith(".")
            or not comments[path][0].isupper()
        ]

    assert bare == []


def test_aip_192_every_file_says_what_is_in_it(
    image: descriptor_pb2.FileDescriptorSet,
) -> None:
    for file in image.file:
        (syntax,) = [p for p in file.source_code_info.location if list(p.path) == [12]]
        assert syntax.leading_detached_comments or syntax.leading_comments
