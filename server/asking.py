"""Questions about one user: why was this (not) shown, and what would be shown now."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence

import msgspec
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from policies import catalogue as catalogues
from policies.catalogue import Catalogue
from policies.engine import (
    Explanation,
    Past,
    Refusal,
    decide,
    explain,
    message_of,
    past_of,
    silence,
)
from policies.engine import eligible as eligible_of
from policies.errors import InvalidRequestError, NotFoundError, Problem
from policies.identity import decision_id, is_decision_id, root_key
from policies.model import (
    NO_HISTORY,
    NO_OFFER,
    PROBABILITY_UNITS,
    Conditions,
    Context,
    Decision,
    FeatureValue,
    Moment,
    Opportunity,
    Usage,
)
from policies.policy import Policy
from server.settings import Settings
from server.stores.base import ServingStore
from server.stores.opening import open_serving

__all__ = [
    "answer",
    "check",
    "explained",
    "feature_of",
    "opportunity_of",
    "usage_of",
]

_USAGE = re.compile(r"([a-z][a-z0-9_]*)=([0-9.]+)(?:/([0-9.]+))?(?:@([+-]?[0-9.]+))?")


async def explained(settings: Settings, name: str) -> tuple[Explanation, Catalogue]:
    """Return why a stored decision was as it was.

    Args:
        settings: Where the store is.
        name: The id of the decision.

    Raises:
        NotFoundError: If there is no such decision.
    """
    store = open_serving(settings.store.url)
    try:
        decision = await store.decision(name) if is_decision_id(name) else None
        if decision is None:
            raise NotFoundError("decision", name)
        catalogue = await _stored(store, decision.catalogue)
        return explain(decision, catalogue), catalogue
    finally:
        await store.close()


async def check(
    settings: Settings,
    opportunity: Opportunity,
    catalogue: Catalogue | None = None,
) -> tuple[Explanation, Catalogue]:
    """Return what would be decided now; nothing is stored, nothing reserved.

    Args:
        settings: Where the store is, and what decides.
        opportunity: What is asked, but for its id.
        catalogue: What to try out in place of what is in use.

    Raises:
        InvalidRequestError: If it names what the catalogue does not have.
    """
    store = open_serving(settings.store.url)
    try:
        if catalogue is None:
            catalogue = await _stored(store, (await store.active_catalogue()).version)
        _refuse_unknown(opportunity, catalogue)
        tenant = settings.server.tenant
        root = root_key(tenant, opportunity.account_id, opportunity.user_id)
        past = await store.past(
            root, opportunity.user_id, account=bool(opportunity.account_id)
        )
        asked = msgspec.structs.replace(
            opportunity,
            decision_id=decision_id(root, opportunity.user_id, "check"),
        )
        verdict = decide(
            asked,
            catalogue=catalogue,
            past=Past(
                past.user.history,
                NO_HISTORY if past.account is None else past.account.history,
                Conditions(await store.stopped()),
            ),
            policy=await _policy(store, settings),
        )
        return explain(verdict.decision, catalogue), catalogue
    finally:
        await store.close()


def opportunity_of(
    *,
    user: str,
    account: str,
    session: str,
    placements: Sequence[str],
    offers: Sequence[str],
    moment: str,
    role: str,
    segment: str,
    usage: Sequence[str],
    features: Sequence[str],
    cart: Sequence[str],
    at_ms: int,
) -> Opportunity:
    """Return what is asked, as it was typed.

    Raises:
        ValueError: If a usage or a feature is not written like one.
    """
    context = Context(
        role=role,
        segment=segment,
        usage=dict(map(usage_of, usage)),
        moment=Moment(moment),
        features=dict(map(feature_of, features)),
        cart=tuple(cart),
    )
    return Opportunity(
        decision_id="",
        at_ms=at_ms,
        user_id=user,
        placements=tuple(placements),
        account_id=account,
        session_id=session,
        offers=tuple(offers),
        context=context,
    )


def answer(
    explanation: Explanation, catalogue: Catalogue, *, chosen: bool
) -> RenderableType:
    """Return an explanation as people like to look at it.

    Args:
        explanation: Why a decision was as it was.
        catalogue: Its catalogue.
        chosen: Whether to say what was chosen, not only what could be.
    """
    decision = explanation.decision
    parts: list[RenderableType] = [_head(decision, catalogue, chosen=chosen)]
    parts.append(_candidates(decision, catalogue, chosen=chosen))
    if explanation.refusals:
        parts.append(_refusals("could not be shown", explanation.refusals))
    if explanation.bypasses:
        parts.append(_refusals("shown in spite of", explanation.bypasses))
    parts.append(
        Text(
            f"catalogue {decision.catalogue}, policy {decision.policy}, model"
            f" {decision.model}, consent {decision.history.preferences.version}",
            style="dim",
        )
    )
    return Group(*parts)


def usage_of(text: str) -> tuple[str, Usage]:
    """Read a usage as it is typed: `storage_gb=92/100` or `tasks=95/100@2.5` a day.

    Raises:
        ValueError: If it is not written like one.
    """
    match = _USAGE.fullmatch(text)
    if match is None:
        raise ValueError(f"a usage is NAME=VALUE/LIMIT@PER_DAY, not {text!r}")
    name, value, limit, per_day = match.groups()
    return name, Usage(
        float(value),
        None if limit is None else float(limit),
        None if per_day is None else float(per_day),
    )


def feature_of(text: str) -> tuple[str, FeatureValue]:
    """Read a feature as it is typed: `pages=30`, `photo_backup=true`, `plan=basic`.

    Raises:
        ValueError: If it is not written like one.
    """
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ValueError(f"a feature is NAME=VALUE, not {text!r}")
    if value in ("true", "false"):
        return name, value == "true"
    try:
        return name, float(value)
    except ValueError:
        return name, value


def _refuse_unknown(opportunity: Opportunity, catalogue: Catalogue) -> None:
    problems = [
        Problem("placement", f"the catalogue has no {name!r}")
        for name in opportunity.placements
        if name not in catalogue.placements
    ]
    problems += [
        Problem("offer", f"the catalogue has no {name!r}")
        for name in opportunity.offers
        if name not in catalogue.offers
    ]
    if problems:
        raise InvalidRequestError(problems)


async def _stored(store: ServingStore, version: str) -> Catalogue:
    text = await store.catalogue(version)
    if text is None:
        raise RuntimeError("no catalogue is in use yet; start the server once")
    return catalogues.read(text, linted=False)


async def _policy(store: ServingStore, settings: Settings) -> Policy:
    """Return what decides for most users."""
    champion = settings.lineup(await store.lineup()).champion
    policy = settings.policies[champion]
    release = await store.release(policy.learner_version)
    if release is None:
        return Policy(settings.baseline or policy)
    snapshot = await store.snapshot(policy.learner_version, at_most=release.serving)
    if snapshot is None:
        return Policy(policy)
    return Policy(
        policy, snapshot.body, model=snapshot.model, learned=snapshot.position
    )


def _head(decision: Decision, catalogue: Catalogue, *, chosen: bool) -> Text:
    opportunity = decision.opportunity
    who = opportunity.user_id
    if opportunity.account_id:
        who += f" of {opportunity.account_id}"
    moment = opportunity.context.moment.kind
    if not moment:
        moment = "no certain moment"
    elif not any(moment in offer.moments for offer in catalogue.spec.offers.values()):
        moment += " (a moment that no offer waits for)"
    head = Text(f"{who}, {moment}, {_time(opportunity.at_ms)}: ")
    if not chosen:
        count = len(decision.actions) - 1
        head.append(f"{count} could be shown" if count else "nothing could be shown")
    elif decision.chosen == NO_OFFER:
        _, rejections = eligible_of(opportunity, catalogue, past_of(decision))
        head.append(f"nothing was shown, {silence(decision, rejections).reason}")
    else:
        head.append(f"{catalogue.actions[decision.chosen].name} was chosen")
        head.append(f" with propensity {decision.propensity:.4f}")
    return head


def _candidates(decision: Decision, catalogue: Catalogue, *, chosen: bool) -> Table:
    table = Table("could be shown", "chance", title_justify="left")
    ranked = sorted(
        zip(decision.probabilities, decision.actions, strict=True),
        key=lambda pair: (-pair[0], pair[1]),
    )
    for units, index in ranked:
        mark = " <" if chosen and index == decision.chosen else ""
        name = catalogue.actions[index].name
        table.add_row(f"{name}{mark}", f"{units / PROBABILITY_UNITS:.4f}")
    message = message_of(decision, catalogue) if chosen else None
    if message is not None and message.parameters:
        values = ", ".join(f"{k} = {v.value}" for k, v in message.parameters.items())
        table.caption = f"{message.template}: {values}"
    return table


def _refusals(title: str, refusals: Sequence[Refusal]) -> Table:
    names = (title, "reason", "found", "needed", "not before")
    table = Table(*(Column(name, overflow="fold") for name in names))
    for refusal in refusals:
        name = f"{refusal.offer_id}/{refusal.creative_id}/{refusal.placement_id}"
        when = refusal.next_eligible_ms
        table.add_row(
            name,
            refusal.reason,
            refusal.found,
            refusal.needed,
            "" if when is None else _time(when),
        )
    return table


def _time(at_ms: int) -> str:
    at = dt.datetime.fromtimestamp(at_ms / 1_000, dt.UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}Z"
