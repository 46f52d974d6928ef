"""Reads the decision-service JSON of Vowpal Wabbit and Azure Personalizer.

A line is a decision: the features of context and actions (`c`), the actions in the
order in which they were ranked (`a`) with their probabilities (`p`), and a label. A
cost becomes a reward by its sign. Plain `--json` lines are read too, and lines with
several slots (`_outcomes`), each slot as a decision of its own.

References:
    https://github.com/VowpalWabbit/vowpal_wabbit/wiki/JSON
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec.structs import astuple
from numpy.typing import NDArray

from policies.model import NO_OFFER, Action, Features, FloatArray
from simulator.feedback import Contexts, Feedback, joined
from simulator.logs.base import ROWS_MAX, LeftOut
from simulator.logs.building import (
    Names,
    Reading,
    hashes_of,
    hashes_of_texts,
    name_of,
    uncollected,
)
from simulator.logs.lines import Lines
from simulator.logs.naming import NO_OFFER_NAME
from simulator.logs.times import all_ms_of, ms_of

__all__ = ["DsjsonReader"]

_CACHED_MAX = 65_536
_CACHED_BYTES_MAX = 64 * 1024 * 1024
_REMEMBERED_BYTES_MAX = 1_024
_LAYOUTS_MAX = 4_096
_NUMERIC = frozenset(b"-0123456789")
_BRACE = ord("{")
_NO_CODES = np.empty(0, np.int32)
_BATCH = 512
_MISSES_MAX = 32
_UNKNOWN = float("nan")
_ENVELOPE = {"a", "p", "EventId", "Timestamp", "Version", "VWState", "pdrop"}


_Small = Annotated[int, msgspec.Meta(ge=-1, le=2**31 - 1)]
"""The number of an action."""


class _State(msgspec.Struct, gc=False):
    m: str = ""


class _Slot(msgspec.Struct, gc=False):
    """What was chosen for one of several slots."""

    id: str = msgspec.field(name="_id", default="")
    cost: float | None = msgspec.field(name="_label_cost", default=None)
    original: float | None = msgspec.field(name="_original_label_cost", default=None)
    actions: list[_Small] = msgspec.field(name="_a", default_factory=list)
    probabilities: list[float] = msgspec.field(name="_p", default_factory=list)


class _Event(msgspec.Struct, gc=False):
    """A line, as far as it is of use."""

    c: dict[str, msgspec.Raw] | None = None
    a: list[_Small] = msgspec.field(default_factory=list)
    p: list[float] = msgspec.field(default_factory=list)
    cost: float | None = msgspec.field(name="_label_cost", default=None)
    cost_too: float | None = msgspec.field(name="_label_Cost", default=None)
    propensity: float | None = msgspec.field(name="_label_probability", default=None)
    propensity_too: float | None = msgspec.field(
        name="_label_Probability", default=None
    )
    action: _Small | None = msgspec.field(name="_label_Action", default=None)
    index: _Small | None = msgspec.field(name="_labelIndex", default=None)
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


_Coded = tuple[NDArray[np.int32], Iterable[float]]


class _Features:
    """Reads features as codes and values, and remembers what comes again and again."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._codes_of: dict[tuple[str, tuple[str, ...]], NDArray[np.int32] | None] = {}
        self._coded_of: dict[tuple[str, bytes], _Coded] = {}
        self._flat = msgspec.json.Decoder(dict[str, float]).decode
        self._list = msgspec.json.Decoder(list[float]).decode

    def read(self, context: dict[str, msgspec.Raw]) -> list[_Coded]:
        """Return the features of a context, without its actions and slots."""
        coded: list[_Coded] = []
        names: list[str] = []
        values: list[bytes] = []
        for name, raw in context.items():
            if name[:1] != "_" or name == "_text":
                text = bytes(raw)
                if text[0] in _NUMERIC:
                    names.append(name)
                    values.append(text)
                else:
                    coded.append(self._namespace(name, text))
        if names:
            codes = self._codes("", tuple(names))
            if codes is not None:
                coded.append((codes, self._list(b"[%b]" % b",".join(values))))
        return coded

    def plain(self, context: dict[str, msgspec.Raw]) -> bool:
        """Say whether all features are numbers, each under one name."""
        for name, raw in context.items():
            text = bytes(raw)
            if name[:1] == "_" or text[0] in _NUMERIC:
                continue
            try:
                names = tuple(self._flat(text))
            except msgspec.ValidationError:
                return False
            if self._codes(name, names) is None or text.count(b'":') != len(names):
                return False
        return "_text" not in context

    def coded(self, features: Features) -> _Coded:
        """Return features as codes and values."""
        place = self._names.feature
        codes = np.array([place(name) for name, _ in features], np.int32)
        return codes, [value for _, value in features]

    def _namespace(self, namespace: str, text: bytes) -> _Coded:
        """Read a namespace of numbers at once; anything else is remembered."""
        if text[0] == _BRACE:
            try:
                values = self._flat(text)
            except msgspec.ValidationError:
                pass
            else:
                codes = self._codes(namespace, tuple(values))
                # A key that stands twice is two features, but one in `values`.
                if codes is not None and text.count(b'":') == len(codes):
                    return codes, values.values()
        known = self._coded_of.get((namespace, text))
        if known is None:
            if len(self._coded_of) >= _CACHED_MAX:
                self._coded_of.clear()
            pairs = [(namespace, pairs_of(text))]
            known = self.coded(features_of(pairs, self._names.literal))
            if len(text) <= _REMEMBERED_BYTES_MAX:
                self._coded_of[namespace, text] = known
        return known

    def _codes(
        self, namespace: str, names: tuple[str, ...]
    ) -> NDArray[np.int32] | None:
        """Return the codes of names; none if some are no features."""
        key = (namespace, names)
        if key in self._codes_of:
            return self._codes_of[key]
        if len(self._codes_of) >= _LAYOUTS_MAX:
            self._codes_of.clear()
        codes = None
        if not any(name.startswith("_") for name in names):
            prefix = f"{namespace}^" if namespace else ""
            places = [self._names.feature(prefix + name) for name in names]
            codes = np.array(places, np.int32)
            self._names.literal.update(prefix + name for name in names if "=" in name)
        self._codes_of[key] = codes
        return codes


