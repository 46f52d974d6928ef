"""What an operator does with models: list, look into, promote, roll back, export."""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from policies.allowed import listed as listed_as
from policies.allowed import meant
from policies.catalogue import Catalogue
from policies.features import context_features
from policies.health import check
from policies.insight import calibration, effects, expectations
from policies.model import NO_OFFER, Action, Decision
from policies.policy import LearnerSettings, Policy, PolicySettings
from policies.promotion import Lineup
from policies.releasing import (
    Model,
    Release,
    ReleaseError,
    is_model,
    model_of,
    name_of,
    promoted,
    rolled_back,
    state_of,
)
from server import warming
from server.activation import compiled, in_use
from server.settings import Settings
from server.stores.base import AdminStore, ModelChange, Resolved, Snapshot
from server.warming import Watcher

__all__ = [
    "Author",
    "await_rebuild",
    "check_kept",
    "export",
    "listed",
    "promote",
    "rollback",
    "shown",
]

_RECENT = 2_000
_KEPT_TOLD = 5
_TOP = 12
_DECIMALS = 4
_NOTHING = 5e-5
_CHANGES = 10
_POLL_S = 0.2

_CatalogueOf = Callable[[str], Catalogue]


class Author(NamedTuple):
    """Who does something, when, and why."""

    who: str
    reason: str
    at_ms: int


def check_kept(settings: Settings, store: AdminStore, *, named: bool) -> None:
    """Refuse that a default takes the place of a learner that has learned.

    Args:
        settings: What is about to serve.
        store: Where it would.
        named: Whether the settings file names the learner.

    Raises:
        ReleaseError: If it names none, and the store has models of others alone; it has
            the lines to keep the one that served last.
    """
    ours = {policy.learner_version for policy in settings.policies.values()}
    if named or store.release(settings.policy.learner_version) is not None:
        return
    learned: list[tuple[int, LearnerSettings]] = []
    for text in store.policies():
        try:
            policy = msgspec.json.decode(text, type=PolicySettings)
        except msgspec.DecodeError:  # It had keys that are gone.
            continue
        version = policy.learner_version
        release = None if version in ours else store.release(version)
        if release is not None:
            learned.append((release.at_ms, policy.learner))
    if learned:
        raise ReleaseError(_kept_by(max(learned, key=lambda pair: pair[0])[1]))


def _kept_by(learner: LearnerSettings) -> str:
    """Say which lines keep a learner, and which begin with the default."""
    kind = type(learner)
    tag, default = kind.__struct_config__.tag, kind()
    lines = [
        f"{name} = {_toml(value)}"
        for name, value in msgspec.to_builtins(learner).items()
        if name != "kind" and getattr(learner, name) != getattr(default, name)
    ]
    kept = "\n".join(["[policy.learner]", f'kind = "{tag}"', *lines])
    other = PolicySettings().learner.__struct_config__.tag
    usual = (
        f"{other!r}, with all keys at their defaults" if tag == other else repr(other)
    )
    return (
        f"the store has learned with {tag!r}, and the settings name no learner: without"
        f" one it is {usual}, which knows nothing of that yet. To keep what was"
        f" learned, write\n\n{kept}\n\nTo begin with {other!r} as it is by default,"
        f' write kind = "{other}" there, and no other key: it learns all of the log'
        " again, and until it has, [baseline] decides or, without one, what knows"
        " nothing"
    )


def _toml(value: object) -> str:
    """Return a value as it is written in TOML."""
    if isinstance(value, dict):
        inside = ", ".join(f"{key} = {_toml(one)}" for key, one in value.items())
        return f"{{ {inside} }}"
    return msgspec.json.encode(value).decode()


def listed(settings: Settings, store: AdminStore, name: str, limit: int) -> Group:
    """Return a policy's models, all policies, and what was done to models.

    Args:
        settings: Which policies there are.
        store: Where models are.
        name: The policy; empty for the one that decides.
        limit: How many models, the latest first. What serves is there in any case.

    Raises:
        ReleaseError: If there is no such policy.
    """
    name, policy = _policy(settings, store, name)
    recent = store.recent(_RECENT)
    parts: list[RenderableType] = [
        _models(store, name, policy, recent, limit),
        _policies(settings, store, recent),
        Text(f"decisions: of the last {_RECENT:,} at most"),
    ]
    changes = store.model_changes(_CHANGES)
    if changes:
        parts.append(_changes(changes))
    return Group(*parts)


