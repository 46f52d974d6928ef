"""What a user is promised, and a memory that notices when it is not kept.

The offers have windows of seconds, so that a load test of a minute sees many of them
end. What the server promises is written down here a second time, without its code.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["MOMENT", "OFFERS", "PLACEMENT", "Memory", "Offer", "catalogue_text"]

PLACEMENT = "panel"
MOMENT = "limit_near"
VALID_FOR_S = 5


class Offer(NamedTuple):
    """An offer, and what is promised of it.

    Attributes:
        limit: How many impressions a user sees within the window, at most.
        window_s: The window.
        cool_down_s: How long a user who dismissed it does not see it.
        moment_only: Whether it is for moments of the kind `MOMENT` alone.
    """

    limit: int
    window_s: int
    cool_down_s: int
    moment_only: bool = False


OFFERS = {
    f"offer-{number}": Offer(
        limit=1 + number % 3,
        window_s=4 + number % 7,
        cool_down_s=5 + number % 11,
        moment_only=number % 4 == 0,
    )
    for number in range(24)
}


def catalogue_text() -> str:
    """Return the catalogue that makes these promises."""
    parts = [
        f'valid_for = "{VALID_FOR_S}s"\n',
        '[features]\nage_days = { type = "number" }\n',
        f"[placements.{PLACEMENT}]\n",
    ]
    for name, offer in OFFERS.items():
        rule = (
            f"eligible = \"moment.kind == '{MOMENT}'\"\n" if offer.moment_only else ""
        )
        parts.append(
            f"[offers.{name}]\n"
            f'placements = ["{PLACEMENT}"]\n'
            f'caps = [{{ limit = {offer.limit}, window = "{offer.window_s}s" }}]\n'
            f'dismissal_cool_down = "{offer.cool_down_s}s"\n'
            f"{rule}"
        )
    return "\n".join(parts)


class Memory:
    """What one user has seen. Times are milliseconds since 1970.

    Examples:
        >>> memory = Memory({"tea": Offer(limit=1, window_s=10, cool_down_s=60)})
        >>> memory.decided("d1", "tea", at_ms=0, until_ms=5_000, moment="")
        []
        >>> memory.shown("d1", at_ms=1_000)
        >>> memory.decided("d2", "tea", at_ms=10_999, until_ms=15_999, moment="")
        ['tea: 1 impressions of 1 within 10 s, and it came again']
    """

    def __init__(self, offers: dict[str, Offer]) -> None:
        self._offers = offers
        self._offer_of: dict[str, str] = {}
        self._impressions: dict[str, int] = {}
        self._reservations: dict[str, int] = {}
        self._dismissed: dict[str, int] = {}

    def decided(
        self, decision_id: str, offer_id: str, *, at_ms: int, until_ms: int, moment: str
    ) -> list[str]:
        """Remember that an offer was decided; return which promises that breaks."""
        offer = self._offers[offer_id]
        broken: list[str] = []
        counted = self._counted(offer_id, offer, at_ms)
        if counted >= offer.limit:
            broken.append(
                f"{offer_id}: {counted} impressions of {offer.limit} within"
                f" {offer.window_s} s, and it came again"
            )
        dismissed_ms = self._dismissed.get(offer_id)
        if (
            dismissed_ms is not None
            and at_ms < dismissed_ms + offer.cool_down_s * 1_000
        ):
            passed_ms = at_ms - dismissed_ms
            broken.append(f"{offer_id}: came {passed_ms} ms after it was dismissed")
        if offer.moment_only and moment != MOMENT:
            broken.append(f"{offer_id}: is not for the moment {moment!r}")
        self._offer_of[decision_id] = offer_id
        self._reservations[decision_id] = until_ms
        return broken

    def shown(self, decision_id: str, *, at_ms: int) -> None:
        """Remember that it was rendered."""
        del self._reservations[decision_id]
        self._impressions[decision_id] = at_ms

    def not_shown(self, decision_id: str) -> None:
        """Remember that it was not, and never will be."""
        del self._reservations[decision_id]

    def dismissed(self, decision_id: str, *, at_ms: int) -> None:
        """Remember that the user waved it away."""
        self._dismissed[self._offer_of[decision_id]] = at_ms

    def _counted(self, offer_id: str, offer: Offer, at_ms: int) -> int:
        """Return how many impressions count, those still to come among them."""
        since_ms = at_ms - offer.window_s * 1_000
        seen = [d for d, seen_ms in self._impressions.items() if seen_ms > since_ms]
        held = [d for d, until_ms in self._reservations.items() if until_ms > at_ms]
        return sum(self._offer_of[d] == offer_id for d in (*seen, *held))