class _Layout:
    """The layout of lines whose features are all numbers, under the same names.

    A decoder made for it reads a line in one pass, several times as fast.

    Args:
        context: The context of one such line.
        codes: Codes of its features, as `_Features.read` has them.
    """

    def __init__(
        self, context: dict[str, msgspec.Raw], codes: NDArray[np.int32]
    ) -> None:
        self.codes = codes
        flat = msgspec.json.Decoder(dict[str, float]).decode
        fields: list[tuple[str, Any, Any]] = []
        self._spaces: list[str] = []
        self._singles: list[str] = []
        for at, (name, raw) in enumerate(context.items()):
            field = f"f{at}"
            kind: type = msgspec.Raw if name[:1] == "_" else float
            if name == "_multi":
                self._multi = field
            elif name[:1] != "_" and bytes(raw)[:1] == b"{":
                kind = _numbers_under(list(flat(raw)))
                self._spaces.append(field)
            elif name[:1] != "_":
                self._singles.append(field)
            fields.append((field, kind, msgspec.field(name=name)))
        inner = msgspec.defstruct("_C", fields, gc=False, forbid_unknown_fields=True)
        event = msgspec.defstruct(
            "_KnownEvent", [("c", inner)], bases=(_Event,), gc=False
        )
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(event).decode

    def read(self, events: list[Any]) -> tuple[list[bytes], list[_Coded]]:
        """Return the actions of lines that were decoded, and their features."""
        inners = [event.c for event in events]
        codes, multi = self.codes, attrgetter(self._multi)
        if len(self._spaces) == 1 and not self._singles:
            space = attrgetter(self._spaces[0])
            coded: list[_Coded] = [(codes, astuple(space(inner))) for inner in inners]
        else:
            coded = [(codes, self._values(inner)) for inner in inners]
        return [bytes(multi(inner)) for inner in inners], coded

    def _values(self, inner: Any) -> tuple[float, ...]:
        values: tuple[float, ...] = ()
        for field in self._spaces:
            values += astuple(getattr(inner, field))
        return values + tuple([getattr(inner, field) for field in self._singles])


