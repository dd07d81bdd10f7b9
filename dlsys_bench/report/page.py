"""A report in Markdown with its pictures, from stored runs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from dlsys_bench.report.plots import PLOTS
from dlsys_bench.report.tables import tables, verdict_table
from dlsys_bench.result import Result
from dlsys_bench.store import file_name
from dlsys_bench.studies import STUDIES
from dlsys_bench.verdict.bands import Verdict

TEMPLATE = """# dlsys_bench: {{ results | length }} runs

{{ versions }}

{{ table }}
{% if verdicts %}
{{ verdicts }}
{% endif %}
{% for title, picture in pictures %}
![{{ title }}]({{ picture }})
{% endfor %}"""


def write(results: Sequence[Result], folder: Path, verdicts: Sequence[Verdict] = ()) -> list[Path]:
    """Write `report.md` and a picture for each study, dataset and tier. Returns the paths, the report first."""
    from jinja2 import Environment

    pictures = []

    def key(run: Result) -> tuple[str, str, str]:
        return run.study, run.dataset, run.tier

    # A study that is not in the table (a user's own) is drawn as curves.
    for (study, dataset, tier), group in groupby(sorted(results, key=key), key):
        runs = list(group)
        for plot in STUDIES[study].plots if study in STUDIES else ("curves",):
            if any(run.history or run.figures for run in runs):
                name = f"{file_name(study, dataset, tier, plot)}.png"
                pictures.append((f"{study} on {dataset}, {tier}: {plot}", PLOTS[plot](runs, folder / name)))
    provenance = results[0].provenance
    machine, versions = provenance.get("machine", {}), provenance.get("versions", {})
    text = (
        Environment(trim_blocks=True, autoescape=False)
        .from_string(TEMPLATE)
        .render(
            results=results,
            versions=f"{machine.get('processor', '')}, {machine.get('cores', '?')} cores; "
            + ", ".join(f"{name} {version}" for name, version in versions.items()),
            table="\n".join(table.markdown() for table in tables(results)),
            verdicts=verdict_table(verdicts).markdown() if verdicts else "",
            pictures=[(title, path.name) for title, path in pictures],
        )
    )
    folder.mkdir(parents=True, exist_ok=True)
    report = folder / "report.md"
    report.write_text(text, encoding="utf-8")
    return [report, *(path for _, path in pictures)]
