"""One self-contained page of what was found: the headline, plots, tables, definitions.

A report is a function of a result, so that it can be made of one that was stored as
JSON. It loads nothing and runs nothing: one file, to be sent to whoever decides.
"""

from __future__ import annotations

from simulator.reporting.making import (
    READABLE,
    Reportable,
    ReportError,
    page,
    read_result,
    report,
)

__all__ = ["READABLE", "ReportError", "Reportable", "page", "read_result", "report"]
