"""What outcomes are worth, by settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from policies.model import OutcomeKind
from policies.toml import Duration

__all__ = [
    "CLAWBACKS",
    "DEFAULT_WORTH",
    "REWARD_MAX",
    "REWARD_WAIT_MAX_MS",
    "REWARD_WAIT_MIN_MS",
    "Aggregate",
    "Amount",
    "RewardSettings",
    "Worth",
    "check_outcomes",
]

_DAY_MS = 86_400_000
REWARD_WAIT_MIN_MS = 60_000
REWARD_WAIT_MAX_MS = 90 * _DAY_MS

Aggregate = Literal["earliest", "sum", "max", "min", "mean", "median"]
"""How several rewards of one decision become one."""

REWARD_MAX = 1e12
"""The largest number of rewards' settings: with any amount of money it stays finite."""

CLAWBACKS: frozenset[OutcomeKind] = frozenset(["refunded", "downgraded", "churned"])
"""What takes back what was earned; alone it settles nothing."""


class Amount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A reward that is computed from money.

    It is `plus` + `factor` × the amount in minor units of the catalogue's currency.

    Attributes:
        money: Which amount: `revenue`, what the outcome reports that the user paid, or
            else the offer's price; `margin`, what the outcome reports, or else the
            offer's margin; or `price`, the offer's in any case.
        factor: The reward of one minor unit; with 0.01 a unit of the currency earns 1.
        plus: What is earned whatever the amount.
        unknown: The reward where the amount is not known: nobody reports it and the
            offer does not have it, or there is no rate for its currency.
    """

    money: Literal["revenue", "margin", "price"]
    factor: float = 0.01
    plus: float = 0.0
    unknown: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be a reward."""
        for name in ("factor", "plus", "unknown"):
            _check_number(name, getattr(self, name))


Worth = float | Amount
"""What an outcome is worth: a number, or computed from money."""

DEFAULT_WORTH: Mapping[OutcomeKind, Worth] = {
    "accepted": 1.0,
    "converted": 1.0,
    "dismissed": -0.2,
    "snoozed": 0.0,
    "opted_out": -1.0,
    "refunded": 0.0,
    "downgraded": 0.0,
    "churned": 0.0,
}


class RewardSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What each outcome is worth, and how long to wait for one.

    Attributes:
        outcomes: The reward of each outcome that settles a decision: a finite number,
            or computed from money, as in `accepted = { money = "margin" }`; see
            Amount. Those that are not named have their defaults: accepted 1, converted
            1, dismissed -0.2, snoozed 0, opted_out -1; clicked, viewed and ignored
            settle nothing. Refunded, downgraded and churned take back: a number, by
            default 0, takes the place of what was earned, where that was more; an
            amount of money is taken off it. An offer of the catalogue may have
            `rewards` of its own.
        default: What an offer that was shown earns if no outcome settles it, less the
            attention cost, a finite number. Silence earns 0 then.
        aggregate: How several rewards of one decision become one: the `earliest` by
            the user's time, or their `sum`, `max`, `min`, `mean` or `median`. What
            comes after the first reward was learned is learned as a correction.
        attention_cost: What it costs to show an offer in a placement whose
            `interruptiveness` is 1, 0 or more; twice as interruptive, twice as much.
            Silence is free.
        attention_costs: What it costs by the kind of the placement, `modal`, `banner`
            or `inline`, each 0 or more; a kind that is named here costs this, whatever
            its interruptiveness.
        wait: How long after it was shown a decision waits for an outcome, above 0 to
            90d. An offer may have a `reward_wait` of its own.
        late: For how long after the wait an outcome still corrects what was learned;
            what comes later is logged and counted as revenue, and teaches nothing. 0s
            for no corrections.
        clawback: For how long after what was earned a refund, a downgrade or a churn
            takes it back; 0s for never.
        settle: When an outcome settles a decision: `at_once`, or `after_wait`, together
            with those that none comes for. At once learns sooner. But then good news
            travels faster than no news, and what was chosen last looks better than it
            is; with a short wait, wait.
        silence_confirms_itself: Whether a decision for no offer counts as carried
            out without a report. If not, it trains only when it is reported shown.
        rates: What one minor unit of a currency is worth in minor units of the
            catalogue's, by its three letters, above 0, as in `EUR = 1.08, JPY = 0.64`
            for a catalogue in USD. None are fetched. The catalogue's own counts 1.
        clip_min: The least reward that is learned; none for no limit.
        clip_max: The most; none for no limit, not below `clip_min`.
        clip_quantile: Rewards are learned no further out than this quantile of the last
            1,000, nor than its counterpart at the other end: above 0.5, below 1; none
            for no such limit. It begins after 100.
        attribution: For how long after an offer was shown what was bought of it is
            attributed to it in the table of revenue, above 0.
    """

    outcomes: dict[OutcomeKind, Worth] = {}
    default: float = 0.0
    aggregate: Aggregate = "earliest"
    attention_cost: float = 0.01
    attention_costs: dict[Literal["modal", "banner", "inline"], float] = {}
    wait: Duration = Duration(600_000)
    late: Duration = Duration(90 * _DAY_MS)
    clawback: Duration = Duration(30 * _DAY_MS)
    settle: Literal["at_once", "after_wait"] = "at_once"
    silence_confirms_itself: bool = False
    rates: dict[str, float] = {}
    clip_min: float | None = None
    clip_max: float | None = None
    clip_quantile: float | None = None
    attribution: Duration = Duration(30 * _DAY_MS)

    def __post_init__(self) -> None:
        """Refuse what cannot be a reward."""
        check_outcomes(self.outcomes)
        _check_number("default", self.default)
        self._check_costs()
        if not 0 < self.wait <= REWARD_WAIT_MAX_MS:
            raise ValueError(f"wait must be above 0 to 90d, not {self.wait.text}")
        if self.attribution <= 0:
            raise ValueError("attribution must be above 0")
        for currency, rate in self.rates.items():
            if not (len(currency) == 3 and currency.isascii() and currency.isupper()):
                raise ValueError(
                    f"rates.{currency} must be for three letters, such as EUR"
                )
            if not 0.0 < rate <= REWARD_MAX:
                raise ValueError(
                    f"rates.{currency} must be above 0, to {REWARD_MAX:g}, not {rate}"
                )
        self._check_clips()

    def _check_costs(self) -> None:
        costs = {f"attention_costs.{k}": c for k, c in self.attention_costs.items()}
        for name, cost in {"attention_cost": self.attention_cost, **costs}.items():
            if not 0.0 <= cost <= REWARD_MAX:
                raise ValueError(f"{name} must be 0 to {REWARD_MAX:g}, not {cost}")

    def _check_clips(self) -> None:
        for name in ("clip_min", "clip_max"):
            limit = getattr(self, name)
            if limit is not None:
                _check_number(name, limit)
        if (
            self.clip_min is not None
            and self.clip_max is not None
            and self.clip_max < self.clip_min
        ):
            raise ValueError(
                f"clip_max must not be below clip_min, {self.clip_min}, as"
                f" {self.clip_max} is"
            )
        if self.clip_quantile is not None and not 0.5 < self.clip_quantile < 1.0:
            raise ValueError(
                f"clip_quantile must be above 0.5 and below 1, not {self.clip_quantile}"
            )

    def of(self, kind: OutcomeKind) -> Worth | None:
        """Return what an outcome is worth; none where it settles nothing.

        Examples:
            >>> RewardSettings().of("accepted"), RewardSettings().of("clicked")
            (1.0, None)
        """
        return self.outcomes.get(kind, DEFAULT_WORTH.get(kind))


def check_outcomes(outcomes: Mapping[OutcomeKind, Worth], of: str = "outcomes") -> None:
    """Refuse rewards of what earns none.

    Args:
        outcomes: What outcomes are worth.
        of: What to call them.

    Raises:
        ValueError: If there are any.
    """
    for kind, worth in outcomes.items():
        if kind in ("shown", "not_shown"):
            raise ValueError(f"{of}: {kind} is no outcome that earns a reward")
        if isinstance(worth, float):
            _check_number(f"{of}.{kind}", worth)


def _check_number(name: str, value: float) -> None:
    if not -REWARD_MAX <= value <= REWARD_MAX:
        raise ValueError(
            f"{name} must be finite, from {-REWARD_MAX:g} to {REWARD_MAX:g}, not"
            f" {value}"
        )
