"""The user service: what the product tells of its users beside outcomes."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import grpc.aio
import msgspec

from opportune.v1 import user_pb2, user_service_pb2
from opportune.v1.user_service_pb2_grpc import UserServiceServicer
from policies.identity import root_key
from policies.profiles import apply
from server import codec, telemetry
from server.current import Current
from server.stores.base import LedgerEntry, ServingStore

__all__ = ["UserService"]

_Context = grpc.aio.ServicerContext[Any, Any]


class UserService(UserServiceServicer):
    """Remembers what is told of users and accounts; it binds the next decision.

    Args:
        store: Where it is remembered.
        current: What is offered now; categories and products must be of it.
        tenant: Whose users these are.
        clock: Returns the time in milliseconds since 1970.
    """

    def __init__(
        self,
        store: ServingStore,
        current: Current,
        *,
        tenant: str,
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._current = current
        self._tenant = tenant
        self._clock = clock

    async def SetUserState(self, request: Any, context: _Context) -> Any:
        """Remember what is so of a user or an account."""
        return await self._tell("SetUserState", request, context)

    async def SetPreferences(self, request: Any, context: _Context) -> Any:
        """Remember what a user asks for."""
        return await self._tell("SetPreferences", request, context)

    async def BeginCritical(self, request: Any, context: _Context) -> Any:
        """Remember that a user is not to be interrupted."""
        return await self._tell("BeginCritical", request, context)

    async def EndCritical(self, request: Any, context: _Context) -> Any:
        """Remember that a user may be interrupted again."""
        return await self._tell("EndCritical", request, context)

    async def RecordEvent(self, request: Any, context: _Context) -> Any:
        """Remember something that happened outside of the offers."""
        return await self._tell("RecordEvent", request, context)

    async def GetUser(
        self, request: user_service_pb2.GetUserRequest, context: _Context
    ) -> user_pb2.User:
        """Say what is remembered of a user or an account."""
        del context
        user_id, account_id = codec.whose_from_proto(request)
        root = root_key(self._tenant, account_id, user_id)
        past = await self._store.past(root, user_id, account=False)
        return codec.user_to_proto(
            user_id, account_id, past.user.history, self._clock()
        )

    async def _tell(self, method: str, request: Any, context: _Context) -> Any:
        """Append to the ledger and fold, on disk before answering."""
        del context
        with telemetry.SECONDS.labels(method).time():
            notice = codec.notice_from_proto(
                request,
                event_id=request.event_id or uuid.uuid4().hex,
                at_ms=self._clock(),
                spec=self._current.catalogue.spec,
            )
            command = notice.command
            entry = LedgerEntry(
                notice.event_id,
                str(command.__struct_config__.tag),
                notice.told_ms,
                notice.source,
                msgspec.json.encode(command).decode(),
            )
            changed = await self._store.change(
                root_key(self._tenant, notice.account_id, notice.user_id),
                notice.user_id,
                entry,
                lambda history: apply(history, command),
            )
            return codec.notice_to_proto(notice, changed.history, fresh=changed.fresh)
