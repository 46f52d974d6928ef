"""The floor: a server of Python's gRPC that does nothing but answer.

    python -m benchmarks.echo FILE

answers GetOffer with the message in the file, on the same kind of server as ours.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import grpc.aio

from opportune.v1 import decision_service_pb2
from opportune.v1.decision_service_pb2_grpc import (
    DecisionServiceServicer,
    add_DecisionServiceServicer_to_server,
)

__all__ = ["Echo", "serve"]


class Echo(DecisionServiceServicer):
    """Gives the same answer to everyone."""

    def __init__(self, answer: decision_service_pb2.GetOfferResponse) -> None:
        self._answer = answer

    async def GetOffer(  # noqa: N802 - the name is the proto's
        self,
        request: decision_service_pb2.GetOfferRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> decision_service_pb2.GetOfferResponse:
        """Answer."""
        del request, context
        return self._answer

    async def ReportOutcome(  # noqa: N802 - the name is the proto's
        self,
        request: decision_service_pb2.ReportOutcomeRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> decision_service_pb2.ReportOutcomeResponse:
        """Answer nothing."""
        del request, context
        return decision_service_pb2.ReportOutcomeResponse()


async def serve(answer: decision_service_pb2.GetOfferResponse) -> None:
    """Serve on a free port until told to stop, and say where."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    server = grpc.aio.server()
    add_DecisionServiceServicer_to_server(Echo(answer), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"serving on 127.0.0.1:{port}", flush=True)
    await stop.wait()
    await server.stop(None)


if __name__ == "__main__":
    body = Path(sys.argv[1]).read_bytes()
    asyncio.run(serve(decision_service_pb2.GetOfferResponse.FromString(body)))
