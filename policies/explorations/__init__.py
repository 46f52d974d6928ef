"""Turns scores or beliefs into a distribution: what is tried besides the best.

Each is settings, with a method that is pure mathematics.
"""

from __future__ import annotations

from policies.explorations.epsilon_greedy import EpsilonGreedy
from policies.explorations.first import First
from policies.explorations.inverse_gap import InverseGap
from policies.explorations.softmax import Softmax
from policies.explorations.squarecb import SquareCB
from policies.explorations.thompson import Thompson
from policies.explorations.ucb import UCB

__all__ = [
    "UCB",
    "ByScore",
    "EpsilonGreedy",
    "Exploration",
    "First",
    "InverseGap",
    "Softmax",
    "SquareCB",
    "Thompson",
]

ByScore = EpsilonGreedy | Softmax | SquareCB | InverseGap | UCB | First
"""Those that need one number for each action."""

Exploration = ByScore | Thompson
"""Every way to explore; `kind` says in a file of settings which one is meant."""
