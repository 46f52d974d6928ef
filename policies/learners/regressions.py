"""Ridge regressions with all covariances: one of the models of `blend`."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from policies.learners.waves import PLACES
from policies.model import FloatArray

__all__ = ["Regressions", "RegressionsState"]

_PRIOR = 0

FloatArray32 = NDArray[np.float32]


class RegressionsState(msgspec.Struct, array_like=True):
    """What is saved; arrays as bytes, least significant first."""

    theta: bytes
    covariance: bytes


class Regressions:
    """A ridge regression for each row, on up to 64 numbers.

    Variances are in units of the noise's; before anything is learned, each weight has
    one of 1. Row 0 is never learned: it is what is believed of anything new.

    Examples:
        >>> lines = Regressions()
        >>> lines.grow(2)
        >>> x = np.array([1.0, 2.0], np.float32)
        >>> for _ in range(3):
        ...     step = lines.step(1, x)
        ...     lines.move(1, step, (0.5 - step.mean) / (1.0 + step.spread))
        ...     lines.shrink(1, step)
        >>> mean, variance = lines.believe(np.array([0, 1]), x)
        >>> mean.round(3).tolist(), variance.round(4).tolist()
        ([0.0, 0.469], [5.0, 0.3125])
    """

    def __init__(self) -> None:
        self._theta: FloatArray = np.zeros((1, PLACES))
        self._covariance: FloatArray32 = np.eye(PLACES, dtype=np.float32)[np.newaxis]

    def load(self, state: RegressionsState, count: int, width: int) -> None:
        """Go on from a saved state of so many rows beside the first."""
        rows = slice(1, count + 1)
        theta = np.frombuffer(state.theta, "<f8")
        self._theta[rows, :width] = theta.reshape(count, width)
        covariance = np.frombuffer(state.covariance, "<f4")
        covariance = covariance.reshape(count, width, width)
        self._covariance[rows, :width, :width] = covariance

    def save(self, count: int, width: int) -> RegressionsState:
        """Return what so many rows beside the first have learned of so many numbers."""
        rows = slice(1, count + 1)
        return RegressionsState(
            self._theta[rows, :width].astype("<f8").tobytes(),
            self._covariance[rows, :width, :width].astype("<f4").tobytes(),
        )

    def grow(self, size: int) -> None:
        """Make room for so many rows in all; those beyond are lost."""
        theta, covariance = self._theta[:size], self._covariance[:size]
        self._theta = np.zeros((size, PLACES))
        self._theta[: len(theta)] = theta
        self._covariance = np.empty((size, PLACES, PLACES), np.float32)
        self._covariance[: len(theta)] = covariance
        self._covariance[len(theta) :] = covariance[_PRIOR]

    def clear(self, row: int) -> None:
        """Forget what a row has learned."""
        self._theta[row] = 0.0
        self._covariance[row] = self._covariance[_PRIOR]

    def learned(self, row: int) -> tuple[FloatArray, FloatArray32]:
        """Return what a row has learned, as `begin` takes it."""
        return self._theta[row].copy(), self._covariance[row].copy()

    def begin(
        self, row: int, learned: tuple[FloatArray, FloatArray32], doubt: float
    ) -> None:
        """Let a row begin with what another has learned, less sure by a share."""
        self._theta[row], covariance = learned
        prior = self._covariance[_PRIOR]
        self._covariance[row] = covariance + np.float32(doubt) * (prior - covariance)

    def believe(
        self, rows: NDArray[np.intp], x: FloatArray32
    ) -> tuple[FloatArray, FloatArray]:
        """Return what rows expect at x, and its variance, each of shape (n_rows,)."""
        width = len(x)
        covariance = self._covariance[rows, :width, :width]
        variance = np.vecdot(np.vecdot(covariance, x), x).astype(np.float64)
        # Rounding may leave a tiny negative.
        return np.vecdot(self._theta[rows, :width], x), np.maximum(variance, 0.0)

    def step(self, row: int, x: FloatArray32) -> Step:
        """Return what one reward at x would change in a row."""
        width = len(x)
        gain = np.vecdot(self._covariance[row, :width, :width], x)
        mean = float(np.vecdot(self._theta[row, :width], x))
        return Step(mean, gain, max(float(np.vecdot(gain, x)), 0.0))

    def move(self, row: int, step: Step, by: float) -> None:
        """Move the weights of a row by their gains times a number."""
        self._theta[row, : len(step.gain)] += by * step.gain

    def shrink(self, row: int, step: Step) -> None:
        """Be surer of a row, by the reward that was learned."""
        width = len(step.gain)
        shrunk = step.gain / np.float32(1.0 + step.spread)
        self._covariance[row, :width, :width] -= np.outer(step.gain, shrunk)

    def forget(self, by: float) -> None:
        """Make all that was learned unsure again, by a share from 0 to 1."""
        prior = self._covariance[_PRIOR]
        self._covariance += np.float32(by) * (prior - self._covariance)


class Step(msgspec.Struct, frozen=True):
    """What one reward would change.

    Attributes:
        mean: What is expected.
        gain: How far one unit of error moves each weight, before it is divided.
        spread: The variance of what is expected, in units of the noise's.
    """

    mean: float
    gain: FloatArray32
    spread: float
