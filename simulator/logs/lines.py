"""Reads text files a line at a time, packed or not, and says which line it is."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from simulator.logs.base import LogError

__all__ = ["LINE_MAX", "Line", "Lines", "head_of"]

LINE_MAX = 64 * 1024 * 1024
"""How many bytes a line may have."""

_BLOCK = 1024 * 1024
_BATCH = 1_024
_BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"


class Line(NamedTuple):
    """A line without its end.

    Attributes:
        number: Which it is, from 1.
        text: What it says.
        whole: Whether an end of line follows; what does not have one may be torn.
    """

    number: int
    text: bytes
    whole: bool


class Lines:
    """The lines of a file, with their numbers.

    A mark of the byte order is left out, and so are carriage returns at the ends.

    Args:
        path: The file; one that gzip made is unpacked on the way.

    Attributes:
        read: How many bytes of the file, as it is stored, are read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read = 0

    def __iter__(self) -> Iterator[Line]:
        """Yield the lines, one at a time.

        Raises:
            LogError: If the file cannot be read, or a line is too long.
        """
        for number, texts, whole in self.batches(_BATCH):
            for at, text in enumerate(texts):
                yield Line(number + at, text, whole)

    def batches(self, lines_max: int) -> Iterator[tuple[int, list[bytes], bool]]:
        """Yield lines, many at a time: the number of the first, and whether whole.

        Args:
            lines_max: How many at a time at most.

        Raises:
            LogError: If the file cannot be read, or a line is too long.
        """
        number, rest = 1, b""
        for block in self._blocks():
            lines = (rest + block).split(b"\n")
            rest = lines.pop()
            if b"\r" in block:
                lines = [text.removesuffix(b"\r") for text in lines]
            for begin in range(0, len(lines), lines_max):
                texts = lines[begin : begin + lines_max]
                yield number, texts, True
                number += len(texts)
            if len(rest) > LINE_MAX:
                raise LogError(
                    self.path, f"line {number} is longer than {LINE_MAX:,} bytes"
                )
        if rest:
            yield number, [rest], False

    def _blocks(self) -> Iterator[bytes]:
        first = True
        try:
            with self.path.open("rb") as raw:
                packed = raw.read(2) == _GZIP
                raw.seek(0)
                file: IO[bytes] | gzip.GzipFile = raw
                if packed:
                    file = gzip.GzipFile(fileobj=raw)
                while block := file.read(_BLOCK):
                    self.read = raw.tell()
                    yield block.removeprefix(_BOM) if first else block
                    first = False
        except EOFError:
            raise LogError(self.path, "is cut off: the gzip file has no end") from None
        except (OSError, zlib.error) as error:
            problem = getattr(error, "strerror", None) or str(error)
            raise LogError(self.path, f"cannot be read: {problem}") from None


def head_of(path: Path, size: int = 4_096) -> bytes:
    """Return how a file begins, unpacked where gzip made it.

    Raises:
        LogError: If it cannot be read.
    """
    for block in Lines(path)._blocks():  # noqa: SLF001
        return block[:size]
    return b""
