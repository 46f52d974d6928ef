"""Makes the log of the tutorial on evaluating: a month of a shop that is made up.

Of 1,500 customers, some read, some cook, some have children. What they like is a
table here, and not in the log: it is what an evaluation is to find out. The shop
showed what it believed in, and changed its mind after two weeks.

    python examples/evaluation/make.py

writes `decisions.parquet` beside itself, the same every time.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from policies.model import Action, FloatArray
from simulator import Feedback, Parts
from simulator.logs import write_log

__all__ = ["LIKED", "log", "main"]

FILE = Path(__file__).with_name("decisions.parquet")

OFFERS = ("", "novel", "pans", "blocks", "voucher")
SEGMENTS = ("cooks", "parents", "readers")
LIKED = np.array(
    [
        [0.0, 0.06, 0.24, 0.04, 0.16],
        [0.0, 0.10, 0.06, 0.28, 0.16],
        [0.0, 0.26, 0.05, 0.05, 0.16],
    ]
)
"""How likely a customer of each segment accepts each offer."""

_ANNOYING = np.array([0.0, 0.04, 0.04, 0.04, 0.12])
_MARGINS = np.array([0.0, 4.0, 12.0, 7.0, 1.0])
_VOCABULARY = tuple(
    Action(place, offer, "default", "home", ()) for place, offer in enumerate(OFFERS)
)
_MONDAY_MS = 1_793_577_600_000
_DAY_MS = 86_400_000
_DAYS = 28


def log(n: int = 8_000, users: int = 1_500, seed: int = 0) -> Feedback:
    """Return the log.

    Args:
        n: How many decisions it has.
        users: How many customers they are of.
        seed: Of what is random.
    """
    rng = np.random.default_rng(seed)
    names = rng.integers(2**63, size=users).astype(np.uint64)
    segment_of = rng.integers(len(SEGMENTS), size=users)
    hurried_of = rng.random(users) < 0.3
    whose = rng.integers(users, size=n)
    segment, hurried = segment_of[whose], hurried_of[whose]
    times = _MONDAY_MS + np.sort(rng.integers(_DAYS * _DAY_MS, size=n))
    second = times >= _MONDAY_MS + _DAYS // 2 * _DAY_MS
    by_logger = np.stack([_shares("voucher", 0.5), _shares("novel", 0.6)])
    shares = by_logger[second.astype(int)]
    chosen = (rng.random(n)[:, None] >= shares.cumsum(axis=1)[:, :-1]).sum(axis=1)
    chances = LIKED[segment, chosen] * np.where(hurried, 0.5, 1.25)
    accepted = (rng.random(n) < chances).astype(float)
    dismissed = (rng.random(n) < _ANNOYING[chosen]) * (1.0 - accepted)
    return Feedback(
        positions=np.arange(1, n + 1),
        times_ms=times,
        keys=names[whose],
        loggers=second.astype(np.int32),
        rewards=accepted,
        propensities=shares[np.arange(n), chosen],
        chosen=chosen.astype(np.int32),
        floors=shares.min(axis=1),
        offsets=np.arange(n + 1) * len(OFFERS),
        actions=np.tile(np.arange(len(OFFERS), dtype=np.int32), n),
        probabilities=shares.ravel(),
        contexts=[
            (("constant", 1.0), (f"segment={SEGMENTS[s]}", 1.0), ("hurried", float(h)))
            for s, h in zip(segment, hurried, strict=True)
        ],
        segments=[SEGMENTS[s] for s in segment],
        objectives={
            "accepted": accepted,
            "dismissed": dismissed,
            "margin": accepted * _MARGINS[chosen],
        },
        vocabulary=_VOCABULARY,
        policies=["vouchers", "novels"],
    )


def _shares(offer: str, explored: float) -> FloatArray:
    """Return a policy that likes one offer, and tries the others now and then."""
    shares = np.full(len(OFFERS), explored / len(OFFERS))
    shares[OFFERS.index(offer)] += 1.0 - explored
    return shares


def main() -> None:
    """Write the log."""
    write_log(Parts([log()]), FILE, to="parquet")


if __name__ == "__main__":
    main()
