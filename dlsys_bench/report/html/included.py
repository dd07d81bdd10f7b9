"""Results of other commands that a report page includes: climbs, speeds, mutants, and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlsys_bench.conformance.compliance import Compliance
from dlsys_bench.errors import UserError
from dlsys_bench.report.html.conformance import matrix_section, mutants_section
from dlsys_bench.report.html.page import Graphic, Section
from dlsys_bench.report.html.speed import peak_section, speed_sections, to_accuracy_sections
from dlsys_bench.strict_json import loads
from dlsys_bench.text import describe
from dlsys_bench.timing import sweep, to_accuracy
from dlsys_bench.timing.benchmark_file import read_benchmarks

TAKES = (
    "a report of `conform --output` or a table of mutants (JSON), points of `bench sweep` or "
    "`bench time-to-accuracy` (JSON lines), a session of pytest-benchmark (JSON), or a PNG"
)
PNG = b"\x89PNG"


def included_sections(paths: Sequence[Path]) -> list[Section]:
    """Return the sections about files. Raises UserError for a file of another kind."""
    reports, pictures, found = [], [], list[Section]()
    for path in paths:
        if _first_bytes(path) == PNG:
            pictures.append(Graphic(path.stem, path))
            continue
        values = _first_value(path)
        if "mutants" in values:
            found.append(_mutants(path, values))
        elif "outcomes" in values:
            reports.append(Compliance.read(path))
        elif "samples_a_second" in values:
            found += speed_sections(sweep.read(path))
        elif "benchmarks" in values:
            found.append(peak_section(read_benchmarks(path)))
        elif "reached" in values:
            found += to_accuracy_sections(to_accuracy.read(path))
        else:
            raise UserError(f"cannot include {path}; expected {TAKES}")
    if reports:
        found.insert(0, matrix_section(reports))
    if pictures:
        found.append(Section("Pictures", panels=pictures))
    return found


def _mutants(path: Path, values: dict[str, Any]) -> Section:
    try:
        return mutants_section(values)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a table of mutants: {describe(error)}") from error


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(len(PNG))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _first_value(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file, or that of its first line."""
    try:
        text = path.read_text(encoding="utf-8")
        lines = text.split("\n", 1)
        values = loads(lines[0] if lines[0].rstrip().endswith("}") else text)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot include {path}: {error}; expected {TAKES}") from error
    if not isinstance(values, dict):
        raise UserError(f"cannot include {path}; expected {TAKES}")
    return values
