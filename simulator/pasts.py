"""What would be remembered of users under another catalogue, decision by decision.

Where a catalogue remembers as the one that decided did, the logged histories are what
would have been known, and they are taken as they are. Where it remembers more or
otherwise, as with a cap that looks further back, histories are folded anew from the
first that was logged of a user: what was decided is reserved, and what was reported
counts from when it happened. What the product itself has told (products, preferences,
tickets, leases, contacts) is taken from the log in any case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from policies.catalogue import Catalogue
from policies.engine import Past
from policies.history import CONFIRMING, Chosen, relevant, report, reserve
from policies.model import NO_HISTORY, NO_OFFER, Decision, History, Outcome

__all__ = ["Pasts", "alike", "prolonged"]


def alike(old: Catalogue, new: Catalogue) -> bool:
    """Say whether two catalogues remember the same of the same decisions."""
    if old.version == new.version:
        return True
    ours, theirs = old.spec, new.spec
    if old.memory != new.memory or (ours.report_grace, ours.provisioned_within) != (
        theirs.report_grace,
        theirs.provisioned_within,
    ):
        return False
    actions = {action.name: action for action in new.actions[NO_OFFER + 1 :]}
    return all(
        old.chosen(action) == new.chosen(actions[action.name])
        for action in old.actions[NO_OFFER + 1 :]
        if action.name in actions
    )


def prolonged(history: History, factor: float) -> History:
    """Return a history whose snoozes last so many times as long.

    Args:
        history: As it was logged.
        factor: How many times, above 0.
    """
    if factor == 1.0 or not history.snoozes:
        return history
    snoozes = {
        offer_id: msgspec.structs.replace(
            snooze,
            until_ms=snooze.at_ms + round(factor * (snooze.until_ms - snooze.at_ms)),
        )
        for offer_id, snooze in history.snoozes.items()
    }
    return msgspec.structs.replace(history, snoozes=snoozes)


class Pasts:
    """What would be known of one root under a catalogue, in the order of time.

    Args:
        catalogue: The catalogue.
        outcomes: By decision, what was reported.
    """

    def __init__(
        self, catalogue: Catalogue, outcomes: Mapping[str, Sequence[Outcome]]
    ) -> None:
        self._catalogue = catalogue
        self._outcomes = outcomes
        self._users: dict[str, History] = {}
        self._account: History | None = None
        self._waiting: list[tuple[int, int, str, str, Chosen, Outcome]] = []
        self._confirmed: set[str] = set()

    def before(self, decision: Decision) -> Past:
        """Return what would be known before a logged decision."""
        asked, memory = decision.opportunity, self._catalogue.memory
        self._catch_up(asked.at_ms)
        user = self._users.get(asked.user_id)
        user = decision.history if user is None else _told(user, decision.history)
        account = self._account
        if account is None:
            account = decision.account
        else:
            account = _told(account, decision.account)
        self._users[asked.user_id] = user
        if asked.account_id:
            self._account = account
        offers = {t.subject.offer_id for h in (user, account) for t in h.tracks}
        return Past(
            relevant(
                user, asked.at_ms, memory, session_id=asked.session_id, offers=offers
            ),
            relevant(account, asked.at_ms, memory, offers=offers, account=True)
            if asked.account_id
            else NO_HISTORY,
            decision.conditions,
        )

    def follow(self, decision: Decision, chosen: Chosen) -> None:
        """Remember what a decision chose, and await what was reported of it.

        Args:
            decision: The decision.
            chosen: What is remembered of its offer.
        """
        asked, memory = decision.opportunity, self._catalogue.memory
        user = self._users[asked.user_id]
        self._users[asked.user_id] = reserve(user, chosen, decision, memory)
        if self._account is not None:
            self._account = reserve(
                self._account, chosen, decision, memory, account=True
            )
        name = asked.decision_id
        for outcome in self._outcomes.get(name, ()):
            place = len(self._waiting)
            waiting = (outcome.at_ms, place, asked.user_id, name, chosen, outcome)
            self._waiting.append(waiting)

    def _catch_up(self, at_ms: int) -> None:
        due = sorted(each for each in self._waiting if each[0] <= at_ms)
        if not due:
            return
        self._waiting = [each for each in self._waiting if each[0] > at_ms]
        memory = self._catalogue.memory
        for _, _, user_id, name, chosen, outcome in due:
            confirmed = name in self._confirmed
            self._users[user_id] = report(
                *(self._users[user_id], chosen, name, outcome, memory),
                confirmed=confirmed,
            )
            if self._account is not None:
                self._account = report(
                    *(self._account, chosen, name, outcome, memory),
                    confirmed=confirmed,
                    account=True,
                )
            if outcome.kind in CONFIRMING:
                self._confirmed.add(name)


def _told(history: History, logged: History) -> History:
    """Return a history with what the product itself has told by now."""
    return msgspec.structs.replace(
        history,
        leases=logged.leases,
        contacts=logged.contacts,
        negative_ms=logged.negative_ms,
        state=logged.state,
        preferences=logged.preferences,
    )
