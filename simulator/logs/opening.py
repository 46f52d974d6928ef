"""Opens a log, whatever it is."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from simulator.feedback import Feedback
from simulator.logs.base import LogError, Source
from simulator.logs.dsjson import DsjsonReader
from simulator.logs.lines import head_of
from simulator.logs.obd import ITEMS, ObdReader, is_obd
from simulator.logs.obp_arrays import ObpReader
from simulator.logs.parquet import SUFFIX, ParquetReader
from simulator.logs.served import ServedReader
from simulator.logs.server import Log
from simulator.logs.table import OWN_MAPPING, CsvReader, read_mapping
from simulator.logs.vw_text import VwTextReader

__all__ = ["Format", "open_log"]

Format = Literal["server", "parquet", "dsjson", "vw", "obd", "obp", "csv"]
"""What a log may be."""

_SQLITE = "sqlite:///"
_POSTGRESQL = ("postgresql://", "postgres://")
_ALWAYS = ("action", "reward", "propensity")
_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (b"SQLite format 3\x00", "server"),
    (b"PAR1", "parquet"),
    (b"PK\x03\x04", "obp"),
)


AnyLog: TypeAlias = str | Path | Mapping[str, Any] | Source | Log | Feedback
"""What can be asked about: a path or URL, arrays, an open log, or a part of one."""


def open_log(
    source: str | Path | Mapping[str, Any] | Source,
    *,
    format: Format | None = None,  # noqa: A002 - it is what it is called
    mapping: str | Path | None = None,
    skip_bad: bool = False,
) -> Source:
    """Open a log.

    Args:
        source: The path of a file or a folder; the URL of a server's store as in its
            settings; the dictionary of Open Bandit Pipeline; or an open log.
        format: What it is; found out where it is not said.
        mapping: A TOML file that says which column of a CSV file is what.
        skip_bad: Whether rows that cannot be read are left out and counted, instead
            of ending the reading at the first one.

    Raises:
        LogError: If it cannot be opened, or nothing says what it is.
    """
    if isinstance(source, Mapping):
        return ObpReader(Path("feedback"), source, skip_bad=skip_bad)
    if not isinstance(source, str | Path):
        return source
    path = _path(str(source))
    if format not in (None, *get_args(Format)):
        known = ", ".join(get_args(Format))
        raise LogError(path, f"format must be one of {known}, not {format!r}")
    if mapping is not None:
        format = format or "csv"  # noqa: A001 - as above
    elif str(source).startswith(_SQLITE):
        format = "server"  # noqa: A001 - as above
    match format or _format_of(path):
        case "server":
            return ServedReader(path, skip_bad=skip_bad)
        case "parquet":
            return ParquetReader(path, skip_bad=skip_bad)
        case "dsjson":
            return DsjsonReader(path, skip_bad=skip_bad)
        case "vw":
            return VwTextReader(path, skip_bad=skip_bad)
        case "obd":
            return ObdReader(path, skip_bad=skip_bad)
        case "obp":
            return ObpReader(path, skip_bad=skip_bad)
        case "csv":
            by = OWN_MAPPING if mapping is None else read_mapping(Path(mapping))
            return CsvReader(path, by, skip_bad=skip_bad)


def _path(text: str) -> Path:
    if text.startswith(_POSTGRESQL):
        raise LogError(
            Path(text.rsplit("@", maxsplit=1)[-1]),
            "logs in PostgreSQL cannot be read yet; this version reads the server's"
            f" SQLite file, given by its path or as {_SQLITE}PATH",
        )
    path = Path(text.removeprefix(_SQLITE))
    if "://" in str(text) and not text.startswith(_SQLITE):
        raise LogError(
            Path(text),
            f"a log is a file or a folder, given by its path or as {_SQLITE}PATH",
        )
    if not path.exists():
        raise LogError(path, "there is no such file or folder")
    return path


def _format_of(path: Path) -> Format:
    """Say what a log is, by how it begins."""
    if path.is_dir():
        if is_obd(path):
            return "obd"
        if any(path.rglob(f"*{SUFFIX}")):
            return "parquet"
        raise LogError(
            path,
            f"nothing says what this folder is: it has no {ITEMS} (obd) and no"
            f" *{SUFFIX}",
        )
    head = head_of(path)
    for magic, format_ in _MAGIC:
        if head.startswith(magic):
            return format_
    if head.lstrip()[:1] == b"{":
        return "dsjson"
    lines = head.splitlines()
    first = lines[0].decode("utf-8", "replace") if lines else ""
    there = next(csv.reader([first]), [])
    if {*_ALWAYS} <= set(there):
        return "csv"
    if any(b"|" in line for line in lines[:3]):
        return "vw"
    by_name: dict[str, Format] = {
        ".dsjson": "dsjson",
        ".json": "dsjson",
        ".vw": "vw",
        ".dat": "vw",
        ".db": "server",
    }
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    if not head.strip() and suffixes and suffixes[-1] in by_name:
        return by_name[suffixes[-1]]
    if not head.strip():
        raise LogError(path, "is empty")
    if suffixes[-1:] == [".csv"]:
        missing = ", ".join(name for name in _ALWAYS if name not in there)
        raise LogError(
            path,
            f"line 1: there is no column {missing}; there are: {', '.join(there)};"
            " say by a mapping which of them is what",
        )
    raise LogError(
        path,
        "nothing says what this is; say so by the format: "
        + ", ".join(get_args(Format)),
    )
