"""Writes logs: Parquet, dsjson, CSV, and the arrays of Open Bandit Pipeline."""

from __future__ import annotations

import csv
import gzip
import io
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Literal, get_args

import msgspec
import numpy as np

from policies.model import NO_OFFER, Action
from simulator.feedback import Feedback, joined
from simulator.logs.base import ROWS_MAX, LogError, Source, Watcher
from simulator.logs.naming import called, nested
from simulator.logs.obp_arrays import arrays_of
from simulator.logs.parquet import SUFFIX, ParquetWriter
from simulator.logs.times import text_of

__all__ = ["Target", "Written", "target_of", "write_log"]

Target = Literal["parquet", "dsjson", "csv", "obp"]
"""What a log may be written as."""

_SUFFIXES: dict[str, Target] = {
    "": "parquet",
    SUFFIX: "parquet",
    ".dsjson": "dsjson",
    ".json": "dsjson",
    ".csv": "csv",
    ".npz": "obp",
}
_COLUMNS = (
    "time",
    "id",
    "user",
    "policy",
    "segment",
    "split",
    "action",
    "propensity",
    "reward",
    "floor",
    "actions",
    "probabilities",
    "context",
)

_ORIGINAL = "original_reward"

_Write = Callable[[Feedback], None]


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What came of writing a log.

    Attributes:
        path: Where it is.
        format: What it is.
        rows: How many decisions it has.
        left_out: How many of those that were read are not in it, by the reason.
        first: The first of these, with what is wrong.
        without: What else this log has, for which the format has no place.
    """

    path: str
    format: Target
    rows: int
    left_out: dict[str, int]
    first: tuple[str, ...]
    without: tuple[str, ...] = ()


def target_of(path: Path) -> Target:
    """Say what a log is to be, by the name of its file.

    Raises:
        LogError: If the name does not say so.

    Examples:
        >>> target_of(Path("log.dsjson.gz")), target_of(Path("folder"))
        ('dsjson', 'parquet')
    """
    suffix = Path(path.name.removesuffix(".gz")).suffix
    if suffix not in _SUFFIXES:
        known = ", ".join(get_args(Target))
        raise LogError(path, f"{suffix} says no format; name one of {known}")
    return _SUFFIXES[suffix]


def write_log(
    source: Source,
    path: str | Path,
    to: Target | None = None,
    *,
    watcher: Watcher | None = None,
    rows_max: int = ROWS_MAX,
) -> Written:
    """Write a log anew.

    Parquet keeps all that was read. What others have no place for is left out, and
    named in the answer. The file is there when it is whole, or not at all.

    Args:
        source: The log.
        path: Where to, which must not exist; a name that ends in `.gz` is packed.
        to: As what; by the name of the file without it.
        watcher: Is told how far it is.
        rows_max: How many rows are in memory at a time, but for `obp`, which are all.

    Raises:
        LogError: If it cannot be read or written.
    """
    path = Path(path)
    to = to or target_of(path)
    if path.exists():
        raise LogError(path, "is there already; nothing is written over")
    begun = path.with_name(f"{path.name}.part")
    rows = 0
    without: dict[str, None] = {}
    try:
        with _writing(begun, to, path) as write:
            for part in source.parts(rows_max):
                write(part)
                rows += len(part)
                without |= dict.fromkeys(_without(part, to))
                if watcher is not None:
                    known = source.rows is not None
                    done = rows if known else getattr(source, "read", 0)
                    total = source.rows if known else source.bytes
                    watcher("converting", done, max(total or 1, 1))
        if not begun.exists():
            raise LogError(source.path, "there are no decisions to write")
        begun.rename(path)
    except OSError as error:
        raise LogError(path, f"cannot be written: {error.strerror or error}") from None
    finally:
        if begun.is_dir():
            shutil.rmtree(begun)
        else:
            begun.unlink(missing_ok=True)
    left_out = source.left_out
    return Written(
        path=str(path),
        format=to,
        rows=rows,
        left_out=dict(left_out.reasons),
        first=tuple(left_out.first),
        without=tuple(without),
    )


def _without(part: Feedback, to: Target) -> Iterator[str]:
    """Yield what a part has that a format has no place for."""
    if to == "csv":
        if any(action.features for action in part.vocabulary):
            yield "features of actions"
    elif to != "parquet":
        if len(np.unique(part.keys)) < len(part.keys):
            yield "which decisions are of one user"
        for name, given in (("segments", part.segments), ("splits", part.splits)):
            if any(given):
                yield name
        if part.floors.any():
            yield "floors"
        for name, values in part.objectives.items():
            known = not np.isnan(values).all()
            if known and (to == "obp" or name != _ORIGINAL):
                yield f"objective:{name}"
        for name in part.targets:
            yield f"target:{name}"
    if to == "obp":
        if part.times_ms.any():
            yield "times"
        if any(part.ids):
            yield "ids"
        if any(part.policies):
            yield "logging policies"
    if to in ("csv", "obp") and (part.counts > 1.0).any():
        yield "how many decisions a row stands for"


def _writing(begun: Path, to: Target, path: Path) -> AbstractContextManager[_Write]:
    match to:
        case "parquet":
            return _parquet(begun, single=path.suffix == SUFFIX)
        case "dsjson":
            return _dsjson(begun, path)
        case "csv":
            return _csv(begun, packed=path.suffix == ".gz")
        case "obp":
            return _obp(begun, path)


@contextmanager
def _parquet(path: Path, *, single: bool) -> Iterator[_Write]:
    with ParquetWriter(path, single=single) as writer:
        yield writer.write


@contextmanager
def _opened(path: Path, *, packed: bool) -> Iterator[IO[bytes]]:
    with ExitStack() as stack:
        file: Any = stack.enter_context(path.open("wb"))
        if packed:
            # Without a name and a time the same log makes the same bytes.
            file = stack.enter_context(
                gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0)
            )
        yield file


# --- dsjson ---------------------------------------------------------------------------


@contextmanager
def _dsjson(begun: Path, path: Path) -> Iterator[_Write]:
    with _opened(begun, packed=path.suffix == ".gz") as file:
        actions: list[msgspec.Raw] = []

        def write(part: Feedback) -> None:
            _refuse_unknown_actions(part, path)
            for action in part.vocabulary[len(actions) :]:
                tagged = {"_tag": called(action), "_offer": _parts_of(action)}
                tagged |= nested(action.features)
                actions.append(msgspec.Raw(msgspec.json.encode(tagged)))
            for row in range(len(part)):
                event = _event(part, row, actions)
                file.write(msgspec.json.encode(event) + b"\n")

        yield write


def _refuse_unknown_actions(part: Feedback, path: Path) -> None:
    """Refuse rows that do not say what was eligible, as every line must."""
    empty = np.diff(part.offsets) == 0
    if len(part.offsets) and not empty.any():
        return
    row = int(np.argmax(empty)) if len(part.offsets) else 0
    place = part.positions[row] if len(part.positions) else row + 1
    raise LogError(
        path,
        f"row {place} does not say which actions were eligible, as dsjson must; write"
        " Parquet or CSV",
    )


def _event(part: Feedback, row: int, actions: list[msgspec.Raw]) -> dict[str, Any]:
    """Return a decision as a line of dsjson."""
    begin, end = part.offsets[row], part.offsets[row + 1]
    codes = part.actions[begin:end].tolist()
    probabilities = part.probabilities[begin:end].tolist()
    index = codes.index(part.chosen[row])
    event: dict[str, Any] = {}
    reward = float(part.rewards[row])
    if not math.isnan(reward):
        event["_label_cost"] = 0.0 - reward
    event["_label_probability"] = float(part.propensities[row])
    event["_label_Action"] = index + 1
    event["_labelIndex"] = index
    original = part.objectives.get(_ORIGINAL)
    if original is not None and not math.isnan(original[row]):
        event["_original_label_cost"] = 0.0 - float(original[row])
    if len(part.times_ms) and part.times_ms[row]:
        event["Timestamp"] = text_of(int(part.times_ms[row]))
    event["Version"] = "1"
    if len(part.ids) and part.ids[row]:
        event["EventId"] = part.ids[row]
    if len(part.counts) and part.counts[row] > 1.0:
        event["pdrop"] = 1.0 - 1.0 / float(part.counts[row])
    if not any(map(math.isnan, probabilities)):
        ranks = [index, *(at for at in range(len(codes)) if at != index)]
        event["a"] = [rank + 1 for rank in ranks]
        event["p"] = [probabilities[rank] for rank in ranks]
    context = nested(part.contexts[row]) if len(part.contexts) else {}
    event["c"] = context | {"_multi": [actions[code] for code in codes]}
    policy = part.policies[part.loggers[row]] if len(part.loggers) else ""
    if policy:
        event["VWState"] = {"m": policy}
    return event


def _parts_of(action: Action) -> list[str]:
    """Return what an action is made of; nothing for no offer."""
    if action.index == NO_OFFER:
        return []
    return [action.offer_id, action.creative_id, action.placement_id]


# --- CSV ------------------------------------------------------------------------------


@contextmanager
def _csv(path: Path, *, packed: bool) -> Iterator[_Write]:
    with (
        _opened(path, packed=packed) as file,
        io.TextIOWrapper(file, encoding="utf-8", newline="") as text,
    ):
        writer = csv.writer(text, lineterminator="\n")
        header: list[str] = []

        def write(part: Feedback) -> None:
            if not header:
                header.extend(_COLUMNS)
                header.extend(f"objective:{name}" for name in part.objectives)
                header.extend(f"target:{name}" for name in part.targets)
                writer.writerow(header)
            names = [called(action) for action in part.vocabulary]
            writer.writerows(_cells(part, row, names) for row in range(len(part)))

        yield write


def _cells(part: Feedback, row: int, names: list[str]) -> list[Any]:
    eligible: list[str] = []
    probabilities: list[float] = []
    if len(part.offsets):
        begin, end = part.offsets[row], part.offsets[row + 1]
        eligible = [names[code] for code in part.actions[begin:end]]
        probabilities = part.probabilities[begin:end].tolist()
    time_ms = int(part.times_ms[row]) if len(part.times_ms) else 0
    context = dict[str, float]()
    for name, value in part.contexts[row] if len(part.contexts) else ():
        context[name] = context.get(name, 0.0) + value
    return [
        text_of(time_ms) if time_ms else "",
        part.ids[row] if len(part.ids) else "",
        f"{part.keys[row]:016x}" if len(part.keys) else "",
        part.policies[part.loggers[row]] if len(part.loggers) else "",
        part.segments[row] if len(part.segments) else "",
        part.splits[row] if len(part.splits) else "",
        names[part.chosen[row]],
        float(part.propensities[row]),
        _number(part.rewards[row]),
        float(part.floors[row]) if len(part.floors) else "",
        msgspec.json.encode(eligible).decode() if eligible else "",
        msgspec.json.encode(probabilities).decode() if eligible else "",
        msgspec.json.encode(context).decode() if context else "",
        *(_number(values[row]) for values in part.objectives.values()),
        *(_number(values[row]) for values in part.targets.values()),
    ]


def _number(value: float) -> float | str:
    return "" if math.isnan(value) else float(value)


# --- Open Bandit Pipeline -------------------------------------------------------------


@contextmanager
def _obp(begun: Path, path: Path) -> Iterator[_Write]:
    parts: list[Feedback] = []
    yield parts.append
    if parts:
        arrays = arrays_of(joined(parts), path)
        with begun.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
