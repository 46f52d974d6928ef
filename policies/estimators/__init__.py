"""What another policy would have earned: one family of estimators a file.

An estimator is a function from rows to terms, and terms are columns that add up:
parts of a log that are read apart, or on other machines, are put together by adding.
"""

from __future__ import annotations

from policies.estimators.base import Rows, Terms
from policies.estimators.weighting import ips, snips

__all__ = ["Rows", "Terms", "ips", "snips"]
