"""What reports say in words: how to read them, and what words mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from policies.estimators import ESTIMATORS
from policies.overlap import Verdict, worse

__all__ = ["DIFFERENCES", "FIGURES", "estimators_of", "meanings", "values_reading"]


_TERMS: Mapping[str, str] = {
    "value": "What a policy earns a decision, on average, in the situations that the"
    " log holds.",
    "interval": "It holds the true value in 95 of 100 logs where the confidence is"
    " 95\u00a0%. It is wider than a usual one where few, heavily weighted decisions"
    " say most, on purpose.",
    "usable": "Decide on it.",
    "weak": "The interval holds, but too few decisions have too much of the weight: no"
    " winner is named by it.",
    "unusable": "The log cannot tell. No number is told, but why, and how many"
    " decisions like these would do, where any number would.",
    "weight": "How much more often a policy makes a logged choice than whoever made the"
    " log: rewards are weighed with it. Weights are 1 on average where all is as it"
    " should be.",
    "ESS": "Effective sample size: how many decisions of its own the policy would have"
    " needed to say as much.",
    "untried": "The share of a policy's choices to which the log gave no chance: of"
    " those it says nothing.",
    "propensity": "The probability with which what was chosen was drawn.",
    "mean": "What was observed: no weights are needed.",
    "truth": "What is so in a world where everything is known, without the luck of the"
    " users.",
    "regret": "What the best action that could be shown would have earned more, a"
    " decision.",
    "trust kept": "The share of users who neither left nor opted out of anything.",
    "value a user": "All that users paid until they left, or the world ended, in minor"
    " units of the currency.",
    "leaves the log": "A user does at the first decision that comes out otherwise: what"
    " was logged afterwards followed from something that did not happen.",
    "known": "The share of what the new rules do that the log tried, by its"
    " probabilities. The rest counts as the least and as the most that any decision"
    " earned.",
}

DIFFERENCES = (
    "Policies that are judged by the same decisions share their noise, so that a"
    " difference is known better than either value. The intervals hold for all"
    " policies at once. A winner is named only where an interval leaves 0 out and the"
    " log is usable for both."
)

FIGURES = (
    "A log says much about policies that do what it often did, and little about others."
    " These figures say how much, and whether its propensities can be trusted."
)


def values_reading(confidence: str) -> str:
    """Say how to read values."""
    return (
        "The sign is what the policy earns a decision, the line its interval: it holds"
        f" the true value in {confidence} of logs like this one. What is filled is what"
        " the policy is judged by; a hollow sign says the same by another estimator."
        " Where the log cannot tell there is no number, and a hatched row in its place."
    )


def meanings(*names: str) -> tuple[tuple[str, str], ...]:
    """Return what words mean."""
    return tuple((name, _TERMS[name]) for name in names)


def estimators_of(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Return what estimators are, each once.

    Examples:
        >>> estimators_of(["snips", "mean"])
        (('snips', 'Self-normalised inverse propensity scores: Σ w·r / Σ w.'),)
    """
    found: dict[str, str] = {}
    for name in names:
        known = ESTIMATORS.get(name.partition("@")[0])
        if known is not None:
            found[name] = (known.terms.__doc__ or "").partition("\n")[0]
    return tuple(found.items())


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst of some verdicts."""
    found: Verdict = "usable"
    for verdict in verdicts:
        found = worse(found, verdict)
    return found
