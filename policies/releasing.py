"""Which model of a learner serves: the latest, one kept to, or a few users a new one.

A learner publishes model after model. What is published is staged; a release points at
the one that serves and, where new ones are tried by a few users first, at that one. To
publish is to move the pointer. To roll back is to move it to an earlier model and to
hold it there: no later model serves until one is promoted.
"""

from __future__ import annotations

import msgspec

__all__ = [
    "Model",
    "Release",
    "ReleaseError",
    "held",
    "is_model",
    "model_of",
    "name_of",
    "promoted",
    "published",
    "rolled_back",
    "state_of",
]

Model = tuple[int, int]
"""The epoch of a training stream, and how many of its rows a model has learned."""


class ReleaseError(ValueError):
    """What was asked of a release cannot be done."""


class Release(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which model of a learner serves.

    Attributes:
        serving: The model that serves.
        canary: The one that serves the first few users; none where there is none.
        since_ms: Since when there is this canary.
        held: Whether later models stay out until one is promoted.
        previous: The model that served before; none for the first.
        at_ms: When this became so.
        who: Who made it so.
        reason: Why.
    """

    serving: Model
    canary: Model | None = None
    since_ms: int = 0
    held: bool = False
    previous: Model | None = None
    at_ms: int = 0
    who: str = ""
    reason: str = ""


def name_of(model: Model) -> str:
    """Return the name of a model, as decisions have it.

    Examples:
        >>> name_of((1, 250))
        '1.250'
    """
    return f"{model[0]}.{model[1]}"


def model_of(name: str) -> Model:
    """Return the model of a name.

    Raises:
        ReleaseError: If it is no such name.

    Examples:
        >>> model_of("1.250")
        (1, 250)
    """
    if not is_model(name):
        raise ReleaseError(f"a model is EPOCH.POSITION, like 1.250, not {name!r}")
    epoch, _, position = name.partition(".")
    return int(epoch), int(position)


def is_model(name: str) -> bool:
    """Say whether a name is one that a model may have.

    Examples:
        >>> is_model("1.250"), is_model("bold")
        (True, False)
    """
    epoch, dot, position = name.partition(".")
    return bool(dot) and epoch.isdecimal() and position.isdecimal()


def published(
    release: Release | None,
    model: Model | None,
    *,
    at_ms: int,
    automatic: bool,
    canary: float,
    canary_for_ms: int,
) -> Release | None:
    """Say what serves once a model was published, or some time later.

    Args:
        release: What served until now; none before the first.
        model: The model; none where only the time has gone on.
        at_ms: The time.
        automatic: Whether models serve without anybody's doing.
        canary: The share of users that a model serves first, 0 to 1; 0 for all at once.
        canary_for_ms: For how long, before it serves all.

    Returns:
        What serves now; the release as given where nothing changes.

    Examples:
        >>> to_all = {"automatic": True, "canary": 0.0, "canary_for_ms": 0}
        >>> first = published(None, (1, 10), at_ms=0, **to_all)
        >>> published(first, (1, 20), at_ms=5, **to_all).serving
        (1, 20)
    """
    if not automatic or (release is not None and release.held):
        return release
    made = {"at_ms": at_ms, "who": "the learner", "reason": "published"}
    if release is None or canary == 0.0:
        if model is None:
            return release
        before = _before(release, model)
        return Release(model, previous=before, **made)  # type: ignore[arg-type] # Each has its own.
    if release.canary is None:
        if model is None:
            return release
        return msgspec.structs.replace(release, canary=model, since_ms=at_ms)
    if at_ms - release.since_ms < canary_for_ms:
        return release
    return Release(
        release.canary,
        model,
        at_ms if model is not None else 0,
        previous=release.serving,
        at_ms=at_ms,
        who="the learner",
        reason="it served the first users well enough",
    )


def promoted(model: Model, release: Release | None, *, follow: bool) -> Release:
    """Let a model serve all users.

    Args:
        model: The model.
        release: What served until now.
        follow: Whether later models may serve after it; else it is kept to.
    """
    return Release(model, held=not follow, previous=_before(release, model))


def _before(release: Release | None, model: Model) -> Model | None:
    """Return what served before a model does."""
    if release is None:
        return None
    return release.previous if release.serving == model else release.serving


def rolled_back(release: Release | None, to: Model | None) -> Release:
    """Let an earlier model serve, and keep to it.

    Args:
        release: What served until now.
        to: The earlier model; none for the one that served before.

    Raises:
        ReleaseError: If there is none.
    """
    if release is None:
        raise ReleaseError("no model serves yet: there is nothing to roll back")
    to = to or release.previous
    if to is None:
        raise ReleaseError(
            f"no model served before {name_of(release.serving)}: name one with --to"
        )
    return Release(to, held=True, previous=release.serving)


def held(release: Release) -> Release:
    """Keep to the model that serves; the canary stays out."""
    return msgspec.structs.replace(release, canary=None, since_ms=0, held=True)


def state_of(model: Model, release: Release | None) -> str:
    """Say what a model is now: `serving`, `canary`, `staged` or `retired`.

    Examples:
        >>> release = Release((1, 20), held=True)
        >>> [state_of((1, p), release) for p in (10, 20, 30)]
        ['retired', 'serving', 'staged']
    """
    if release is None:
        return "staged"
    if model == release.serving:
        return "serving"
    if model == release.canary:
        return "canary"
    return "staged" if model > release.serving else "retired"