def _numbers_under(names: list[str]) -> type[msgspec.Struct]:
    fields = [
        (f"f{at}", float, msgspec.field(name=name)) for at, name in enumerate(names)
    ]
    return msgspec.defstruct("_Numbers", fields, gc=False, forbid_unknown_fields=True)


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
        self._features = _Features(self._names)
        self._raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
        self._lists: dict[bytes, NDArray[np.int32]] = {}
        self._lists_bytes = 0
        self._layout: _Layout | None = None
        self._hits = self._misses = 0
        self._codes: dict[tuple[bytes, str], int] = {}

    def parts(
        self, rows_max: int = ROWS_MAX, columns: Collection[str] | None = None
    ) -> Iterator[Feedback]:
        """Yield the decisions; see `Source`."""
        del columns
        self.left_out = LeftOut()
        lines = Lines(self.path)
        ready: list[Feedback] = []
        held = 0
        # Few lines at a time, so that what they are read into stays in the cache.
        for number, texts, whole in lines.batches(min(_BATCH, rows_max)):
            self.read = lines.read
            for small in self._part(number, texts, whole=whole, rows_max=rows_max):
                if held + len(small) > rows_max:
                    yield joined(ready)
                    ready, held = [], 0
                ready.append(small)
                held += len(small)
        if ready:
            yield joined(ready)

    def _part(
        self, number: int, texts: list[bytes], *, whole: bool, rows_max: int
    ) -> Iterator[Feedback]:
        rows = _Rows(self._names)
        with uncollected():
            numbered = enumerate(texts, number)
            for at, text in self._known(rows, numbered):
                if text:
                    self._add(rows, at, text, whole=whole)
            part = self._finished(rows) if len(rows) else None
            del rows, numbered
        if part is None:
            return
        # With several slots a line, there are more rows than lines.
        for begin in range(0, len(part), rows_max):
            end = min(begin + rows_max, len(part))
            more = len(part) > rows_max
            yield part.take(np.arange(begin, end)) if more else part

    def _add(self, rows: _Rows, number: int, text: bytes, *, whole: bool) -> None:
        try:
            event = self._event(text)
            context = event.c
            if context is None or event.slots is not None:
                self._add_other(rows, number, text, event)
                return
            multi = context.get("_multi")
            codes = self._actions(b"" if multi is None else bytes(multi), event)
            coded = self._features.read(context)
            rows.add(number, event, coded, codes, event.id)
            self._learn(context, coded)
        except (msgspec.MsgspecError, _RowError, ValueError) as error:
            self._refuse(number, text, error, whole=whole)

    def _known(
        self, rows: _Rows, lines: Iterator[tuple[int, bytes]]
    ) -> Iterator[tuple[int, bytes]]:
        """Read the lines that are like the one before, and yield the others."""
        positions: list[int] = []
        events: list[Any] = []
        texts: list[bytes] = []
        layout = self._layout
        for position, text in lines:
            if layout is not None:
                try:
                    events.append(layout.decode(text))
                except msgspec.MsgspecError:
                    pass
                else:
                    positions.append(position)
                    texts.append(text)
                    continue
            yield from self._add_known(rows, layout, positions, events, texts)
            positions, events, texts = [], [], []
            yield position, text
            layout = self._layout
        yield from self._add_known(rows, layout, positions, events, texts)

    def _add_known(
        self,
        rows: _Rows,
        layout: _Layout | None,
        positions: list[int],
        events: list[Any],
        texts: list[bytes],
    ) -> Iterator[tuple[int, bytes]]:
        if layout is None or not events:
            return
        slots = [event.slots for event in events]
        if slots.count(None) < len(slots):
            yield from zip(positions, texts, strict=True)
            return
        self._hits += len(events)
        multis, coded = layout.read(events)
        try:
            known = self._lists
            codes = [
                known[m] if m in known else self._actions(m, events[0]) for m in multis
            ]
        except (msgspec.MsgspecError, _RowError, ValueError):
            yield from zip(positions, texts, strict=True)
            return
        rows.add_many(positions, events, coded, codes)

    def _learn(self, context: dict[str, msgspec.Raw], coded: list[_Coded]) -> None:
        """Expect the next line to be like this one, unless they never are."""
        self._misses += 1
        if self._misses > self._hits + _MISSES_MAX:
            self._layout = None
        elif self._features.plain(context):
            codes = np.concatenate([_NO_CODES, *[codes for codes, _ in coded]])
            self._layout = _Layout(context, codes)

    def _refuse(
        self, number: int, text: bytes, error: Exception, *, whole: bool
    ) -> None:
        if text.isspace():
            return
        if not whole and isinstance(error, msgspec.DecodeError):
            message = f"{self.path}: line {number}, the last one, is cut off"
            self.left_out.add("torn", message)
            return
        self._bad(f"line {number}: {error}")

    def _add_other(self, rows: _Rows, number: int, text: bytes, event: _Event) -> None:
        if event.c is None:
            self._add_plain(rows, number, text, event)
        else:
            self._add_slots(rows, number, event)

    def _add_plain(self, rows: _Rows, number: int, text: bytes, event: _Event) -> None:
        """Read a line of `--json`, whose features are not inside of `c`."""
        pairs = pairs_of(text)
        actions = next((value for key, value in pairs if key == "_multi"), None)
        if not isinstance(actions, list):
            raise _RowError(_no_actions(event))
        literal = self._names.literal
        codes = [
            self._action(features_of([("", pairs)], literal), pairs)
            for pairs in actions
        ]
        own = [(k, v) for k, v in pairs if k not in _ENVELOPE and k[:1] != "_"]
        features = [self._features.coded(features_of(own, literal))]
        rows.add(number, event, features, np.array(codes, np.int32), event.id)

    def _add_slots(self, rows: _Rows, number: int, event: _Event) -> None:
        """Read each slot as a decision among what was left for it."""
        context = event.c or {}
        multi = bytes(context.get("_multi", b"[]"))
        if b'"_slot_id"' in multi:
            raise _RowError("c._multi: slates (_slot_id) are not read")
        raws = self._raws(multi)
        about = self._raws(bytes(context.get("_slots", b"[]")))
        shared = self._features.read(context)
        decisions = []
        for at, slot in enumerate(event.slots or ()):
            own = pairs_of(bytes(about[at])) if at < len(about) else _Pairs()
            named = dict(own).get("_id", "") if isinstance(own, _Pairs) else ""
            place = str(named or at)
            if not all(0 <= index < len(raws) for index in slot.actions):
                raise _RowError(f"_outcomes[{at}]._a: there are {len(raws)} actions")
            codes = [self._placed(bytes(raws[i]), place) for i in slot.actions]
            single = _Event(
                a=list(range(1, len(codes) + 1)),
                p=slot.probabilities,
                cost=slot.cost,
                original=slot.original,
                skip=event.skip,
                pdrop=event.pdrop,
                id=f"{event.id or number}/{at}",
                time=event.time,
                state=event.state,
            )
            mine = features_of([("", own)], self._names.literal)
            features = [*shared, self._features.coded(mine)]
            decisions.append((single, features, codes))
        for single, features, codes in decisions:
            owner = event.id or str(number)
            rows.add(number, single, features, np.array(codes, np.int32), owner)

    def _actions(self, raw: bytes, event: _Event) -> NDArray[np.int32]:
        """Return the places of a list of actions, which often is one seen before."""
        if not raw:
            raise _RowError(_no_actions(event))
        codes = self._lists.get(raw)
        if codes is None:
            placed = [self._placed(bytes(element)) for element in self._raws(raw)]
            codes = np.array(placed, np.int32)
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
            features = features_of([("", pairs)], self._names.literal)
            code = self._action(features, pairs, placement_id)
            if len(self._codes) >= _CACHED_MAX:
                self._codes.clear()
            self._codes[raw, placement_id] = code
        return code

    def _action(self, features: Features, pairs: Any, placement_id: str = "") -> int:
        tag = _tag(pairs)
        ours = dict(pairs).get("_offer")
        silent = ours == [] or (ours is None and tag == NO_OFFER_NAME)
        if silent:
            return self._names.action(Action(NO_OFFER, "", "", "", features))
        if isinstance(ours, list) and list(map(type, ours)) == [str, str, str]:
            return self._names.action(Action(1, ours[0], ours[1], ours[2], features))
        name = tag or name_of(features)
        return self._names.offer(name, placement_id, features)

    def _finished(self, rows: _Rows) -> Feedback:
        part, wrong = rows.finished()
        for row, problem in wrong.items():
            self._bad(f"line {part.positions[row]}: {problem}")
        for row in rows.unlabelled:
            message = f"line {part.positions[row]}: nothing says what was chosen"
            self.left_out.add("unlabelled", f"{self.path}: {message}")
        if wrong or rows.unlabelled:
            keep = np.ones(len(part), np.bool_)
            keep[[*wrong, *rows.unlabelled]] = False
            part = part.take(keep)
        return part


