"""What is looked at of every decision to find opportunities, whatever the log is.

A server's log is read root by root and tells all. Logs of other kinds tell what was
eligible, what was chosen and what came of it; they are read several times where they
are large, each time for a part of the users, so that memory stays within bounds.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

import msgspec
import numpy as np

from policies.catalogue import Catalogue
from policies.identity import root_of
from policies.intervals import shards_of
from policies.model import NO_OFFER, PROBABILITY_UNITS, Decision, Usage
from policies.records import decode_outcome
from policies.specs import CatalogueSpec
from simulator.feedback import Feedback
from simulator.logs import Log, LogError, Source, Watcher
from simulator.logs.building import uncollected
from simulator.logs.served import KINDS

__all__ = ["Visit", "fitting", "of_log", "of_source"]

_ROWS_AT_ONCE = 1_000_000
_USAGE = "usage."
_NONE: Mapping[str, Usage] = {}


class Visit(NamedTuple):
    """One decision, as far as it says where there are opportunities.

    Attributes:
        key: A hash of the root.
        user: Who it was made for.
        name: The id of the decision, or its position.
        tiers: In which tier the user is: pairs of what tells tiers apart (`segment`, or
            `ladder` and its name) and the tier.
        placements: Where something could be shown; empty unknown.
        open: The placements with something eligible.
        offers: What was eligible: by offer, the chance that it is chosen.
        chosen: The offer that was chosen; empty for none.
        placement: Where it was to be shown; empty for none.
        reward: What came of it; none where that is not known.
        kinds: The outcomes that were reported.
        opted_out: Whether the user had opted out of something before.
        uses: What the user uses: `product NAME`, `usage NAME` or `feature NAME`.
        usage: How much of what, with its limits.
        owned: The products that the user has.
        record: The decision as the server wrote it; empty for other logs.
    """

    key: int
    user: str
    name: str
    tiers: tuple[tuple[str, str], ...]
    placements: tuple[str, ...]
    open: frozenset[str]
    offers: Mapping[str, float]
    chosen: str
    placement: str
    reward: float | None
    kinds: frozenset[str]
    opted_out: bool
    uses: frozenset[str]
    usage: Mapping[str, Usage] = _NONE
    owned: frozenset[str] = frozenset()
    record: str = ""


def of_log(
    log: Log, features: Collection[str], watcher: Watcher
) -> Iterator[list[Visit]]:
    """Yield the visits of each root of a server's log, without those of the holdout.

    Args:
        log: The log.
        features: The features that say that a user uses something.
        watcher: Is told how far it is.

    Raises:
        LogError: If a decision or an outcome cannot be read.
    """
    log.keep_rewards()
    done, size = 0, log.last - log.first + 1
    for roots in log.by_root():
        for rooted in roots:
            visits: list[Visit] = []
            for record in rooted.records:
                name = record.decision_id
                decision = log.read(record.record, f"decision {record.position}")
                if decision.split == "holdout":
                    continue
                kinds = _kinds(log, name, rooted.outcomes.get(name, ()))
                visits.append(
                    _visit(
                        decision,
                        log.catalogue(decision.catalogue),
                        features,
                        reward=rooted.rewards.get(name),
                        kinds=kinds,
                        record=record.record,
                    )
                )
            done += len(rooted.records)
            if visits:
                yield visits
        watcher("gathering", done, size)


def of_source(
    source: Source, features: Collection[str], watcher: Watcher
) -> Iterator[list[Visit]]:
    """Yield the visits of each user of any other log; as of `of_log`."""
    passes = max(1, math.ceil((source.rows or 0) / _ROWS_AT_ONCE))
    done, size = 0, (source.rows or 0) * passes
    for turn in range(passes):
        users: defaultdict[int, list[Visit]] = defaultdict(list)
        for part in source.parts():
            mine = shards_of(part.keys, passes) == turn
            with uncollected():
                for visit in _visits(part.take(mine), features):
                    users[visit.key].append(visit)
            done += len(part)
            watcher("gathering", done, max(size, done))
        yield from users.values()


def fitting(spec: CatalogueSpec) -> dict[str, frozenset[str]]:
    """Return by usage the offers that give more of it: by limit, or by ladder."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    rungs = {
        rung: ladder.usage
        for ladder in spec.ladders.values()
        if ladder.usage
        for rung in ladder.rungs
    }
    for offer_id, offer in spec.offers.items():
        if offer.limit is not None:
            found[offer.limit.usage].add(offer_id)
        for usage in {rungs[p] for p in offer.grants if p in rungs}:
            found[usage].add(offer_id)
    return {usage: frozenset(offers) for usage, offers in found.items()}


