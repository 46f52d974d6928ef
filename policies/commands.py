"""What a product tells of its users, beside the outcomes of decisions.

Each command changes the history of one user or of one account; `policies.profiles`
folds them. They are what the ledger holds, as JSON under the names they have here.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from policies.model import QuietHours

__all__ = [
    "Command",
    "Engagement",
    "LeaseBegin",
    "LeaseEnd",
    "LifeChange",
    "Notice",
    "PreferencesChange",
    "StateChange",
    "UserEvent",
    "UserEventKind",
]

Engagement = Literal["", "low", "normal", "high"]
"""How much a user uses the product; empty where the catalogue's rules decide."""

UserEventKind = Literal[
    "purchased",
    "cancelled",
    "contacted",
    "rated",
    "complained",
    "ticket_opened",
    "ticket_closed",
    "uninstalled",
]


class _Command(
    msgspec.Struct,
    frozen=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="command",
):
    """Something to fold; what is left at its default changes nothing."""


class LifeChange(
    msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True
):
    """Something that begins or ends with a user or an account.

    Attributes:
        active: Whether it begins, or goes on; else it is over.
        until_ms: For what begins, when it ends by itself; none for not.
        topics: The categories that it is about.
        negative: For what is over, whether it ended badly.
    """

    active: bool
    until_ms: int | None = None
    topics: tuple[str, ...] = ()
    negative: bool = False


class StateChange(_Command, frozen=True, tag="set_state"):
    """What is so of a user or an account from now on.

    Attributes:
        at_ms: When it was told.
        role: What the user may do in the account; none to leave it.
        engagement: How much they use the product; none to leave it.
        value_discovered: Whether they have found what the product is good for; none
            to leave it.
        added: The products that they have now.
        removed: The products that they do not have any more, nor are about to.
        pending: The products that they are about to have.
        pending_until_ms: Until when that is believed; given with `pending`.
        life: What begins or ends, by the name of the life-state.
    """

    at_ms: int
    role: str | None = None
    engagement: Engagement | None = None
    value_discovered: bool | None = None
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    pending_until_ms: int | None = None
    life: dict[str, LifeChange] = {}


class PreferencesChange(_Command, frozen=True, tag="set_preferences"):
    """What a user asks for from now on.

    Attributes:
        at_ms: When it was told.
        opt_out: What is not to be shown any more: `category:NAME`, `offer:NAME`, or
            `all`.
        opt_in: What may be shown again, named alike; nothing is in both.
        zone: The IANA name of their time zone, empty for the catalogue's; none to
            leave it.
        quiet: When not to be disturbed; none to leave it.
        quiet_cleared: Whether the catalogue's quiet hours apply again.
    """

    at_ms: int
    opt_out: tuple[str, ...] = ()
    opt_in: tuple[str, ...] = ()
    zone: str | None = None
    quiet: QuietHours | None = None
    quiet_cleared: bool = False


class LeaseBegin(_Command, frozen=True, tag="begin_critical"):
    """A critical workflow begins, or goes on.

    Attributes:
        at_ms: When it was told.
        key: Names the workflow among those of the user or the account.
        until_ms: When it ends by itself.
        inline: Whether offers that interrupt nothing may be shown meanwhile.
    """

    at_ms: int
    key: str
    until_ms: int
    inline: bool = False


class LeaseEnd(_Command, frozen=True, tag="end_critical"):
    """A critical workflow is over.

    Attributes:
        at_ms: When it was told.
        key: Names the workflow.
    """

    at_ms: int
    key: str


class UserEvent(_Command, frozen=True, tag="record_event"):
    """Something that happened outside of the offers.

    Attributes:
        at_ms: When it happened; not after it was told.
        products: For `purchased` and `cancelled`, which; at least one.
        categories: For `contacted` and `ticket_opened`, what it was about; nothing
            for all categories.
        channel: For `contacted`, through what.
        score: For `rated`, from 0, the worst, to 1.
        negative: For `ticket_closed`, whether it ended badly.
    """

    at_ms: int
    kind: UserEventKind
    products: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    channel: str = ""
    score: float | None = None
    negative: bool = False


Command = StateChange | PreferencesChange | LeaseBegin | LeaseEnd | UserEvent


class Notice(msgspec.Struct, frozen=True):
    """A command, of whom it is, and who says so.

    Attributes:
        user_id: The user; empty for what is so of the account itself.
        account_id: The account; empty for a user who stands alone.
        event_id: What a repeat is known by, among those of the same root.
        source: Who says so; empty where they did not tell.
        told_ms: When it was told.
    """

    user_id: str
    account_id: str
    event_id: str
    source: str
    told_ms: int
    command: Command
