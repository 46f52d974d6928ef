"""Gates: each rules an offer out for a reason. One file a gate, all of them pure.

A gate looks at an offer, never at another one, and only at what the moment holds:
the opportunity, the history, the time. More of a history never lets an offer
through that less of it ruled out.
"""

from __future__ import annotations

from policies.gates.base import Gate, Ruling, Situation
from policies.gates.dates import Dates
from policies.gates.dismissal import DismissalCoolDown
from policies.gates.eligibility import Eligibility
from policies.gates.frequency import FrequencyCap

__all__ = [
    "Dates",
    "DismissalCoolDown",
    "Eligibility",
    "FrequencyCap",
    "Gate",
    "Ruling",
    "Situation",
]
