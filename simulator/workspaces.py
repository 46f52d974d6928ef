"""Models of Vowpal Wabbit as policies: what its command line would have predicted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from vowpalwabbit import PredictionType, Workspace

from policies.model import Action, Features, FloatArray
from simulator.batches import Batch
from simulator.targets import Answer, TargetError, ask

__all__ = ["Workspaces"]

_REMEMBERED_MAX = 65_536
_APART = str.maketrans({" ": "_", "\t": "_", "\n": "_", "|": "_", ":": "_"})


class Workspaces:
    """A model of `--cb_explore_adf`, which chooses by its shares, or of `--cb_adf`.

    The latter chooses what costs the least. Features are written as Vowpal Wabbit reads
    them from JSON: those of the namespace `User` are called `User^NAME` in a log, and a
    category is its name and its value in one.

    Args:
        name: As for every target.
        about: As for every target.
        path: The file of the model.
        options: Further options of its command line.
        trained: Whether it may have learned from rewards that it is judged by.

    Raises:
        TargetError: If it cannot be loaded, or predicts something else.
    """

    crossed = False

    def __init__(
        self,
        name: str,
        about: str,
        path: Path,
        options: str = "",
        *,
        trained: bool = False,
    ) -> None:
        self.name = name
        self.about = about
        self.trained = trained
        self._file = path.name
        self._model = path.read_bytes()
        self._options = options
        self._open()

    def answer(self, batch: Batch) -> Answer:
        """Say what it would have done."""
        eligible = np.empty(len(batch.feedback.actions))
        ask(self._distribution, batch, np.arange(len(batch)), eligible)
        return Answer(np.minimum(eligible[batch.at], 1.0), eligible)

    def __getstate__(self) -> dict[str, Any]:
        kept = ("name", "about", "trained", "_file", "_model", "_options")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def _open(self) -> None:
        self._said: dict[tuple[str, ...], FloatArray] = {}
        with TemporaryDirectory(prefix="opportune-") as folder:
            path = Path(folder, "model.vw")
            path.write_bytes(self._model)
            options = f"--initial_regressor {path} --testonly --quiet {self._options}"
            try:
                self._workspace = Workspace(options)
            except RuntimeError as error:
                raise TargetError(f"{self._file}: {error}") from None
        kind = PredictionType(int(self._workspace.get_prediction_type()))
        if kind not in (PredictionType.ACTION_PROBS, PredictionType.ACTION_SCORES):
            raise TargetError(
                f"{self._file} is of another kind: it must be a model of"
                " --cb_explore_adf or --cb_adf"
            )
        self._explores = kind is PredictionType.ACTION_PROBS

    def _distribution(self, context: Features, actions: Sequence[Action]) -> FloatArray:
        lines = (
            f"shared {_text(context)}",
            *(_text(action.features) for action in actions),
        )
        said = self._said.get(lines)
        if said is None:
            if len(self._said) >= _REMEMBERED_MAX:
                self._said.clear()
            said = self._said[lines] = self._predict(list(lines))
        return said

    def _predict(self, lines: list[str]) -> FloatArray:
        predicted = np.array(self._workspace.predict(lines), dtype=float)
        if not self._explores:
            predicted = np.where(predicted == predicted.min(), 1.0, 0.0)
        shares: FloatArray = predicted.clip(0.0, None)
        shares /= shares.sum()
        return shares


def _text(features: Features) -> str:
    """Write features as Vowpal Wabbit reads them."""
    spaces: dict[str, list[str]] = {}
    for name, value in features:
        space, _, feature = name.rpartition("^")
        # In JSON a category is its name and its value, without anything between.
        feature = feature.replace("=", "", 1).translate(_APART)
        text = feature if value == 1.0 else f"{feature}:{value!r}"
        spaces.setdefault(space.translate(_APART), []).append(text)
    return " ".join(f"|{space} {' '.join(of)}" for space, of in spaces.items()) or "|"