def shown(settings: Settings, store: AdminStore, model: str, name: str) -> Group:
    """Return what a model has learned, and whether what it predicts comes true.

    Args:
        settings: Which policies there are.
        store: Where models are.
        model: The model; empty for the one that serves.
        name: The policy; empty for the one that decides.

    Raises:
        ReleaseError: If there is no such policy or model.
    """
    name, policy = _policy(settings, store, name)
    snapshot = _snapshot(store, policy, model)
    learned = _read(policy, snapshot)
    catalogue = in_use(store)
    if catalogue is None:
        raise ReleaseError("no catalogue is in use yet; start the server once")
    recent = store.recent(_RECENT)
    release = store.release(policy.learner_version)
    state = state_of(snapshot.version, release)
    catalogue_of = compiled(store)
    head = Text(
        f"model {snapshot.model} of policy {name}, {state},"
        f" published {_time(snapshot.at_ms)}"
    )
    return Group(
        head,
        _expected(learned, catalogue, recent, catalogue_of),
        _effects(learned, catalogue, recent),
        _calibrated(learned, catalogue, recent, catalogue_of),
        Text("of the last decisions with a known reward, learned from or not"),
    )


def promote(
    settings: Settings, store: AdminStore, wanted: str, name: str, author: Author
) -> str:
    """Let a model or a policy decide for all; say what was done.

    Args:
        settings: Which policies there are.
        store: Where models are.
        wanted: A model, the name of a policy, or empty for the latest model, after
            which later ones follow again.
        name: The policy whose model it is; empty for the one that decides.
        author: Who asks.

    Raises:
        ReleaseError: If there is no such model or policy, or the model is not fit.
    """
    if wanted in settings.policies:
        return _crown(store, wanted, author)
    if wanted and not is_model(wanted):
        raise ReleaseError(
            f"{_no_policy(settings, wanted)}; a model is EPOCH.POSITION, like 1.250"
        )
    name, policy = _policy(settings, store, name)
    models = store.models(policy.learner_version)
    if not models:
        raise ReleaseError(f"policy {name} has no model yet")
    latest = (models[0].epoch, models[0].position)
    model = model_of(wanted) if wanted else latest
    snapshot = _snapshot(store, policy, name_of(model))
    _check(policy, snapshot, in_use(store))

    def change(release: Release | None) -> Release:
        return _by(promoted(model, release, follow=not wanted), author)

    store.change_release(policy.learner_version, change, "promote")
    if wanted:
        return f"model {wanted} serves; later ones are staged until one is promoted"
    return f"model {name_of(model)} serves, and later ones follow"


def rollback(
    settings: Settings, store: AdminStore, to: str, name: str, author: Author
) -> str:
    """Let an earlier model serve; say what was done.

    Args:
        settings: Which policies there are.
        store: Where models are.
        to: The model; empty for the one that served before.
        name: The policy; empty for the one that decides.
        author: Who asks.

    Raises:
        ReleaseError: If there is no such model, or it is not fit.
    """
    name, policy = _policy(settings, store, name)
    wanted = model_of(to) if to else None
    back = rolled_back(store.release(policy.learner_version), wanted)
    snapshot = _snapshot(store, policy, name_of(back.serving))
    _check(policy, snapshot, in_use(store))

    def change(release: Release | None) -> Release:
        return _by(rolled_back(release, back.serving), author)

    store.change_release(policy.learner_version, change, "rollback")
    return f"model {snapshot.model} serves again; later ones stay out until `promote`"


def export(
    settings: Settings,
    store: AdminStore,
    path: Path,
    model: str,
    name: str,
    *,
    watcher: Watcher = lambda *_: None,
) -> str:
    """Write a model to a file that `warm_start` reads; say what was done.

    Args:
        settings: Which policies there are.
        store: Where models are.
        path: The file.
        model: The model; empty for the one that serves.
        name: The policy; empty for the one that decides.
        watcher: Is told how many bytes were written, and how many there are.

    Raises:
        OSError: If it cannot be written.
        ReleaseError: If there is no such model.
    """
    name, policy = _policy(settings, store, name)
    snapshot = _snapshot(store, policy, model)
    body = snapshot.body
    warming.export(path, policy, model=snapshot.model, body=body, watcher=watcher)
    return f"model {snapshot.model} of policy {name} is in {path}"


