"""What actions and features are called in files, so that they are read back alike.

An action is called by its offer, or by offer, creative and placement; a feature of JSON
that is a category is a text under a name, and `NAME=TEXT` in a log.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from policies.model import NO_OFFER, Action, Features

__all__ = ["NO_OFFER_NAME", "action_called", "called", "nested"]

NO_OFFER_NAME = "no_offer"
"""What no offer is called."""


def called(action: Action) -> str:
    """Return what an action is called where there is but one name for it.

    Examples:
        >>> called(Action(1, "tea", "", "", ())), called(Action(1, "a/b/c", "", "", ()))
        ('tea', 'a/b/c//')
        >>> called(Action(0, "", "", "", ()))
        'no_offer'
    """
    if action.index == NO_OFFER or action.creative_id or action.placement_id:
        return action.name
    offer_id = action.offer_id
    plain = offer_id != NO_OFFER_NAME and offer_id.count("/") < 2
    return offer_id if offer_id and plain else action.name


def action_called(name: str, features: Features = ()) -> Action:
    """Return the action that is called so; the opposite of `called`.

    Examples:
        >>> action_called("no_offer").index
        0
        >>> action = action_called("tea/large/banner")
        >>> action.offer_id, action.creative_id, action.placement_id
        ('tea', 'large', 'banner')
        >>> action_called("a/b/c//").offer_id
        'a/b/c'
    """
    if name == NO_OFFER_NAME:
        return Action(NO_OFFER, "", "", "", features)
    if name.count("/") < 2:
        return Action(1, name, "", "", features)
    offer_id, creative_id, placement_id = name.rsplit("/", 2)
    return Action(1, offer_id, creative_id, placement_id, features)


def nested(features: Features, literal: Collection[str] = ()) -> dict[str, Any]:
    """Return features as JSON has them, by their namespaces.

    A category becomes a text under its name, unless it is `literal`: one that a file
    had as the name of a number. Numbers that stand twice are added.

    Examples:
        >>> nested((("User^age", 3.0), ("plan=free", 1.0), ("new", 1.0)))
        {'plan': 'free', 'new': 1.0, 'User': {'age': 3.0}}
        >>> nested((("plan=free", 1.0),), literal={"plan=free"})
        {'plan=free': 1.0}
    """
    singles: dict[str, Any] = {}
    spaces: dict[str, dict[tuple[str, str | None], float]] = {}
    for name, value in features:
        space, mark, inner = name.partition("^")
        feature = inner if mark else name
        key, equals, category = feature.partition("=")
        is_text = bool(equals and key) and value == 1.0 and name not in literal
        is_text = is_text and not key.startswith("_")
        if mark:
            within = spaces.setdefault(space, {})
            entry = (key, category) if is_text else (feature, None)
            within[entry] = value + (0.0 if is_text else within.get(entry, 0.0))
        elif is_text and key not in singles:
            singles[key] = category
        else:
            before = singles.get(name, 0.0)
            # A number and a text cannot both be under one name.
            if isinstance(before, str):
                singles[f"{name}={before}"], before = 1.0, 0.0
            singles[name] = before + value
    return singles | {space: _object(within) for space, within in spaces.items()}


def _object(entries: dict[tuple[str, str | None], float]) -> Any:
    """Return a namespace, in which several texts may be under one name."""
    pairs = [
        (key, value if text is None else text) for (key, text), value in entries.items()
    ]
    unique = dict(pairs)
    if len(unique) == len(pairs):
        return unique
    encode = msgspec.json.encode
    inside = b",".join(encode(key) + b":" + encode(value) for key, value in pairs)
    return msgspec.Raw(b"{" + inside + b"}")
