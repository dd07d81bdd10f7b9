"""List what is available, and show the summary of a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlsys_bench.attributes import load_attribute
from dlsys_bench.cli.terminal import emit, say
from dlsys_bench.data import datasets, is_available
from dlsys_bench.engines.registry import engines, unavailable
from dlsys_bench.errors import UserError, nearest
from dlsys_bench.options.command import receives
from dlsys_bench.options.commands import LISTS
from dlsys_bench.report.display import show
from dlsys_bench.report.table import Table
from dlsys_bench.report.tables import summary_table
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.record import from_dict
from dlsys_bench.strict_json import dumps, loads
from dlsys_bench.studies.registry import NO_STUDY, models, studies

Rows = list[dict[str, Any]]


def _studies() -> Rows:
    return [
        {
            "study": study.name,
            "arms": ", ".join(arm.name for arm in study.arms),
            "dataset": study.dataset,
            "source": study.source,
            "title": study.title,
        }
        for study in studies().values()
    ]


def _models() -> Rows:
    return [
        {
            "model": model.name,
            "layers": len(model.layers),
            "input": " and ".join(str(each.shape) for each in model.input_table),
            "parameters": model.counts.total,
        }
        for model in models().values()
    ]


def _engines() -> Rows:
    # The message of an error names the engine; the row has the name already.
    return [
        {
            "engine": name,
            "state": (unavailable(name) or "available").removeprefix(f'engine "{name}" is '),
        }
        for name in engines()
    ]


def _datasets() -> Rows:
    return [
        {
            "dataset": name,
            "title": source.title,
            "licence": source.licence,
            "state": "available"
            if is_available(name)
            else f"not found: dlsys-bench data fetch {name}",
        }
        for name, source in datasets().items()
    ]


ROWS: dict[str, Callable[[], Rows]] = dict(
    zip(LISTS, (_studies, _models, _engines, _datasets), strict=True)
)


@dataclass(frozen=True)
class ListOptions:
    """The argument and the options of `list`."""

    what: str
    json: bool


@receives(ListOptions)
def list_command(options: ListOptions) -> None:
    """Print a table for each list."""
    names = LISTS if options.what == "all" else (options.what,)
    rows = {name: ROWS[name]() for name in names}
    if options.json:
        emit(dumps(rows if options.what == "all" else rows[options.what], indent=1))
        return
    for name, records in rows.items():
        if not records:
            say(f"{name}: {'none' if studies() else NO_STUDY}")
            continue
        heads = tuple(f">{k}" if isinstance(v, int | float) else k for k, v in records[0].items())
        cells = [tuple(str(value) for value in record.values()) for record in records]
        show(Table(f"{name} ({len(records)})", heads, cells))


@dataclass(frozen=True)
class SummaryOptions:
    """The argument and the options of `summary`."""

    model: str
    json: bool


@receives(SummaryOptions)
def summary_command(options: SummaryOptions) -> None:
    """Print the table of a model's layers."""
    model = _find_model(options.model)
    if options.json:
        counts = {f"params_{name}": value for name, value in model.counts._asdict().items()}
        emit(dumps(model.to_dict() | counts, indent=1))
    else:
        show(summary_table(model))


def _find_model(name: str) -> Model:
    """The model of a name, a .json file, or package.module:MODEL. Raises UserError."""
    found: object = models().get(name)
    if found is None and name.endswith(".json"):
        try:
            found = from_dict(loads(Path(name).read_text(encoding="utf-8")))
        except (OSError, ValueError, UserError, RecursionError) as error:
            raise UserError(f"model file {name!r} cannot be read: {error}") from error
    elif found is None and ":" in name:
        found = load_attribute(name, "model")
        if not isinstance(found, Model):
            raise UserError(f"{name!r} is a {type(found).__name__}, not a Model")
    if not isinstance(found, Model):
        raise UserError(
            f"unknown model {name!r}{nearest(name, models())}; `dlsys-bench list models` shows them"
        )
    return found
