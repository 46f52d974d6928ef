"""The catalogue: what can be offered, where, to whom, and how often.

`read` turns the text of one TOML file into a `Catalogue`, or says everything that
is wrong with it. A compiled catalogue never changes; its version is a digest of
its text.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import math
import re
from collections.abc import Collection

import msgspec

from policies.errors import CatalogueError, FileError
from policies.features import FeatureSpec, features_of
from policies.gates import Dates, DismissalCoolDown, Eligibility, FrequencyCap, Gate
from policies.history import IMPRESSIONS_MAX
from policies.model import ACTIONS_MAX, NO_OFFER, Action, Features, FeatureValue
from policies.rules import Rule
from policies.toml import Duration, Section, parse

__all__ = [
    "CapSpec",
    "Catalogue",
    "CatalogueSpec",
    "CreativeSpec",
    "Offer",
    "OfferSpec",
    "PlacementSpec",
    "read",
]

_ID = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_FEATURE_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_CAPS_MAX = 10
_VALID_MAX_MS = 86_400_000


class CapSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A frequency cap: at most so many impressions of the offer in a window.

    Attributes:
        limit: How many impressions, 1 to 100; always to be given.
        window: The length of the rolling window, above 0; for the user's whole
            life where it is left out.
    """

    limit: int = 0
    window: Duration | None = None


class CreativeSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One wording of an offer.

    Attributes:
        description: What it says, for people.
        features: What learners know of it, by the names that `[features]` declares.
    """

    description: str = ""
    features: dict[str, float | bool | str] = {}


class OfferSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An offer.

    Attributes:
        placements: Where it may be shown, at least one.
        description: What it is, for people.
        start: From when on it may be shown; a TOML date-time with its zone.
        end: From when on it may not be shown any more.
        eligible: Who may see it: a rule in CEL; everybody where it is left out.
        caps: How often a user may see it, up to 10 caps that all must hold.
        dismissal_cool_down: How long a user who dismissed it does not see it.
        features: What learners know of it, by the names that `[features]` declares.
    """

    placements: tuple[str, ...] = ()
    description: str = ""
    start: dt.datetime | None = None
    end: dt.datetime | None = None
    eligible: str | None = None
    caps: tuple[CapSpec, ...] = ()
    dismissal_cool_down: Duration = Duration(7 * 86_400_000)
    features: dict[str, float | bool | str] = {}


class PlacementSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A place on the screen that can render an offer.

    Attributes:
        description: Where it is, for people.
    """

    description: str = ""


class CatalogueSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a catalogue says beside its features, placements and offers.

    Attributes:
        currency: The currency of all money, three letters of ISO 4217.
        valid_for: How long a decided offer may be shown; above 0, at most 1d.
        report_grace: How long after that a report that it was shown may take to
            arrive, at most 1d. Until then the offer counts against its caps as if it
            were shown; after it, only if it was.
    """

    currency: str = "USD"
    valid_for: Duration = Duration(600_000)
    report_grace: Duration = Duration(60_000)


class Offer(msgspec.Struct, frozen=True):
    """A compiled offer.

    Attributes:
        memory: How many of its last impressions its caps may count, and for how long
            each, in milliseconds.
        gates: What it must pass, the cheapest first.
        first_gates: Those of them that can reject it for a user who has no past
            with it; one object for all offers with equal ones.
    """

    offer_id: str
    start_ms: int | None
    end_ms: int | None
    memory: tuple[int, float]
    gates: tuple[Gate, ...]
    first_gates: tuple[Gate, ...]


class Catalogue:
    """A compiled catalogue.

    Attributes:
        text: The file's text.
        version: A digest of the text, 12 hexadecimal digits.
        currency: The currency of all money.
        valid_for_ms: How long a decided offer may be shown.
        report_grace_ms: How long after that it still counts as shown.
        features: The declared features by name.
        offers: The offers by id.
        placements: The ids of the placements.
        actions: All that could ever be chosen; the first is "no offer".
        reads: What its rules look at.
    """

    def __init__(
        self,
        text: str,
        spec: CatalogueSpec,
        *,
        features: dict[str, FeatureSpec],
        placements: Collection[str],
        offers: dict[str, Offer],
        actions: tuple[Action, ...],
        reads: frozenset[str],
    ) -> None:
        self.text = text
        self.version = hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
        self.currency = spec.currency
        self.valid_for_ms = int(spec.valid_for)
        self.report_grace_ms = int(spec.report_grace)
        self.features = features
        self.offers = offers
        self.placements = frozenset(placements)
        self.actions = actions
        self.reads = reads
        self._by_placement: dict[str, list[Action]] = {p: [] for p in placements}
        for action in actions[NO_OFFER + 1 :]:
            self._by_placement[action.placement_id].append(action)

    def candidates(
        self, placements: Collection[str], offers: Collection[str]
    ) -> list[Action]:
        """Return the actions that fit some placement, of some offers or of all.

        Args:
            placements: Ids of placements; a repeated one counts once.
            offers: Ids of offers; all where it is empty.
        """
        fitting = [
            action
            for placement in dict.fromkeys(placements)
            for action in self._by_placement.get(placement, ())
        ]
        if not offers:
            return fitting
        wanted = frozenset(offers)
        return [action for action in fitting if action.offer_id in wanted]


