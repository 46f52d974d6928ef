"""Turns errors into statuses with details: the one place that knows both.

Every status carries a `google.rpc.ErrorInfo`; what else it carries is in the table
of docs/reference/errors.md, which is written from here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import singledispatch
from typing import Any, NoReturn

import grpc
import grpc.aio
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from policies.errors import (
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    Problem,
    StoreUnavailableError,
)

__all__ = ["Guard", "status_of"]

DOMAIN = "opportune.dev"

# A status travels as headers, of which clients take 8 KB: the message twice, once
# with three bytes for one, and the details.
_MESSAGE_BYTES = 400
_DETAIL_BYTES = 3_000

_log = structlog.get_logger()


def _status(
    code: int, reason: str, message: str, *details: Message, **metadata: str
) -> status_pb2.Status:
    info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)
    status = status_pb2.Status(code=code, message=message)
    for detail in (info, *details):
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status


@singledispatch
def status_of(error: Exception) -> status_pb2.Status:
    """Return the status that a client gets for an error.

    What is not one of `policies.errors` is a bug of ours: the client learns that
    there was one, the log everything.
    """
    del error
    return _status(code_pb2.INTERNAL, "INTERNAL", "internal error")


@status_of.register
def _(error: InvalidRequestError) -> status_pb2.Status:
    detail = error_details_pb2.BadRequest()
    for named, problem in enumerate(error.problems):
        if detail.ByteSize() > _DETAIL_BYTES:
            rest = f"{len(error.problems) - named} more wrong values"
            detail.field_violations.add(field="…", description=rest)
            break
        detail.field_violations.add(
            field=problem.field, description=problem.description
        )
    message = str(error).encode()
    if len(message) > _MESSAGE_BYTES:
        message = message[:_MESSAGE_BYTES] + "…".encode()
    return _status(
        code_pb2.INVALID_ARGUMENT,
        "INVALID_REQUEST",
        message.decode(errors="ignore"),
        detail,
    )


@status_of.register
def _(error: NotFoundError) -> status_pb2.Status:
    detail = error_details_pb2.ResourceInfo(
        resource_type=error.kind, resource_name=error.name
    )
    return _status(
        code_pb2.NOT_FOUND, "NOT_FOUND", str(error), detail, **{error.kind: error.name}
    )


@status_of.register
def _(error: OverloadedError) -> status_pb2.Status:
    detail = _retry_info(error.retry_after_s)
    return _status(code_pb2.RESOURCE_EXHAUSTED, "OVERLOADED", str(error), detail)


@status_of.register
def _(error: StoreUnavailableError) -> status_pb2.Status:
    detail = _retry_info(error.retry_after_s)
    return _status(code_pb2.UNAVAILABLE, "STORE_UNAVAILABLE", str(error), detail)


def _retry_info(retry_after_s: float) -> error_details_pb2.RetryInfo:
    nanos = round(retry_after_s * 1e9)
    delay = Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)
    return error_details_pb2.RetryInfo(retry_delay=delay)


_Behavior = Callable[[Any, "grpc.aio.ServicerContext[Any, Any]"], Awaitable[Any]]


class Guard:
    """Answers what methods raise as statuses, and bytes that are no message too.

    It wraps the methods themselves: an interceptor would cost each call another
    coroutine, and could not see bytes that are no message.

    Args:
        in_flight_max: How many calls may be under way; one more is overload.
    """

    def __init__(self, in_flight_max: int) -> None:
        self._in_flight_max = in_flight_max
        self._in_flight = 0

    def handler(
        self, service: ServiceDescriptor, servicer: object
    ) -> grpc.GenericRpcHandler:
        """Return what a server needs to answer the calls of a service.

        Args:
            service: The service, all of whose methods are unary.
            servicer: Has a method of the name of each.
        """
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        for method in service.methods:
            request = GetMessageClass(method.input_type)
            methods[method.name] = grpc.unary_unary_rpc_method_handler(
                self._guarded(getattr(servicer, method.name)),
                request_deserializer=_tolerant(request.FromString),
                response_serializer=GetMessageClass(
                    method.output_type
                ).SerializeToString,
            )
        return grpc.method_handlers_generic_handler(service.full_name, methods)

    def _guarded(self, behavior: _Behavior) -> _Behavior:
        async def guarded(
            request: Any, context: grpc.aio.ServicerContext[Any, Any]
        ) -> Any:
            error: Exception
            if self._in_flight >= self._in_flight_max:
                await _abort(context, OverloadedError(retry_after_s=0.1))
            self._in_flight += 1
            try:
                if not isinstance(request, InvalidRequestError):
                    return await behavior(request, context)
                error = request
            except Exception as raised:  # noqa: BLE001 - each becomes a status
                error = raised
            finally:
                self._in_flight -= 1
            return await _abort(context, error)

        return guarded


async def _abort(
    context: grpc.aio.ServicerContext[Any, Any], error: Exception
) -> NoReturn:
    status = status_of(error)
    if status.code == code_pb2.INTERNAL:
        _log.error("a bug", exc_info=error)
    await context.abort_with_status(rpc_status.to_status(status))


def _tolerant(parse: Callable[[bytes], Message]) -> Callable[[bytes], Any]:
    """Make bytes that are no message an error like every other one."""

    def tolerant(data: bytes) -> Message | InvalidRequestError:
        try:
            return parse(data)
        except DecodeError:
            problem = Problem("request", "is not a message of this method")
            return InvalidRequestError([problem])

    return tolerant
