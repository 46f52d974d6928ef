"""Names decisions, so that a retry finds its first try and a decision its root.

The root is the key under which state lives: the account, or the user where there
is none. Its key is a digest, the same length for all, and begins the id of every
decision under it, so that an id routes to its root without a look-up.
"""

from __future__ import annotations

import re
from hashlib import blake2b

__all__ = ["decision_id", "is_decision_id", "root_key", "root_of"]

_ROOT_BYTES = 8
_REQUEST_BYTES = 10
_DECISION_ID = re.compile(r"[0-9a-f]{36}")


def root_key(tenant: str, account_id: str, user_id: str) -> str:
    """Return the key of the account or, where it is empty, of the user.

    Examples:
        >>> root_key("shop", "", "ada")
        'd1a4027154a1f520'
        >>> root_key("shop", "ada", "bob") == root_key("shop", "", "ada")
        False
    """
    kind, name = ("account", account_id) if account_id else ("user", user_id)
    return _digest(_ROOT_BYTES, tenant, kind, name)


def decision_id(root: str, user_id: str, request_id: str, slot: int = 0) -> str:
    """Return the id of a decision that a user's request is answered with.

    Args:
        root: The key of the root.
        user_id: The user.
        request_id: The request.
        slot: Which of the request's decisions it is, from 0.
    """
    parts = (root, user_id, request_id, *([str(slot)] if slot else []))
    return root + _digest(_REQUEST_BYTES, *parts)


def root_of(decision_id: str) -> str:
    """Return the key of the root that a decision lives under."""
    return decision_id[: 2 * _ROOT_BYTES]


def is_decision_id(text: str) -> bool:
    """Say whether the text could be the id of a decision."""
    return _DECISION_ID.fullmatch(text) is not None


def _digest(size: int, *parts: str) -> str:
    # Each part is preceded by its length, so that no two lists of parts are alike.
    joined = "".join([f"{len(part)}:{part}" for part in parts])
    return blake2b(joined.encode(), digest_size=size).hexdigest()
