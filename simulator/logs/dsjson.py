"""Reads the decision-service JSON of Vowpal Wabbit and Azure Personalizer.

A line is a decision: the features of context and actions (`c`), the actions in the
order in which they were ranked (`a`) with their probabilities (`p`), and a label. A
cost becomes a reward by its sign. Plain `--json` lines are read too, and lines with
several slots (`_outcomes`), each slot as a decision of its own.

References:
    https://github.com/VowpalWabbit/vowpal_wabbit/wiki/JSON
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from policies.model import Features
from simulator.feedback import Feedback
from simulator.logs.base import ROWS_MAX, LeftOut
from simulator.logs.building import Building, Reading, hash_of
from simulator.logs.lines import Line, Lines

__all__ = ["DsjsonReader"]

_CACHED_MAX = 65_536
_CACHED_BYTES_MAX = 64 * 1024 * 1024
_NAME_MAX = 60
_UNKNOWN = float("nan")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MILLISECOND = dt.timedelta(milliseconds=1)


class _State(msgspec.Struct, gc=False):
    m: str = ""


class _Slot(msgspec.Struct, gc=False):
    """What was chosen for one of several slots."""

    id: str = msgspec.field(name="_id", default="")
    cost: float | None = msgspec.field(name="_label_cost", default=None)
    original: float | None = msgspec.field(name="_original_label_cost", default=None)
    actions: list[int] = msgspec.field(name="_a", default_factory=list)
    probabilities: list[float] = msgspec.field(name="_p", default_factory=list)


class _Event(msgspec.Struct, gc=False):
    """A line, as far as it is of use."""

    c: dict[str, msgspec.Raw] | None = None
    a: list[int] = msgspec.field(default_factory=list)
    p: list[float] = msgspec.field(default_factory=list)
    cost: float | None = msgspec.field(name="_label_cost", default=None)
    cost_too: float | None = msgspec.field(name="_label_Cost", default=None)
    propensity: float | None = msgspec.field(name="_label_probability", default=None)
    propensity_too: float | None = msgspec.field(
        name="_label_Probability", default=None
    )
    action: int | None = msgspec.field(name="_label_Action", default=None)
    index: int | None = msgspec.field(name="_labelIndex", default=None)
    original: float | None = msgspec.field(name="_original_label_cost", default=None)
    skip: bool = msgspec.field(name="_skipLearn", default=False)
    pdrop: float = 0.0
    id: str = msgspec.field(name="EventId", default="")
    time: str = msgspec.field(name="Timestamp", default="")
    state: _State | None = msgspec.field(name="VWState", default=None)
    slots: list[_Slot] | None = msgspec.field(name="_outcomes", default=None)
    continuous: Any = msgspec.field(name="_label_ca", default=None)


class _Pairs(tuple[tuple[str, Any], ...]):
    """A JSON object with all of its keys, also those that stand twice."""

    __slots__ = ()


class _RowError(Exception):
    """A row cannot be read, and why."""


class _Features:
    """Reads features, and remembers those that come again and again."""

    def __init__(self) -> None:
        self._names_of: dict[tuple[str, tuple[str, ...]], tuple[str, ...] | None] = {}
        self._features_of: dict[tuple[str, bytes], Features] = {}
        self._flat = msgspec.json.Decoder(dict[str, float]).decode

    def read(self, context: dict[str, msgspec.Raw]) -> Features:
        """Return the features of a context, without its actions and slots."""
        features: Features = ()
        for name, raw in context.items():
            if name[:1] != "_" or name == "_text":
                features += self._namespace(name, raw)
        return features

    def _namespace(self, namespace: str, raw: msgspec.Raw) -> Features:
        """Read a namespace of numbers at once; anything else is remembered."""
        text = bytes(raw)
        if text[:1] == b"{":
            try:
                values = self._flat(raw)
            except msgspec.ValidationError:
                pass
            else:
                names = self._prefixed(namespace, tuple(values))
                # A key that stands twice is two features, but one in `values`.
                if names is not None and text.count(b'":') == len(names):
                    return tuple(zip(names, values.values(), strict=True))
        known = self._features_of.get((namespace, text))
        if known is None:
            if len(self._features_of) >= _CACHED_MAX:
                self._features_of.clear()
            known = features_of([(namespace, pairs_of(text))])
            if len(text) <= 1_024:
                self._features_of[namespace, text] = known
        return known

    def _prefixed(
        self, namespace: str, names: tuple[str, ...]
    ) -> tuple[str, ...] | None:
        """Return the names with their namespace; none if some are no features."""
        key = (namespace, names)
        if key in self._names_of:
            return self._names_of[key]
        if len(self._names_of) >= _CACHED_MAX:
            self._names_of.clear()
        features = not any(name.startswith("_") for name in names)
        prefixed = tuple([f"{namespace}^{name}" for name in names])
        self._names_of[key] = prefixed if features else None
        return self._names_of[key]


class DsjsonReader(Reading):
    """Reads a dsjson file.

    Args:
        path: The file, plain or packed by gzip.
        skip_bad: Whether lines that cannot be read are left out and counted.

    Attributes are those of `Source`.
    """

    format = "dsjson"

    def __init__(self, path: Path, *, skip_bad: bool = False) -> None:
        super().__init__(path, skip_bad=skip_bad)
        self._event = msgspec.json.Decoder(_Event).decode
        self._features = _Features()
        self._raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
        self._lists: dict[bytes, list[int]] = {}
        self._lists_bytes = 0
        self._codes: dict[tuple[bytes, str], int] = {}

    def parts(
        self, rows_max: int = ROWS_MAX, columns: Collection[str] | None = None
    ) -> Iterator[Feedback]:
        """Yield the decisions; see `Source`."""
        del columns
        self.left_out = LeftOut()
        lines = Lines(self.path)
        rows = _Rows(self._names)
        for line in lines:
            if not line.text or line.text.isspace():
                continue
            try:
                self._add(rows, line)
            except (msgspec.MsgspecError, _RowError, ValueError) as error:
                self._refuse(line, error)
            if len(rows) >= rows_max:
                self.read = lines.read
                yield from self._finished(rows)
                rows = _Rows(self._names)
        self.read = lines.read
        yield from self._finished(rows)

    def _refuse(self, line: Line, error: Exception) -> None:
        if not line.whole and isinstance(error, msgspec.DecodeError):
            message = f"{self.path}: line {line.number}, the last one, is cut off"
            self.left_out.add("torn", message)
            return
        self._bad(f"line {line.number}: {error}")

    def _add(self, rows: _Rows, line: Line) -> None:
        event = self._event(line.text)
        context = event.c
        if event.continuous is not None:
            raise _RowError("_label_ca: continuous actions are not read")
        if context is None:
            self._add_plain(rows, line, event)
            return
        if event.slots is not None:
            self._add_slots(rows, line, event)
            return
        raw = context.get("_multi")
        if raw is None:
            raise _RowError("c._multi: is missing: there are no actions")
        codes = self._actions(bytes(raw))
        rows.add(line.number, event, self._features.read(context), codes)

    def _add_plain(self, rows: _Rows, line: Line, event: _Event) -> None:
        """Read a line of `--json`, whose features are not inside of `c`."""
        pairs = pairs_of(line.text)
        if not isinstance(pairs, _Pairs):
            raise _RowError("is no JSON object")
        actions = next((value for key, value in pairs if key == "_multi"), None)
        if actions is None:
            raise _RowError("c: is missing, and so is _multi: there are no actions")
        codes = [self._action(features_of([("", action)])) for action in actions]
        envelope = {"a", "p", "EventId", "Timestamp", "Version", "VWState", "pdrop"}
        own = [(k, v) for k, v in pairs if k not in envelope and k[:1] != "_"]
        rows.add(line.number, event, features_of(own), codes)

    def _add_slots(self, rows: _Rows, line: Line, event: _Event) -> None:
        """Read each slot as a decision among what was left for it."""
        context = event.c or {}
        multi = bytes(context.get("_multi", b"[]"))
        if b'"_slot_id"' in multi:
            raise _RowError("c._multi: slates (_slot_id) are not read")
        raws = self._raws(multi)
        about = self._raws(bytes(context.get("_slots", b"[]")))
        shared = self._features.read(context)
        for at, slot in enumerate(event.slots or ()):
            own = pairs_of(bytes(about[at])) if at < len(about) else ()
            named = dict(own).get("_id", "") if isinstance(own, _Pairs) else ""
            place = named or str(at)
            if max(slot.actions, default=0) >= len(raws):
                raise _RowError(f"_outcomes[{at}]._a: there are {len(raws)} actions")
            codes = [self._placed(bytes(raws[i]), place) for i in slot.actions]
            single = _Event(
                a=list(range(1, len(codes) + 1)),
                p=slot.probabilities,
                cost=slot.cost,
                original=slot.original,
                skip=event.skip,
                pdrop=event.pdrop,
                id=f"{event.id or line.number}/{at}",
                time=event.time,
                state=event.state,
            )
            key = hash_of(event.id or str(line.number))
            features = shared + features_of([("", own)])
            rows.add(line.number, single, features, codes, key=key)

    def _actions(self, raw: bytes) -> list[int]:
        """Return the places of a list of actions, which often is one seen before."""
        codes = self._lists.get(raw)
        if codes is None:
            codes = [self._placed(bytes(element)) for element in self._raws(raw)]
            self._lists_bytes += len(raw)
            if self._lists_bytes > _CACHED_BYTES_MAX:
                self._lists.clear()
                self._lists_bytes = len(raw)
            self._lists[raw] = codes
        return codes

    def _placed(self, raw: bytes, placement_id: str = "") -> int:
        code = self._codes.get((raw, placement_id))
        if code is None:
            pairs = pairs_of(raw)
            code = self._action(features_of([("", pairs)]), _tag(pairs), placement_id)
            if len(self._codes) >= _CACHED_MAX:
                self._codes.clear()
            self._codes[raw, placement_id] = code
        return code

    def _action(self, features: Features, tag: str = "", placement_id: str = "") -> int:
        name = tag or _name_of(features)
        return self._names.offer(name, placement_id, features)

    def _finished(self, rows: _Rows) -> Iterator[Feedback]:
        if not len(rows):
            return
        part, wrong = rows.finished()
        for row, problem in wrong.items():
            self._bad(f"line {part.positions[row]}: {problem}")
        if wrong:
            keep = np.ones(len(part), np.bool_)
            keep[list(wrong)] = False
            part = part.take(keep)
        for position in rows.unlabelled:
            message = f"{self.path}: line {position}: nothing says what was chosen"
            self.left_out.add("unlabelled", message)
        if len(part):
            yield part


class _Rows(Building):
    """Rows whose actions are sorted out for a whole part at once.

    Attributes:
        ranks: For each probability, which action of the row it is of, from 1, or
            from 0 in some logs.
        unlabelled: The lines that do not say what was chosen.
    """

    def __init__(self, names: Any) -> None:
        super().__init__(names)
        self.ranks: list[int] = []
        self.unlabelled: list[int] = []
        self.originals: list[float] = []

    def add(  # type: ignore[override]
        self,
        position: int,
        event: _Event,
        context: Features,
        codes: Sequence[int],
        *,
        key: int | None = None,
    ) -> None:
        """Add a row.

        Args:
            position: Its line.
            event: What the line says.
            context: The features.
            codes: The actions, in the order in which the line has their features.
            key: Whose it is; the event's own without it.
        """
        ranks, probabilities = event.a, event.p
        n = len(codes)
        index = event.index
        if index is None and event.action is not None:
            index = event.action - 1
        if len(ranks) != n or len(probabilities) != n:
            ranks, probabilities = _completed(ranks, probabilities, n)
            if index is None and not event.a:
                self.unlabelled.append(position)
                return
        cost = event.cost if event.cost is not None else event.cost_too
        propensity = event.propensity
        if propensity is None:
            propensity = event.propensity_too
        if event.time:
            self.times_ms.append(_time_ms(event.time))
        else:
            self.times_ms.append(0)
        if not 0.0 <= event.pdrop < 1.0:
            raise _RowError(f"pdrop: must be in [0, 1), not {event.pdrop}")
        self.positions.append(position)
        self.keys.append(hash_of(event.id or str(position)) if key is None else key)
        state = event.state
        self.loggers.append(self.names.policy(state.m if state else ""))
        unknown = cost is None or event.skip
        self.rewards.append(_UNKNOWN if unknown else 0.0 - cost)  # type: ignore[operator]
        self.propensities.append(_UNKNOWN if propensity is None else propensity)
        self.chosen.append(-1 if index is None else index)
        self.sizes.append(n)
        self.actions.extend(codes)
        self.ranks.extend(ranks)
        self.probabilities.extend(probabilities)
        self.contexts.append(context)
        self.ids.append(event.id)
        self.counts.append(1.0 / (1.0 - event.pdrop))
        original = event.original
        self.originals.append(_UNKNOWN if original is None else 0.0 - original)

    def finished(self) -> tuple[Feedback, dict[int, str]]:
        """Return the part, and what is wrong with which of its rows."""
        self.floors = [0.0] * len(self)
        if not np.isnan(self.originals).all():
            self.objectives["original_reward"] = self.originals
        if not any(self.ids):
            self.ids = []
        if all(count == 1.0 for count in self.counts):
            self.counts = []
        part = self.part()
        return _sorted_out(part, np.array(self.ranks, np.int64))


def _sorted_out(part: Feedback, ranks: Any) -> tuple[Feedback, dict[int, str]]:
    """Give each action its probability, each row its chosen action."""
    wrong: dict[int, str] = {}
    sizes = np.diff(part.offsets)
    begins = part.offsets[:-1]
    for row in np.flatnonzero(sizes == 0):
        wrong[int(row)] = "c._multi: is empty: there are no actions"
    rows = np.repeat(np.arange(len(part)), sizes)
    first = np.ones(len(part), np.int64)
    np.minimum.at(first, rows, ranks) if (ranks < 1).any() else None
    at = ranks - first[rows]
    outside = (at < 0) | (at >= sizes[rows])
    for row in np.unique(rows[outside]):
        wrong[int(row)] = f"a: must number the {sizes[row]} actions of c._multi"
    at[outside] = 0
    flat = begins[rows] + at
    times = np.bincount(flat, minlength=len(rows))
    for row in np.unique(rows[times != 1]):
        wrong.setdefault(int(row), "a: names an action more than once")
    probabilities = np.empty(len(rows))
    probabilities[flat] = part.probabilities
    index = part.chosen.astype(np.int64)
    unsaid = (index < 0) & (sizes > 0)
    index[unsaid] = at[begins[unsaid]]
    for row in np.flatnonzero((index < 0) | (index >= sizes)):
        wrong.setdefault(
            int(row), f"_labelIndex: must be one of {sizes[row]} actions, from 0"
        )
    places = begins + index.clip(0, np.maximum(sizes - 1, 0))
    places = np.minimum(places, max(len(rows) - 1, 0))
    empty = not len(rows)
    chosen = np.zeros(len(part), np.int32) if empty else part.actions[places]
    known = part.propensities.copy()
    if not empty:
        unsaid = np.isnan(known)
        known[unsaid] = probabilities[places[unsaid]]
        probabilities[places] = np.where(
            np.isnan(probabilities[places]), known, probabilities[places]
        )
    for row in np.flatnonzero(np.isnan(known)):
        wrong.setdefault(int(row), "_label_probability: is missing, and so is p")
    sorted_out = msgspec.structs.replace(
        part, chosen=chosen, propensities=known, probabilities=probabilities
    )
    return sorted_out, wrong


def _completed(
    ranks: Sequence[int], probabilities: Sequence[float], n: int
) -> tuple[list[int], list[float]]:
    """Make ranks and probabilities of all actions from what there is."""
    if len(probabilities) not in (0, len(ranks) or n) or len(ranks) > n:
        raise _RowError(
            f"a and p: must be of the {n} actions of c._multi, not of {len(ranks)} and"
            f" {len(probabilities)}"
        )
    begin = min(min(ranks, default=1), 1)
    named = list(ranks) or list(range(1, len(probabilities) + 1))
    missing = sorted(set(range(begin, begin + n)) - set(named))
    if len(named) + len(missing) != n:
        raise _RowError(f"a: must number the {n} actions of c._multi")
    known = list(probabilities) or [_UNKNOWN] * len(named)
    # What `p` does not name could not be chosen.
    rest = 0.0 if probabilities else _UNKNOWN
    return named + missing, known + [rest] * len(missing)


def pairs_of(text: bytes) -> Any:
    """Read JSON; objects become pairs, so that a key may stand twice.

    Raises:
        ValueError: If it is none.
    """
    return json.loads(text, object_pairs_hook=_Pairs)


def features_of(pairs: Sequence[tuple[str, Any]]) -> Features:
    """Return what a JSON object says as features.

    A string is a category, a flag counts where it is set, an object within is a
    namespace, and what begins with `_` is no feature.

    Examples:
        >>> features_of([("age", 3), ("User", pairs_of(b'{"plan": "free", "_id": 1}'))])
        (('age', 3.0), ('User^plan=free', 1.0))
    """
    found: list[tuple[str, float]] = []
    for name, value in pairs:
        _walk(name, value, "", found)
    return tuple(found)


def _walk(name: str, value: Any, prefix: str, found: list[tuple[str, float]]) -> None:
    if name == "_text" and isinstance(value, str):
        found += [(prefix + word, 1.0) for word in value.split()]
        return
    if name.startswith("_"):
        return
    match value:
        case bool():
            if value:
                found.append((prefix + name, 1.0))
        case int() | float():
            found.append((prefix + name, float(value)))
        case str():
            found.append((f"{prefix}{name}={value}", 1.0))
        case _Pairs():
            inner = f"{name}^" if name else ""
            for key, part in value:
                _walk(key, part, inner, found)
        case list():
            for at, part in enumerate(value):
                if isinstance(part, _Pairs):
                    _walk(name, part, prefix, found)
                else:
                    _walk(str(at), part, f"{name}^", found)
        case _:
            pass


def _tag(pairs: Any) -> str:
    """Return what an action is called: its `_tag`, or the `id` that it has."""
    if not isinstance(pairs, _Pairs):
        raise _RowError("c._multi: an action must be an object")
    names = dict(pairs)
    if isinstance(names.get("_tag"), str):
        return str(names["_tag"])
    inner = names.get("i")
    if isinstance(inner, _Pairs):
        names = dict(inner)
    return str(names["id"]) if isinstance(names.get("id"), str | int) else ""


def _name_of(features: Features) -> str:
    """Name an action by its features, where nothing else does."""
    name = ",".join(
        feature if value == 1.0 else f"{feature}:{value:g}"
        for feature, value in features
    )
    if len(name) <= _NAME_MAX:
        return name or "none"
    return blake2b(repr(features).encode("utf-8", "replace"), digest_size=8).hexdigest()


def _time_ms(text: str) -> int:
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        raise _RowError(f"Timestamp: must be of ISO 8601, not {text!r}") from None
    if time.tzinfo is None:
        time = time.replace(tzinfo=dt.UTC)
    return (time - _EPOCH) // _MILLISECOND
