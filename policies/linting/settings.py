"""What a catalogue says of all its offers together."""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo

from policies import gates
from policies.linting.base import Note, above, between, id_of, name_of, once, under
from policies.linting.caps import lint_caps
from policies.specs import (
    MOMENTS,
    AttentionSpec,
    CatalogueSpec,
    DismissalSpec,
    EngagementSpec,
    GatesSpec,
    HoldoutSpec,
    QuietSpec,
)
from policies.toml import Duration

__all__ = ["ALWAYS_ON", "lint_dismissal", "lint_settings", "lint_snooze"]

_CURRENCY = re.compile(r"[A-Z]{3}")
_TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_DAY = Duration(86_400_000)
_FACTOR_MAX = 10
_TIMES_MAX = 100
ALWAYS_ON = ("lifecycle", "opt_out", "offer_opt_out", "parameters")
"""Gates that no catalogue switches off: what users said, and texts without holes."""


def lint_settings(note: Note, spec: CatalogueSpec) -> None:
    """Check the keys at the top, and the tables that are there once."""
    if not _CURRENCY.fullmatch(spec.currency):
        note("is three capital letters, such as USD", "currency")
    _lint_zone(note, spec.zone)
    _lint_spans(note, spec)
    once(note, spec.buyers, "buyers")
    _lint_moments(note, spec.moments)
    lint_caps(under(note, "caps"), spec.caps, spec.engagement, of="everything")
    _lint_attention(under(note, "attention"), spec.attention, spec)
    between(note, spec.spacing.per_session, 0, _TIMES_MAX, "spacing", "per_session")
    _lint_quiet_hours(under(note, "quiet_hours"), spec.quiet_hours)
    between(note, spec.fatigue.ignored, 0, _TIMES_MAX, "fatigue", "ignored")
    above(note, spec.fatigue.pause, 0, "fatigue", "pause")
    _lint_engagement(under(note, "engagement"), spec.engagement)
    lint_dismissal(under(note, "dismissal"), spec.dismissal)
    lint_snooze(under(note, "snooze"), spec.snooze.repeats)
    _lint_holdout(under(note, "holdout"), spec.holdout)
    _lint_gates(under(note, "gates"), spec.gates)


def lint_dismissal(note: Note, spec: DismissalSpec) -> None:
    """Check for how long offers stay away; notes it under the table's own keys."""
    above(note, spec.cool_down, 0, "cool_down")
    between(note, spec.factor, 1, _FACTOR_MAX, "factor")
    if spec.longest < spec.cool_down:
        note(f"is at least the cool_down, {spec.cool_down.text}", "longest")


def lint_snooze(note: Note, repeats: int) -> None:
    """Check how often an offer may be snoozed."""
    between(note, repeats, 0, _TIMES_MAX, "repeats")


def _lint_zone(note: Note, zone: str) -> None:
    try:
        ZoneInfo(zone)
    except (LookupError, ValueError, OSError):
        said = "is the IANA name of a time zone, such as Europe/Berlin"
        note(f"{said}, not {zone!r}", "zone")


def _lint_spans(note: Note, spec: CatalogueSpec) -> None:
    if not 0 < spec.valid_for <= _DAY:
        note(f"is above 0 and at most 1d, not {spec.valid_for.text}", "valid_for")
    if spec.report_grace > _DAY:
        note(f"is at most 1d, not {spec.report_grace.text}", "report_grace")
    above(note, spec.provisioned_within, 0, "provisioned_within")


def _lint_moments(note: Note, moments: tuple[str, ...]) -> None:
    once(note, moments, "moments")
    for moment in moments:
        name_of(note, "a moment", moment, "moments")
        if moment in MOMENTS:
            note(f"{moment} is known to every catalogue; leave it out", "moments")


def _lint_attention(note: Note, spec: AttentionSpec, catalogue: CatalogueSpec) -> None:
    between(note, spec.budget, 0, 1_000_000, "budget")
    above(note, spec.window, 0, "window")
    if spec.budget <= 0 or "attention" in catalogue.gates.off:
        return
    used = {
        placement
        for offer in catalogue.offers.values()
        if offer.state != "archived" and offer.override == "none"
        for placement in offer.placements
    }
    for placement_id, placement in catalogue.placements.items():
        if placement.weight > spec.budget and placement_id in used:
            note(
                f"is less than one offer in [placements.{placement_id}] takes"
                f" ({placement.weight:g}), where nothing could ever be shown",
                "budget",
            )


def _lint_quiet_hours(note: Note, spec: QuietSpec) -> None:
    for key, time, other in (
        ("start", spec.start, spec.end),
        ("end", spec.end, spec.start),
    ):
        if other and not time:
            note("is missing: quiet hours have a start and an end", key)
        elif time and not _TIME_OF_DAY.fullmatch(time):
            note(f"is a time of day, such as 22:00, not {time!r}", key)
    if spec.start and spec.start == spec.end:
        said = "is the start, so that no hour would be left"
        note(f"{said}; for no quiet hours, leave both out", "end")


def _lint_engagement(note: Note, spec: EngagementSpec) -> None:
    if not 0 < spec.low_factor <= 1:
        note(f"is above 0 and at most 1, not {spec.low_factor:g}", "low_factor")
    between(note, spec.high_factor, 1, _FACTOR_MAX, "high_factor")


def _lint_holdout(note: Note, spec: HoldoutSpec) -> None:
    between(note, spec.share, 0, 1, "share")
    if not spec.salt:
        note("is some text: it chooses the users", "salt")


def _lint_gates(note: Note, spec: GatesSpec) -> None:
    built_in = {gate.name for gate in gates.GATES}
    once(note, spec.off, "off")
    once(note, spec.plugins, "plugins")
    for name in spec.off:
        if name in ALWAYS_ON:
            note(f"{name} cannot be switched off", "off")
        elif name not in built_in and name not in spec.plugins:
            note(f"there is no gate {name}", "off")
    for name in spec.plugins:
        id_of(note, "a gate", name, "plugins")
        if name in built_in:
            note(f"{name} is a gate already; a plugin has a name of its own", "plugins")
    for name in spec.options:
        if name not in spec.plugins:
            note(f"plugins does not name {name}", "options", name)
