"""Whatever is sent, the server answers with a status that is not a bug of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import grpc
import hypothesis.strategies as st
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings

from opportune.v1 import (
    BatchGetOffersRequest,
    BeginCriticalRequest,
    CheckDecisionRequest,
    EndCriticalRequest,
    GetOfferRequest,
    RecordEventRequest,
    ReportOutcomeRequest,
    SetPreferencesRequest,
    SetUserStateRequest,
)
from tests.server.kit import Shop

ALLOWED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
SETTINGS = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)

ids = st.sampled_from(["ada", "home", "banner", "tea", "jam", "door", "till"])
texts = ids | st.text(max_size=300)
SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_STRING: texts,
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_ENUM: st.integers(0, 15) | st.integers(-(2**31), 2**31 - 1),
}


def messages(descriptor: Descriptor) -> st.SearchStrategy[Message]:
    """Any message of a type, built from what the type says of itself."""
    fields = {field.name: values(field) for field in descriptor.fields}
    made = st.fixed_dictionaries({}, optional=fields)
    return made.map(lambda chosen: _build(descriptor, chosen))


def values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    kind = field.message_type
    if kind is None:
        single = SCALARS[field.cpp_type]
    elif kind.GetOptions().map_entry:
        keys = values(kind.fields_by_name["key"])
        return st.dictionaries(keys, values(kind.fields_by_name["value"]), max_size=5)
    else:
        single = st.deferred(lambda: messages(kind))
    return st.lists(single, max_size=5) if field.is_repeated else single


def _build(descriptor: Descriptor, chosen: Mapping[str, Any]) -> Message:
    message = GetMessageClass(descriptor)()
    for name, value in chosen.items():
        field = getattr(message, name)
        if isinstance(value, Message):
            field.CopyFrom(value)
        elif isinstance(value, list):
            field.extend(value)
        elif isinstance(value, dict):
            for key, entry in value.items():
                field[key].CopyFrom(entry)
        else:
            setattr(message, name, value)
    return message


async def code_of(
    shop: Shop, method: str, data: bytes, service: str = "DecisionService"
) -> grpc.StatusCode:
    name = f"/opportune.v1.{service}/{method}"
    call: Any = shop.channel.unary_unary(name)
    code: grpc.StatusCode = await call(data).code()
    return code


async def go_on(shop: Shop) -> None:
    """See that the server still does its work."""
    before = shop.count("decisions_v1")
    assert (await shop.ask("eve")).decision_id
    assert shop.count("decisions_v1") == before + 1


@SETTINGS
@given(request=messages(GetOfferRequest.DESCRIPTOR))
async def test_any_question_is_answered_or_refused(
    shop: Shop, request: GetOfferRequest
) -> None:
    code = await code_of(shop, "GetOffer", request.SerializeToString())

    assert code in ALLOWED
    await go_on(shop)


@SETTINGS
@given(request=messages(GetOfferRequest.DESCRIPTOR))
async def test_any_question_of_somebody_somewhere_is_answered_or_refused(
    shop: Shop, request: GetOfferRequest
) -> None:
    request.user_id = "ada"
    request.placement_ids[:] = ["home", "banner"]
    request.ClearField("offer_ids")
    request.view = 2  # type: ignore[assignment] # The full view.

    code = await code_of(shop, "GetOffer", request.SerializeToString())

    assert code in ALLOWED
    await go_on(shop)


@SETTINGS
@given(request=messages(ReportOutcomeRequest.DESCRIPTOR), known=st.booleans())
async def test_any_report_is_recorded_or_refused(
    shop: Shop, request: ReportOutcomeRequest, *, known: bool
) -> None:
    if known:
        request.decision_id = (await shop.ask("ada", "door")).decision_id
    before = shop.count("outcomes_v1")

    code = await code_of(shop, "ReportOutcome", request.SerializeToString())

    assert code in ALLOWED
    after = shop.count("outcomes_v1")
    names = {outcome.outcome_id for outcome in request.outcomes}
    assert after - before == (len(names) if code == grpc.StatusCode.OK else 0)
    await go_on(shop)


@SETTINGS
@given(request=messages(BatchGetOffersRequest.DESCRIPTOR), right=st.booleans())
async def test_any_batch_is_answered_or_refused_as_a_whole(
    shop: Shop, request: BatchGetOffersRequest, *, right: bool
) -> None:
    for each in request.requests if right else ():
        each.user_id = each.user_id[:9].strip() or "ada"
        each.placement_ids[:] = ["home", "banner"]
        each.ClearField("offer_ids")
        each.ClearField("context")
    before = shop.count("decisions_v1")

    code = await code_of(shop, "BatchGetOffers", request.SerializeToString())

    assert code in ALLOWED
    if code != grpc.StatusCode.OK:
        assert shop.count("decisions_v1") == before
    await go_on(shop)


@pytest.mark.parametrize("method", ["CheckDecision", "ExplainDecision"])
@SETTINGS
@given(name=texts, known=st.booleans())
async def test_any_name_of_a_decision_is_found_or_refused(
    shop: Shop, method: str, name: str, *, known: bool
) -> None:
    if known:
        name = (await shop.ask("ada", "door")).decision_id
    request = CheckDecisionRequest(decision_id=name)  # Both have the same one field.

    code = await code_of(shop, method, request.SerializeToString())

    assert code in ({grpc.StatusCode.OK} if known else ALLOWED)
    await go_on(shop)


TOLD: tuple[type[Message], ...] = (
    SetUserStateRequest,
    SetPreferencesRequest,
    BeginCriticalRequest,
    EndCriticalRequest,
    RecordEventRequest,
)


@pytest.mark.parametrize("kind", TOLD)
@SETTINGS
@given(data=st.data(), mine=st.booleans())
async def test_anything_that_is_told_is_remembered_or_refused(
    shop: Shop, kind: type[Message], data: st.DataObject, *, mine: bool
) -> None:
    request: Any = data.draw(messages(cast("Descriptor", kind.DESCRIPTOR)))
    if mine:
        request.user_id, request.account_id = "ada", ""
        request.ClearField("event_id")
    before = shop.count("ledger_v1")
    method = kind.__name__.removesuffix("Request")

    code = await code_of(shop, method, request.SerializeToString(), "UserService")

    assert code in ALLOWED
    fresh = shop.count("ledger_v1") - before
    if code != grpc.StatusCode.OK:
        assert fresh == 0
    elif not request.event_id:
        assert fresh == 1
    assert (await shop.user("ada")).user_id == "ada"
    assert (await shop.ask("ada", "home", "banner")).decision_id
    await go_on(shop)


def broken(valid: Callable[[], Message]) -> st.SearchStrategy[bytes]:
    """Bytes that are nothing, and messages with some bytes exchanged."""
    data = valid().SerializeToString()
    edits = st.lists(
        st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=4
    )
    cut = st.integers(0, len(data))
    return st.binary(max_size=200) | st.tuples(edits, cut).map(
        lambda what: _edited(data, *what)
    )


def _edited(data: bytes, edits: list[tuple[int, int]], cut: int) -> bytes:
    changed = bytearray(data)
    for at, byte in edits:
        changed[at] = byte
    return bytes(changed[:cut]) if cut else bytes(changed)


def question() -> GetOfferRequest:
    request = GetOfferRequest(
        request_id="r", user_id="ada", placement_ids=["home"], offer_ids=["tea"]
    )
    request.context.features["seats"].number = 3.0
    request.context.usage["gb"].limit = 3.0
    request.context.moment.kind = "done"
    return request


def report() -> ReportOutcomeRequest:
    request = ReportOutcomeRequest(decision_id="0" * 36)
    outcome = request.outcomes.add(outcome_id="a", kind=5)
    outcome.occur_time.seconds = 1
    outcome.revenue.currency_code = "EUR"
    outcome.revenue.minor_units = 7
    return request


@SETTINGS
@given(data=broken(question))
async def test_any_bytes_are_answered_or_refused_as_a_question(
    shop: Shop, data: bytes
) -> None:
    assert await code_of(shop, "GetOffer", data) in ALLOWED
    await go_on(shop)


@SETTINGS
@given(data=broken(report))
async def test_any_bytes_are_recorded_or_refused_as_a_report(
    shop: Shop, data: bytes
) -> None:
    assert await code_of(shop, "ReportOutcome", data) in ALLOWED
    await go_on(shop)
