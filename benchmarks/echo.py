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

import grpc
import grpc.aio

from opportune.v1 import decision_service_pb2 as pb

__all__ = ["serve"]

_SERVICE = pb.DESCRIPTOR.services_by_name["DecisionService"].full_name


async def serve(answer: pb.GetOfferResponse) -> None:
    """Serve on a free port until told to stop, and say where."""

    async def get_offer(
        request: pb.GetOfferRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetOfferResponse:
        del request, context
        return answer

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    method = grpc.unary_unary_rpc_method_handler(
        get_offer,
        request_deserializer=pb.GetOfferRequest.FromString,
        response_serializer=pb.GetOfferResponse.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(_SERVICE, {"GetOffer": method}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"serving on 127.0.0.1:{port}", flush=True)
    await stop.wait()
    await server.stop(None)


if __name__ == "__main__":
    body = Path(sys.argv[1]).read_bytes()
    asyncio.run(serve(pb.GetOfferResponse.FromString(body)))
