"""Models of Vowpal Wabbit as policies: what its command line would have predicted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
from vowpalwabbit import PredictionType, Workspace

from policies.model import Action, Features, FloatArray
from simulator.batches import Batch
from simulator.logs.naming import nested
from simulator.targets import Answer, TargetError, ask

__all__ = ["Workspaces"]

_REMEMBERED_MAX = 65_536


class Workspaces:
    """A model of `--cb_explore_adf`, which chooses by its shares, or of `--cb_adf`.

    The latter chooses what costs the least. It is given the JSON that `convert` writes
    of the same decision, so that it knows each feature by the name that it would read
    there: those of the namespace `User` are called `User^NAME` in a log, and a category
    `NAME=TEXT`.

    Args:
        name: As for every target.
        about: As for every target.
        path: The file of the model.
        options: Further options of its command line.
        trained: Whether it may have learned from rewards that it is judged by.
        literal: The features that look like categories, and were read as they are.

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
        literal: frozenset[str] = frozenset(),
    ) -> None:
        self.name = name
        self.about = about
        self.trained = trained
        self._file = path.name
        self._model = path.read_bytes()
        self._options = options
        self._literal = literal
        self._open()

    def answer(self, batch: Batch) -> Answer:
        """Say what it would have done."""
        eligible = np.empty(len(batch.feedback.actions))
        ask(self._distribution, batch, np.arange(len(batch)), eligible)
        return Answer(np.minimum(eligible[batch.at], 1.0), eligible)

    def refuse_ignorance(self, batch: Batch) -> None:
        """Refuse a model that tells no actions apart, though it has learned something.

        Args:
            batch: Many decisions; fewer than two eligible actions say nothing.

        Raises:
            TargetError: If it chooses alike in each of them, and has weights.
        """
        shares = self.answer(batch).eligible
        choices = int((batch.sizes > 1).sum())
        if shares is None or not choices or not self._has_weights():
            return
        if not np.allclose(shares, (1.0 / batch.sizes)[batch.rows], rtol=1e-6):
            return
        known = [name for name, _ in batch.feedback.contexts[0]]
        raise TargetError(
            f"{self._file} knows none of the features of this log: it chooses every"
            f" action alike in each of {choices:,} decisions. It must have learned from"
            " a log with the same features, with namespaces and names as VW reads them"
            f" from JSON; those here are {', '.join(known[:5]) or 'none'}"
        )

    def _has_weights(self) -> bool:
        weight_of = self._workspace.get_weight
        return any(weight_of(at) for at in range(self._workspace.num_weights()))

    def __getstate__(self) -> dict[str, Any]:
        kept = ("name", "about", "trained", "_file", "_model", "_options", "_literal")
        return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def _open(self) -> None:
        self._said: dict[bytes, FloatArray] = {}
        with TemporaryDirectory(prefix="opportune-") as folder:
            path = Path(folder, "model.vw")
            path.write_bytes(self._model)
            options = f"-i {path} --json --testonly --quiet {self._options}"
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
        literal = self._literal
        multi = [nested(action.features, literal) for action in actions]
        text = msgspec.json.encode(nested(context, literal) | {"_multi": multi})
        said = self._said.get(text)
        if said is None:
            if len(self._said) >= _REMEMBERED_MAX:
                self._said.clear()
            said = self._said[text] = self._predict(text.decode())
        return said

    def _predict(self, text: str) -> FloatArray:
        examples = self._workspace.parse(text)
        try:
            predicted = np.array(self._workspace.predict(examples), dtype=float)
        finally:
            self._workspace.finish_example(examples)
        if not self._explores:
            predicted = np.where(predicted == predicted.min(), 1.0, 0.0)
        shares: FloatArray = predicted.clip(0.0, None)
        shares /= shares.sum()
        return shares
