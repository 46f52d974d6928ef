"""Which gates several offers have, so that each is asked once and not once an offer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from policies.gates.base import Gate

__all__ = ["Share", "Shares", "share"]


class Share(NamedTuple):
    """The gates of an offer, by how they are asked.

    Attributes:
        bits: Those that other offers have as well, by bits that `Shares.gates` numbers.
        own: Those that no other offer has, and those of other packages.
        past: Those that only a past with the very offer makes reject.
    """

    bits: int
    own: tuple[Gate, ...]
    past: tuple[Gate, ...]


class Shares(NamedTuple):
    """The gates of all offers.

    Attributes:
        gates: Those that several offers have, by the numbers of their bits.
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
        >>> gates == (spring,), of["jam"] == Share(1, (autumn,), ())
        (True, True)
        >>> of["tea"] == Share(1, (), (snoozed,))
        True
    """
    ranks = {kind: rank for rank, kind in enumerate(alike)}
    often = Counter([id(gate) for gates in offers.values() for gate in gates])
    shared = {
        id(gate): gate
        for gates in offers.values()
        for gate in gates
        if often[id(gate)] > 1 and type(gate) in ranks
    }
    ordered = sorted(shared.values(), key=lambda gate: ranks[type(gate)])
    bits = {id(gate): 1 << at for at, gate in enumerate(ordered)}
    return Shares(
        tuple(ordered),
        {
            offer_id: Share(
                sum([bits.get(id(gate), 0) for gate in gates]),
                tuple([g for g in gates if id(g) not in bits and not g.of_history]),
                tuple([gate for gate in gates if gate.of_history]),
            )
            for offer_id, gates in offers.items()
        },
    )
