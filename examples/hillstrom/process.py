"""Runs `opportune-server` as a process of its own, for as long as it is needed."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import grpc.aio

__all__ = ["ServerEndedError", "ServerProcess", "serving"]

_T = TypeVar("_T")

_START_S = 60.0
_STOP_S = 30.0
_LOG_LINES = 5
_FILES = ("catalogue.toml", "settings.toml")
_READY = "serving on "

_RETRIES = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{"service": "opportune.v1.DecisionService"}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "2s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
                },
            }
        ]
    }
)


class ServerEndedError(Exception):
    """The server did not start, or ended too early; the message says what it said."""


class ServerProcess:
    """A server that is up.

    Attributes:
        address: Where it listens.
        store: The file in which it keeps everything.
    """

    def __init__(
        self, process: asyncio.subprocess.Process, address: str, folder: Path
    ) -> None:
        self.address = address
        self.store = folder / "opportune.db"
        self._folder = folder
        self._process = process

    def channel(self) -> grpc.aio.Channel:
        """Open a connection of its own that tries again what may be tried again.

        The server's promise makes that safe: the same request id gets the same
        decision, and the same outcome id counts once.
        """
        return grpc.aio.insecure_channel(
            self.address,
            options=[
                ("grpc.service_config", _RETRIES),
                ("grpc.use_local_subchannel_pool", 1),
            ],
        )

    async def during(self, work: Awaitable[_T]) -> _T:
        """Do some work that makes no sense any more once the server has ended.

        Raises:
            ServerEndedError: If the server ends before the work does.
        """
        working = asyncio.ensure_future(work)
        ending = asyncio.ensure_future(self._process.wait())
        try:
            await asyncio.wait([working, ending], return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                code = self._process.returncode
                raise ServerEndedError(_ended(self._folder, code))
            return working.result()
        finally:
            working.cancel()
            ending.cancel()
            await asyncio.gather(working, ending, return_exceptions=True)

    async def stop(self) -> None:
        """Ask it to stop, and wait until it has: then the file holds everything."""
        await _end(self._process)


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[ServerProcess]:
    """Run a server in a folder, with the example's catalogue and settings.

    However the block is left, the server has ended afterwards.

    Raises:
        ServerEndedError: If it does not start.
    """
    for name in _FILES:
        shutil.copyfile(Path(__file__).with_name(name), folder / name)
    with _log_of(folder).open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "server", "serve"),
            *("--settings", str(folder / "settings.toml")),
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # A Ctrl-C is the demo's to pass on.
        )
    try:
        address = await _address(process, folder)
        yield ServerProcess(process, address, folder)
    finally:
        await asyncio.shield(_end(process))


async def _address(process: asyncio.subprocess.Process, folder: Path) -> str:
    if process.stdout is None:
        raise RuntimeError("the server has no standard output")
    try:
        line = await asyncio.wait_for(process.stdout.readline(), _START_S)
    except TimeoutError:
        raise ServerEndedError(
            f"the server was not ready within {_START_S:.0f} seconds"
        ) from None
    text = line.decode().strip()
    if not text.startswith(_READY):
        code = await process.wait() if not text else process.returncode
        raise ServerEndedError(_ended(folder, code))
    return text.removeprefix(_READY)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def _ended(folder: Path, code: int | None) -> str:
    """Say that the server ended, with the end of its log."""
    lines = _log_of(folder).read_text(errors="replace").splitlines()
    said = "".join(f"\n  {line}" for line in lines[-_LOG_LINES:])
    return f"the server ended with status {code}; the last that it said:{said}"


def _log_of(folder: Path) -> Path:
    return folder / "server.log"
