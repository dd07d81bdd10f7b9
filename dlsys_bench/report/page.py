"""A report on stored runs in Markdown, with pictures: one section per study."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar, cast

from jinja2 import Environment

from dlsys_bench.attributes import load_attribute
from dlsys_bench.errors import StoreWarning, UserError, count_of
from dlsys_bench.report.all_arms import arms_table
from dlsys_bench.report.plots.table import DEFAULT, plots
from dlsys_bench.report.table import Table
from dlsys_bench.report.tables import power_table, tables
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.run import choose_dataset
from dlsys_bench.runs.store import file_name
from dlsys_bench.studies.base import Case, Study
from dlsys_bench.studies.registry import studies
from dlsys_bench.text import describe, one_line
from dlsys_bench.verdicts.all_arms import compare_all_engines
from dlsys_bench.verdicts.budget import ALPHA
from dlsys_bench.verdicts.design import BETA
from dlsys_bench.verdicts.gate import Terms, share
from dlsys_bench.verdicts.power import power

Appendix = Callable[[Sequence[Result]], Mapping[str, Sequence[Table]]]
"""Given all the runs of a report, returns the tables that follow those of each study, by its
name."""

T = TypeVar("T")

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

    def place(run: Result) -> tuple[str, str]:
        # Arms that run on the datasets they are meant for belong in one picture.
        at_home = known is not None and run.key.dataset in {
            arm.dataset for arm in known.arms if arm.name == run.key.arm
        }
        return known.dataset if known is not None and at_home else run.key.dataset, run.key.tier

    pictures = []
    for (dataset, tier), group in groupby(sorted(results, key=place), place):
        runs = list(group)
        for plot in known.plots if known else (DEFAULT,):
            # Curves need epochs, which a user's own training and a study that measures have not.
            if any(run.history or (run.figures and plot != DEFAULT) for run in runs):
                where = ", ".join(filter(None, (dataset, tier)))
                title = f"{study}{f' on {where}' * bool(where)}: {plot}"
                file = folder / f"{file_name(study, dataset, tier, plot)}.png"
                draw = partial(plots()[plot], runs, file)
                if path := _made(f"the plot of {title}", draw):
                    pictures.append((title, path))
    return {
        "study": study,
        "title": known.title if known else "",
        "tables": [table.markdown() for table in tables(results)],
        "powers": _powers(
            known, list(dict.fromkeys((run.key.dataset, run.key.tier) for run in results))
        )
        if known
        else [],
        "paths": [path for _, path in pictures],
        "pictures": [(title, path.name) for title, path in pictures],
        "appendix": [table.markdown() for table in appendix],
    }


def _powers(study: Study, places: Sequence[tuple[str, str]]) -> list[str]:
    """The power of a study's gates on each dataset and tier, from the reference runs; nothing for
    a dataset that is not available."""
    found = []
    for dataset, tier in places:
        terms = Terms(share(len(study.arms)))
        try:
            powers = [
                power(case, choose_dataset(case, dataset, None)[0], tier, terms)
                for case in (Case(study, arm) for arm in study.arms)
                if (case.arm.dataset or dataset) == dataset
            ]
        except UserError:
            continue
        if any(one.stored for one in powers):
            title = (
                f"Power of the gates on {dataset}, {tier}: alpha {ALPHA:g} over "
                f"{count_of(len(study.arms), 'arm')}, beta {BETA:g}"
            )
            found.append(power_table(powers, title).markdown())
    return found


def _appendices(names: Sequence[str], results: Sequence[Result]) -> dict[str, Sequence[Table]]:
    """The tables that the studies add, by study; each callable is called once."""
    known = [studies()[name] for name in names if name in studies()]
    found: dict[str, Sequence[Table]] = {}
    for target in dict.fromkeys(study.appendix for study in known if study.appendix):
        appendix = cast(Appendix, load_attribute(target, "appendix"))
        found |= _made(f"the appendix {target}", partial(appendix, results)) or {}
    return found


def _made(what: str, make: Callable[[], T]) -> T | None:
    """Return what a function makes of stored runs; None, with a warning, if it fails.

    The figures of a study have the structure that the study gave them. A file may hold others, and
    what depends on them must not prevent the rest of the report.
    """
    try:
        return make()
    except UserError:
        raise
    except Exception as error:
        warnings.warn(
            f"{what} is left out: {one_line(describe(error))}", StoreWarning, stacklevel=2
        )
        return None


def _engines(results: Sequence[Result]) -> str:
    """The table of engines that share several arms, "" if there are none."""
    found = compare_all_engines(results)
    return arms_table(found).markdown() if found else ""


def _stack(run: Result) -> str:
    """The machine and the versions that a run was made with."""
    machine, versions = (run.provenance.get(name, {}) for name in ("machine", "versions"))
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    processor, cores = machine.get("processor", ""), machine.get("cores", "?")
    return one_line(f"{processor}, {cores} cores; {packages}")


def write(results: Sequence[Result], folder: Path) -> list[Path]:
    """Write `report.md` and the pictures of each study, dataset and tier. Returns the paths, the
    report first."""
    folder.mkdir(parents=True, exist_ok=True)
    names = list(dict.fromkeys(run.key.study for run in results))
    appendices = _appendices(names, results)
    sections = [
        _section(
            name,
            [run for run in results if run.key.study == name],
            appendices.get(name, ()),
            folder,
        )
        for name in names
    ]
    text = (
        Environment(trim_blocks=True, autoescape=False)
        .from_string(TEMPLATE)
        .render(
            count=len(results),
            versions=_stack(results[0]),
            sections=sections,
            engines=_made("the comparison of engines", partial(_engines, results)),
        )
    )
    report = folder / "report.md"
    report.write_text(text, encoding="utf-8")
    return [report, *(path for section in sections for path in section["paths"])]
