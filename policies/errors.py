"""What can go wrong, in words that know nothing of the wire.

An error is a class of its own only where a caller would do something different
about it, and it carries data, not only text.

    OpportuneError
    ├── InvalidRequestError      the caller mends the fields it names
    ├── NotFoundError            the caller stops: there is no such thing
    ├── FileError                whoever wrote the file mends the keys it names
    │   ├── CatalogueError
    │   └── SettingsError
    ├── OverloadedError          the caller waits, then tries again
    └── StoreUnavailableError    the caller tries the same call again
"""

from __future__ import annotations

import errno
from typing import NamedTuple

__all__ = [
    "CatalogueError",
    "FileError",
    "InvalidRequestError",
    "NotFoundError",
    "OpportuneError",
    "OverloadedError",
    "Problem",
    "SettingsError",
    "StoreUnavailableError",
    "plainly",
]

_PLAIN = {
    errno.ENOENT: "is not there: mend the path, or make it",
    errno.EACCES: "may not be used by you: mend its permissions",
    errno.EPERM: "may not be used by you: mend its permissions",
    errno.EISDIR: "is a folder, and a file is needed",
    errno.ENOTDIR: "is below what is no folder: mend the path",
    errno.EROFS: "is on a disk that nothing can be written to: choose another place",
    errno.ENOSPC: "has no room: the disk is full",
    errno.EADDRINUSE: "is taken: stop what listens there, or choose another one",
    errno.EADDRNOTAVAIL: "is not of this machine: choose another one",
}


def plainly(error: OSError | UnicodeDecodeError) -> str:
    """Say what is wrong with a file or an address, to be read behind its name.

    Examples:
        >>> plainly(FileNotFoundError(errno.ENOENT, "No such file or directory", "a"))
        'is not there: mend the path, or make it'
        >>> plainly(OSError("the port is busy"))
        'the port is busy'
    """
    if isinstance(error, UnicodeDecodeError):
        return f"is no text in UTF-8: byte {error.start:,} begins no character"
    said = _PLAIN.get(error.errno or 0)
    return said or f"cannot be used: {error.strerror}" if error.strerror else str(error)


class Problem(NamedTuple):
    """One thing that is wrong: where, and what would be right.

    Attributes:
        line: The line of the file, from 1; none where there is no file, or no line
            of it says so.
        file: The file, where there are several.
    """

    field: str
    description: str
    line: int | None = None
    file: str | None = None

    def __str__(self) -> str:
        """Return the problem as one line."""
        where = "" if self.line is None else f"line {self.line}: "
        return f"{where}{self.field}: {self.description}"


class OpportuneError(Exception):
    """The root of every error that Opportune raises on purpose."""


class InvalidRequestError(OpportuneError):
    """A request holds values that no retry can make right."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("; ".join(map(str, problems)))


class NotFoundError(OpportuneError):
    """The thing that a request names does not exist."""

    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind
        self.name = name
        super().__init__(f"there is no {kind} {name!r}")


class FileError(OpportuneError):
    """A file, or several, cannot be used as they are; `problems` says where and why.

    Args:
        source: What to call the file, or all of them.
        problems: What is wrong, in any order.
    """

    def __init__(self, source: str, problems: list[Problem]) -> None:
        self.source = source
        self.problems = sorted(problems, key=lambda p: (p.file or "", p.line or 0))
        super().__init__("\n".join(f"{p.file or source}: {p}" for p in self.problems))


class CatalogueError(FileError):
    """A catalogue was refused, all of it."""


class SettingsError(FileError):
    """The settings were refused; the process does not start."""


class OverloadedError(OpportuneError):
    """The server has more in flight than it may hold; nothing was done."""

    def __init__(self, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"too many requests in flight, retry in {retry_after_s:g} s")


class StoreUnavailableError(OpportuneError):
    """The store did not answer in time; the same call may be sent again."""

    def __init__(self, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"the store is not available, retry in {retry_after_s:g} s")
