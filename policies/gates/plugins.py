"""Gates of other packages, which announce them as entry points.

A package announces a gate in its `pyproject.toml`, under the gate's own name:

    [project.entry-points."opportune.gates"]
    regulated = "our_gates:Regulated"

The class keeps the protocol `policies.gates.base.Gate`; what a catalogue tells it under
`[gates.options.regulated]` it finds in `facts.catalogue.gates.options["regulated"]`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any, get_args

from policies.gates.base import Gate, Scope

__all__ = ["GROUP", "load"]

GROUP = "opportune.gates"
"""The group of entry points under which gates are announced."""


def load(names: Iterable[str]) -> tuple[type[Gate], ...]:
    """Return the classes of the gates of these names, in their order.

    Raises:
        ValueError: If a gate is not announced, cannot be imported, or does not keep
            the protocol; it says what is missing.
    """
    return tuple([_load(name) for name in dict.fromkeys(names)])


def _load(name: str) -> type[Gate]:
    announced = entry_points(group=GROUP)
    found = [entry for entry in announced if entry.name == name]
    if not found:
        known = ", ".join(sorted({entry.name for entry in announced})) or "none"
        raise ValueError(
            f"there is no gate {name!r}: install the package that announces it under"
            f" the entry point group {GROUP!r}; announced are: {known}"
        )
    if len({entry.value for entry in found}) > 1:
        places = ", ".join(sorted(entry.value for entry in found))
        raise ValueError(f"several packages announce a gate {name!r}: {places}")
    kind = _imported(found[0])
    missing = list(_missing(kind, name))
    if missing:
        raise ValueError(
            f"{found[0].value} is not a gate: it must have {'; '.join(missing)}"
        )
    gate: type[Gate] = kind
    return gate


def _imported(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"the gate {entry.name!r} cannot be imported from {entry.value}: {what}"
        ) from error


def _missing(kind: Any, name: str) -> Iterator[str]:
    """Yield what a class lacks of the protocol."""
    if getattr(kind, "name", None) != name:
        yield f"name = {name!r}, under which it is announced"
    scopes = get_args(Scope)
    if getattr(kind, "scope", None) not in scopes:
        yield f"a scope, one of {', '.join(scopes)}"
    for flag in ("of_history", "bypassed"):
        if not isinstance(getattr(kind, flag, None), bool):
            yield f"{flag}, true or false"
    if getattr(kind, "indexed", None) is not False:
        yield "indexed = False, for no index asks it"
    if not inspect.ismethod(getattr(kind, "of", None)):
        yield "of(facts), a class method"
    for method in ("reject", "because"):
        if not callable(getattr(kind, method, None)):
            yield f"{method}(action, situation)"
    dataclass = getattr(kind, "__dataclass_params__", None)
    if dataclass is None or not (dataclass.frozen and dataclass.eq):
        yield "@dataclass(frozen=True), for gates are equal by value"
