"""How Sphinx builds the docs: Markdown, from this folder and from the docstrings.

Nothing is fetched while building, so there is no intersphinx.
"""

from __future__ import annotations

project = "Opportune"
html_title = "Opportune"
html_theme = "furo"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
