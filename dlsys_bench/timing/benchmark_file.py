"""The files of pytest-benchmark: reading, validation, and what they record of a session."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dlsys_bench.errors import UserError
from dlsys_bench.text import one_line

SHOWN = 60
"""The number of characters of an invalid value that a message shows."""


class Field(NamedTuple):
    """A field of a benchmark, by its path, with what is accepted. An `optional` one may be null or
    absent."""

    path: str
    accepted: str
    accepts: Callable[[Any], bool]
    optional: bool = False


def is_number(value: object) -> bool:
    """Return True for a finite number that is not a truth value."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= sys.float_info.max
    )


def _is_positive(value: Any) -> bool:
    return is_number(value) and value > 0


FIELDS = (
    Field("stats", "an object", lambda value: isinstance(value, dict)),
    Field("stats.data", "a list of seconds", lambda value: isinstance(value, list)),
    Field("extra_info", "an object", lambda value: isinstance(value, dict), optional=True),
    Field("extra_info.matrix_peak_gflops", "a positive number", _is_positive, optional=True),
    Field(
        "extra_info.others_share",
        "a number from 0 to 1",
        lambda value: is_number(value) and 0 <= value <= 1,
        optional=True,
    ),
    Field(
        "extra_info.gpu.slowed_by",
        "a list of texts",
        lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
        optional=True,
    ),
)
"""The fields that a comparison reads, those that contain others first."""


@dataclass(frozen=True)
class Benchmark:
    """A benchmark of a file: its name and the seconds of each round.

    `peak` is the peak of the matrix product in 10^9 operations per second, `load` the background
    load, and `slowed_by` what slowed the GPU; each is None if it was not recorded. `record` is the
    whole entry.
    """

    name: str
    seconds: list[float]
    peak: float | None
    load: float | None
    slowed_by: list[str] | None
    record: Mapping[str, Any]


@dataclass(frozen=True)
class BenchmarkFile:
    """A session of pytest-benchmark: its benchmarks by name, and the whole file."""

    path: Path
    benchmarks: dict[str, Benchmark]
    content: Mapping[str, Any]


def read_benchmarks(path: Path) -> BenchmarkFile:
    """Read a file of `--benchmark-json` or `--benchmark-save-data`.

    Raises UserError, which names the file, the benchmark and the field, if the file cannot be read,
    has other contents, lacks the rounds, or holds no benchmark or one of them twice.
    """
    content = _read_json(path)
    found = content.get("benchmarks") if isinstance(content, dict) else None
    if not isinstance(found, list):
        raise _other_file(path, "it is JSON without a list of benchmarks")
    if not found:
        raise UserError(
            f"{path} holds no benchmarks: no test used the fixture `benchmark`, or pytest ran with "
            "--benchmark-disable, --benchmark-skip or -n"
        )
    benchmarks = [_benchmark(path, number, entry) for number, entry in enumerate(found)]
    (name, count), *_ = Counter(one.name for one in benchmarks).most_common(1)
    if count > 1:
        raise UserError(f"{path} holds benchmark {one_line(name)} {count} times, not once")
    return BenchmarkFile(path, {one.name: one for one in benchmarks}, content)


def _read_json(path: Path) -> Any:
    try:
        text = path.read_bytes()
        if not text.strip():
            raise _other_file(path, "it is empty")
        return json.loads(text)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _other_file(path, "it is not text") from error
    except RecursionError as error:
        raise _other_file(path, "its JSON is nested too deeply") from error
    except ValueError as error:
        raise _other_file(path, f"it is not JSON: {error}") from error


def _other_file(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path} is not a file of pytest-benchmark: {reason}; write one by --benchmark-json=FILE"
    )


def _benchmark(path: Path, number: int, entry: Any) -> Benchmark:
    """Validate an entry. Raises UserError."""
    name = entry.get("fullname") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not name:
        if isinstance(entry, dict):
            raise _invalid(path, f"benchmark {number}", "fullname", name, "a name")
        raise _invalid(path, f"benchmark {number}", "the entry", entry, "an object")
    if isinstance(entry.get("stats"), dict) and not entry["stats"].get("data"):
        raise UserError(
            f"{path} has no rounds of {one_line(name)}, only their summary: write it by "
            "--benchmark-json=FILE, or by --benchmark-save=NAME with --benchmark-save-data"
        )
    for field in FIELDS:
        value = value_at(entry, field.path)
        if not (field.optional and value is None) and not field.accepts(value):
            raise _invalid(path, f"benchmark {name}", field.path, value, field.accepted)
    for position, value in enumerate(entry["stats"]["data"]):
        if not _is_positive(value):
            place = f"stats.data[{position}]"
            raise _invalid(path, f"benchmark {name}", place, value, "a positive number")
    return Benchmark(
        name,
        list(map(float, entry["stats"]["data"])),
        value_at(entry, "extra_info.matrix_peak_gflops"),
        value_at(entry, "extra_info.others_share"),
        value_at(entry, "extra_info.gpu.slowed_by"),
        entry,
    )


def value_at(entry: Any, path: str) -> Any:
    """Return the value at a dotted path in nested objects, None if it is absent."""
    for part in path.split("."):
        entry = entry.get(part) if isinstance(entry, dict) else None
    return entry


def _invalid(path: Path, benchmark: str, field: str, value: Any, accepted: str) -> UserError:
    shown = json.dumps(value)
    shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."
    return UserError(f"{path}: {one_line(benchmark)}: {field} is {shown}; it has to be {accepted}")
