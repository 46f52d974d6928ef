"""Which users teach, and which are there to find out what was learned."""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from policies.model import Split

__all__ = ["SplitSettings"]

_KEY_MAX = 64


class SplitSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which users are kept from the learner, always the same ones.

    A keyed hash of the user's id says who, and not the shares: whoever is in a small
    one is in a larger one, too. Users whom the catalogue holds out are in none of them.

    Examples:
        >>> SplitSettings().of("ada")
        'train'
        >>> SplitSettings(eval=0.5, control=0.5).of("ada")
        'eval'
    """

    eval: float = 0.0
    """The share of users who are served like all others and teach nothing: 0 to 1."""

    control: float = 0.0
    """The share of users for whom nothing that was learned counts: 0 to 1, with `eval`
    at most 1. They are offered what has the highest priority, and teach nothing."""

    salt: str = "split"
    """What chooses them, 1 to 64 bytes in UTF-8: another salt, other users."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        for name in ("eval", "control"):
            share = getattr(self, name)
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"{name} must be from 0 to 1, not {share}")
        if self.eval + self.control > 1.0:
            raise ValueError(
                f"control must be at most 1 together with eval, {self.eval},"
                f" not {self.control}"
            )
        if not 1 <= len(self.salt.encode()) <= _KEY_MAX:
            raise ValueError(f"salt must be from 1 to 64 bytes, not {self.salt!r}")

    def of(self, user_id: str) -> Split:
        """Return which part of the users somebody belongs to."""
        if not (self.eval or self.control):
            return "train"
        key = self.salt.encode()
        digest = blake2b(user_id.encode(), key=key, digest_size=8).digest()
        at = int.from_bytes(digest, "big") / 2**64
        if at < self.eval:
            return "eval"
        return "control" if at >= 1.0 - self.control else "train"
