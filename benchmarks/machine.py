"""The machine that was measured on: a number says nothing without it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

__all__ = ["describe", "summary"]

_LIBRARIES = ("grpcio", "protobuf", "numpy", "vowpalwabbit", "msgspec")


def describe() -> dict[str, str | int | float]:
    """Return what the numbers depend on, and how busy the machine is right now."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{library: version(library) for library in _LIBRARIES},
        "load_1min": round(os.getloadavg()[0], 1),
    }


def summary(machine: dict[str, str | int | float]) -> str:
    """Return the description as one line."""
    libraries = ", ".join(f"{name} {machine[name]}" for name in _LIBRARIES)
    return (
        f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']},"
        f" {libraries}; load {machine['load_1min']}"
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
