"""What there is: the list, and the summary of a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from dlsys_bench.cli.options import as_json
from dlsys_bench.cli.terminal import show
from dlsys_bench.errors import UserError, nearest


def _listing(what: str) -> list[dict[str, Any]]:
    if what == "studies":
        from dlsys_bench.studies.registry import studies

        return [
            {
                "study": s.name,
                "arms": ", ".join(a.name for a in s.arms),
                "dataset": s.dataset,
                "source": s.source,
                "title": s.title,
            }
            for s in studies().values()
        ]
    if what == "models":
        from dlsys_bench.studies.registry import models

        return [
            {
                "model": m.name,
                "layers": len(m.layers),
                "input": str(m.input_shape),
                "parameters": m.counts.total,
            }
            for m in models().values()
        ]
    if what == "engines":
        from dlsys_bench.engines.registry import engines, unavailable

        return [{"engine": name, "state": unavailable(name) or "available"} for name in engines()]
    from dlsys_bench.data import datasets, is_available

    return [
        {
            "dataset": name,
            "title": source.title,
            "licence": source.licence,
            "state": "available" if is_available(name) else f"dlsys-bench data fetch {name}",
        }
        for name, source in datasets().items()
    ]


LISTS = ("studies", "models", "engines", "datasets")


@click.command("list")
@click.argument("what", type=click.Choice([*LISTS, "all"]), default="all")
@as_json
def list_command(what: str, as_json: bool) -> None:
    """What there is: studies, models, engines, datasets."""
    from dlsys_bench.report.tables import Table

    chosen = {name: _listing(name) for name in LISTS if what in ("all", name)}
    if as_json:
        click.echo(json.dumps(chosen if what == "all" else chosen[what], indent=1))
        return
    for name, records in chosen.items():
        heads = tuple(f">{k}" if isinstance(v, int | float) else k for k, v in records[0].items())
        show(
            Table(
                f"{name} ({len(records)})",
                heads,
                [tuple(str(v) for v in record.values()) for record in records],
            )
        )


@click.command("summary")
@click.argument("model")
@as_json
def summary_command(model: str, as_json: bool) -> None:
    """The layers, shapes and parameters of MODEL: a name (see `list models`), a .json file, or
    package.module:MODEL."""
    from dlsys_bench.attributes import load_attribute
    from dlsys_bench.report.tables import summary_table
    from dlsys_bench.spec.model import Model
    from dlsys_bench.spec.record import from_dict
    from dlsys_bench.studies.registry import models

    found: object = models().get(model)
    if found is None and model.endswith(".json"):
        try:
            found = from_dict(json.loads(Path(model).read_text(encoding="utf-8")))
        except (OSError, ValueError, AttributeError) as error:
            raise UserError(f"model file {model!r} cannot be read: {error}") from error
    elif found is None and ":" in model:
        found = load_attribute(model, "model")
    if not isinstance(found, Model):
        raise UserError(
            f"unknown model {model!r}{nearest(model, models())}; `dlsys-bench list models` shows them"
        )
    if as_json:
        counts = {f"params_{name}": value for name, value in found.counts._asdict().items()}
        click.echo(json.dumps(found.to_dict() | counts, indent=1))
    else:
        show(summary_table(found))
