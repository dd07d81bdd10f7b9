"""The files of pytest-benchmark: reading, validation, and what they record of a session."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlsys_bench.errors import UserError
from dlsys_bench.runs.fields import Field, IfObject, ListOf, Name, Optional, Real, Struct
from dlsys_bench.strict_json import loads
from dlsys_bench.text import one_line

DURATION = Real(least=1e-12)
SLOWED_BY = IfObject(Struct({"slowed_by": Optional(ListOf(Name()))}, frozenset({"slowed_by"})))
INFO: dict[str, Field] = {
    "matrix_peak_gflops": Optional(Real(least=1e-9)),
    "others_share": Optional(Real(0, 1)),
    "gpu": SLOWED_BY,
}
TABLE = Struct(
    {
        "stats": Struct({"data": ListOf(DURATION)}),
        "extra_info": Optional(Struct(INFO, frozenset(INFO))),
    },
    optional=frozenset({"extra_info"}),
)
"""The fields of a benchmark that a comparison reads. Durations are in seconds."""


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


def read_sessions(path: Path) -> list[BenchmarkFile]:
    """Read a file, or each file NAME.json of a folder in the order of their names.

    Raises UserError.
    """
    if not path.is_dir():
        return [read_benchmarks(path)]
    if not (found := sorted(path.glob("*.json"))):
        raise UserError(f"{path} holds no files NAME.json of pytest-benchmark")
    return [read_benchmarks(file) for file in found]


def _read_json(path: Path) -> Any:
    try:
        content = path.read_bytes()
        if not content.strip():
            raise _other_file(path, "it is empty")
        return loads(content.decode(json.detect_encoding(content)))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _other_file(path, "it is not text") from error
    except ValueError as error:
        raise _other_file(path, str(error)) from error


def _other_file(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path} is not a file of pytest-benchmark: {reason}; write one by --benchmark-json=FILE"
    )


def _benchmark(path: Path, number: int, entry: Any) -> Benchmark:
    """Validate an entry. Raises UserError."""
    where = f"{path}: benchmark {number}"
    try:
        name = Struct({"fullname": Name()}).read(entry, "")["fullname"]
        where = f"{path}: benchmark {name}"
        if isinstance(entry.get("stats"), dict) and not entry["stats"].get("data"):
            raise UserError(
                f"{path} has no rounds of {name}, only their summary: write it by "
                "--benchmark-json=FILE, or by --benchmark-save=NAME with --benchmark-save-data"
            )
        found = TABLE.read(entry, "")
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    return Benchmark(
        name,
        found["stats"]["data"],
        value_at(found, "extra_info.matrix_peak_gflops"),
        value_at(found, "extra_info.others_share"),
        value_at(found, "extra_info.gpu.slowed_by"),
        entry,
    )


def value_at(entry: Any, path: str) -> Any:
    """Return the value at a dotted path in nested objects, None if it is absent."""
    for part in path.split("."):
        entry = entry.get(part) if isinstance(entry, dict) else None
    return entry
