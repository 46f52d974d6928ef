"""Warns when the policy stops trying, and when features are not what they were."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import msgspec
import structlog

from policies.catalogue import Catalogue
from policies.drift import collapsed, entropy_of, stability
from policies.model import Decision, FeatureValue
from policies.releasing import Release, held
from server import telemetry
from server.settings import Settings
from server.stores.base import Resolved, TrainingStore

__all__ = ["Watch"]

_REFERENCE_MIN = 100

_log = structlog.get_logger()


class Watch:
    """Looks at the latest decisions now and then.

    Args:
        store: Where they are.
        settings: When it warns.
        catalogue_of: Returns the catalogue of a decision.
        clock: Returns the time in milliseconds since 1970.
    """

    def __init__(
        self,
        store: TrainingStore,
        settings: Settings,
        catalogue_of: Callable[[Decision], Catalogue],
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._settings = settings
        self._catalogue_of = catalogue_of
        self._clock = clock
        self._looked_ms = 0
        self._collapsed = False
        self._drifted: set[str] = set()

    def look(self) -> None:
        """Look, if it is time to."""
        drift, now_ms = self._settings.drift, self._clock()
        if now_ms - self._looked_ms < drift.every:
            return
        self._looked_ms = now_ms
        latest = self._store.recent(drift.window)
        if len(latest) < drift.window:
            return
        self._look_at_choices(latest)
        before = self._store.recent(drift.window, before_ms=now_ms - drift.reference)
        if len(before) >= _REFERENCE_MIN:
            self._look_at_features(before, latest)

    def _look_at_choices(self, latest: Sequence[Resolved]) -> None:
        chosen: Counter[str] = Counter()
        rewards: defaultdict[str, list[float]] = defaultdict(list)
        eligible: set[str] = set()
        for decision, reward in latest:
            if len(decision.actions) < 2:
                continue
            actions = self._catalogue_of(decision).actions
            name = actions[decision.chosen].name
            chosen[name] += 1
            eligible.update(actions[index].name for index in decision.actions)
            if reward is not None:
                rewards[name].append(reward)
        entropy_min = self._settings.drift.entropy_min
        telemetry.ENTROPY.set(entropy_of(chosen, len(eligible)))
        now = collapsed(chosen, len(eligible), rewards, entropy_min=entropy_min)
        telemetry.COLLAPSED.set(now)
        if now and not self._collapsed:
            self._hold(max(chosen, key=lambda name: chosen[name]))
        self._collapsed = now

    def _hold(self, favourite: str) -> None:
        """Let no later model serve until somebody promotes one."""
        lineup = self._settings.lineup(self._store.lineup())
        policy = self._settings.policies[lineup.champion]
        reason = f"hardly anything but {favourite} is chosen"
        _log.error("exploration has collapsed, later models stay out", reason=reason)

        def change(before: Release | None) -> Release | None:
            if before is None or before.held:
                return before
            return msgspec.structs.replace(
                held(before), at_ms=self._clock(), who="the learner", reason=reason
            )

        self._store.change_release(policy.learner_version, change, "hold")

    def _look_at_features(
        self, before: Sequence[Resolved], latest: Sequence[Resolved]
    ) -> None:
        declared = self._catalogue_of(latest[0].decision).features
        for name in declared:
            was, now = _values(before, name), _values(latest, name)
            if len(was) < _REFERENCE_MIN or len(now) < _REFERENCE_MIN:
                continue
            index = stability(was, now)
            telemetry.PSI.labels(name).set(index)
            if index <= self._settings.drift.psi_max:
                self._drifted.discard(name)
            elif name not in self._drifted:
                self._drifted.add(name)
                _log.warning("a feature has drifted", feature=name, psi=round(index, 3))


def _values(decisions: Sequence[Resolved], name: str) -> list[FeatureValue]:
    values: list[FeatureValue] = []
    for decision, _ in decisions:
        context = decision.opportunity.context
        value = context.features.get(name, context.moment.features.get(name))
        if value is not None:
            values.append(value)
    return values
