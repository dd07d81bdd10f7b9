"""The pages of the documentation that are generated: one per conformance check, and the API.

`python docs/generated_pages.py FOLDER` writes them without Sphinx.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from dlsys_bench.conformance import ladder  # noqa: F401  It registers the checks.
from dlsys_bench.conformance.check import CHECKS, RUNGS, Check

HOME = """<!doctype html>
<meta charset="utf-8">
<title>dlsys_bench</title>
<meta http-equiv="refresh" content="0; url=docs/index.html">
<a href="docs/index.html">The documentation of dlsys_bench</a>
"""

API = {
    "Check an engine": ("dlsys_bench",),
    "Gates and comparisons": (
        "dlsys_bench.verdicts.sequential",
        "dlsys_bench.verdicts.gate",
        "dlsys_bench.verdicts.training_gate",
        "dlsys_bench.verdicts.terms",
        "dlsys_bench.verdicts.verdict",
        "dlsys_bench.verdicts.session",
        "dlsys_bench.verdicts.compare",
        "dlsys_bench.verdicts.power",
    ),
    "Runs": ("dlsys_bench.runs.key", "dlsys_bench.runs.result", "dlsys_bench.runs.store"),
    "Studies": ("dlsys_bench.studies.base", "dlsys_bench.studies.registry"),
    "Specification": (
        "dlsys_bench.spec.model",
        "dlsys_bench.spec.layers",
        "dlsys_bench.spec.losses",
        "dlsys_bench.spec.optimizers",
        "dlsys_bench.spec.decay",
        "dlsys_bench.spec.clipping",
        "dlsys_bench.spec.averaging",
        "dlsys_bench.spec.schedules",
        "dlsys_bench.spec.initializers",
        "dlsys_bench.spec.recipe",
    ),
    "Engines": (
        "dlsys_bench.engines.base",
        "dlsys_bench.engines.epochs",
        "dlsys_bench.engines.history",
        "dlsys_bench.engines.registry",
    ),
    "Strategies of Hypothesis": ("dlsys_bench.strategies",),
    "Plugin of pytest": ("dlsys_bench.plugin.fixtures", "dlsys_bench.plugin.hookspec"),
}
"""The public modules by the title of their page."""


def pages() -> dict[str, str]:
    """Return the text of every generated page by its path."""
    found = {"home/index.html": HOME, "checks/index.md": _list_of_checks(CHECKS.values())}
    for check in CHECKS.values():
        found[f"checks/{_file_of(check)}"] = _check_page(check)
    for title, modules in API.items():
        found[f"api/{_slug(title)}.md"] = _api_page(title, modules)
    found["api/index.md"] = "# API\n\n" + _contents(map(_slug, API))
    return found


def write(folder: Path) -> None:
    """Write every page below a folder, from which older pages are removed."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in pages().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _slug(title: str) -> str:
    return title.lower().replace(" ", "-")


def _contents(names: Iterable[str]) -> str:
    return "```{toctree}\n:maxdepth: 1\n\n" + "\n".join(names) + "\n```\n"


def _file_of(check: Check) -> str:
    return f"{check.name}.md"


def _list_of_checks(checks: Iterable[Check]) -> str:
    listed = list(checks)
    parts = [
        "# Conformance checks\n",
        f"The {len(listed)} checks of the ladder, from the lowest rung to the highest. Each also "
        "runs in every lower precision of an engine, under its name and the dtype, as in "
        "`gradient/dense@float32`. `dlsys-bench conform --explain CHECK` prints the same texts.\n",
    ]
    for rung in RUNGS:
        links = [
            f"- [{c.name}]({_file_of(c)}): {_literal(c.explanation.what)}"
            for c in listed
            if c.rung == rung
        ]
        parts.append(f"## {rung}\n\n" + "\n".join(links) + "\n")
    return "\n".join(parts)


def _check_page(check: Check) -> str:
    sections = check.explanation.sections().items()
    texts = "\n".join(f"**{title}.** {_literal(text)}\n" for title, text in sections)
    needs = ", ".join(f"`{name}`" for name in check.requires) or "nothing beyond the six methods"
    precision = check.dtype or "every precision of the engine"
    # The list of checks leads to the page; a table of contents of all would be on every page.
    return (
        f"---\norphan: true\n---\n\n# {check.name}\n\n{texts}\n"
        f"**Requires.** {needs}; runs in {precision}.\n\n"
        f"```console\n$ dlsys-bench conform --engine ENGINE --check {check.name}\n```\n"
    )


def _literal(text: str) -> str:
    """Escape what Markdown would take for markup outside of code."""
    parts = text.split("`")
    for number in range(0, len(parts), 2):
        for mark in "\\*_[]<>{}$":
            parts[number] = parts[number].replace(mark, f"\\{mark}")
    return "`".join(parts)


def _api_page(title: str, modules: Iterable[str]) -> str:
    options = ":members:\n:show-inheritance:\n"
    blocks = [
        f"## {module}\n\n```{{eval-rst}}\n.. automodule:: {module}\n"
        + "".join(f"   {line}\n" for line in options.splitlines())
        + "```\n"
        for module in modules
    ]
    return f"# {title}\n\n" + "\n".join(blocks)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
