"""Refuses catalogues that make no sense, or are not honest.

Types say what a value is; what is here says which values go together, and what would
be right instead. A catalogue with a problem is not used, none of it.
"""

from __future__ import annotations

from policies.linting.base import Note
from policies.linting.ladders import lint_bundles, lint_ladders
from policies.linting.offers import lint_offers
from policies.linting.settings import lint_settings
from policies.linting.tables import lint_tables
from policies.linting.truth import lint_common_rules
from policies.specs import CatalogueSpec

__all__ = ["Note", "lint"]


def lint(
    spec: CatalogueSpec, note: Note, previous: CatalogueSpec | None = None
) -> None:
    """Note everything that is wrong with a catalogue, beside its types and its CEL.

    Args:
        spec: What the catalogue says.
        note: Notes one problem: what is wrong and what would be right, then the keys
            under which it stands, such as "offers", "tea", "caps", "0", "limit".
        previous: What the catalogue before it said; what was archived there stays so.
    """
    lint_settings(note, spec)
    lint_common_rules(note, spec)
    lint_tables(note, spec)
    lint_ladders(note, spec)
    lint_offers(note, spec, previous)
    lint_bundles(note, spec)
