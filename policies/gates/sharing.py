"""Which gates several offers have, so that each is asked once and not once an offer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from policies.gates.base import Gate

__all__ = ["Ask", "Share", "Shares", "share"]


class Share(NamedTuple):
    """The gates of an offer, by how they are asked.

    Attributes:
        bits: Those that other offers have as well, by bits that `Shares.gates` numbers
            from 1; bit 0 is set where it has gates of its own.
        own: Those that no other offer has, and those of other packages.
        past: Those that only a past with the very offer makes reject.
    """

    bits: int
    own: tuple[Gate, ...]
    past: tuple[Gate, ...]


class Ask(NamedTuple):
    """All that is to be asked about an action, at hand at once.

    Attributes:
        place: The number of what its placement's gates are asked once for: a placement
            and, of it, the offers that go past caps or the others.
        bits: As `Share.bits`.
        gates: Those of scope `action`.
    """

    place: int
    offer_id: str
    bits: int
    gates: tuple[Gate, ...]


class Shares(NamedTuple):
    """The gates of all offers.

    Attributes:
        gates: Those that several offers have: the first is that of bit 1.
        of: What each offer has.
    """

    gates: tuple[Gate, ...]
    of: Mapping[str, Share]


def share(offers: Mapping[str, Sequence[Gate]], alike: Sequence[type[Gate]]) -> Shares:
    """Arrange the gates of offers, of which equal ones are one object.

    Args:
        offers: By id, the gates of scope `offer` that are asked of them.
        alike: The kinds by which offers fare alike that have equal ones; bits are asked
            in their order.

    Examples:
        >>> from policies.gates.dates import Dates
        >>> from policies.gates.snooze import Snoozed
        >>> spring, autumn, snoozed = Dates(end_ms=1), Dates(end_ms=2), Snoozed()
        >>> offers = {"tea": [spring, snoozed], "jam": [spring, autumn]}
        >>> gates, of = share(offers, [Dates])
        >>> gates == (spring,), of["jam"] == Share(0b11, (autumn,), ())
        (True, True)
        >>> of["tea"] == Share(0b10, (), (snoozed,))
        True
    """
    ranks = {kind: rank for rank, kind in enumerate(alike)}
    often = Counter([id(gate) for gates in offers.values() for gate in gates])
    several = {
        id(gate): gate
        for gates in offers.values()
        for gate in gates
        if often[id(gate)] > 1 and type(gate) in ranks
    }
    ordered = sorted(several.values(), key=lambda gate: ranks[type(gate)])
    bits = {id(gate): 2 << at for at, gate in enumerate(ordered)}
    of: dict[str, Share] = {}
    for offer_id, gates in offers.items():
        own = tuple([g for g in gates if id(g) not in bits and not g.of_history])
        past = tuple([gate for gate in gates if gate.of_history])
        # A set, for an offer may have two gates that are equal.
        shared = sum({bits.get(id(gate), 0) for gate in gates})
        of[offer_id] = Share(shared + bool(own), own, past)
    return Shares(tuple(ordered), of)
