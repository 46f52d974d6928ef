"""Turns errors into statuses with details: the one place that knows both.

Every status carries a `google.rpc.ErrorInfo`; what else it carries is in the table
of docs/reference/errors.md, which is written from here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import singledispatch
from typing import Any, NoReturn, cast

import grpc
import grpc.aio
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from policies.errors import (
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    Problem,
    StoreUnavailableError,
)

__all__ = ["StatusInterceptor", "status_of"]

DOMAIN = "opportune.dev"

_MESSAGE_MAX = 300  # The details say the rest.

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
    violations = [
        error_details_pb2.BadRequest.FieldViolation(
            field=problem.field, description=problem.description
        )
        for problem in error.problems
    ]
    detail = error_details_pb2.BadRequest(field_violations=violations)
    message = str(error)
    if len(message) > _MESSAGE_MAX:
        message = message[:_MESSAGE_MAX] + "…"
    return _status(code_pb2.INVALID_ARGUMENT, "INVALID_REQUEST", message, detail)


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


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """Answers what a method raises as a status, and bytes that are no message too.

    Args:
        in_flight_max: How many calls may be under way; one more is overload.
    """

    def __init__(self, in_flight_max: int) -> None:
        self._in_flight_max = in_flight_max
        self._in_flight = 0
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails],
            Awaitable[grpc.RpcMethodHandler[Any, Any] | None],
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the method that is called, once for all its calls."""
        method = handler_call_details.method
        wrapped = self._handlers.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None or handler.unary_unary is None:
                return handler
            wrapped = self._handlers[method] = grpc.unary_unary_rpc_method_handler(
                self._guard(cast(_Behavior, handler.unary_unary)),
                request_deserializer=_tolerant(handler.request_deserializer),
                response_serializer=handler.response_serializer,
            )
        return wrapped

    def _guard(self, behavior: _Behavior) -> _Behavior:
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


def _tolerant(
    deserialize: Callable[[bytes], Any] | None,
) -> Callable[[bytes], Any] | None:
    """Make bytes that are no message an error like every other one."""
    if deserialize is None:
        return None

    def tolerant(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            problem = Problem("request", "is not a message of this method")
            return InvalidRequestError([problem])

    return tolerant
