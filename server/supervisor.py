"""Keeps the workers and the learner running, and watches the catalogue."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from pathlib import Path

import structlog
import typer

from policies.errors import CatalogueError
from server import activation
from server.settings import Settings
from server.stores.opening import open_admin
from server.worker import READY, system_clock

__all__ = ["supervise"]

_RESTART_S = 0.5
_RESTART_MAX_S = 30.0
_STABLE_S = 60.0
_WATCH_S = 0.5

_log = structlog.get_logger()


async def supervise(settings_path: Path, settings: Settings) -> None:
    """Run the workers and the learner until told to stop, and say when they serve.

    A process that ends by itself is started again, after a pause that grows while
    it keeps ending. Those that are left serve on meanwhile.

    Raises:
        OSError: If the address cannot be listened on.
        RuntimeError: If a process ends before it was ready.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    with _hold(*settings.server.host_port) as held:
        host, port = settings.server.host_port
        address = f"{host}:{held.getsockname()[1] if port == 0 else port}"
        common = ["--settings", str(settings_path)]
        children = [
            _Child(
                f"worker {index}",
                ["work", *common, "--address", address, "--index", str(index)],
            )
            for index in range(settings.server.workers)
        ]
        children.append(_Child("the learner", ["learn", *common]))
        try:
            await asyncio.gather(*(child.start() for child in children))
            typer.echo(f"serving on {address}")
            keeping = [loop.create_task(child.keep()) for child in children]
            keeping.append(loop.create_task(_watch(settings)))
            await stop.wait()
            for task in keeping:
                task.cancel()
        finally:
            await asyncio.gather(*(child.end() for child in children))


async def _watch(settings: Settings) -> None:
    """Take the catalogue into use again whenever its files have changed.

    A file is looked at once it has stopped changing, so that one that is still being
    written is not refused.
    """
    loop = asyncio.get_running_loop()
    path = Path(settings.catalogue.file)
    loaded = seen = _signature(path)
    while True:
        await asyncio.sleep(_WATCH_S)
        now = _signature(path)
        if now != loaded and now == seen:
            loaded = now
            await loop.run_in_executor(None, _load, settings, path)
        seen = now


def _signature(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Return what changes when a file of the catalogue does."""
    found: list[tuple[str, int, int]] = []
    for file in activation.sources(path):
        try:
            status = file.stat()
        except OSError:
            continue
        found.append((str(file), status.st_mtime_ns, status.st_size))
    return tuple(found)


def _load(settings: Settings, path: Path) -> None:
    try:
        store = open_admin(settings.store.url)
        try:
            loaded = activation.load(
                path,
                store,
                who=activation.author_of(path),
                reason="the file changed",
                at_ms=system_clock(),
            )
        finally:
            store.close()
    except CatalogueError as error:
        _log.error("a catalogue was refused, the old one stays", problems=str(error))
    except Exception as error:  # noqa: BLE001 - what is in use stays in use
        _log.error("a catalogue could not be loaded", error=repr(error))
    else:
        if loaded.fresh:
            version = loaded.catalogue.version
            _log.info("a catalogue is in use", version=version, changes=loaded.changes)


class _Child:
    """One process, and what it takes to keep it."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self._command = command
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it is ready."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "server",
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # A Ctrl-C reaches it through its supervisor.
        )
        if self._process.stdout is None:
            raise RuntimeError("a child has no standard output")
        line = await self._process.stdout.readline()
        if line.decode().strip() != READY:
            raise RuntimeError(f"{self.name} ended before it was ready")

    async def keep(self) -> None:
        """Start it again whenever it ends."""
        loop = asyncio.get_running_loop()
        pause_s = _RESTART_S
        while self._process is not None:
            started = loop.time()
            code = await self._process.wait()
            if loop.time() - started > _STABLE_S:
                pause_s = _RESTART_S
            _log.error("a process ended", process=self.name, code=code, pause_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _RESTART_MAX_S)
            try:
                await self.start()
                _log.info("a process was started again", process=self.name)
            except (OSError, RuntimeError) as error:
                _log.error("a process did not start", error=str(error))

    async def end(self) -> None:
        """Ask it to end, and wait until it has."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        await process.wait()


def _hold(host: str, port: int) -> socket.socket:
    """Take the address, so that no other program and no second server has it too.

    Raises:
        OSError: If it is taken.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    )[0]
    if port != 0:
        # Workers share a port by SO_REUSEPORT, with which a second server could too.
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    held = socket.socket(family, kind, protocol)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(address)
    return held
