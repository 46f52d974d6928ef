"""What outcomes do to histories, and to what was held of inventories and budgets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from policies.catalogue import Catalogue
from policies.gates import Ruling
from policies.history import CONFIRMING, Chosen, Memory, report
from policies.model import NO_OFFER, Decision, History, Outcome
from server.stores.base import NO_SETTLEMENT, Fold, Histories, Settlement

__all__ = ["Report", "fold_of"]


class Report:
    """A decision that outcomes are reported of.

    Args:
        decision: The decision.
        catalogue: The catalogue of that decision.

    Attributes:
        offer_id: The offer that was chosen; none for no offer.
        chosen: What histories remember of it; none for no offer.
        hold_ms: How long inventories and budgets wait for an accept once it is shown.
    """

    def __init__(self, decision: Decision, catalogue: Catalogue) -> None:
        self.decision = decision
        self.offer_id: str | None = None
        self.chosen: Chosen | None = None
        self.hold_ms = 0
        if decision.chosen != NO_OFFER:
            action = catalogue.actions[decision.chosen]
            self.offer_id = action.offer_id
            self.chosen = catalogue.chosen(action)
            self.hold_ms = int(catalogue.offers[action.offer_id].spec.hold)

    def why_gone(
        self, why: Ruling | None, known: Sequence[Outcome], told: Sequence[Outcome]
    ) -> Ruling | None:
        """Say why the offer cannot be had, once something is told about it.

        Args:
            why: What spoke against it before that; none where nothing did.
            known: What was known of the decision before.
            told: What is told.
        """
        if any(outcome.kind == "shown" for outcome in told):
            shown_ms = [o.at_ms for o in (*known, *told) if o.kind == "shown"]
            if min(shown_ms) >= self.decision.valid_until_ms:
                return Ruling("EXPIRED")
        if self._is_awaited(why, known):
            return None
        return why

    def _is_awaited(self, why: Ruling | None, known: Sequence[Outcome]) -> bool:
        """Say whether what it gives is pending because this very offer was accepted."""
        if why is None or why.reason != "PENDING_PURCHASE" or self.chosen is None:
            return False
        accepted_ms = [o.at_ms for o in known if o.kind == "accepted"]
        until_ms = [at_ms + self.chosen.pending_ms for at_ms in accepted_ms]
        return why.next_eligible_ms in until_ms


def fold_of(
    about: Report,
    memory: Memory,
    gone: Callable[[Histories], Ruling | None] = lambda _: None,
) -> Fold:
    """Return what folds outcomes of a decision into histories.

    Args:
        about: The decision.
        memory: What is to be remembered.
        gone: Says of a past why its offer cannot be had; none where it can.
    """

    def fold(
        past: Histories, known: Sequence[Outcome], news: Sequence[Outcome]
    ) -> tuple[Histories, Settlement]:
        if about.chosen is None:
            return past, NO_SETTLEMENT
        in_vain = (
            any(outcome.kind == "accepted" for outcome in news)
            and about.why_gone(gone(past), known, news) is not None
        )
        chosen = about.chosen
        if in_vain:
            chosen = chosen._replace(grants=(), shared=())

        def folded(history: History, *, account: bool) -> History:
            return _folded(
                history,
                about.decision.opportunity.decision_id,
                chosen,
                memory,
                known=known,
                news=news,
                account=account,
            )

        user = folded(past.user, account=False)
        account = past.account and folded(past.account, account=True)
        settlement = _settlement(about, known, news, in_vain=in_vain)
        return Histories(user, account), settlement

    return fold


def _folded(
    history: History,
    decision_id: str,
    chosen: Chosen,
    memory: Memory,
    *,
    known: Sequence[Outcome],
    news: Sequence[Outcome],
    account: bool,
) -> History:
    confirmed = any(outcome.kind in CONFIRMING for outcome in known)
    for outcome in news:
        history = report(
            history,
            chosen,
            decision_id,
            outcome,
            memory,
            confirmed=confirmed,
            account=account,
        )
        confirmed = confirmed or outcome.kind in CONFIRMING
    return history


def _settlement(
    about: Report,
    known: Sequence[Outcome],
    news: Sequence[Outcome],
    *,
    in_vain: bool,
) -> Settlement:
    """Charge at the accept, give back what is paid back, hold while it may be had."""
    kinds = {outcome.kind for outcome in news}
    before = {outcome.kind for outcome in known}
    if "refunded" in kinds:
        return Settlement("refund")
    if "accepted" in kinds:
        return Settlement("release" if in_vain else "charge")
    if "accepted" in before:
        return NO_SETTLEMENT
    if kinds & {"dismissed", "opted_out"}:
        return Settlement("release")
    confirmed = bool(before & CONFIRMING)
    if "not_shown" in kinds and not confirmed and not kinds & CONFIRMING:
        return Settlement("release")
    shown = [outcome.at_ms for outcome in news if outcome.kind in CONFIRMING]
    if shown and not confirmed:
        return Settlement("extend", max(shown) + about.hold_ms)
    return NO_SETTLEMENT
