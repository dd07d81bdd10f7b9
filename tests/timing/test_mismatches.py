"""Benchmarks of different machines, versions or settings: reported, and AMBIGUOUS by default."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke

from dlsys_bench.timing.comparison import Rules, compare_benchmarks
from dlsys_bench.timing.ratio import Speed

MACHINE: dict[str, Any] = {
    "node": "one",
    "processor": "x86_64",
    "machine": "x86_64",
    "python_compiler": "GCC 12.2.0",
    "python_implementation": "CPython",
    "python_implementation_version": "3.11.4",
    "python_version": "3.11.4",
    "python_build": ["main", "Jun  7 2023"],
    "release": "6.1.0",
    "system": "Linux",
    "cpu": {
        "brand_raw": "Intel(R) Xeon(R) CPU @ 2.20GHz",
        "count": 8,
        "family": 6,
        "model": 79,
        "stepping": 0,
        "hz_actual_friendly": "2.2000 GHz",
        "flags": ["avx2"],
    },
}
INFO: dict[str, Any] = {
    "samples": 32,
    "steps": 20,
    "versions": {"python": "3.11.4", "numpy": "2.1.0"},
    "machine": {
        "system": "Linux x86_64",
        "processor": "Intel(R) Xeon(R) CPU @ 2.20GHz",
        "cores": 4,
        "threads": {"OMP_NUM_THREADS": "1"},
    },
    "blas": [{"internal_api": "openblas", "version": "0.3.27", "num_threads": 1}],
    "loss_last": 0.1,
}


def changed(tree: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a copy with another value at a dotted path; None removes it."""
    whole: dict[str, Any] = copy.deepcopy(dict(tree))
    *parents, last = path.split(".")
    inner = whole
    for name in parents:
        inner = inner[name]
    if value is None:
        inner.pop(last)
    else:
        inner[last] = value
    return whole


def session(machine: Any = MACHINE, info: Any = INFO, seconds: float = 1.0) -> dict[str, Any]:
    rounds = [seconds + 0.001 * number for number in range(20)]
    one = {"fullname": "t", "stats": {"data": rounds}, "extra_info": info}
    other = one | {"fullname": "u", "extra_info": INFO}
    content: dict[str, Any] = {"benchmarks": [one, other], "version": "5.1.0"}
    return content | ({} if machine is None else {"machine_info": machine})


@pytest.fixture
def written(tmp_path: Path) -> Any:
    """A function that writes two sessions, and returns their paths."""

    def write(a: dict[str, Any], b: dict[str, Any]) -> tuple[Path, Path]:
        for name, content in (("a", a), ("b", b)):
            (tmp_path / name).write_text(json.dumps(content))
        return tmp_path / "a", tmp_path / "b"

    return write


DIFFERENT = [
    ("machine", "cpu.brand_raw", "AMD EPYC", "CPU: Intel(R) Xeon(R) CPU @ 2.20GHz (family 6,"),
    ("machine", "cpu.model", 85, "stepping 0) in A, Intel(R) Xeon(R) CPU @ 2.20GHz (family 6, mo"),
    ("machine", "cpu.count", 2, "cores: 8 in A, 2 in B"),
    ("machine", "python_version", "3.13.1", "Python: 3.11.4 in A, 3.13.1 in B"),
    ("machine", "python_compiler", "Clang 17", "Python compiler: GCC 12.2.0 in A, Clang 17 in B"),
    ("machine", "python_implementation", "PyPy", "Python implementation: CPython in A, PyPy"),
    ("machine", "system", "Darwin", "operating system: Linux in A, Darwin in B"),
    ("machine", "release", "5.15.0", "release of the operating system: 6.1.0 in A, 5.15.0 in B"),
    ("machine", "machine", "aarch64", "architecture: x86_64 in A, aarch64 in B"),
    ("machine", "governor", "powersave", "governor: not recorded in A, powersave in B"),
    ("machine", "python_compiler", None, "Python compiler: GCC 12.2.0 in A, not recorded in B"),
    ("info", "versions.numpy", "2.2.0", "numpy: 2.1.0 in A, 2.2.0 in B"),
    ("info", "versions.torch", "2.9.0", "torch: not recorded in A, 2.9.0 in B"),
    ("info", "machine.cores", 2, "cores of the process: 4 in A, 2 in B"),
    ("info", "machine.threads.OMP_NUM_THREADS", "2", "OMP_NUM_THREADS: 1 in A, 2 in B"),
    ("info", "blas", [{"internal_api": "mkl"}], "BLAS: openblas 0.3.27 1 in A, mkl in B"),
    ("info", "steps", 40, "steps of a round: 20 in A, 40 in B"),
    ("info", "samples", 64, "samples of a step: 32 in A, 64 in B"),
]