def await_rebuild(
    settings: Settings,
    store: AdminStore,
    epoch: int,
    *,
    patience_s: float,
    pause: Callable[[float], object] = time.sleep,
) -> str:
    """Wait until the learner at work has learned a new epoch; say what serves.

    Args:
        settings: Which policies there are.
        store: Where models are.
        epoch: The epoch before.
        patience_s: For how long.
        pause: Waits for so many seconds.
    """
    _, policy = _policy(settings, store, "")
    for _ in range(round(patience_s / _POLL_S)):
        latest = store.models(policy.learner_version)[:1]
        if latest and latest[0].epoch > epoch and latest[0].position:
            release = store.release(policy.learner_version)
            version = (latest[0].epoch, latest[0].position)
            return f"model {name_of(version)} is {state_of(version, release)}"
        pause(_POLL_S)
    return "the learner has begun; `models list` will show its model"


def _crown(store: AdminStore, name: str, author: Author) -> str:
    recorded = store.lineup() or Lineup()
    note = ModelChange(0, name, "promote", "", author.at_ms, author.who, author.reason)
    store.change_lineup(Lineup(name, {}, recorded.since), note)
    return f"policy {name} decides for all who are in no challenger's share"


def _by(release: Release, author: Author) -> Release:
    return msgspec.structs.replace(
        release, at_ms=author.at_ms, who=author.who, reason=author.reason
    )


def _policy(
    settings: Settings, store: AdminStore, name: str
) -> tuple[str, PolicySettings]:
    name = name or settings.lineup(store.lineup()).champion
    if name not in settings.policies:
        raise ReleaseError(_no_policy(settings, name))
    return name, settings.policies[name]


def _no_policy(settings: Settings, name: str) -> str:
    """Say which policies there are instead of one that there is not."""
    known = list(settings.policies)
    slip = meant(name, known)
    hint = f"; did you mean {slip}?" if slip else ""
    challengers = "" if len(known) > 1 else " (the settings name no challengers)"
    return f"there is no policy {name!r}, but {listed_as(known)}{challengers}{hint}"


def _snapshot(store: AdminStore, policy: PolicySettings, model: str) -> Snapshot:
    """Return the model of that name; of none, the one that serves."""
    if not model:
        release = store.release(policy.learner_version)
        if release is None:
            raise ReleaseError("no model serves yet: the learner has published none")
        model = name_of(release.serving)
    wanted = model_of(model)
    found = store.snapshot(policy.learner_version, at_most=wanted)
    if found is None or found.version != wanted:
        known = store.models(policy.learner_version)
        kept = [name_of((m.epoch, m.position)) for m in known[:_KEPT_TOLD]]
        if len(known) > _KEPT_TOLD:
            kept.append(f"{len(known) - _KEPT_TOLD} more: see `models list`")
        told = listed_as(kept) if kept else "none"
        raise ReleaseError(f"there is no model {model}; kept are {told}")
    return found


def _read(policy: PolicySettings, snapshot: Snapshot) -> Policy:
    try:
        return Policy(
            policy, snapshot.body, model=snapshot.model, learned=snapshot.position
        )
    except ValueError as error:
        raise ReleaseError(f"model {snapshot.model}: {error}") from None


def _check(
    policy: PolicySettings, snapshot: Snapshot, catalogue: Catalogue | None
) -> None:
    check(_read(policy, snapshot), catalogue)


def _models(
    store: AdminStore,
    name: str,
    policy: PolicySettings,
    recent: Sequence[Resolved],
    limit: int,
) -> Table:
    release = store.release(policy.learner_version)
    made = Counter(d.model for d, _ in recent if d.policy == policy.version)
    table = Table(f"model of {name}", "state", "published", "learned", "decisions")
    kept = store.models(policy.learner_version)
    hidden = 0
    for place, each in enumerate(kept):
        model: Model = (each.epoch, each.position)
        if place >= limit and state_of(model, release) not in ("serving", "canary"):
            hidden += 1
            continue
        table.add_row(
            name_of(model),
            state_of(model, release),
            _time(each.at_ms),
            f"{each.position:,}",
            str(made[name_of(model)]),
        )
    if hidden:
        table.add_row(f"and {hidden:,} more")
    if release is None:
        table.caption = "no model serves yet"
    elif release.held:
        table.caption = f"kept to by {release.who}: {release.reason or 'no reason'}"
    return table


