"""What is let in of what requests say: no names of people, and not endless categories.

What a request says of a user goes into the log, and into names that learners keep for
good. It is looked at before anything else is done with it; a decision is logged as it
was let in, so that it comes out the same again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b

import msgspec
import structlog

from policies.errors import InvalidRequestError, Problem
from policies.features import FeatureSpec
from policies.model import FeatureValue, Moment, Opportunity
from server import telemetry
from server.codec.checks import entry
from server.settings import GuardSettings

__all__ = ["Guarding", "looks_like_pii"]

_EMAIL = re.compile(r"[^\s@,;:<>()\"]+@[^\s@,;:<>()\"]+\.[A-Za-z]{2,}")
_PHONE = re.compile(
    r"\+\d(?:[\s./-]?\(?\d\)?){6,14}"  # +49 (0) 151 2345 6789
    r"|\(?\d{3}\)?[\s.-]\d{3}[\s.-]\d{4}"  # (555) 123-4567
    r"|0\d{2,4}[\s/-]\d{3,4}[\s-]?\d{3,5}"  # 0151 2345 6789
)
_FIRST = frozenset("+(0123456789")
_HASHED = 100

_log = structlog.get_logger()


def looks_like_pii(text: str) -> bool:
    """Say whether a text looks like an e-mail address or a telephone number.

    Digits alone are no telephone number: they may be anything.

    Examples:
        >>> [looks_like_pii(t) for t in ("ada@example.com", "+49 151 23456789")]
        [True, True]
        >>> [looks_like_pii(t) for t in ("a@b", "2026-11-22", "10000-49999", "4711")]
        [False, False, False, False]
    """
    if "@" in text and _EMAIL.search(text):
        return True
    start = text.strip()
    return start[:1] in _FIRST and _PHONE.fullmatch(start) is not None


class Guarding:
    """Looks at what requests say of users, for one worker.

    Args:
        settings: What is let in.
    """

    def __init__(self, settings: GuardSettings) -> None:
        self._settings = settings
        self._seen: dict[str, set[str]] = {}

    def admit(
        self, opportunity: Opportunity, specs: Mapping[str, FeatureSpec], at: str = ""
    ) -> Opportunity:
        """Return what is let in of what is asked: itself where all of it is.

        Args:
            opportunity: What is asked.
            specs: The features that the catalogue declares.
            at: Where in the request it is, for the names of its fields.

        Raises:
            InvalidRequestError: If a value looks like one that is to be refused. The
                value itself is told nowhere.
        """
        context, moment = opportunity.context, opportunity.context.moment
        if (
            self._known(context.features)
            and (not moment.features or self._known(moment.features))
            and not self._suspicious(context.role)
            and not self._suspicious(context.segment)
        ):
            return opportunity
        here = f"{at}context."
        problems: list[Problem] = []
        role = self._text(context.role, f"{here}role", problems)
        segment = self._text(context.segment, f"{here}segment", problems)
        features = context.features
        if features:
            features = self._features(features, specs, f"{here}features", problems)
        of_moment = moment.features
        if of_moment:
            field = f"{here}moment.features"
            of_moment = self._features(of_moment, specs, field, problems)
        if problems:
            raise InvalidRequestError(problems)
        if (
            role is context.role
            and segment is context.segment
            and features is context.features
            and of_moment is moment.features
        ):
            return opportunity
        if of_moment is not moment.features:
            moment = Moment(moment.kind, of_moment)
        admitted = msgspec.structs.replace(
            context, role=role, segment=segment, features=features, moment=moment
        )
        return msgspec.structs.replace(opportunity, context=admitted)

    def _known(self, features: dict[str, FeatureValue]) -> bool:
        """Say whether all categories were let in before."""
        for name, value in features.items():
            if value.__class__ is str and value not in self._seen.get(name, ()):
                return False
        return True

    def _suspicious(self, text: str) -> bool:
        """Say whether a text could be what is refused, at first glance."""
        return text != "" and ("@" in text or text.strip()[:1] in _FIRST)

    def _text(self, text: str, field: str, problems: list[Problem]) -> str:
        if not text or not self._is_pii(text):
            return text
        self._refuse(field, problems)
        return ""

    def _features(
        self,
        features: dict[str, FeatureValue],
        specs: Mapping[str, FeatureSpec],
        field: str,
        problems: list[Problem],
    ) -> dict[str, FeatureValue]:
        """Return the features that are let in, the very same where all are."""
        changed: dict[str, FeatureValue | None] = {}
        for name, value in features.items():
            if not isinstance(value, str):
                continue
            seen = self._seen.get(name)
            if seen is not None and value in seen:
                continue
            if self._is_pii(value):
                self._refuse(f"{entry(field, name)}.category", problems)
                changed[name] = None
            elif name in specs:
                admitted = self._category(name, value)
                if admitted != value:
                    changed[name] = admitted
        if not changed:
            return features
        merged = {**features, **changed}
        return {name: value for name, value in merged.items() if value is not None}

    def _category(self, name: str, value: str) -> str | None:
        """Return what becomes of a category that was not seen yet."""
        seen = self._seen.setdefault(name, set())
        if len(seen) < self._settings.categories_max:
            seen.add(value)
            if len(seen) == self._settings.categories_max:
                _log.warning("a feature has many categories", feature=name)
            return value
        telemetry.CATEGORIES.labels(name).inc()
        if self._settings.beyond == "keep":
            return value
        if self._settings.beyond == "drop":
            return None
        digest = blake2b(value.encode(), digest_size=8).digest()
        return f"other-{int.from_bytes(digest) % _HASHED}"

    def _is_pii(self, text: str) -> bool:
        return self._settings.pii != "keep" and looks_like_pii(text)

    def _refuse(self, field: str, problems: list[Problem]) -> None:
        """Note that a value is refused or dropped; it is told nowhere."""
        telemetry.PII.labels(self._settings.pii).inc()
        if self._settings.pii == "refuse":
            said = "looks like an e-mail address or a telephone number"
            problems.append(Problem(field, f"{said}, which must not be sent"))
