"""Bandit feedback as the arrays of Open Bandit Pipeline: a dictionary, or an `.npz`.

`action`, `reward` and `pscore` must be there; `context`, `action_context`, `position`
and `pi_b` (the whole distribution, shape (n_rounds, n_actions, len_list)) may be.
What we write has also the names of actions and features, which that library ignores.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.model import Features, FloatArray
from simulator.feedback import Contexts, Feedback
from simulator.logs.base import ROWS_MAX, LeftOut, LogError
from simulator.logs.building import Reading, hashes_of
from simulator.logs.naming import action_called, called

__all__ = ["ObpReader", "arrays_of"]

_DAMAGES = (
    *(OSError, ValueError, LookupError, EOFError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)
"""What a file that is no whole archive is told by."""

_CELLS_MAX = 200_000_000
"""How many numbers an array may have that is written: 1.6 GB."""


class ObpReader(Reading):
    """Reads bandit feedback.

    Args:
        path: The `.npz`, or what to call the dictionary.
        feedback: The dictionary, where there is no file.
        skip_bad: Whether rows that cannot be are left out and counted.

    Attributes are those of `Source`.
    """

    format = "obp"

    def __init__(
        self,
        path: Path,
        feedback: Mapping[str, Any] | None = None,
        *,
        skip_bad: bool = False,
    ) -> None:
        super().__init__(path, skip_bad=skip_bad)
        arrays = _loaded(path) if feedback is None else feedback
        self._arrays = {
            name: np.asarray(value)
            for name, value in arrays.items()
            if value is not None
        }
        for name in ("action", "reward", "pscore"):
            if name not in self._arrays:
                raise LogError(path, f"there is no array {name}")
        n = self.rows = len(self._arrays["reward"])
        self._check("action", (n,))
        self._check("reward", (n,))
        self._check("pscore", (n,))
        action = self._arrays["action"]
        n_actions = int(self._arrays.get("n_actions", action.max(initial=-1) + 1))
        self._placements = self._placed()
        self._check("context", (n, None))
        self._check("action_context", (n_actions, None))
        self._check("pi_b", (n, n_actions, None))
        self._codes = self._numbered(n_actions)
        self._n_actions = n_actions

    def parts(
        self, rows_max: int = ROWS_MAX, columns: Collection[str] | None = None
    ) -> Iterator[Feedback]:
        """Yield the decisions; see `Source`."""
        del columns
        self.left_out = LeftOut()
        for begin in range(0, len(self._arrays["reward"]), rows_max):
            part = self._part(slice(begin, begin + rows_max))
            if len(part):
                yield part

    def _part(self, rows: slice) -> Feedback:
        arrays = self._arrays
        rewards = arrays["reward"][rows].astype(np.float64)
        n, k = len(rewards), self._n_actions
        action = arrays["action"][rows].astype(np.int64)
        position = self._placements[rows]
        wrong = (action < 0) | (action >= k)
        for row in np.flatnonzero(wrong):
            problem = f"action: must be one of {k}, not {action[row]}"
            self._bad(f"row {rows.start + row + 1}: {problem}")
        positions = np.arange(rows.start + 1, rows.start + n + 1)
        action = action.clip(0, max(k - 1, 0))
        chosen = self._codes[position, action]
        propensities = arrays["pscore"][rows].astype(np.float64)
        probabilities = np.full((n, k), np.nan)
        if "pi_b" in arrays:
            probabilities = arrays["pi_b"][rows][np.arange(n), :, position]
        else:
            probabilities[np.arange(n), action] = propensities
        eligible, shares = self._codes[position], probabilities
        kept = np.isnan(shares) | (shares > 0.0)
        kept[np.arange(n), action] = True
        part = Feedback(
            positions=positions,
            times_ms=np.zeros(n, np.int64),
            keys=hashes_of(positions),
            loggers=np.full(n, self._names.policy(""), np.int32),
            rewards=rewards,
            propensities=propensities,
            chosen=chosen.astype(np.int32),
            floors=np.zeros(n),
            offsets=np.concatenate([[0], np.cumsum(kept.sum(axis=1))]),
            actions=eligible[kept].astype(np.int32),
            probabilities=shares[kept].astype(np.float64),
            contexts=self._contexts(rows, n),
            segments=(),
            objectives={},
            vocabulary=self._names.vocabulary,
            policies=self._names.policies,
        )
        return part.take(~wrong) if wrong.any() else part

    def _contexts(self, rows: slice, n: int) -> Contexts:
        values = self._arrays.get("context", np.empty((len(self._placements), 0)))[rows]
        dim = values.shape[1]
        names = _names(self._arrays, "context_names", "x", dim)
        codes = np.array([self._names.feature(name) for name in names], np.int32)
        return Contexts(
            self._names.features,
            np.arange(0, n * dim + 1, dim) if dim else np.zeros(n + 1, np.int64),
            np.tile(codes, n),
            values.astype(np.float64).ravel(),
        )

    def _check(self, name: str, shape: tuple[int | None, ...]) -> None:
        array = self._arrays.get(name)
        if array is None:
            return
        fits = array.ndim == len(shape) and all(
            wanted in (None, got)
            for wanted, got in zip(shape, array.shape, strict=True)
        )
        if not fits or array.dtype.kind not in "fiub":
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise LogError(
                self.path,
                f"{name}: must be numbers of shape ({wanted}), not {array.dtype} of"
                f" {array.shape}",
            )

    def _placed(self) -> NDArray[np.intp]:
        """Return the position of each row."""
        position = self._arrays.get("position")
        n = len(self._arrays["reward"])
        if position is None:
            return np.zeros(n, np.intp)
        self._check("position", (n,))
        if n and position.min() < 0:
            raise LogError(self.path, "position: must be 0 or more")
        return position.astype(np.intp)

    def _numbered(self, n_actions: int) -> NDArray[np.int64]:
        """Return the place of each action in each position."""
        about = self._arrays.get("action_context", np.empty((n_actions, 0)))
        features = _names(self._arrays, "action_context_names", "a", about.shape[1])
        names = _names(self._arrays, "action_names", "", n_actions)
        placed = int(self._placements.max(initial=0)) + 1
        default = "" if "position" not in self._arrays else "position "
        places = [f"{default}{place}" if default else "" for place in range(placed)]
        places = _names(self._arrays, "position_names", "", placed, places)
        ours = "action_names" in self._arrays

        def action(name: str, place: str, features: Features) -> int:
            if ours and not default:
                return self._names.action(action_called(name, features))
            return self._names.offer(name, place, features)

        return np.array(
            [
                [
                    action(name, place, _row(features, about[at]))
                    for at, name in enumerate(names)
                ]
                for place in places
            ],
            np.int64,
        ).reshape(placed, n_actions)


def arrays_of(part: Feedback, path: Path) -> dict[str, NDArray[Any]]:
    """Return a whole log as bandit feedback.

    Raises:
        LogError: If it is too large for arrays, or not every action is known.
    """
    n = len(part)
    placed = _is_placed(part)
    called_so = [
        action.offer_id or action.name if placed else called(action)
        for action in part.vocabulary
    ]
    placements = [a.placement_id if placed else "" for a in part.vocabulary]
    names = list(dict.fromkeys(called_so))
    places = list(dict.fromkeys(placements))
    contexts = _matrix(part.contexts, path)
    if n * len(names) * len(places) > _CELLS_MAX:
        raise LogError(
            path,
            f"{n:,} decisions among {len(names):,} actions are too many for arrays;"
            " write Parquet",
        )
    of_name = {name: at for at, name in enumerate(names)}
    of_place = {name: at for at, name in enumerate(places)}
    action = np.array([of_name[name] for name in called_so], np.int64)
    place = np.array([of_place[name] for name in placements], np.int64)
    about = _matrix([a.features for a in part.vocabulary], path)
    first = [int(np.flatnonzero(action == at)[0]) for at in range(len(names))]
    shares = np.zeros((n, len(names), len(places)))
    rows = np.repeat(np.arange(n), np.diff(part.offsets))
    shares[rows, action[part.actions], place[part.actions]] = part.probabilities
    arrays = {
        "n_rounds": np.array(n),
        "n_actions": np.array(len(names)),
        "action": action[part.chosen],
        "reward": part.rewards,
        "pscore": part.propensities,
        "context": contexts[1],
        "action_context": about[1][first],
        "action_names": np.array(names),
        "context_names": np.array(contexts[0]),
        "action_context_names": np.array(about[0]),
    }
    if len(places) > 1:
        arrays["position"] = place[part.chosen]
        arrays["position_names"] = np.array(places)
    if len(part.offsets) and not np.isnan(part.probabilities).any():
        arrays["pi_b"] = shares
    return arrays


def _is_placed(part: Feedback) -> bool:
    """Say whether each decision is for one placement, which arrays call its position.

    Where it is not, or where a creative or no offer could be chosen, each action is
    one of the arrays by all of its name.
    """
    if any(a.creative_id or not a.index for a in part.vocabulary):
        return False
    names = dict.fromkeys(action.placement_id for action in part.vocabulary)
    if len(names) < 2:
        return False
    codes = {name: at for at, name in enumerate(names)}
    places = np.array([codes[a.placement_id] for a in part.vocabulary], np.int64)
    rows = np.repeat(np.arange(len(part)), np.diff(part.offsets))
    return bool((places[part.actions] == places[part.chosen][rows]).all())


def _matrix(contexts: Collection[Features], path: Path) -> tuple[list[str], FloatArray]:
    """Return names of features, and a row of values for each."""
    places: dict[str, int] = {}
    for features in contexts:
        for name, _ in features:
            places.setdefault(name, len(places))
    if len(contexts) * len(places) > _CELLS_MAX:
        raise LogError(
            path,
            f"{len(places):,} features of {len(contexts):,} rows are too many for"
            " arrays; write Parquet",
        )
    matrix = np.zeros((len(contexts), len(places)))
    for row, features in enumerate(contexts):
        for name, value in features:
            matrix[row, places[name]] += value
    return list(places), matrix


def _row(names: list[str], values: FloatArray) -> Features:
    return tuple(
        (name, float(value)) for name, value in zip(names, values, strict=True) if value
    )


def _names(
    arrays: Mapping[str, NDArray[Any]],
    key: str,
    prefix: str,
    n: int,
    otherwise: list[str] | None = None,
) -> list[str]:
    given = arrays.get(key)
    if given is not None and given.shape == (n,):
        return [str(name) for name in given]
    return otherwise or [f"{prefix}{at}" for at in range(n)]


def _loaded(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except _DAMAGES as error:
        problem = str(error)
        if "pickle" in problem:
            problem = "it holds pickled objects, which are not read; save plain arrays"
        raise LogError(path, f"is no .npz that can be read: {problem}") from None
