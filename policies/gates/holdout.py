"""Some users never see an offer, so that it can be said what offers are worth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import ClassVar, Self

from policies.gates.base import Because, Facts, Ruling, Scope, Situation
from policies.gates.wording import percent
from policies.model import Action

__all__ = ["Holdout", "held_out"]

_HELD_OUT = Ruling("HOLDOUT")
_KEY_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdout:
    """Rules everything out for a share of the users, always the same ones.

    The first 64 bits of a keyed hash of the user's id, as a fraction of 2**64, say who.
    They do not depend on the share: whoever is held out with a small one is with a
    larger one, too.

    Attributes:
        share: How many are held out, above 0 to 1.
        salt: The key, of which 64 bytes count: another salt, other users.
    """

    name: ClassVar[str] = "holdout"
    scope: ClassVar[Scope] = "placement"
    of_history: ClassVar[bool] = False
    bypassed: ClassVar[bool] = False
    indexed: ClassVar[bool] = False

    share: float
    salt: str

    @classmethod
    def of(cls, facts: Facts) -> Iterator[Self]:
        """Make one where users are held out."""
        spec = facts.catalogue.holdout
        if spec.share > 0:
            yield cls(share=spec.share, salt=spec.salt)

    def reject(self, action: Action, situation: Situation) -> Ruling | None:
        """Return HOLDOUT."""
        del action
        user_id = situation.opportunity.user_id
        return _HELD_OUT if held_out(user_id, self.share, self.salt) else None

    def because(self, action: Action, situation: Situation) -> Because:
        """Return how many others there are."""
        del action
        held = (
            f"user {situation.opportunity.user_id} is among the {percent(self.share)}"
        )
        return Because(f"{held} that are held out", "a user who is not held out")


def held_out(user_id: str, share: float, salt: str) -> bool:
    """Say whether a user is among those who never see an offer."""
    return _drawn(user_id, salt) < share * 2**64


@lru_cache(maxsize=1_024)  # Each placement that a user has asked for wants to know.
def _drawn(user_id: str, salt: str) -> int:
    key = salt.encode()[:_KEY_MAX]
    digest = blake2b(user_id.encode(), key=key, digest_size=8).digest()
    return int.from_bytes(digest, "big")
