"""Ridge regressions, one for each name, that are kept up to date row by row."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.model import Action, FloatArray

__all__ = ["FadingRidges", "RidgeState", "Ridges", "products"]

_UNKNOWN = 0
_SINGLE_MAX = 9_000
"""Up to how many numbers OpenBLAS multiplies a matrix with a vector on one thread.

More than one are to be avoided: on a busy machine they wait for each other, for
milliseconds, and the last bits of what they find depend on how many they are.
"""
_BLOCK = 4_096

_NOBODY: tuple[tuple[Action, ...], NDArray[np.intp]] = ((), np.zeros(0, dtype=np.intp))

_name_of = attrgetter("name")
_like_of = attrgetter("like")


class RidgeState(msgspec.Struct, array_like=True):
    """What is saved: the names, in the order first learned, and their rows."""

    names: list[str]
    vectors: bytes
    matrices: bytes


class _Rows(dict[str, int]):
    """The row of each name; that of the prior for one never learned."""

    def __missing__(self, name: str) -> int:
        return _UNKNOWN


class Ridges:
    """A ridge regression for each name, all of them on vectors of one length.

    A regression is A = ridge·I + Σ x·xᵀ and b = Σ r·x over the rows it has learned.
    What is kept is A⁻¹ and θ = A⁻¹b, brought up to date by the Sherman-Morrison
    identity: O(d²) and no inversion. A name never learned is at the prior.

    A⁻¹ is symmetric, and kept as the rows of its upper triangle in one line. xᵀA⁻¹x
    is then the inner product of that line with the products of pairs from x: one
    matrix-vector product for all names, on half the memory. θ stands behind it in the
    same line, as if it were one more column, so that a row learned moves both at once;
    and once more by itself.

    Args:
        dim: The length of the vectors, d, at least 1.
        ridge: The strength of the prior that all weights are 0, above 0.
    """

    def __init__(self, dim: int, ridge: float) -> None:
        self.dim = dim
        self._places = _places_of(dim)
        # Row 0 is the prior: that of every name not learned from.
        self._row_of = _Rows()
        self._lines = (np.eye(dim) / ridge).take(self._places.upper)[np.newaxis]
        self._lines[:, -dim:] = 0.0
        self._theta: FloatArray = np.zeros((1, dim))
        self._latest: tuple[tuple[Action, ...], NDArray[np.intp]] = _NOBODY
        self._look()

    def _look(self) -> None:
        """Look at all of A⁻¹, and at what is known."""
        known = len(self._row_of) + 1
        self._A_inv: FloatArray = self._lines[:, : -self.dim]
        self._known = self._theta[:known], self._lines[:known]

    def load(self, state: RidgeState) -> None:
        """Go on from a saved state."""
        self._row_of = _Rows({name: row for row, name in enumerate(state.names, 1)})
        known = len(self._row_of) + 1
        prior, self._lines = self._lines[:1], np.empty((known, self._lines.shape[1]))
        vectors = np.frombuffer(state.vectors, "<f8").reshape(-1, self.dim)
        self._theta = np.concatenate([self._theta[:1], vectors]).astype(np.float64)
        self._lines[:1] = prior
        self._lines[:, -self.dim :] = self._theta
        self._look()
        matrices = np.frombuffer(state.matrices, "<f8")
        self._A_inv[1:] = matrices.reshape(-1, self._A_inv.shape[1])

    def save(self) -> RidgeState:
        """Return all that was learned: the same for the same learning."""
        rows = slice(1, len(self._row_of) + 1)
        return RidgeState(
            names=list(self._row_of),
            vectors=self._theta[rows].astype("<f8").tobytes(),
            matrices=self._A_inv[rows].astype("<f8").tobytes(),
        )

    def moments(
        self, actions: Sequence[Action], x: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return what the regressions of the actions' names expect at x.

        Args:
            actions: At least one.
            x: Shape (dim,).

        Returns:
            What is expected, shape (n_actions,), and its variance where the noise has
            variance 1, 0 or more, shape (n_actions,). Both are the caller's.
        """
        mean, variance, rows = self._found(actions, x)
        if rows is None:
            return mean, variance
        return mean.take(rows), variance.take(rows)

    def bounds(
        self, actions: Sequence[Action], x: FloatArray, width: FloatArray
    ) -> FloatArray:
        """Return what is expected and `width` of its standard deviations more.

        Args:
            actions: At least one.
            x: Shape (dim,).
            width: One number, shape ().

        Returns:
            Shape (n_actions,), the caller's.
        """
        mean, variance, rows = self._found(actions, x)
        bounds: FloatArray = np.sqrt(variance, variance)
        bounds *= width
        bounds += mean
        return bounds if rows is None else bounds.take(rows)

    def _found(
        self, actions: Sequence[Action], x: FloatArray
    ) -> tuple[FloatArray, FloatArray, NDArray[np.intp] | None]:
        """Return means and variances, and which of them are the actions'.

        None where there are no others.
        """
        places = self._places
        pairs = x.take(places.left)
        # What is beyond x counts 0 times.
        pairs *= x.take(places.right, mode="clip")
        pairs *= places.often
        rows: NDArray[np.intp] | None = self._rows(actions)
        theta, lines = self._known
        if lines.size <= _SINGLE_MAX:
            mean, variance = theta.dot(x), lines.dot(pairs)
        elif len(lines) <= 2 * len(actions):
            # To compute them all costs less than to copy those that are asked for.
            mean, variance = products(theta, x), products(lines, pairs)
        else:
            mean = products(theta[rows], x)
            variance = products(lines[rows], pairs)
            rows = None
        # Rounding may leave a tiny negative; never a NaN.
        return mean, np.absolute(variance, variance), rows

    def row_of(self, name: str) -> int:
        """Return the row of a name's regression; that of the prior without one."""
        return self._row_of[name]

    def rows_of(self, actions: Sequence[Action]) -> NDArray[np.intp]:
        """Return the row of each action's regression; not to be changed."""
        return self._rows(actions)

    def pairs_of(self, X: FloatArray, room: FloatArray | None = None) -> FloatArray:
        """Return the products of pairs of each vector, for `many_moments`.

        Args:
            X: Shape (n, dim).
            room: What was returned of as many before, to be written over.
        """
        often = self._places.often[: -self.dim]
        pairs = np.empty((len(X), often.size)) if room is None else room
        begin = 0
        # A row of the triangle at a time: several times as fast as to take pairs.
        for at in range(self.dim):
            end = begin + self.dim - at
            np.multiply(X[:, at:], X[:, at : at + 1], out=pairs[:, begin:end])
            begin = end
        pairs *= often
        return pairs

    def many_moments(
        self, rows: int | NDArray[np.intp], X: FloatArray, pairs: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return what regressions expect at many vectors.

        Args:
            rows: Which one, or which ones, shape (n_rows,).
            X: The vectors, shape (n, dim).
            pairs: Their products of pairs.

        Returns:
            What is expected, shape (n,) of one and (n_rows, n) of several, and its
            variance, as of `moments`. Both are the caller's.
        """
        theta, A_inv = self._theta[rows], self._A_inv[rows]
        if theta.ndim > 1:
            theta, A_inv = theta[:, np.newaxis], A_inv[:, np.newaxis]
        mean, variance = products(X, theta), products(pairs, A_inv)
        # Rounding may leave a tiny negative; never a NaN.
        return mean, np.absolute(variance, variance)

    def at(self, name: str) -> tuple[FloatArray, FloatArray]:
        """Return a name's θ, shape (dim,), and A⁻¹, shape (dim, dim)."""
        row = self._row_of[name]
        return self._theta[row], self._A_inv[row].take(self._places.square[:-1])

    def known_as(self, action: Action) -> str:
        """Return the name under which what is known of an action was learned.

        It is its own, or that of the first action like it that anything was learned of.
        """
        if action.name not in self._row_of:
            for name in action.like:
                if name in self._row_of:
                    return name
        return action.name

    def adopt(self, action: Action) -> str:
        """Let an action that nothing was learned of begin with what it is like.

        The weights are those of the other, and how unsure they are is part of the way
        back to the prior: A⁻¹ + doubt · (I/ridge − A⁻¹).

        Returns:
            The name of the other; empty where there is nothing to begin with.
        """
        name = self.known_as(action)
        if name == action.name:
            return ""
        row = self._new_row(action.name)
        self._copy(self._row_of[name], row, action.doubt)
        return name

    def _copy(self, source: int, row: int, doubt: float) -> None:
        known, prior = self._A_inv[source], self._A_inv[_UNKNOWN]
        self._A_inv[row] = known + doubt * (prior - known)
        self._theta[row] = self._lines[row, -self.dim :] = self._theta[source]

    def learn(self, name: str, x: FloatArray, reward: float) -> tuple[float, float]:
        """Learn that a name earned a reward at x.

        Returns:
            How far the reward was from what was expected, and 1 + xᵀA⁻¹x: the
            variance of that distance where the noise has variance 1.
        """
        row = self._row_of[name] or self._new_row(name)
        line = self._lines[row]
        moved = self._times(line, x)
        expected = float(moved[-1])
        # At least 1 but for rounding, because A⁻¹ is positive definite.
        scale = max(1.0 + float(x.dot(moved[:-1])), 1.0)
        error = reward - expected
        moved[-1] = -error
        change = moved.take(self._places.left)
        moved /= scale
        change *= moved.take(self._places.right)
        line -= change
        self._theta[row] = line[-self.dim :]
        return error, scale

    def correct(self, name: str, x: FloatArray, by: float) -> None:
        """Learn that a reward that was learned at x is larger `by` that much.

        It ends in what would have been, had the right one been learned at once, but
        for rounding: A does not depend on rewards, and b is a sum over them.
        """
        row = self._row_of[name] or self._new_row(name)
        self._move(row, self._times(self._lines[row], x)[:-1] * by)

    def _move(self, row: int, by: FloatArray) -> None:
        """Move a row's θ."""
        self._theta[row] += by
        self._lines[row, -self.dim :] = self._theta[row]

    def replace(self, old: str, action: Action) -> None:
        """Forget a name, and let an action that nothing was learned of have its place.

        It begins with what it is like, as in `adopt`, or at the prior.
        """
        row = self._row_of[old]
        self._copy(self._row_of[self.known_as(action)], row, action.doubt)
        new = action.name
        names = [new if name == old else name for name in self._row_of]
        self._row_of = _Rows({name: at for at, name in enumerate(names, 1)})
        self._latest = _NOBODY

    def _pairs(self, x: FloatArray) -> FloatArray:
        """Return the upper triangle of x·xᵀ in one line."""
        return _outer(x, x).take(self._places.upper[: -self.dim])

    def _times(self, line: FloatArray, x: FloatArray) -> FloatArray:
        """Return A⁻¹x, and after it θᵀx, shape (dim + 1,)."""
        square = line.take(self._places.square)
        return square.dot(x) if square.size <= _SINGLE_MAX else products(square, x)

    def _rows(self, actions: Sequence[Action]) -> NDArray[np.intp]:
        """Return the row of each action's name; those of the latest are kept.

        One and the same action is equal without a look at what it is made of.
        """
        asked = tuple(actions)
        latest, rows = self._latest
        if asked != latest:
            found = map(self._row_of.__getitem__, map(_name_of, asked))
            rows = np.fromiter(found, np.intp, len(asked))
            if any(map(_like_of, asked)):
                self._stand_in(asked, rows)
            self._latest = asked, rows
        return rows

    def _stand_in(self, asked: Sequence[Action], rows: NDArray[np.intp]) -> None:
        """Let actions stand in for those like them that nothing was learned of."""
        for at, action in enumerate(asked):
            if action.like:
                rows[at] = self._row_of[self.known_as(action)]

    def _new_row(self, name: str) -> int:
        """Give a name a regression of its own, starting from the prior."""
        row = len(self._row_of) + 1
        if row == len(self._lines):
            # Doubling, so that n names cost O(n), not O(n²), in copies.
            self._lines = np.concatenate([self._lines, np.empty_like(self._lines)])
            self._theta = np.concatenate([self._theta, np.zeros_like(self._theta)])
        self._lines[row] = self._lines[_UNKNOWN]
        self._row_of[name] = row
        self._latest = _NOBODY
        self._look()
        return row


class FadingRidges(Ridges):
    """Ridge regressions that forget, slowly.

    Each row that a name learns lets the rows before it count `forgetting` times as
    much: A = ridge·I + Σ fᵏ·x·xᵀ and b = Σ fᵏ·r·x, k rows ago. The prior does not
    fade, so that where nothing was learned of late the regression is back at it.

    What is kept is A without the prior, and b; A is inverted when it is asked for.
    """

    def __init__(self, dim: int, ridge: float, forgetting: float) -> None:
        super().__init__(dim, ridge)
        self._ridge = ridge
        self._forgetting = forgetting
        self._sums: FloatArray = np.zeros_like(self._A_inv)
        self._b: FloatArray = np.zeros_like(self._theta)
        self._stale: set[int] = set()

    def load(self, state: RidgeState) -> None:
        """Go on from a saved state."""
        super().load(state)
        self._b, self._sums = self._theta.copy(), self._A_inv.copy()
        self._stale.update(range(1, len(self._row_of) + 1))
        self._refresh()

    def save(self) -> RidgeState:
        """Return all that was learned: the same for the same learning."""
        rows = slice(1, len(self._row_of) + 1)
        return RidgeState(
            names=list(self._row_of),
            vectors=self._b[rows].astype("<f8").tobytes(),
            matrices=self._sums[rows].astype("<f8").tobytes(),
        )

    def moments(
        self, actions: Sequence[Action], x: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """See `Ridges.moments`."""
        self._refresh()
        return super().moments(actions, x)

    def at(self, name: str) -> tuple[FloatArray, FloatArray]:
        """See `Ridges.at`."""
        self._refresh()
        return super().at(name)

    def learn(self, name: str, x: FloatArray, reward: float) -> tuple[float, float]:
        """See `Ridges.learn`."""
        self._refresh()
        row = self._row_of[name] or self._new_row(name)
        moved = self._times(self._lines[row], x)
        scale = max(1.0 + float(x.dot(moved[:-1])), 1.0)
        error = reward - float(moved[-1])
        self._sums[row] *= self._forgetting
        self._sums[row] += self._pairs(x)
        self._b[row] *= self._forgetting
        self._b[row] += x * reward
        self._stale.add(row)
        return error, scale

    def correct(self, name: str, x: FloatArray, by: float) -> None:
        """Learn that a reward that was learned at x is larger `by` that much.

        When that was is not known: the correction counts in full, as the latest
        reward does.
        """
        row = self._row_of[name] or self._new_row(name)
        self._b[row] += x * by
        self._stale.add(row)

    def _copy(self, source: int, row: int, doubt: float) -> None:
        self._refresh()
        super()._copy(source, row, doubt)
        A = np.linalg.inv(self._A_inv[row].take(self._places.square[:-1]))
        self._b[row] = products(A, self._theta[row])
        A[np.diag_indices(self.dim)] -= self._ridge
        self._sums[row] = A.take(self._places.upper[: -self.dim])
        self._stale.add(row)

    def _new_row(self, name: str) -> int:
        row = super()._new_row(name)
        more = len(self._theta) - len(self._b)
        if more:
            self._b = np.concatenate([self._b, np.zeros_like(self._theta[:more])])
            sums = np.zeros_like(self._A_inv[:more])
            self._sums = np.concatenate([self._sums, sums])
        return row

    def _refresh(self) -> None:
        """Bring A⁻¹ and θ up to date."""
        for row in sorted(self._stale):
            A = self._sums[row].take(self._places.square[:-1])
            # Rounding must not make it singular.
            A[np.diag_indices(self.dim)] += self._ridge + 1e-12 * A.trace()
            inverse = np.linalg.inv(A)
            self._lines[row] = ((inverse + inverse.T) / 2.0).take(self._places.upper)
            theta = self._times(self._lines[row], self._b[row])[:-1]
            self._theta[row] = self._lines[row, -self.dim :] = theta
        self._stale.clear()


def products(
    rows: NDArray[np.floating[Any]], x: NDArray[np.floating[Any]]
) -> FloatArray:
    """Return the inner product of each row and x, each found by itself.

    It does not depend on which other rows there are, and takes one thread.

    Args:
        rows: Shape (..., dim).
        x: Shape (dim,), or of several (..., 1, dim).
    """
    found: FloatArray
    dim = x.shape[-1]
    if dim <= _SINGLE_MAX:
        found = np.vecdot(rows, x)
        return found
    whole = dim - dim % _BLOCK
    blocks = rows[..., :whole].reshape(*rows.shape[:-1], -1, _BLOCK)
    sums = np.vecdot(blocks, x[..., :whole].reshape(*x.shape[:-1], -1, _BLOCK))
    found = sums.sum(axis=-1) + np.vecdot(rows[..., whole:], x[..., whole:])
    return found


class _Places(NamedTuple):
    """How an upper triangle of `dim` rows, and θ behind it, are laid out in a line.

    Attributes:
        upper: Where each number of the triangle is in the square; anywhere for θ.
        often: How often it is there: never for θ.
        square: Where each number of the square is in the line and, in one row more,
            each of θ, shape (dim + 1, dim).
        left: The row of each number of the line in the square.
        right: Its column; `dim` for θ.
    """

    upper: NDArray[np.intp]
    often: FloatArray
    square: NDArray[np.intp]
    left: NDArray[np.intp]
    right: NDArray[np.intp]


@functools.cache
def _places_of(dim: int) -> _Places:
    """Return how lines are laid out."""
    left, right = np.triu_indices(dim)
    square = np.zeros((dim + 1, dim), dtype=np.intp)
    square[left, right] = square[right, left] = np.arange(left.size)
    square[dim] = np.arange(left.size, left.size + dim)
    nowhere = np.zeros(dim, np.intp)
    return _Places(
        np.concatenate([left * dim + right, nowhere]),
        np.concatenate([np.where(left == right, 1.0, 2.0), nowhere]),
        square,
        np.concatenate([left, np.arange(dim)]),
        np.concatenate([right, np.full(dim, dim)]),
    )


def _outer(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return x·yᵀ, in half the time that `np.outer` takes where they are short."""
    outer: FloatArray = x[:, np.newaxis].dot(y[np.newaxis])
    return outer
