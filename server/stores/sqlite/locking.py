"""The lock that only one learner holds; it ends with its process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

__all__ = ["learner_runs", "lock_of"]


def lock_of(path: Path) -> Path:
    """Return the file that the learner of a store locks."""
    return Path(f"{path}-learner")


def learner_runs(path: Path) -> bool:
    """Say whether a learner is at work on a store."""
    descriptor = os.open(lock_of(path), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