def read(text: str, source: str = "catalogue") -> Catalogue:
    """Compile the text of a catalogue.

    Args:
        text: TOML.
        source: What to call it in errors, such as the path of the file.

    Raises:
        CatalogueError: If anything in it is wrong; it names all that is.
    """
    try:
        top = parse(text, source)
    except FileError as error:
        raise CatalogueError(source, error.problems) from None
    compiler = _Compiler(top)
    if top.problems:
        raise CatalogueError(source, top.problems)
    return Catalogue(
        text,
        compiler.spec,
        features=compiler.features,
        placements=compiler.placements,
        offers=compiler.offers,
        actions=tuple(compiler.actions),
        reads=compiler.reads,
    )


class _Compiler:
    """Compiles a file, table by table, and notes what is wrong in its sections."""

    def __init__(self, top: Section) -> None:
        tables = {
            name: top.table(name) for name in ("features", "placements", "offers")
        }
        self.spec = self._top(top)
        self.features: dict[str, FeatureSpec] = {}
        for name, section in tables["features"].items():
            self._feature(name, section)
        self.placements = [
            self._placement(name, section)
            for name, section in tables["placements"].items()
        ]
        if not self.placements:
            top.problem("a catalogue has at least one placement", "placements")
        self._rules: dict[str, Rule] = {}
        self._gates: dict[tuple[Gate, ...], tuple[Gate, ...]] = {}
        self.offers: dict[str, Offer] = {}
        self.actions = [Action(NO_OFFER, "", "", "", ())]
        for offer_id, section in tables["offers"].items():
            self._offer(offer_id, section)
        if len(self.actions) > ACTIONS_MAX:
            many = f"makes {len(self.actions)} actions; at most {ACTIONS_MAX}"
            top.problem(many, "offers")

    @property
    def reads(self) -> frozenset[str]:
        """What the rules of all offers look at."""
        return frozenset().union(*(rule.reads for rule in self._rules.values()))

    def _top(self, top: Section) -> CatalogueSpec:
        spec = top.convert(CatalogueSpec) or CatalogueSpec()
        if not _CURRENCY.fullmatch(spec.currency):
            top.problem("is three capital letters, such as USD", "currency")
        if not 0 < spec.valid_for <= _VALID_MAX_MS:
            top.problem("is above 0 and at most 1d", "valid_for")
        if spec.report_grace > _VALID_MAX_MS:
            top.problem("is at most 1d", "report_grace")
        return spec

    def _feature(self, name: str, section: Section) -> None:
        if not _FEATURE_NAME.fullmatch(name):
            section.problem(f"a feature's name is {_FEATURE_NAME.pattern}")
        spec = section.convert(FeatureSpec)
        if spec is not None:
            self.features[name] = spec

    def _placement(self, name: str, section: Section) -> str:
        _check_id(section, "a placement", name)
        section.convert(PlacementSpec)
        return name

    def _offer(self, offer_id: str, section: Section) -> None:
        """Compile an offer and its actions."""
        _check_id(section, "an offer", offer_id)
        tables = section.table("creatives")
        creatives: dict[str, Features] = {}
        for name, table in tables.items():
            _check_id(table, "a creative", name)
            creative = table.convert(CreativeSpec) or CreativeSpec()
            creatives[name] = self._known(table, creative.features)
        spec = section.convert(OfferSpec)
        if spec is None:
            return
        self._where(section, spec)
        start_ms = _instant(section, "start", spec.start)
        end_ms = _instant(section, "end", spec.end)
        gates: list[Gate] = []
        if start_ms is not None or end_ms is not None:
            gates.append(Dates(start_ms=start_ms, end_ms=end_ms))
        if start_ms is not None and end_ms is not None and start_ms >= end_ms:
            section.problem("is not after start", "end")
        gates += [*_suppression(section, spec), *self._eligibility(section, spec)]
        self.offers[offer_id] = Offer(
            offer_id,
            start_ms,
            end_ms,
            memory=(
                max((cap.limit for cap in spec.caps), default=0),
                max((cap.window or math.inf for cap in spec.caps), default=0.0),
            ),
            gates=tuple(gates),
            first_gates=self._shared(
                tuple(gate for gate in gates if not gate.of_history)
            ),
        )
        described = self._known(section, spec.features)
        for creative_id, wording in (creatives or {"default": ()}).items():
            for placement_id in spec.placements:
                names = (offer_id, creative_id, placement_id)
                shared = self._shared_with(names, spec, len(creatives))
                features = (*shared, *described, *wording)
                self.actions.append(Action(len(self.actions), *names, features))

    def _shared_with(
        self, names: tuple[str, str, str], spec: OfferSpec, creatives: int
    ) -> Features:
        """Name what an action has in common with others, but not with all.

        Learners know an action by its own name already. A feature that says the same
        once more teaches nothing, and costs as much as one that does.
        """
        offer_id, creative_id, placement_id = names
        shared: list[str] = []
        if len(spec.placements) > 1 or creatives > 1:
            shared.append(f"offer={offer_id}")
        if len(spec.placements) > 1 and creatives > 1:
            shared.append(f"creative={offer_id}/{creative_id}")
        if len(self.placements) > 1:
            shared.append(f"placement={placement_id}")
        return tuple((name, 1.0) for name in shared)

    def _where(self, section: Section, spec: OfferSpec) -> None:
        if not spec.placements:
            section.problem("names at least one placement", "placements")
        if len(set(spec.placements)) < len(spec.placements):
            section.problem("names a placement twice", "placements")
        for placement in spec.placements:
            if placement not in self.placements:
                section.problem(f"there is no [placements.{placement}]", "placements")

    def _eligibility(self, section: Section, spec: OfferSpec) -> list[Gate]:
        if spec.eligible is None:
            return []
        try:
            # Offers often share a rule, which is then evaluated once for all.
            rule = self._rules.get(spec.eligible)
            if rule is None:
                samples = {
                    name: feature.sample for name, feature in self.features.items()
                }
                rule = Rule(spec.eligible, samples)
                self._rules[spec.eligible] = rule
            return [Eligibility(rule)]
        except ValueError as error:
            section.problem(str(error), "eligible")
            return []

    def _shared(self, gates: tuple[Gate, ...]) -> tuple[Gate, ...]:
        return self._gates.setdefault(gates, gates)

    def _known(self, section: Section, values: dict[str, FeatureValue]) -> Features:
        """Read the features of an offer or a creative, all of which are declared."""
        for name, value in values.items():
            spec = self.features.get(name)
            if spec is None:
                section.problem(f"[features] does not declare {name}", "features", name)
            elif spec.read(name, value) is None:
                section.problem(
                    f"must be a {spec.type}, not {value!r}", "features", name
                )
            elif isinstance(value, float) and not math.isfinite(value):
                section.problem("must be finite", "features", name)
        return features_of(values, self.features)