class _Rows:
    """Rows whose numbers are sorted out for a whole part at once.

    Attributes:
        unlabelled: The rows that do not say what was chosen.
    """

    def __init__(self, names: Names) -> None:
        self._names = names
        self._positions: list[int] = []
        self._events: list[_Event] = []
        self._coded: list[_Coded] = []
        self._spaces: list[int] = []
        self._codes: list[NDArray[np.int32]] = []
        self._owners: list[str] = []
        self.unlabelled: list[int] = []

    def __len__(self) -> int:
        return len(self._positions)

    def add(
        self,
        position: int,
        event: _Event,
        coded: list[_Coded],
        codes: NDArray[np.int32],
        owner: str,
    ) -> None:
        """Add a row.

        Args:
            position: Its line.
            event: What the line says.
            coded: The features, a namespace each.
            codes: The actions, in the order in which the line has their features.
            owner: What decisions that belong together have in common.
        """
        self._positions.append(position)
        self._events.append(event)
        self._coded += coded
        self._spaces.append(len(coded))
        self._codes.append(codes)
        self._owners.append(owner)

    def add_many(
        self,
        positions: list[int],
        events: list[_Event],
        coded: list[_Coded],
        codes: list[NDArray[np.int32]],
    ) -> None:
        """Add rows that have their features in one namespace each."""
        self._positions += positions
        self._events += events
        self._coded += coded
        self._spaces += [1] * len(events)
        self._codes += codes
        self._owners += [event.id for event in events]

    def finished(self) -> tuple[Feedback, dict[int, str]]:
        """Return the part, and what is wrong with which of its rows."""
        wrong: dict[int, str] = {}
        events = self._events
        offsets = np.zeros(len(events) + 1, np.int64)
        np.cumsum([len(codes) for codes in self._codes], out=offsets[1:])
        self._complete(wrong)
        n = int(offsets[-1])
        ranks = np.fromiter(chain.from_iterable([e.a for e in events]), np.int64, n)
        pairs = chain.from_iterable([e.p for e in events])
        part = Feedback(
            positions=np.array(self._positions, np.int64),
            times_ms=self._times_ms(wrong),
            keys=self._keys(),
            loggers=self._loggers(),
            rewards=self._rewards(),
            propensities=self._propensities(),
            chosen=self._chosen(),
            floors=np.zeros(len(events)),
            offsets=offsets,
            actions=np.concatenate(self._codes),
            probabilities=np.fromiter(pairs, np.float64, n),
            contexts=self._features(),
            segments=(),
            objectives={
                "original_reward": 0.0 - _numbers([event.original for event in events])
            },
            vocabulary=self._names.vocabulary,
            policies=self._names.policies,
            ids=[event.id for event in events],
            counts=self._counts(wrong),
        )
        return _sorted_out(part, ranks, wrong), wrong

    def _propensities(self) -> FloatArray:
        known = [event.propensity for event in self._events]
        if None in known:
            known = [
                event.propensity_too if propensity is None else propensity
                for propensity, event in zip(known, self._events, strict=True)
            ]
        return _numbers(known)

    def _chosen(self) -> NDArray[np.int32]:
        """Return which action was chosen, from 0; -1 where only the ranks say so."""
        known = [event.index for event in self._events]
        if None in known:
            known = [_index(event) for event in self._events]
        return np.array(known, np.int32)

    def _rewards(self) -> FloatArray:
        costs = [event.cost for event in self._events]
        if None in costs:
            costs = [
                event.cost_too if cost is None else cost
                for cost, event in zip(costs, self._events, strict=True)
            ]
        rewards: FloatArray = 0.0 - _numbers(costs)
        rewards[[event.skip for event in self._events]] = _UNKNOWN
        return rewards

    def _complete(self, wrong: dict[int, str]) -> None:
        """Give every row as many ranks and probabilities as it has actions."""
        sizes = list(map(len, self._codes))
        ranked = [len(event.a) for event in self._events]
        shared = [len(event.p) for event in self._events]
        if sizes == ranked == shared:
            return
        for row, (event, n) in enumerate(zip(self._events, sizes, strict=True)):
            if ranked[row] == shared[row] == n:
                continue
            if not event.a and _index(event) < 0:
                self.unlabelled.append(row)
            try:
                event.a, event.p = _completed(event.a, event.p, n)
            except _RowError as error:
                wrong[row] = str(error)
                event.a, event.p = list(range(1, n + 1)), [_UNKNOWN] * n

    def _times_ms(self, wrong: dict[int, str]) -> NDArray[np.int64]:
        texts = [event.time for event in self._events]
        try:
            return all_ms_of(texts)
        except (ValueError, OverflowError):
            pass
        known: dict[str, int] = {"": 0}
        for text in set(texts) - known.keys():
            try:
                known[text] = ms_of(text)
            except (ValueError, OverflowError) as error:
                known[text] = 0
                rows = [row for row, other in enumerate(texts) if other == text]
                wrong.update(dict.fromkeys(rows, f"Timestamp: {error}"))
        return np.array([known[text] for text in texts], np.int64)

    def _keys(self) -> NDArray[np.uint64]:
        keys = hashes_of_texts(self._owners)
        nobody = np.array([not owner for owner in self._owners], np.bool_)
        if nobody.any():
            positions = np.array(self._positions, np.int64)
            keys[nobody] = hashes_of(positions[nobody])
        return keys

    def _features(self) -> Contexts:
        coded = self._coded
        ends = np.cumsum([0, *[len(codes) for codes, _ in coded]])
        offsets = ends[np.cumsum([0, *self._spaces])]
        values = chain.from_iterable([values for _, values in coded])
        return Contexts(
            self._names.features,
            offsets,
            np.concatenate([_NO_CODES, *[codes for codes, _ in coded]]),
            np.fromiter(values, np.float64, int(offsets[-1])),
        )

    def _loggers(self) -> NDArray[np.int32]:
        policy = self._names.policy
        states = [event.state for event in self._events]
        if not any(states):
            return np.full(len(states), policy(""), np.int32)
        named = [state.m if state is not None else "" for state in states]
        return np.array([policy(name) for name in named], np.int32)

    def _counts(self, wrong: dict[int, str]) -> FloatArray:
        dropped = _floats([event.pdrop for event in self._events])
        for row in np.flatnonzero(~((dropped >= 0.0) & (dropped < 1.0))):
            wrong[int(row)] = f"pdrop: must be in [0, 1), not {dropped[row]:g}"
            dropped[row] = 0.0
        counts: FloatArray = 1.0 / (1.0 - dropped)
        return counts


