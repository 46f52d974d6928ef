"""Several slots that are filled at once, each with an item, and what came of it.

A slate is chosen as one, so that its probability is tiny and plain IPS hopeless. Each
estimator here assumes something of how slots matter together, and needs less:

    sips            nothing
    rips            a slot's reward depends on it and the slots above: people go down
    cascade_dr      the same, and a model of what comes from here on
    iips            a slot's reward depends on nothing but its own item
    pseudo_inverse  the reward of the slate is a sum over slots, whatever it is
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np

from policies.estimators.base import IntArray, Terms
from policies.model import FloatArray

__all__ = [
    "SLATES",
    "Slates",
    "cascade_dr",
    "iips",
    "pseudo_inverse",
    "pseudo_inverse_weights",
    "rips",
    "sips",
    "sniips",
    "snrips",
    "snsips",
]


class Slates(msgspec.Struct, frozen=True, kw_only=True):
    """Logged slates about one target policy, as columns.

    Attributes:
        rewards: What each slot earned, shape (n, slots). Where only the whole slate
            earns, it is in one of the slots, and 0 in the others.
        weights: Target over logging propensity of the item of each slot, given the
            items above it, shape (n, slots). Their product is the slate's weight.
        logged_values: What a model expects the slot and those below to earn, given the
            items down to it, shape (n, slots); none without a model.
        target_values: The same on average over what the target would put there, given
            the items above it, shape (n, slots); none likewise.
    """

    rewards: FloatArray
    weights: FloatArray
    logged_values: FloatArray | None = None
    target_values: FloatArray | None = None


def sips(slates: Slates) -> Terms:
    """Inverse propensity scores: the mean of Π w · Σ r."""
    return Terms(added=slates.weights.prod(axis=1) * slates.rewards.sum(axis=1))


def iips(slates: Slates) -> Terms:
    """Independent slots: the mean of Σ w_k·r_k.

    References:
        S. Li, Y. Abbasi-Yadkori, B. Kveton, S. Muthukrishnan, V. Vinay and Z. Wen.
        Offline evaluation of ranking policies with click models. KDD 2018,
        https://arxiv.org/abs/1804.10488.
    """
    return Terms(added=_along(slates.weights, slates.rewards))


def rips(slates: Slates) -> Terms:
    """Reward interactions from above: the mean of Σ (w_1 ⋯ w_k)·r_k.

    References:
        J. McInerney, B. Brost, P. Chandar, R. Mehrotra and B. Carterette.
        Counterfactual evaluation of slate recommendations with sequential reward
        interactions. KDD 2020, https://arxiv.org/abs/2007.12986.
    """
    return Terms(added=_along(slates.weights.cumprod(axis=1), slates.rewards))


def snsips(slates: Slates) -> Terms:
    """Self-normalised SIPS: Σ Π w · Σ r over Σ Π w."""
    whole = slates.weights.prod(axis=1)
    return Terms(over=whole * slates.rewards.sum(axis=1), under=whole)


def sniips(slates: Slates) -> Terms:
    """Self-normalised IIPS: Σ w·r over the mean weight of a slot."""
    return _normalised(slates.weights, slates.rewards)


def snrips(slates: Slates) -> Terms:
    """Self-normalised RIPS: Σ (w_1 ⋯ w_k)·r_k over the mean of these weights."""
    return _normalised(slates.weights.cumprod(axis=1), slates.rewards)


def cascade_dr(slates: Slates) -> Terms:
    """Doubly robust going down: the mean of Σ w_1⋯w_k·(r_k − q_k) + w_1⋯w_{k−1}·v_k.

    Raises:
        ValueError: If the slates have no values of a model.

    References:
        H. Kiyohara, Y. Saito, T. Matsuhiro, Y. Narita, N. Shimizu and Y. Yamamoto.
        Doubly robust off-policy evaluation for ranking policies under the cascade
        behavior model. WSDM 2022, https://arxiv.org/abs/2202.01562.
    """
    if slates.logged_values is None or slates.target_values is None:
        raise ValueError("cascade_dr needs logged_values and target_values")
    down = slates.weights.cumprod(axis=1)
    above = np.ones_like(down)
    above[:, 1:] = down[:, :-1]
    errors = slates.rewards - slates.logged_values
    return Terms(added=_along(down, errors) + _along(above, slates.target_values))


def pseudo_inverse(slates: Slates) -> Terms:
    """Pseudo-inverse: the mean of (1 − slots + Σ w_k) · Σ r.

    For slots that both policies fill independently of one another; others give their
    weights by `pseudo_inverse_weights`.

    References:
        A. Swaminathan, A. Krishnamurthy, A. Agarwal, M. Dudík, J. Langford, D. Jose and
        I. Zitouni. Off-policy evaluation for slate recommendation. NIPS 2017 (example
        4), https://arxiv.org/abs/1605.04812.
    """
    slots = slates.weights.shape[1]
    weights = 1.0 - slots + slates.weights.sum(axis=1)
    return Terms(added=weights * slates.rewards.sum(axis=1))


def pseudo_inverse_weights(
    probabilities: FloatArray,
    logged: IntArray,
    targets: FloatArray,
    slates: IntArray,
    chosen: IntArray,
) -> FloatArray:
    """Return the pseudo-inverse weights of slates that are drawn from a list.

    Args:
        probabilities: The logging policy's probability of each slate, shape (s,).
        logged: Each of these slates as items by slot, shape (s, slots), from 0.
        targets: The target's probability of each of its slates, shape (t,).
        slates: Each of these, shape (t, slots).
        chosen: The slates that were shown, shape (n, slots).

    Returns:
        The weight of each shown slate's reward, shape (n,).
    """
    n_items = 1 + max(int(part.max()) for part in (logged, slates, chosen))

    def marks(part: IntArray) -> FloatArray:
        slots = part.shape[1]
        at = np.zeros((len(part), slots * n_items))
        place = np.arange(slots) * n_items + part
        at[np.arange(len(part))[:, None], place] = 1.0
        return at

    pairs = (marks(logged) * probabilities[:, None]).T @ marks(logged)
    wanted = targets @ marks(slates)
    return np.asarray(marks(chosen) @ (np.linalg.pinv(pairs, hermitian=True) @ wanted))


SLATES: dict[str, Callable[[Slates], Terms]] = {
    "sips": sips,
    "iips": iips,
    "rips": rips,
    "snsips": snsips,
    "sniips": sniips,
    "snrips": snrips,
    "cascade_dr": cascade_dr,
    "pseudo_inverse": pseudo_inverse,
}
"""All estimators of slates by name."""


def _along(weights: FloatArray, values: FloatArray) -> FloatArray:
    return np.asarray(np.einsum("nk,nk->n", weights, values))


def _normalised(weights: FloatArray, rewards: FloatArray) -> Terms:
    return Terms(over=_along(weights, rewards), under=weights.mean(axis=1))
