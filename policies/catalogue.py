"""The catalogue: what can be offered, where, to whom, and how often.

`read` turns the text of a catalogue into a `Catalogue`, or says everything that is
wrong with it. A compiled catalogue never changes; its version is a digest of its text.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter

import msgspec

from policies.errors import CatalogueError, FileError
from policies.features import FeatureSpec, features_of
from policies.gates import (
    ALIKE,
    GATES,
    Facts,
    Gate,
    Lifecycle,
    Moments,
    Requires,
    Room,
    plugins,
)
from policies.gates.sharing import Ask, share
from policies.history import Chosen, Memory
from policies.linting import lint
from policies.messages import Parameter, Wording
from policies.model import (
    ACTIONS_MAX,
    NO_OFFER,
    NO_TRAFFIC,
    Action,
    Features,
    FeatureValue,
    Merits,
    Subject,
    Traffic,
)
from policies.rules import Expression, Rule
from policies.specs import (
    CapSpec,
    CatalogueSpec,
    CreativeSpec,
    OfferSpec,
    ParameterSpec,
    PlacementSpec,
)
from policies.toml import Section, parse_all, split_text, uncollected

__all__ = ["Catalogue", "Offer", "Placement", "read", "version_of", "without"]

_DAY_MS = 86_400_000
_LEAST_MEMORY_MS = 35 * _DAY_MS  # A calendar month, and the quiet before it.
_DEFAULT = CreativeSpec()
_PLAIN = {"default": _DEFAULT}
# What people and learners look at, and no gate of ours does. Creatives do matter.
_UNASKED = {
    "description",
    "campaign",
    "tags",
    "benefits",
    "priority",
    "like",
    "like_doubt",
    "features",
    "rewards",
    "reward_wait",
    "reward_default",
    "reward_aggregate",
    "lever",
    "moment_weights",
}
_asked_about = attrgetter(
    *[f for f in OfferSpec.__struct_fields__ if f not in {*_UNASKED, "creatives"}]
)
_index_of = attrgetter("index")


_Names = tuple[str, str, str]
"""An offer, a creative and a placement."""


class Offer(msgspec.Struct, frozen=True):
    """A compiled offer.

    Attributes:
        spec: What the file says.
        start_ms: From when on it may be shown; none for always.
        end_ms: From when on it may not; none for never.
        every_gate: All gates of scope `offer`, in the order in which they are asked.
        gates: Those that are asked when deciding: without what the index has asked and,
            for an offer that goes past caps, without those.
        offered: Whether it is offered to anybody, as its state says.
        critical: Whether caps do not hold it back.
    """

    offer_id: str
    spec: OfferSpec
    start_ms: int | None
    end_ms: int | None
    every_gate: tuple[Gate, ...]
    gates: tuple[Gate, ...]
    offered: bool = True
    critical: bool = False


class Placement(msgspec.Struct, frozen=True):
    """A compiled placement.

    Attributes:
        spec: What the file says.
        gates: All its gates, in the order in which they are asked.
        strict_gates: Those that hold back critical offers too.
        fallback: The actions to choose from where no other is eligible.
    """

    placement_id: str
    spec: PlacementSpec
    gates: tuple[Gate, ...]
    strict_gates: tuple[Gate, ...]
    fallback: tuple[Action, ...] = ()


class Catalogue:
    """A compiled catalogue.

    Attributes:
        text: The file's text.
        version: A digest of the text, 12 hexadecimal digits.
        spec: What the file says.
        offers: The offers by id.
        placements: The placements by id.
        actions: All that could ever be chosen; the first is "no offer".
        action_gates: By index, the gates of scope `action` that an action has.
        shares: The gates of scope `offer` that are asked when deciding.
        asks: By index, all that is to be asked about an action then.
        wordings: By offer and creative, how it is put into a message.
        reads: What its rules look at.
        memory: What it makes histories remember.
        supplied: The offers that need an inventory or a budget.
    """

    def __init__(self, text: str, compiler: _Compiler) -> None:
        self.text = text
        self.version = version_of(text)
        self.spec = compiler.spec
        self.offers: Mapping[str, Offer] = compiler.offers
        self.placements: Mapping[str, Placement] = compiler.placements
        self.actions: Sequence[Action] = tuple(compiler.actions)
        self.action_gates: Mapping[int, tuple[Gate, ...]] = compiler.action_gates
        asked = {offer_id: offer.gates for offer_id, offer in self.offers.items()}
        self.shares = share(asked, ALIKE)
        self.asks: Mapping[int, Ask] = _asks(self, compiler.asked_gates)
        self.wordings: Mapping[tuple[str, str], Wording] = compiler.wordings
        self.reads = compiler.reads
        self.memory = _memory(compiler.spec)
        self._of_offer: Mapping[str, Sequence[Action]] = compiler.of_offer
        self._of_placement: dict[str, list[Action]] = defaultdict(list)
        for action in self.actions[NO_OFFER + 1 :]:
            self._of_placement[action.placement_id].append(action)
        self.supplied = frozenset(
            [
                offer_id
                for offer_id, offer in self.offers.items()
                if offer.spec.inventory is not None
                or (offer.spec.budget and offer.spec.discount)
            ]
        )
        self._index = _index(self)

    @property
    def features(self) -> dict[str, FeatureSpec]:
        """The declared features by name."""
        return self.spec.features

    @property
    def currency(self) -> str:
        """The currency of all money."""
        return self.spec.currency

    def candidates(
        self,
        placements: Collection[str],
        offers: Collection[str] = (),
        *,
        moment: str = "",
        owned: Collection[str] = (),
    ) -> list[Action]:
        """Return the actions that could be shown now, by index.

        What is not approved, is for another moment, needs a product that the user
        does not have, or is only a fallback, is not looked at.

        Args:
            placements: Ids of placements; a repeated one counts once.
            offers: Ids of offers; all where it is empty.
            moment: The kind of the moment.
            owned: The products that the user has.
        """
        found: list[Action] = []
        for placement in dict.fromkeys(placements):
            for kind in ("", moment) if moment else ("",):
                for products, actions in self._index.get((placement, kind), ()):
                    if not products or all(p in owned for p in products):
                        found += actions
        if offers:
            wanted = frozenset(offers)
            found = [action for action in found if action.offer_id in wanted]
        found.sort(key=_index_of)
        return found

    def all_actions(
        self, placements: Collection[str], offers: Collection[str] = ()
    ) -> Iterator[Action]:
        """Yield the actions of some placements, whether they could be shown or not."""
        for placement in dict.fromkeys(placements):
            for action in self._of_placement.get(placement, ()):
                if not offers or action.offer_id in offers:
                    yield action

    def actions_of(self, offer_id: str, placements: Collection[str]) -> list[Action]:
        """Return the actions in some placements of an offer that is offered at all."""
        offer = self.offers.get(offer_id)
        if offer is None or not offer.offered:
            return []
        return [a for a in self._of_offer[offer_id] if a.placement_id in placements]

    def needs(self, actions: Iterable[Action], day: str) -> dict[str, tuple[int, int]]:
        """Return what there must be enough of for these actions.

        Args:
            actions: The actions.
            day: The day (UTC), as 2026-11-27, for budgets that are paced.

        Returns:
            By the name of an inventory or a budget, how much there is of it altogether,
            and how much the dearest of the actions needs.
        """
        needs: dict[str, tuple[int, int]] = {}
        for offer_id in dict.fromkeys([action.offer_id for action in actions]):
            if offer_id not in self.supplied:
                continue
            spec = self.offers[offer_id].spec
            if spec.inventory is not None:
                needs[f"inventory:{offer_id}"] = (spec.inventory, 1)
            if spec.budget and spec.discount:
                budget = self.spec.budgets[spec.budget]
                limits = {f"budget:{spec.budget}": budget.amount}
                if budget.per_day is not None:
                    limits[f"budget:{spec.budget}:{day}"] = budget.per_day
                for name, limit in limits.items():
                    _, most = needs.get(name, (limit, 0))
                    needs[name] = (limit, max(most, spec.discount))
        return needs

    def chosen(self, action: Action) -> Chosen:
        """Return what histories remember of an action that was chosen."""
        spec = self.offers[action.offer_id].spec
        placement = self.placements[action.placement_id].spec
        products = self.spec.products
        return Chosen(
            Subject(
                action.offer_id,
                action.creative_id,
                action.placement_id,
                spec.categories,
                placement.weight,
            ),
            counted=spec.counted,
            grants=spec.grants,
            shared=tuple([p for p in spec.grants if products[p].shared]),
            pending_ms=int(self.spec.provisioned_within),
            sticky_ms=int(placement.sticky),
            grace_ms=int(self.spec.report_grace),
        )


def version_of(text: str) -> str:
    """Return the version of a catalogue: a digest of its text, 12 hex digits."""
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def read(
    text: str,
    source: str = "catalogue",
    *,
    linted: bool = True,
    previous: CatalogueSpec | None = None,
) -> Catalogue:
    """Compile the text of a catalogue.

    Args:
        text: TOML: one file, or several as `policies.toml.join_texts` joins them.
        source: What to call it in errors, such as the path of the file.
        linted: Whether it must make sense, and be honest. A text that was in use
            once is compiled whatever is asked of catalogues today.
        previous: What is offered now, which a new catalogue may not contradict.

    Raises:
        CatalogueError: If anything in it is wrong; it names all that is.
    """
    with uncollected():
        return _read(text, source, previous, linted=linted)


def without(catalogue: Catalogue, gates: Collection[str]) -> Catalogue:
    """Return a catalogue as it would be if some gates were not asked.

    It is there to ask what would have been, and not to be served: as in `[gates] off`,
    but of any gate.

    Args:
        catalogue: The catalogue.
        gates: The names of the gates.

    Returns:
        The same catalogue with another version, at whose end a comment names the gates.

    Examples:
        >>> asked = read("[placements.home]")
        >>> without(asked, ["quiet_hours"]).spec.gates.off
        ('quiet_hours',)
    """
    spec = catalogue.spec
    off = tuple(dict.fromkeys([*spec.gates.off, *gates]))
    spec = msgspec.structs.replace(
        spec, gates=msgspec.structs.replace(spec.gates, off=off)
    )
    top = parse_all(split_text(catalogue.text), "catalogue")
    text = f"{catalogue.text}\n# Not asked: {', '.join(off)}.\n"
    with uncollected():
        return Catalogue(text, _Compiler(spec, top))


def _read(
    text: str, source: str, previous: CatalogueSpec | None, *, linted: bool
) -> Catalogue:
    try:
        top = parse_all(split_text(text), source)
    except FileError as error:
        raise CatalogueError(source, error.problems) from None
    spec = top.convert(CatalogueSpec)
    if spec is not None and linted:
        lint(spec, top.problem, previous)
    if spec is None or top.problems:
        _more_problems(spec, top)
        raise CatalogueError(source, top.problems)
    compiler = _Compiler(spec, top)
    if top.problems:
        raise CatalogueError(source, top.problems)
    return Catalogue(text, compiler)


def _more_problems(spec: CatalogueSpec | None, top: Section) -> None:
    """Look at the rules, too, of a catalogue in which something else is wrong."""
    if spec is not None:
        _Rules(spec, top)


class _Rules:
    """The rules and expressions of a catalogue, equal ones compiled once."""

    def __init__(self, spec: CatalogueSpec, top: Section) -> None:
        self._top = top
        self._samples = {name: f.sample for name, f in spec.features.items()}
        self._rules: dict[str, Rule] = {}
        self._expressions: dict[str, Expression] = {}
        self._try(spec.value_discovered, "value_discovered")
        for key in ("low", "high"):
            self._try(getattr(spec.engagement, key), "engagement", key)
        for offer_id, offer in spec.offers.items():
            for key in ("eligible", "applicable", "suitable", "value_discovered"):
                self._try(getattr(offer, key), "offers", offer_id, key)
            for creative_id, creative in offer.creatives.items():
                where = ("offers", offer_id, "creatives", creative_id)
                for name, parameter in creative.parameters.items():
                    self._try_value(name, parameter, *where, "parameters", name)

    @property
    def reads(self) -> frozenset[str]:
        """What all of them look at."""
        every = [*self._rules.values(), *self._expressions.values()]
        return frozenset[str]().union(*(rule.reads for rule in every))

    def rule(self, source: str) -> Rule:
        """Return a rule."""
        found = self._rules.get(source)
        if found is None:
            found = self._rules[source] = Rule(source, self._samples)
        return found

    def expression(self, source: str) -> Expression:
        """Return an expression."""
        found = self._expressions.get(source)
        if found is None:
            found = self._expressions[source] = Expression(source, self._samples)
        return found

    def _try(self, source: str | None, *keys: str) -> None:
        if source is None:
            return
        try:
            self.rule(source)
        except ValueError as error:
            self._top.problem(str(error), *keys)

    def _try_value(self, name: str, spec: ParameterSpec, *keys: str) -> None:
        try:
            problem = Parameter.of(name, spec, self.expression).problem
        except ValueError as error:
            problem = str(error)
        if problem is not None:
            self._top.problem(problem, *keys, "value")


class _Compiler:
    """Compiles what a catalogue says, and notes what cannot be compiled."""

    def __init__(self, spec: CatalogueSpec, top: Section) -> None:
        self.spec = spec
        self._top = top
        self._rules = _Rules(spec, top)
        self._same: dict[Gate, Gate] = {}
        self._same_tuples: dict[tuple[int, ...], tuple[Gate, ...]] = {}
        self.offers: dict[str, Offer] = {}
        self.placements: dict[str, Placement] = {}
        self.actions = [Action(NO_OFFER, "", "", "", ())]
        self.of_offer: dict[str, list[Action]] = {}
        self._numbers: dict[object, int] = {}
        self._known_gates: dict[object, tuple[Gate, ...]] = {}
        self.action_gates: dict[int, tuple[Gate, ...]] = {}
        self.asked_gates: dict[int, tuple[Gate, ...]] = {}
        self.wordings: dict[tuple[str, str], Wording] = {}
        self._kinds = self._gate_kinds()
        if top.problems:
            return
        self._facts = Facts(spec, self._rules.rule, self._rules.expression)
        self._places = {
            name: self._numbers.setdefault(
                msgspec.structs.replace(placement, description=""), len(self._numbers)
            )
            for name, placement in spec.placements.items()
        }
        for offer_id, offer in spec.offers.items():
            self._offer(offer_id, offer)
        if len(self.actions) > ACTIONS_MAX:
            many = f"makes {len(self.actions)} actions; at most {ACTIONS_MAX}"
            top.problem(many, "offers")
        for placement_id, placement in spec.placements.items():
            self._placement(placement_id, placement)

    @property
    def reads(self) -> frozenset[str]:
        """What the rules of all offers look at."""
        return self._rules.reads

    def _gate_kinds(self) -> dict[str, list[type[Gate]]]:
        """Return the gates that are asked, by scope."""
        kinds: dict[str, list[type[Gate]]] = {
            "placement": [],
            "offer": [],
            "action": [],
        }
        try:
            further = plugins.load(self.spec.gates.plugins)
        except ValueError as error:
            self._top.problem(str(error), "gates", "plugins")
            further = ()
        for kind in (*GATES, *further):
            if kind.name not in self.spec.gates.off:
                kinds[kind.scope].append(kind)
        return kinds

    def _made(self, scope: str, facts: Facts, alike: object = None) -> tuple[Gate, ...]:
        """Make the gates of some scope.

        Args:
            scope: The scope.
            facts: What they are made from.
            alike: A name of the facts that others have for which the same gates are
                made; none where there are no others.
        """
        known = None if alike is None else self._known_gates.get((scope, alike))
        if known is not None:
            return known
        made = [gate for kind in self._kinds[scope] for gate in kind.of(facts)]
        gates = self._shared([self._same.setdefault(gate, gate) for gate in made])
        if alike is not None:
            self._known_gates[scope, alike] = gates
        return gates

    def _alike(self, offer: OfferSpec) -> int | None:
        """Return a number that all offers have of which gates know no difference."""
        # An inventory has the name of its offer; what others look at nobody knows.
        if offer.inventory is not None or self.spec.gates.plugins:
            return None
        return self._numbers.setdefault(_asked_about(offer), len(self._numbers))

    def _shared(self, gates: Sequence[Gate]) -> tuple[Gate, ...]:
        # Equal gates are one object by now: looking at what is in them takes longer.
        key = tuple(map(id, gates))
        found = self._same_tuples.get(key)
        if found is None:
            found = self._same_tuples[key] = tuple(gates)
        return found

    def _placement(self, placement_id: str, spec: PlacementSpec) -> None:
        facts = self._facts._replace(placement_id=placement_id, placement=spec)
        gates = self._made("placement", facts)
        self.placements[placement_id] = Placement(
            placement_id,
            spec,
            gates,
            self._shared([gate for gate in gates if not gate.bypassed]),
            tuple(
                [
                    action
                    for action in self.of_offer.get(spec.fallback, ())
                    if action.placement_id == placement_id
                ]
            ),
        )

    def _offer(self, offer_id: str, spec: OfferSpec) -> None:
        """Compile an offer and its actions."""
        facts = self._facts._replace(offer_id=offer_id, offer=spec)
        alike = self._alike(spec)
        every = self._made("offer", facts, alike)
        gates = self._asked(every, spec)
        self.offers[offer_id] = Offer(
            offer_id,
            spec,
            _instant(spec.start),
            _instant(spec.end),
            every,
            gates,
            offered=not any(isinstance(gate, Lifecycle) for gate in every),
            critical=spec.override == "critical",
        )
        actions = self.of_offer[offer_id] = list[Action]()
        merits = Merits(
            spec.price, spec.margin, spec.lever, tuple(spec.moment_weights.items())
        )
        described = self._known(spec.features, "offers", offer_id)
        traffic = NO_TRAFFIC
        if spec.traffic is not None:
            traffic = Traffic(*msgspec.structs.astuple(spec.traffic))
        for creative_id, creative in (spec.creatives or _PLAIN).items():
            where = ("offers", offer_id, "creatives", creative_id)
            wording = self._known(creative.features, *where)
            self.wordings[offer_id, creative_id] = Wording.of(
                creative_id, creative, self._rules.expression
            )
            for placement_id in spec.placements:
                names = (offer_id, creative_id, placement_id)
                like = self._like(names, spec)
                action = Action(
                    len(self.actions),
                    *names,
                    (*self._in_common(names, like), *described, *wording),
                    spec.priority,
                    traffic,
                    merits,
                    tuple(["/".join(each) for each in like]),
                    spec.like_doubt if like else 0.0,
                )
                self.actions.append(action)
                actions.append(action)
                plain = alike is not None and creative is _DEFAULT
                made = self._made(
                    "action",
                    facts._replace(
                        placement_id=placement_id,
                        placement=self.spec.placements[placement_id],
                        creative_id=creative_id,
                        creative=creative,
                    ),
                    (alike, self._places[placement_id]) if plain else None,
                )
                if made:
                    self.action_gates[action.index] = made
                    asked = self._asked(made, spec)
                    if asked:
                        self.asked_gates[action.index] = asked

    def _asked(self, gates: Iterable[Gate], spec: OfferSpec) -> tuple[Gate, ...]:
        """Return the gates that are asked when deciding."""
        critical = spec.override == "critical"
        return self._shared(
            [g for g in gates if not g.indexed and not (critical and g.bypassed)]
        )

    def _like(self, names: _Names, spec: OfferSpec) -> list[_Names]:
        """Return the actions that one is like, the nearest first.

        Of the offer that its own is like the one in the same placement and wording,
        where there is, and else the first; then what that offer is like.
        """
        found: list[_Names] = []
        seen = {names[0]}
        while spec.like in self.spec.offers and spec.like not in seen:
            _, creative_id, placement_id = names
            offer_id = spec.like
            spec = self.spec.offers[offer_id]
            seen.add(offer_id)
            creatives, placements = spec.creatives or _PLAIN, spec.placements
            if creative_id not in creatives:
                creative_id = next(iter(creatives))
            if placement_id not in placements:
                placement_id = placements[0] if placements else ""
            names = (offer_id, creative_id, placement_id)
            found.append(names)
        return found

    def _in_common(self, names: _Names, like: Sequence[_Names]) -> Features:
        """Name what an action has in common with others, but not with all.

        Learners know an action by its own name already. A feature that says the same
        once more teaches nothing, and costs as much as one that does.
        """
        shared = self._shared_by(names)
        if len(self.spec.placements) > 1:
            shared.append(f"placement={names[-1]}")
        for other in like:
            shared += self._shared_by(other)
        return tuple([(name, 1.0) for name in shared])

    def _shared_by(self, names: _Names) -> list[str]:
        """Name what an action has in common with others of its offer."""
        offer_id, creative_id, _ = names
        spec = self.spec.offers[offer_id]
        shared: list[str] = []
        if len(spec.placements) > 1 or len(spec.creatives) > 1:
            shared.append(f"offer={offer_id}")
        if len(spec.placements) > 1 and len(spec.creatives) > 1:
            shared.append(f"creative={offer_id}/{creative_id}")
        return shared

    def _known(self, values: dict[str, FeatureValue], *keys: str) -> Features:
        """Read the features of an offer or a creative, all of which are declared."""
        specs = self.spec.features
        for name, value in values.items():
            spec = specs.get(name)
            where = (*keys, "features", name)
            if spec is None:
                self._top.problem(f"[features] does not declare {name}", *where)
            elif spec.read(name, value) is None:
                self._top.problem(f"must be a {spec.type}, not {value!r}", *where)
            elif isinstance(value, float) and not math.isfinite(value):
                self._top.problem("must be finite", *where)
        return features_of(values, specs)


def _asks(
    catalogue: Catalogue, gates: Mapping[int, tuple[Gate, ...]]
) -> dict[int, Ask]:
    """Put together what is asked about each action."""
    places = {placement: 2 * at for at, placement in enumerate(catalogue.placements)}
    asks: dict[int, Ask] = {}
    for action in catalogue.actions[NO_OFFER + 1 :]:
        offer_id, index = action.offer_id, action.index
        place = places[action.placement_id] + catalogue.offers[offer_id].critical
        bits = catalogue.shares.of[offer_id].bits
        asks[index] = Ask(place, offer_id, bits, gates.get(index, ()))
    return asks


_Index = Mapping[tuple[str, str], Sequence[tuple[tuple[str, ...], Sequence[Action]]]]


def _index(catalogue: Catalogue) -> _Index:
    """Arrange the actions by placement and moment, and by the products they require.

    It asks the gates that say so of themselves, so that nobody need ask them again.
    """
    index: dict[tuple[str, str], dict[tuple[str, ...], list[Action]]] = {}
    asked = {
        offer_id: _needs(offer)
        for offer_id, offer in catalogue.offers.items()
        if offer.offered
    }
    for action in catalogue.actions[NO_OFFER + 1 :]:
        if action.offer_id not in asked or _elsewhere(action, catalogue):
            continue
        moments, products = asked[action.offer_id]
        for moment in moments:
            by_products = index.setdefault((action.placement_id, moment), {})
            by_products.setdefault(products, []).append(action)
    return {key: list(by_products.items()) for key, by_products in index.items()}


def _needs(offer: Offer) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return at which moments an offer may be shown, and what it requires."""
    moments = [g.kinds for g in offer.every_gate if isinstance(g, Moments)]
    products = [g.products for g in offer.every_gate if isinstance(g, Requires)]
    return (*moments, ("",))[0], (*products, ())[0]


