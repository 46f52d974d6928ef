"""Holds users back in the ways that any offer must respect.

Whatever an offer is for, a user who has seen it as often as its caps allow, who put it
off, who is in the middle of something critical, or who wants no offers, gets nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from examples.scenarios.comparing import reason_of
from examples.scenarios.player import Player
from examples.scenarios.script import Ask, Step, Tell, Workflow
from examples.scenarios.serving import Served
from policies.toml import Duration

__all__ = ["GUARDS", "Guard", "hold"]

_HOUR_MS = 3_600_000
_SHOWS_MAX = 12


class Guard(NamedTuple):
    """A way of holding a user back.

    Attributes:
        name: What it is called.
        begin: Does what holds the user back.
        reasons: The reasons that may be given for the silence.
    """

    name: str
    begin: Callable[[Player, Served, Step, Ask], Awaitable[None]]
    reasons: frozenset[str]


async def hold(guard: Guard, served: Served, step: Step) -> tuple[list[str], list[str]]:
    """Hold a user back, and ask for what the step expects.

    Args:
        guard: How to hold them back.
        served: A server that has not heard of them yet.
        step: A step that expects an offer.

    Returns:
        The reasons for the silence, and what was not as it must be.
    """
    if step.ask is None:
        raise ValueError(f"{step.title}: there is nothing to ask")
    player = Player(served)
    ask = msgspec.structs.replace(step.ask, offers=step.expect.chosen)
    await player.tell(step)
    await guard.begin(player, served, step, ask)
    decision = (await player.ask(step, ask))[0]
    if decision.offer_id:
        return [], [f"{guard.name}: {decision.offer_id} came all the same"]
    rejections = await player.why_not(decision)
    reasons = sorted({reason_of(rejection.reason) for rejection in rejections})
    wrong = [reason for reason in reasons if reason not in guard.reasons]
    return reasons, [f"{guard.name}: held back by {reason}" for reason in wrong]


async def _see(player: Player, served: Served, step: Step, ask: Ask) -> None:
    """See it hour by hour until it does not come any more."""
    for _ in range(_SHOWS_MAX):
        decisions = await player.ask(step, ask)
        if not decisions[0].offer_id:
            return
        for decision in decisions:
            if decision.offer_id:
                await player.report(step.user, decision, ["shown"])
        served.clock.now_ms += _HOUR_MS


async def _put_off(player: Player, served: Served, step: Step, ask: Ask) -> None:
    for decision in await player.ask(step, ask):
        if decision.offer_id:
            await player.report(step.user, decision, ["shown", "snoozed 7d"])
    served.clock.now_ms += 24 * _HOUR_MS


async def _enter(player: Player, served: Served, step: Step, ask: Ask) -> None:
    del served, ask
    enters = Workflow("something_critical", Duration(_HOUR_MS))
    await player.tell(msgspec.structs.replace(step, tell=Tell(enters=enters)))


async def _opt_out(player: Player, served: Served, step: Step, ask: Ask) -> None:
    del served, ask
    await player.tell(msgspec.structs.replace(step, tell=Tell(opts_out=("all",))))


GUARDS = (
    Guard("cap", _see, frozenset(["FREQUENCY_CAP", "ALREADY_THIS_CYCLE"])),
    # Who has put an offer off has seen it, and may not see it twice in a cycle anyway.
    Guard("snooze", _put_off, frozenset(["SNOOZED", "ALREADY_THIS_CYCLE"])),
    Guard("critical workflow", _enter, frozenset(["CRITICAL_WORKFLOW"])),
    Guard("opt-out", _opt_out, frozenset(["OPTED_OUT"])),
)
"""All the ways."""