def _policies(
    settings: Settings, store: AdminStore, recent: Sequence[Resolved]
) -> Table:
    lineup = settings.lineup(store.lineup())
    modes: dict[str, str] = {c.name: c.mode for c in settings.challengers}
    made = Counter(decision.policy for decision, _ in recent)
    table = Table("policy", "version", "decides for", "decisions", "last window")
    for name, policy in settings.policies.items():
        if name == lineup.champion:
            share = f"{1 - sum(lineup.shares.values()):.0%}, the champion"
        else:
            share = f"{lineup.shares.get(name, 0.0):.0%}, {modes.get(name, 'shadow')}"
        last = store.contests(name, lineup.champion, 1)
        told = ""
        if last:
            told = f"{last[0].verdict}: {last[0].low:+.4f} to {last[0].high:+.4f}"
        version = policy.version
        table.add_row(name, version, share, str(made[version]), told)
    return table


def _changes(changes: Sequence[ModelChange]) -> Text:
    lines = []
    for each in changes:
        what = f"{each.what} {each.model or each.subject}".strip()
        if each.what == "rebuild":  # Its model is how far nobody had got in the stream.
            epoch = model_of(each.model)[0]
            what = f"rebuild of stream {epoch}, {each.subject.replace('_', ' ')}"
        why = f": {each.reason}" if each.reason else ""
        lines.append(f"{_time(each.at_ms)} {what}, by {each.who}{why}")
    return Text("\n".join(lines))


def _expected(
    policy: Policy,
    catalogue: Catalogue,
    recent: Sequence[Resolved],
    catalogue_of: _CatalogueOf,
) -> Table:
    counts = _choices(recent, policy, catalogue_of)
    table = Table("action", "expected, nothing known", "unsure by", "chosen")
    actions = list(catalogue.actions)
    found = expectations(policy.learner, actions)
    sure = any(each.deviation for each in found)
    for each in found[: 2 * _TOP]:
        mean, deviation = each.mean, each.deviation
        if each.action.index == NO_OFFER and not policy.outcomes.get(""):
            mean = deviation = 0.0
        table.add_row(
            each.action.name,
            f"{mean:+.4f}",
            f"{deviation:.4f}" if sure else "not known",
            str(counts[each.action.name]),
        )
    table.caption = (
        "in units of reward; chosen by this policy, of the last"
        f" {len(recent):,} decisions"
    )
    return table


def _choices(
    recent: Sequence[Resolved], policy: Policy, catalogue_of: _CatalogueOf
) -> Counter[str]:
    """Count what a policy chose, by the names that actions keep in new catalogues."""
    return Counter(
        _chosen(decision, catalogue_of).name
        for decision, _ in recent
        if decision.policy == policy.version
    )


def _chosen(decision: Decision, catalogue_of: _CatalogueOf) -> Action:
    return catalogue_of(decision.catalogue).actions[decision.chosen]


def _effects(policy: Policy, catalogue: Catalogue, recent: Sequence[Resolved]) -> Table:
    contexts = [_context(decision, catalogue) for decision, _ in recent[:500]]
    found = effects(policy.learner, list(catalogue.actions), contexts)
    table = Table("what matters most")
    for each in [one for one in found if abs(one.change) > _NOTHING][:_TOP]:
        value = "" if "=" in each.feature else f" at {each.value:.3g}"
        more = "more" if each.change > 0 else "less"
        table.add_row(
            f"{each.feature}{value}: {each.action.name} earns"
            f" {abs(each.change):.4f} {more}"
        )
    if not found:
        table.caption = "no features were seen yet"
    return table


def _calibrated(
    policy: Policy,
    catalogue: Catalogue,
    recent: Sequence[Resolved],
    catalogue_of: _CatalogueOf,
) -> Table:
    """Compare what is predicted of what is still offered with what it has earned."""
    offered = {action.name: action for action in catalogue.actions}
    predicted: list[float] = []
    observed: list[float] = []
    for decision, reward in recent:
        action = offered.get(_chosen(decision, catalogue_of).name)
        if reward is None or action is None:
            continue
        believed = policy.learner.believe(_context(decision, catalogue), [action])
        predicted.append(round(float(believed.mean[0]), _DECIMALS))
        observed.append(reward)
    table = Table("predicted", "observed", "between", "and", "decisions")
    for each in calibration(predicted, observed):
        table.add_row(
            f"{each.predicted:+.4f}",
            f"{each.observed:+.4f}",
            f"{each.low:+.4f}",
            f"{each.high:+.4f}",
            str(each.n),
        )
    return table


def _context(decision: Decision, catalogue: Catalogue) -> tuple[tuple[str, float], ...]:
    return context_features(decision.opportunity.context, catalogue.features)


def _time(at_ms: int) -> str:
    if not at_ms:
        return "before this was kept"
    at = dt.datetime.fromtimestamp(at_ms / 1_000, dt.UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}Z"