def _kinds(log: Log, name: str, texts: Collection[str]) -> frozenset[str]:
    try:
        return frozenset([decode_outcome(text).kind for text in texts])
    except msgspec.DecodeError as error:
        wrong = f"an outcome of decision {name} cannot be read: {error}"
        raise LogError(log.path, wrong) from None


def _visit(
    decision: Decision,
    catalogue: Catalogue,
    features: Collection[str],
    *,
    reward: float | None,
    kinds: frozenset[str],
    record: str,
) -> Visit:
    asked, actions = decision.opportunity, catalogue.actions
    context = asked.context
    offers: dict[str, float] = {}
    places: set[str] = set()
    for index, units in zip(decision.actions, decision.probabilities, strict=True):
        if index != NO_OFFER:
            action = actions[index]
            chance = units / PROBABILITY_UNITS
            offers[action.offer_id] = offers.get(action.offer_id, 0.0) + chance
            places.add(action.placement_id)
    chosen = actions[decision.chosen]
    if reward is None and decision.chosen == NO_OFFER:
        reward = 0.0
    histories = (decision.history, decision.account)
    owned = frozenset([p for h in histories for p in h.state.owned])
    uses = [f"product {product}" for product in owned]
    uses += [f"usage {name}" for name, usage in context.usage.items() if usage.value]
    known = {**context.features, **context.moment.features}
    uses += [
        f"feature {name}"
        for name in features
        if isinstance(value := known.get(name), bool | int | float) and value > 0
    ]
    return Visit(
        key=int(root_of(asked.decision_id), 16),
        user=f"{asked.account_id}/{asked.user_id}",
        name=asked.decision_id,
        tiers=_tiers(context.segment, catalogue.spec, owned),
        placements=asked.placements,
        open=frozenset(places),
        offers=offers,
        chosen=chosen.offer_id,
        placement=chosen.placement_id,
        reward=reward,
        kinds=kinds,
        opted_out=any(h.preferences.opt_outs for h in histories),
        uses=frozenset(uses),
        usage=context.usage,
        owned=owned,
        record=record,
    )


def _tiers(
    segment: str, spec: CatalogueSpec, owned: frozenset[str]
) -> tuple[tuple[str, str], ...]:
    found = [("segment", segment)] if segment else []
    for name, ladder in spec.ladders.items():
        rungs = [rung for rung in ladder.rungs if rung in owned]
        found.append((f"ladder {name}", rungs[-1] if rungs else "no rung"))
    return tuple(found)


def _visits(part: Feedback, features: Collection[str]) -> Iterator[Visit]:
    wanted = frozenset(features)
    vocabulary = part.vocabulary
    kinds = [name for name in KINDS if name in part.objectives]

    @lru_cache(maxsize=4_096)
    def uses_of(context: tuple[tuple[str, float], ...]) -> frozenset[str]:
        named = [name for name, value in context if value > 0]
        uses = [f"usage {n[len(_USAGE) :]}" for n in named if n.startswith(_USAGE)]
        return frozenset(uses + [f"feature {name}" for name in named if name in wanted])

    for row in range(len(part)):
        if len(part.splits) and part.splits[row] == "holdout":
            continue
        begin, end = part.offsets[row], part.offsets[row + 1]
        offers: dict[str, float] = {}
        places: set[str] = set()
        for code, chance in zip(
            part.actions[begin:end].tolist(),
            np.nan_to_num(part.probabilities[begin:end]).tolist(),
            strict=True,
        ):
            action = vocabulary[code]
            if action.index != NO_OFFER:
                offers[action.offer_id] = offers.get(action.offer_id, 0.0) + chance
                places.add(action.placement_id)
        action = vocabulary[part.chosen[row]]
        reward = float(part.rewards[row])
        key = int(part.keys[row])
        segment = part.segments[row] if len(part.segments) else ""
        yield Visit(
            key=key,
            user=str(key),
            name=str(part.positions[row]),
            tiers=(("segment", segment),) if segment else (),
            placements=(),
            open=frozenset(places),
            offers=offers,
            chosen="" if action.index == NO_OFFER else action.offer_id,
            placement="" if action.index == NO_OFFER else action.placement_id,
            reward=None if math.isnan(reward) else reward,
            kinds=frozenset([k for k in kinds if part.objectives[k][row] > 0]),
            opted_out=False,
            uses=uses_of(part.contexts[row]) if len(part.contexts) else frozenset(),
        )
