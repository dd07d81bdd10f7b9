"""A report in Markdown with its pictures, from stored runs: a section a study, with what became of
its claims."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from dlsys_bench.errors import UserError
from dlsys_bench.notebooks.rulings import Judged, rule
from dlsys_bench.report.plots.table import PLOTS
from dlsys_bench.report.tables import claims_table, power_table, tables
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.run import choose_dataset
from dlsys_bench.runs.store import file_name
from dlsys_bench.studies.base import Case, Study
from dlsys_bench.studies.registry import STUDIES
from dlsys_bench.verdicts.design import ALPHA, BETA
from dlsys_bench.verdicts.gate import Terms, share
from dlsys_bench.verdicts.power import power

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
{% if section.claims %}
{{ section.claims }}
{% endif %}
{% endfor %}"""


def _section(
    study: str, results: Sequence[Result], rulings: Sequence[Judged], folder: Path
) -> dict[str, Any]:
    """The tables, pictures and claims of one study. One that is not in the table (a user's own) is
    drawn as curves."""
    known = STUDIES.get(study)

    def place(run: Result) -> tuple[str, str]:
        # Arms that are each on the data that they are meant for belong in one picture.
        at_home = known is not None and run.key.dataset in {
            arm.dataset for arm in known.arms if arm.name == run.key.arm
        }
        return known.dataset if known is not None and at_home else run.key.dataset, run.key.tier

    pictures = []
    for (dataset, tier), group in groupby(sorted(results, key=place), place):
        runs = list(group)
        for plot in known.plots if known else ("curves",):
            if any(run.history or run.figures for run in runs):
                path = PLOTS[plot](runs, folder / f"{file_name(study, dataset, tier, plot)}.png")
                pictures.append((f"{study} on {dataset}, {tier}: {plot}", path))
    rulings = [one for one in rulings if one.claim["study"] == study]
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
        "claims": claims_table(rulings, "What was published, and what is measured here").markdown()
        if rulings
        else "",
    }


def _powers(study: Study, places: Sequence[tuple[str, str]]) -> list[str]:
    """What gates of a study see on each dataset and tier, from the runs stored for it; of data that
    are not at hand, nothing."""
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
            title = f"What gates see on {dataset}, {tier}: alpha {ALPHA:g} over {len(study.arms)} arms, beta {BETA:g}"
            found.append(power_table(powers, title).markdown())
    return found


def write(results: Sequence[Result], folder: Path) -> list[Path]:
    """Write `report.md` and the pictures of each study, dataset and tier. Returns the paths, the
    report first."""
    from jinja2 import Environment

    folder.mkdir(parents=True, exist_ok=True)
    studies = dict.fromkeys(run.key.study for run in results)
    rulings = rule(extra=results)
    sections = [
        _section(study, [run for run in results if run.key.study == study], rulings, folder)
        for study in studies
    ]
    provenance = results[0].provenance
    machine, versions = provenance.get("machine", {}), provenance.get("versions", {})
    text = (
        Environment(trim_blocks=True, autoescape=False)
        .from_string(TEMPLATE)
        .render(
            count=len(results),
            versions=f"{machine.get('processor', '')}, {machine.get('cores', '?')} cores; "
            + ", ".join(f"{name} {version}" for name, version in versions.items()),
            sections=sections,
        )
    )
    report = folder / "report.md"
    report.write_text(text, encoding="utf-8")
    return [report, *(path for section in sections for path in section["paths"])]
