"""A report on stored runs in Markdown, with pictures: one section per study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment

from dlsys_bench.report.plots.table import DEFAULT, TRAINING, plots
from dlsys_bench.report.sections import appendices, draws, engines_table, made, place_of, powers
from dlsys_bench.report.table import Table, inert
from dlsys_bench.report.tables import tables
from dlsys_bench.runs.key import CALLABLE
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import file_name
from dlsys_bench.studies.registry import studies

TEMPLATE = """# dlsys_bench: {{ count }} runs

{{ versions }}
{% for section in sections %}
## {{ section.study }}

{{ section.title }}

{% for table in section.tables %}
{{ table }}
{% endfor %}
{% for table in section.powers %}
{{ table }}
{% endfor %}
{% for title, picture in section.pictures %}
![{{ title }}]({{ picture }})

{% endfor %}
{% for table in section.appendix %}
{{ table }}
{% endfor %}
{% endfor %}
{% if engines %}
## Engines

{{ engines }}
{% endif %}"""


def _section(
    study: str, results: Sequence[Result], appendix: Sequence[Table], folder: Path
) -> dict[str, Any]:
    """The tables and pictures of one study, and the tables that it adds. A study that is not
    registered is drawn as curves."""
    known = studies().get(study)

    pictures = []
    for (dataset, tier), group in groupby(sorted(results, key=place_of), place_of):
        runs = list(group)
        for plot in known.plots if known else _plots_without_study(runs):
            if draws(plot, runs):
                where = ", ".join(filter(None, (dataset, tier)))
                title = f"{study}{f' on {where}' * bool(where)}: {plot}"
                file = folder / f"{file_name(study, dataset, tier, plot)}.png"
                draw = partial(plots()[plot], runs, file)
                if path := made(f"the plot of {title}", draw):
                    pictures.append((title, path))
    return {
        "study": inert(study),
        "title": inert(known.title) if known else "",
        "tables": [table.markdown() for table in tables(results)],
        "powers": [table.markdown() for table in powers(known, results)] if known else [],
        "paths": [path for _, path in pictures],
        "pictures": [(inert(title), path.name) for title, path in pictures],
        "appendix": [table.markdown() for table in appendix],
    }


def _plots_without_study(runs: Sequence[Result]) -> tuple[str, ...]:
    """Return the plots of runs whose study is not registered."""
    return (TRAINING,) if runs[0].key.engine == CALLABLE else (DEFAULT,)


def _stack(run: Result) -> str:
    """The machine and the versions that a run was made with."""
    machine, versions = (run.provenance.get(name, {}) for name in ("machine", "versions"))
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    processor, cores = machine.get("processor", ""), machine.get("cores", "?")
    return inert(f"{processor}, {cores} cores; {packages}")


def write(
    results: Sequence[Result], folder: Path, on_study: Callable[[str], None] = lambda name: None
) -> list[Path]:
    """Write `report.md` and the pictures of each study, dataset and tier. Returns the paths, the
    report first.

    `on_study` gets the name of each study whose section is made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(run.key.study for run in results))
    added = appendices(names, results)
    sections = []
    for name in names:
        own = [run for run in results if run.key.study == name]
        sections.append(_section(name, own, added.get(name, ()), folder))
        on_study(name)
    engines = made("the comparison of engines", partial(engines_table, results))
    text = (
        Environment(trim_blocks=True, autoescape=False)
        .from_string(TEMPLATE)
        .render(
            count=len(results),
            versions=_stack(results[0]),
            sections=sections,
            engines=engines.markdown() if engines else "",
        )
    )
    report = folder / "report.md"
    report.write_text(text, encoding="utf-8")
    return [report, *(path for section in sections for path in section["paths"])]