def _elsewhere(action: Action, catalogue: Catalogue) -> bool:
    """Say whether an action is only a fallback, or the placement is not for it."""
    if catalogue.placements[action.placement_id].spec.fallback == action.offer_id:
        return True
    gates = catalogue.action_gates.get(action.index, ())
    return any(isinstance(gate, Room) for gate in gates)


def _memory(spec: CatalogueSpec) -> Memory:
    """Say what the gates of a catalogue count, and how far back."""
    categories, placements = spec.categories.values(), spec.placements.values()
    offers = spec.offers.values()
    of_parts = [
        cap for table in (categories, placements) for t in table for cap in t.caps
    ]
    of_wordings = [c for o in offers for w in o.creatives.values() for c in w.caps]
    whole = [*spec.caps, *[cap for offer in offers for cap in offer.caps]]
    caps = [*of_parts, *of_wordings, *whole]
    fine = [*of_parts, *of_wordings, *[c for c in whole if c.across == "placement"]]
    spans = [int(cap.window) for cap in caps if cap.window is not None]
    spans += [int(spec.attention.window), int(spec.spacing.interruptive)]
    spans += [int(c.dismissals_window) for c in categories]
    spans += [int(c.cool_down) for c in categories]
    # What a gate of another package looks at nobody knows.
    plugins_too = bool(spec.gates.plugins)
    spacing = spec.spacing.interruptive or spec.spacing.per_session
    return Memory(
        window_ms=max(_LEAST_MEMORY_MS, *spans),
        decided=plugins_too or any(cap.counts == "decided" for cap in caps),
        wide=plugins_too
        or bool(
            of_parts
            or spec.caps
            or any(offer.categories for offer in offers)
            or spec.attention.budget
            or spec.fatigue.ignored
            or (spacing and any(p.interrupts for p in placements))
        ),
        shared=plugins_too
        or any(cap.per == "account" for cap in caps)
        or any(category.household for category in categories),
        fine=plugins_too or any(_is_for_life(cap) for cap in fine),
    )


def _is_for_life(cap: CapSpec) -> bool:
    return cap.window is None and cap.calendar is None and not cap.session


def _instant(value: dt.datetime | None) -> int | None:
    return None if value is None else round(value.timestamp() * 1_000)
