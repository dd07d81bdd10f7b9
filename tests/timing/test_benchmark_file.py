"""The files of pytest-benchmark: what is wrong with one is a line that names file and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dlsys_bench.errors import UserError
from dlsys_bench.timing.benchmark_file import read_benchmarks
from dlsys_bench.timing.comparison import compare_benchmarks


def entry(name: str = "test_a", **changes: Any) -> dict[str, Any]:
    return {"fullname": name, "stats": {"median": 1.0, "data": [1.0] * 7}} | changes


def written(folder: Path, content: Any) -> Path:
    path = folder / "a.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def stats(*data: Any) -> dict[str, Any]:
    return {"benchmarks": [entry(stats={"data": list(data)})]}


def info(**fields: Any) -> dict[str, Any]:
    return {"benchmarks": [entry(extra_info=fields)]}


OTHER_FILES: list[tuple[Any, str]] = [
    ("", "it is empty"),
    ("\n", "it is empty"),
    ("{", "it is not JSON: Expecting property name"),
    ('{"benchmarks": [', "it is not JSON"),
    ('{"seed": 1}\n{"seed": 2}\n', "it is not JSON: Extra data"),
    ("<!DOCTYPE html>", "it is not JSON"),
    (b"\x1f\x8b\x08\x00\xff\xfe", "it is not text"),
    (b"\x00" * 100, "it is not JSON"),
    ("[" * 100_000, "nested too deeply"),
    ("9" * 10_000, "JSON without a list of benchmarks"),
    ('{"benchmarks": [], "benchmarks": []}', "'benchmarks' is given twice"),
    ("null", "JSON without a list of benchmarks"),
    ("[]", "JSON without a list of benchmarks"),
    ({}, "JSON without a list of benchmarks"),
    ({"benchmarks": None}, "JSON without a list of benchmarks"),
    ({"benchmarks": {"a": 1}}, "JSON without a list of benchmarks"),
]
INVALID: list[tuple[Any, str]] = [
    ({"benchmarks": []}, "holds no benchmarks"),
    ({"benchmarks": [None]}, "benchmark 0: the line is null; expected an object"),
    ({"benchmarks": [entry(), []]}, "benchmark 1: the line is a list"),
    ({"benchmarks": [{}]}, "benchmark 0: fullname is missing"),
    ({"benchmarks": [entry(fullname=3)]}, "benchmark 0: fullname is 3; expected a string"),
    ({"benchmarks": [entry(fullname="a\n::error::\x1b[31m")]}, "without control characters"),
    ({"benchmarks": [entry(stats=None)]}, "test_a: stats is null; expected an object"),
    ({"benchmarks": [entry(stats="fast")]}, "test_a: stats is 'fast'"),
    ({"benchmarks": [entry(stats={})]}, "has no rounds of test_a, only their summary"),
    ({"benchmarks": [entry(stats={"data": None})]}, "has no rounds of test_a"),
    ({"benchmarks": [entry(stats={"data": 1.0})]}, "stats.data is 1.0; expected a list"),
    (stats(1.0, "1"), r"test_a: stats.data\[1\] is '1'; expected a finite number from 1e-12"),
    (stats(None), r"stats.data\[0\] is null"),
    (stats(1.0, True), r"stats.data\[1\] is true"),
    (stats(-1.0), r"stats.data\[0\] is -1.0"),
    (stats(0.0), r"stats.data\[0\] is 0.0"),
    (stats(float("nan")), r"stats.data\[0\] is nan"),
    ('{"benchmarks": [{"fullname": "a", "stats": {"data": [1e999]}}]}', "is inf"),
    (stats(10**400), r"stats.data\[0\] is a whole number of too many digits"),
    ({"benchmarks": [entry(extra_info=[])]}, "extra_info is a list; expected an object"),
    (info(others_share="high"), "extra_info.others_share is 'high'; expected a finite number"),
    (info(others_share=1.5), "extra_info.others_share is 1.5"),
    (info(matrix_peak_gflops=0), "extra_info.matrix_peak_gflops is 0"),
    (info(gpu={"slowed_by": "heat"}), "extra_info.gpu.slowed_by is 'heat'; expected a list"),
    (info(gpu={"slowed_by": [1]}), r"extra_info.gpu.slowed_by\[0\] is 1; expected a string"),
    ({"benchmarks": [entry(), entry("b"), entry()]}, "holds benchmark test_a 2 times"),
]


@pytest.mark.parametrize(("content", "message"), [*OTHER_FILES, *INVALID])
def test_an_invalid_file_is_one_line_that_names_the_file(
    content: Any, message: str, tmp_path: Path
) -> None:
    path = written(tmp_path, content)
    with pytest.raises(UserError, match=message) as raised:
        read_benchmarks(path)
    text = str(raised.value)
    assert str(path) in text
    assert len(text.splitlines()) == 1
    assert len(text) < 500 + len(str(path))
    assert ("is not a file of pytest-benchmark" in text) == ((content, message) in OTHER_FILES)


def test_a_file_that_cannot_be_read_raises(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*: Is a directory|Permission denied"):
        read_benchmarks(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_encodings_of_json_are_read(encoding: str, tmp_path: Path) -> None:
    text = json.dumps({"benchmarks": [entry("tést")]}, ensure_ascii=False)
    found = read_benchmarks(written(tmp_path, text.encode(encoding)))
    assert found.benchmarks["tést"].seconds == [1.0] * 7


@pytest.mark.parametrize(
    "fields",
    [
        {"extra_info": None},
        {"extra_info": {"gpu": "A100", "machine": "fast", "versions": None, "others_share": None}},
        {"extra_info": {"gpu": {"slowed_by": None}}, "options": None, "stats": {"data": [1]}},
        {"stats": {"median": None, "data": [1.0]}},
    ],
)
def test_fields_of_the_user_and_null_are_accepted(fields: dict[str, Any], tmp_path: Path) -> None:
    path = written(tmp_path, {"benchmarks": [entry(**fields)], "machine_info": None})
    ((change,), _) = compare_benchmarks(path, path)
    assert change.ratio.median == 1.0
    assert not change.mismatches


def test_files_without_a_common_benchmark_are_one_bounded_line(tmp_path: Path) -> None:
    a = written(tmp_path, {"benchmarks": [entry(f"test_{number}") for number in range(500)]})
    b = tmp_path / "b.json"
    b.write_text(json.dumps({"benchmarks": [entry("other")]}))
    with pytest.raises(UserError) as raised:
        compare_benchmarks(a, b)
    assert str(raised.value).endswith(
        "have no benchmark in common: test_0, test_1, test_2 and 497 more; other"
    )
