"""The mismatches between two sessions of benchmarks, in machine, versions and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dlsys_bench.timing.benchmark_file import Benchmark, BenchmarkFile, value_at

LABELS = {
    "machine": "architecture",
    "system": "operating system",
    "release": "release of the operating system",
    "python_version": "Python",
    "python_implementation": "Python implementation",
    "python_compiler": "Python compiler",
}
"""The fields of `machine_info` with a name for people."""

IGNORED = {"cpu", "node", "processor", "python_build", "python_implementation_version"}
"""The fields of `machine_info` that differ between equal machines, or repeat others. Of `cpu`, only
the parts that identify a processor are compared."""

SETTINGS = {
    "extra_info.samples": "samples of a step",
    "extra_info.steps": "steps of a round",
    "extra_info.batch_size": "batch size",
    "extra_info.threads": "threads",
    "extra_info.num_threads": "threads",
    "extra_info.device": "device",
    "extra_info.dtype": "dtype",
    "extra_info.blas": "BLAS",
    "extra_info.governor": "governor",
    "extra_info.gpu.after.name": "GPU",
    "extra_info.gpu.after.driver": "GPU driver",
    "options.timer": "timer",
    "options.disable_gc": "garbage collection disabled",
}
"""The fields of a benchmark that are compared."""

PROVENANCE = {
    "extra_info.machine": {
        "processor": "CPU",
        "cores": "cores of the process",
        "system": "operating system",
    },
    "extra_info.versions": {"python": "Python"},
}
"""The objects in a benchmark, as `train_benchmark` records them, of which every field is compared,
with the names of some for people."""


@dataclass(frozen=True)
class Mismatch:
    """A fact that differs between sessions A and B; None is a fact that is not recorded."""

    fact: str
    a: str | None
    b: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the mismatch as JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        a, b = (value or "not recorded" for value in (self.a, self.b))
        return f"{self.fact}: {a} in A, {b} in B"


def mismatches(a: Sequence[BenchmarkFile], b: Sequence[BenchmarkFile], name: str) -> list[Mismatch]:
    """Return the facts of a benchmark that are not the same in all sessions of A and of B."""
    old, new = ([_facts(file, name) for file in side] for side in (a, b))
    found = []
    for fact in dict.fromkeys(fact for facts in (*old, *new) for fact in facts):
        values = [[facts.get(fact) for facts in side] for side in (old, new)]
        if len({*values[0], *values[1]}) > 1:
            found.append(Mismatch(fact, *map(_joined, values)))
    return found


def _facts(file: BenchmarkFile, name: str) -> dict[str, str]:
    """Return the facts of a session and of a benchmark in it; those of the session count."""
    of_file = _of_file(file)
    return of_file | {
        fact: text for fact, text in _of_one(file.benchmarks[name]).items() if fact not in of_file
    }


def _joined(values: Sequence[str | None]) -> str | None:
    """Return the different values of the sessions of one side, None if none is recorded."""
    if not any(values):
        return None
    return " or ".join(dict.fromkeys(value or "not recorded" for value in values))


def _of_file(file: BenchmarkFile) -> dict[str, str]:
    """Return the facts of a session. Fields that a user added to `machine_info` are among them."""
    recorded = file.content.get("machine_info")
    facts = {"CPU": _processor(recorded), "cores": value_at(recorded, "cpu.count")} | {
        LABELS.get(path, path): text
        for path, text in _flat(recorded).items()
        if path.partition(".")[0] not in IGNORED
    }
    facts["pytest-benchmark"] = file.content.get("version")
    return {name: str(value) for name, value in facts.items() if value is not None}


def _processor(recorded: Any) -> str | None:
    """Return the name of the processor, and the numbers that tell processors of one name from each
    other."""
    names = (value_at(recorded, path) for path in ("cpu.brand_raw", "cpu.brand", "processor"))
    name = next((name for name in names if name), None)
    numbers = [
        f"{part} {value}"
        for part in ("family", "model", "stepping")
        if (value := value_at(recorded, f"cpu.{part}")) is not None
    ]
    return None if name is None else f"{name} ({', '.join(numbers)})" if numbers else str(name)


def _of_one(benchmark: Benchmark) -> dict[str, str]:
    """Return the facts of a benchmark."""
    found = {
        name: _text(value)
        for path, name in SETTINGS.items()
        if (value := value_at(benchmark.record, path)) is not None
    }
    for path, names in PROVENANCE.items():
        for field, text in _flat(value_at(benchmark.record, path)).items():
            found.setdefault(names.get(field, field.rpartition(".")[2]), text)
    return found


def _flat(tree: Any, prefix: str = "") -> dict[str, str]:
    """Return the values in nested objects as texts, by dotted path."""
    if not isinstance(tree, Mapping):
        return {prefix.rstrip("."): _text(tree)} if prefix and tree is not None else {}
    return {
        path: text
        for name, value in tree.items()
        for path, text in _flat(value, f"{prefix}{name}.").items()
    }


def _text(value: Any) -> str:
    """Return a value as text; the items of a list in the order of their texts."""
    if isinstance(value, Mapping):
        return " ".join(map(_text, value.values()))
    if isinstance(value, list):
        return ", ".join(sorted(map(_text, value)))
    return str(value)