def _index(event: _Event) -> int:
    """Return which action was chosen, from 0; -1 where only the ranks say so."""
    if event.index is not None:
        return event.index
    return -1 if event.action is None else event.action - 1


def _floats(values: list[float]) -> FloatArray:
    return np.array(values, np.float64)


def _numbers(values: list[float | None]) -> FloatArray:
    """Return numbers; what is none is not a number."""
    return np.array(values, np.float64)


def _sorted_out(
    part: Feedback, ranks: NDArray[np.int64], wrong: dict[int, str]
) -> Feedback:
    """Give each action its probability, and each row its chosen action."""
    sizes = np.diff(part.offsets)
    for row in np.flatnonzero(sizes == 0):
        wrong[int(row)] = "c._multi: is empty: there are no actions"
    if not len(ranks):
        return part
    begins = part.offsets[:-1]
    rows = np.repeat(np.arange(len(part)), sizes)
    firsts = np.ones(len(part), np.int64)
    if ranks.min() < 1:
        np.minimum.at(firsts, rows, ranks)
    at = ranks - firsts[rows]
    outside = (at < 0) | (at >= sizes[rows])
    if outside.any():
        for row in np.unique(rows[outside]):
            wrong[int(row)] = f"a: must number the {sizes[row]} actions of c._multi"
        at[outside] = 0
    flat = begins[rows] + at
    often = np.bincount(flat, minlength=len(rows)) != 1
    for row in np.unique(rows[often]) if often.any() else ():
        wrong.setdefault(int(row), "a: names an action more than once")
    probabilities = np.empty(len(rows))
    probabilities[flat] = part.probabilities
    index = part.chosen.astype(np.int64)
    unsaid = (index == -1) & (sizes > 0)
    index[unsaid] = at[begins[unsaid]]
    for row in np.flatnonzero((index < 0) | (index >= sizes)):
        wrong.setdefault(
            int(row),
            f"_label_Action: must be one of {sizes[row]} actions, not {index[row] + 1}",
        )
    places = np.minimum(begins + index.clip(0), len(rows) - 1)
    propensities = part.propensities
    unsaid = np.isnan(propensities)
    propensities[unsaid] = probabilities[places[unsaid]]
    unsaid = np.isnan(probabilities[places])
    probabilities[places[unsaid]] = propensities[unsaid]
    for row in np.flatnonzero(np.isnan(propensities)):
        wrong.setdefault(int(row), "_label_probability: is missing, and so is p")
    return msgspec.structs.replace(
        part, chosen=part.actions[places], probabilities=probabilities
    )


