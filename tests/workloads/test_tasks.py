"""Tasks on sequences: their answers by definition, their splits, and their seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlsys_bench.attributes import load_attribute
from dlsys_bench.data import Dataset, Source
from dlsys_bench.errors import DataError
from dlsys_bench.workloads.tasks import LENGTH, SEPARATOR, TASKS


def drawn(source: Source, seed: int = 0) -> Dataset:
    make: Any = load_attribute(source.factory, "task")
    made: Dataset = make(seed)
    return made


@pytest.mark.parametrize("source", TASKS, ids=lambda source: source.name)
def test_a_seed_draws_a_split_without_a_sequence_in_both_parts(source: Source) -> None:
    first, again, other = drawn(source), drawn(source, 1), drawn(source, 1)
    assert first.name == source.name
    assert first.x_train.shape[1:] == source.shape
    assert first.classes == source.classes
    assert not np.array_equal(first.x_train, again.x_train)
    assert np.array_equal(again.x_train, other.x_train)
    assert first.redraw is not None
    assert np.array_equal(first.redraw(1).y_test, again.y_test)
    rows = [tuple(row) for row in np.concatenate([first.x_train, first.x_test]).tolist()]
    asked = [row[: LENGTH + 1] if source.shape == (2 * LENGTH,) else row for row in rows]
    if source.name != "parity":
        assert len(set(asked)) == len(asked)
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize(
    ("name", "modulus"), [("modular-addition", 97), ("small-modular-addition", 31)]
)
def test_sums_are_modulo_a_prime(name: str, modulus: int) -> None:
    (source,) = [each for each in TASKS if each.name == name]
    data = drawn(source)
    assert len(data.x_train) + len(data.x_test) == modulus**2
    for (a, b, sign), total in zip(data.x_test.tolist(), data.y_test.tolist(), strict=True):
        assert (a + b - total) % modulus == 0
        assert sign == modulus


@pytest.mark.parametrize(("name", "answer"), [("copying", list), ("sorting", sorted)])
def test_the_labels_after_the_separator_are_the_answer(name: str, answer: type[list[int]]) -> None:
    (source,) = [each for each in TASKS if each.name == name]
    data = drawn(source)
    for x, y in zip(data.x_test[:200].tolist(), data.y_test[:200].tolist(), strict=True):
        expected = list(answer(x[:LENGTH]))
        assert x[LENGTH] == SEPARATOR
        assert x[LENGTH + 1 :] == expected[:-1]
        assert y == [SEPARATOR] * LENGTH + expected


def test_parity_is_that_of_the_bits_so_far() -> None:
    data = drawn(TASKS[-1])
    for x, y in zip(data.x_test[:50].tolist(), data.y_test[:50].tolist(), strict=True):
        assert y == [sum(x[: place + 1]) % 2 for place in range(len(x))]


def test_labels_by_position_are_checked() -> None:
    x = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    y = np.array([[0, 1, 1], [1, 1, 0]])
    assert Dataset("d", x, y, x, y, ("a", "b")).y_train.tolist() == y.tolist()
    with pytest.raises(DataError, match=r"y_train\[1, 2\] is 2, but there are 2 classes"):
        Dataset("d", x, np.array([[0, 1, 1], [1, 1, 2]]), x, y, ("a", "b"))
    with pytest.raises(DataError, match=r"y_train is int64 of shape \(2, 2\)"):
        Dataset("d", x, y[:, :2], x, y, ("a", "b"))
    with pytest.raises(DataError, match="its rows are one-hot"):
        Dataset("d", x, np.eye(3, dtype=int)[:2], x, y, ("a", "b"))
