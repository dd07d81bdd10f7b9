"""The configuration of Sphinx: `make docs` builds the pages, offline and without warnings.

The source folder is the root of the repository, so that the links between pages are the same here
as on a code host: docs/ holds the pages, and reports/ the results.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))

import generated_pages  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402

import dlsys_bench  # noqa: E402

MARKUP = re.compile(r"[*|]|_(?!\w)")
ALIAS = "Alias for field number"
"""The beginning of the docstring that Python gives to each field of a named tuple."""

project = "dlsys_bench"
author = "The developers of dlsys_bench"
release = version = dlsys_bench.__version__
root_doc = "docs/index"
include_patterns = ["docs/**.md", "reports/**.md", "CHANGELOG.md", "CONTRIBUTING.md"]
# Most pages in reports/ are found through links. They begin with a smaller heading, as they are
# parts of larger pages too. A class that two modules export has two places to refer to.
suppress_warnings = ["toc.not_included", "myst.header", "ref.python"]
extensions = ["myst_parser", "sphinx.ext.autodoc"]
# Every link to a page or a heading has to lead somewhere. The types in signatures do not: most are
# those of numpy and of the standard library, whose pages are not available offline.
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]

myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
# The value of a default such as a function would be printed with its address in memory.
autodoc_preserve_defaults = True
default_role = "code"

html_theme = "furo"
html_title = f"dlsys_bench {release}"
html_copy_source = False
html_show_sourcelink = False
html_extra_path = ["generated/home"]


def setup(app: Sphinx) -> None:
    """Generate the pages that follow from tables, before Sphinx looks for pages."""
    generated_pages.write(ROOT / "docs" / "generated")
    app.connect("autodoc-process-docstring", escape_markup)


def escape_markup(
    app: Sphinx, what: str, name: str, item: object, options: object, lines: list[str]
) -> None:
    """Escape what reStructuredText would take for markup: docstrings here have backticks alone.

    The docstrings of the fields of named tuples say nothing, and are left out.
    """
    if lines and lines[0].startswith(ALIAS):
        lines.clear()
    parts = "\n".join(lines).split("`")
    parts[::2] = [MARKUP.sub(r"\\\g<0>", part) for part in parts[::2]]
    lines[:] = "`".join(parts).split("\n")