def _no_actions(event: _Event) -> str:
    if event.continuous is not None:
        return "_label_ca: continuous actions are not read"
    if event.c is None:
        return "c: is missing, and so is _multi: there are no actions"
    return "c._multi: is missing: there are no actions"


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


def features_of(
    pairs: Sequence[tuple[str, Any]], literal: set[str] | None = None
) -> Features:
    """Return what a JSON object says as features.

    A string is a category, a flag counts where it is set, an object within is a
    namespace, and what begins with `_` is no feature.

    Args:
        pairs: The object.
        literal: Takes up the names that only look like categories.

    Examples:
        >>> features_of([("age", 3), ("User", pairs_of(b'{"plan": "free", "_id": 1}'))])
        (('age', 3.0), ('User^plan=free', 1.0))
    """
    found: list[tuple[str, float]] = []
    seen: set[str] = set() if literal is None else literal
    for name, value in pairs:
        _walk(name, value, "", found, seen)
    return tuple(found)


def _walk(
    name: str,
    value: Any,
    prefix: str,
    found: list[tuple[str, float]],
    literal: set[str],
) -> None:
    if name == "_text" and isinstance(value, str):
        words = [prefix + word for word in value.split()]
        literal.update(word for word in words if "=" in word)
        found += [(word, 1.0) for word in words]
        return
    if name.startswith("_"):
        return
    if "=" in name and isinstance(value, int | float):
        literal.add(prefix + name)
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
                _walk(key, part, inner, found, literal)
        case list():
            for at, part in enumerate(value):
                if isinstance(part, _Pairs):
                    _walk(name, part, prefix, found, literal)
                else:
                    _walk(str(at), part, f"{name}^", found, literal)
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
