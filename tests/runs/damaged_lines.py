"""Lines of files of runs, damaged in every way that the tests try."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from results import make_result

from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import line_of

VALUES = {
    "null": "null",
    "true": "true",
    "a list": "[]",
    "a nested list": "[1, [2, {}]]",
    "an object": "{}",
    "a nested object": '{"a": {"b": []}}',
    "a text": '"x"',
    "a number in quotes": '"7"',
    "a negative number": "-1",
    "a fraction": "0.5",
    "too large for a float": "1e999",
    "NaN": "NaN",
    "Infinity": "-Infinity",
    "too large for a store": "9" * 400,
    "too many digits": "9" * 5000,
    "deep lists": "[" * 100_000 + "]" * 100_000,
    "deep objects": '{"a":' * 500 + "1" + "}" * 500,
    "half a surrogate pair": '"\\ud800"',
    "NUL": '"\\u0000"',
    "an escape sequence": '"\\u001b[31m::error::x"',
    "two lines": '"a\\nb"',
    "a long text": '"' + "x" * 200_000 + '"',
    "markup": '"[/x] $\\\\frac{ <b> | `"',
}
"""JSON values that stand in place of another, by name. Not all are JSON."""


class Damaged(NamedTuple):
    """A line, the field that was changed, and the name of the change."""

    field: str
    change: str
    line: str


def damaged_lines(result: Result) -> Iterator[Damaged]:
    """Yield the line of a result with every field replaced by every value, removed and repeated.

    Each line has a seed of its own, so that none replaces another.
    """
    seeds = itertools.count(1000)
    values = json.loads(line_of(result))
    for path in _paths(values):
        field = _name(path)
        for change, raw in VALUES.items():
            yield Damaged(field, change, _replaced(values | {"seed": next(seeds)}, path, raw))
        if path and isinstance(path[-1], str):
            values["seed"], once = next(seeds), json.dumps(path[-1])
            yield Damaged(field, "missing", _replaced(values, path, None))
            yield Damaged(field, "given twice", _replaced(values, path, f"0, {once}: 1"))
    yield Damaged("", "an unknown name", line_of(result).rstrip()[:-1] + ', "unknown": [1]}')


def contents(result: Result) -> dict[str, bytes]:
    """Return contents of files that have one run, or none, by what is odd about them."""
    line = line_of(result).encode()
    return {
        "mark of UTF-8": b"\xef\xbb\xbf" + line,
        "line ends of Windows": line.replace(b"\n", b"\r\n") + b"\r\n\r\n",
        "no line end": line.rstrip(),
        "NUL bytes at the end": line + b"\0" * 4096,
        "cut off": line + line[:100],
        "not UTF-8": line + line.replace(b"digits", b"di\xffgits"),
        "blank lines": b"\n \n\t\n" + line,
    }


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _paths(item, (*path, name))
    elif isinstance(value, list) and value:
        yield from _paths(value[0], (*path, 0))


def _name(path: tuple[str | int, ...]) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in path]
    return "".join(parts).lstrip(".")


def _replaced(value: Any, path: tuple[str | int, ...], raw: str | None) -> str:
    """Return the JSON of a value with other text in one place, or without it."""
    if not path:
        return str(raw)
    first, *rest = path
    if isinstance(value, list):
        items = [
            _replaced(item, tuple(rest), raw) if place == first else json.dumps(item)
            for place, item in enumerate(value)
        ]
        return f"[{', '.join(items)}]"
    items = [
        f"{json.dumps(name)}: "
        + (_replaced(item, tuple(rest), raw) if name == first else json.dumps(item))
        for name, item in value.items()
        if name != first or rest or raw is not None
    ]
    return f"{{{', '.join(items)}}}"


def example() -> Result:
    """Return a run with a value in every field."""
    return make_result(
        1,
        recipe={"kind": "recipe", "batch_size": 16},
        figures={"accuracy": 0.5, "counts": [1, 2]},
        provenance={
            "time": "2026-11-21T02:47:42+00:00",
            "versions": {"numpy": "2.4.6"},
            "machine": {"processor": "x", "cores": 2},
            "training": {"code": {"mine": "0"}},
        },
        reason="r",
    )
