"""Shares of users: who is in one stays in it."""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["place_of"]

_BITS = 2**64


def place_of(root: str, salt: str) -> float:
    """Return where a user or account stands among all, evenly from 0 to below 1.

    The same for the same root and salt, on every machine and for ever; of another salt
    it says nothing.

    Args:
        root: The root.
        salt: What the share is of, at most 64 bytes in UTF-8.

    Examples:
        >>> place_of("ada", "canary") == place_of("ada", "canary")
        True
    """
    digest = blake2b(root.encode(), digest_size=8, key=salt.encode()).digest()
    return int.from_bytes(digest) / _BITS