@pytest.mark.parametrize(("where", "path", "value", "line"), DIFFERENT)
def test_a_difference_is_ambiguous_unless_it_is_accepted(
    where: str, path: str, value: Any, line: str, written: Any
) -> None:
    old = {"machine": MACHINE, "info": INFO}[where]
    paths = written(session(), session(**{where: changed(old, path, value)}, seconds=0.5))
    (first, second), _ = compare_benchmarks(*paths)
    (mismatch,) = first.mismatches
    assert line in str(mismatch)
    assert first.speed is Speed.AMBIGUOUS
    # A mismatch of the machine concerns every benchmark, one in a benchmark only that one.
    assert second.speed is (Speed.AMBIGUOUS if where == "machine" else Speed.FASTER)
    accepted, _ = compare_benchmarks(*paths, rules=Rules(across_machines=True))
    assert {change.speed for change in accepted} == {Speed.FASTER}
    assert list(accepted[0].mismatches) == [mismatch]


def test_the_command_prints_a_line_for_each_difference(written: Any) -> None:
    machine = changed(changed(MACHINE, "cpu.count", 2), "system", "Darwin")
    b = session(machine, changed(INFO, "steps", 40), seconds=0.5)
    arguments = ["bench", "compare", *map(str, written(session(), b))]
    lines = [
        "different: cores: 8 in A, 2 in B",
        "different: operating system: Linux in A, Darwin in B",
        "different: steps of a round: 20 in A, 40 in B (t)",
    ]
    assumed = "assumed: sessions of the same code differ by 2.0% (standard deviation); "
    assumed += "folders of repeated sessions as A and B measure it"
    consequence = "a comparison of different sessions is AMBIGUOUS without --across-machines"
    assert invoke(*arguments, code=3).stderr.splitlines() == [*lines, consequence, assumed]
    assert invoke(*arguments, "--across-machines").stderr.splitlines() == [*lines, assumed]
    (change, _) = json.loads(invoke(*arguments, "--json", code=3).stdout)["changes"]
    assert change["speed"] == "AMBIGUOUS"
    assert change["mismatches"][0] == {"fact": "cores", "a": "8", "b": "2"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("node", "two"),
        ("python_build", ["main", "Aug 2023"]),
        ("cpu.hz_actual_friendly", "1.8 GHz"),
        ("cpu.flags", ["avx2", "erms"]),
    ],
)
def test_what_differs_on_equal_machines_is_no_difference(
    path: str, value: Any, written: Any
) -> None:
    paths = written(session(), session(changed(MACHINE, path, value), seconds=0.5))
    assert not any(change.mismatches for change in compare_benchmarks(*paths)[0])


def test_a_file_without_its_machine_is_different(written: Any) -> None:
    (change, _), _ = compare_benchmarks(*written(session(), session(None, seconds=0.5)))
    assert change.speed is Speed.AMBIGUOUS
    assert "cores: 8 in A, not recorded in B" in map(str, change.mismatches)
    # What the benchmarks recorded of Python still agrees.
    assert not [one for one in change.mismatches if one.fact == "Python"]
    (change, _), _ = compare_benchmarks(*written(session(None), session(None, seconds=0.5)))
    assert change.speed is Speed.FASTER


def test_the_peaks_of_other_machines_do_not_widen_the_interval(written: Any) -> None:
    paths = written(
        session(info=INFO | {"matrix_peak_gflops": 100.0}),
        session(info=INFO | {"matrix_peak_gflops": 400.0}, seconds=0.5),
    )
    (widened, *_), (accepted, *_) = (
        compare_benchmarks(*paths, rules=Rules(across_machines=accept))[0]
        for accept in (False, True)
    )
    assert widened.ratio.high == pytest.approx(4 * accepted.ratio.high)
    assert accepted.drift == widened.drift == 4


def test_a_side_of_several_machines_is_a_mismatch(tmp_path: Path) -> None:
    other = changed(MACHINE, "cpu.count", 2)
    for side in "ab":
        (tmp_path / side).mkdir()
        for number, machine in enumerate((MACHINE, other)):
            path = tmp_path / side / f"{number}.json"
            path.write_text(json.dumps(session(machine)))
    (change, _), _ = compare_benchmarks(tmp_path / "a", tmp_path / "b")
    assert list(map(str, change.mismatches)) == ["cores: 8 or 2 in A, 8 or 2 in B"]
    assert change.speed is Speed.AMBIGUOUS