def _suppression(section: Section, spec: OfferSpec) -> list[Gate]:
    """Compile what an offer's past with a user rules out."""
    gates: list[Gate] = [DismissalCoolDown(int(spec.dismissal_cool_down))]
    if spec.dismissal_cool_down <= 0:
        section.problem("is above 0", "dismissal_cool_down")
    if len(spec.caps) > _CAPS_MAX:
        section.problem(f"has {len(spec.caps)} caps; at most {_CAPS_MAX}", "caps")
    for at, cap in enumerate(spec.caps):
        known = section.wrong("caps", str(at), "limit")
        if not known and not 1 <= cap.limit <= IMPRESSIONS_MAX:
            wrong = f"is 1 to {IMPRESSIONS_MAX}, not {cap.limit}"
            advice = "to never show an offer, leave it out"
            section.problem(f"{wrong}; {advice}", "caps", str(at), "limit")
        if cap.window is not None and cap.window <= 0:
            section.problem("is above 0", "caps", str(at), "window")
        window_ms = None if cap.window is None else int(cap.window)
        gates.append(FrequencyCap(limit=cap.limit, window_ms=window_ms))
    return gates


def _instant(section: Section, key: str, value: dt.datetime | None) -> int | None:
    if value is None:
        return None
    if value.tzinfo is None:
        section.problem("needs a zone, such as 2026-11-27T00:00:00Z", key)
        return None
    return round(value.timestamp() * 1_000)


def _check_id(section: Section, kind: str, name: str) -> None:
    if not _ID.fullmatch(name):
        section.problem(f"the id of {kind} is {_ID.pattern}, not {name!r}")
