"""Scaling and splitting of datasets."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dlsys_bench.data import Dataset, Samples, prepare
from dlsys_bench.errors import DataError


def numbered(count: int) -> Dataset:
    """Return samples whose value and label are their number."""
    x = np.arange(count, dtype=np.float32)[:, None]
    classes = tuple(map(str, range(count)))
    return Dataset("numbered", x, np.arange(count), x[:1], np.arange(1), classes)


def images(count: int = 20, seed: int = 0) -> Dataset:
    draw = np.random.default_rng(seed)
    x = draw.integers(0, 256, (count + 5, 6, 5, 1), np.uint8)
    y = draw.integers(0, 3, count + 5)
    return Dataset("images", x[5:], y[5:], x[:5], y[:5], ("a", "b", "c"))


def values(dtype: Any) -> Dataset:
    x = np.linspace(0, 255, 40).reshape(20, 2).astype(dtype)
    return Dataset("values", x, np.zeros((20, 1)), x[:3], np.ones((3, 1)))


def numbers(samples: Samples | None) -> list[int]:
    assert samples is not None
    assert samples.x[:, 0].tolist() == samples.y.tolist()
    return [int(y) for y in samples.y]


@example(count=10, fraction=1e-17, split="last")
@given(
    count=st.integers(2, 60),
    fraction=st.floats(0.01, 0.99),
    split=st.sampled_from(["last", "random"]),
)
def test_the_splits_add_up_to_the_training_set(count: int, fraction: float, split: Any) -> None:
    border = math.floor(count * (1.0 - fraction))
    if border in (0, count):
        with pytest.raises(
            DataError, match=rf"leaves {border} for training and {count - border} for validation"
        ):
            prepare(numbered(count), scaling="raw", validation_split=fraction, split=split)
        return
    data = prepare(numbered(count), scaling="raw", validation_split=fraction, split=split)
    train, validation = numbers(data.train), numbers(data.validation)
    assert len(train) == border
    assert sorted(train + validation) == list(range(count))
    if split == "last":
        assert train + validation == list(range(count))


@pytest.mark.parametrize(
    ("count", "fraction", "train"),
    [(60_000, 1 / 6, 50_000), (60_000, 0.1, 54_000), (10, 0.15, 8), (100, 0.9, 9)],
)
def test_the_border_of_the_split_is_that_of_keras(count: int, fraction: float, train: int) -> None:
    # 100 samples at 0.9: 1 - 0.9 is 0.09999999999999998, so Keras trains on 9 and not on 10.
    data = prepare(numbered(count), scaling="raw", validation_split=fraction)
    assert len(data.train.x) == train


def test_a_random_split_depends_on_the_seed() -> None:
    def split(seed: int) -> list[int]:
        return numbers(
            prepare(
                numbered(50), scaling="raw", validation_split=0.2, split="random", seed=seed
            ).validation
        )

    assert split(1) == split(1) == np.random.default_rng(1).permutation(50)[40:].tolist()
    assert split(1) != split(2)


def test_there_is_no_validation_split_by_default() -> None:
    data = prepare(numbered(50), scaling="raw")
    assert data.validation is None
    assert numbers(data.train) == list(range(50))
    assert numbers(data.test) == [0]


@pytest.mark.parametrize("limit", [1, 7, 50, 51])
def test_a_limit_keeps_the_first_samples(limit: int) -> None:
    data = prepare(numbered(50), scaling="raw", limit=limit)
    assert numbers(data.train) == list(range(min(limit, 50)))
    assert numbers(data.test) == [0]


def test_the_limit_applies_before_the_split() -> None:
    data = prepare(numbered(50), scaling="raw", limit=10, validation_split=0.3)
    assert (numbers(data.train), numbers(data.validation)) == (list(range(7)), [7, 8, 9])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_unit_divides_by_255(dtype: str) -> None:
    dataset = images()
    data = prepare(dataset, dtype=dtype)
    expected = (dataset.x_train.astype(np.float32 if dtype == "float16" else dtype) / 255).astype(
        dtype
    )
    assert data.train.x.dtype == data.test.x.dtype == dtype
    np.testing.assert_array_equal(data.train.x, expected)
    assert data.test.x.max() <= 1


@pytest.mark.parametrize("count", [20, 700])
def test_standard_uses_the_scalars_of_all_training_pixels(count: int) -> None:
    # 700 samples are several blocks, the last one smaller.
    dataset = images(count)
    x = dataset.x_train.astype(np.float64) / 255
    data = prepare(dataset, scaling="standard", limit=10, validation_split=0.5, dtype="float64")
    for part, raw in (
        (data.train, dataset.x_train[:5]),
        (data.validation, dataset.x_train[5:10]),
        (data.test, dataset.x_test),
    ):
        assert part is not None
        np.testing.assert_allclose(part.x, (raw / 255 - x.mean()) / x.std(), rtol=1e-13, atol=1e-14)
    single = prepare(dataset, scaling="standard")
    assert single.train.x.dtype == np.float32
    np.testing.assert_allclose(single.train.x, (x - x.mean()) / x.std(), rtol=1e-5, atol=1e-6)
    half = prepare(dataset, scaling="standard", dtype="float16")
    np.testing.assert_array_equal(half.train.x, single.train.x.astype(np.float16))


def test_raw_keeps_the_values() -> None:
    dataset = images()
    np.testing.assert_array_equal(prepare(dataset, scaling="raw").train.x, dataset.x_train)


def test_targets_take_the_dtype_and_labels_do_not() -> None:
    data = prepare(values(np.float64), dtype="float32")
    assert data.train.y.dtype == data.test.y.dtype == np.float32
    assert data.test.y.max() == 1
    assert prepare(images(), dtype="float32").train.y.dtype == np.int64


@pytest.mark.parametrize("scaling", ["raw", "unit", "standard"])
@pytest.mark.parametrize("split", [0.0, 0.5])
def test_the_arrays_are_copies(scaling: Any, split: float) -> None:
    for dataset in (values(np.float32), images()):
        before = [
            dataset.x_train.copy(),
            dataset.y_train.copy(),
            dataset.x_test.copy(),
            dataset.y_test.copy(),
        ]
        data = prepare(dataset, scaling=scaling, validation_split=split)
        for part in (data.train, data.validation, data.test):
            if part is not None:
                part.x[...] = 9
                part.y[...] = 9
        for array, kept in zip(
            (dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test), before, strict=True
        ):
            np.testing.assert_array_equal(array, kept)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"scaling": "standart"},
            "scaling is 'standart' (did you mean \"standard\"?); expected one of raw, unit",
        ),
        ({"split": "first"}, "split is 'first'"),
        ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"validation_split": 1.0}, "validation_split is 1.0; expected a number in [0, 1)"),
        ({"validation_split": -0.1}, "validation_split is -0.1"),
        ({"validation_split": math.nan}, "validation_split is nan"),
        ({"validation_split": True}, "validation_split is True"),
        ({"validation_split": "0.1"}, "validation_split is '0.1'"),
        ({"seed": -1}, "seed is -1; expected an integer of at least 0"),
        ({"seed": 0.5}, "seed is 0.5"),
        ({"limit": 0}, "limit is 0; expected an integer of at least 1"),
        ({"limit": True}, "limit is True"),
        ({"seed": None}, "seed is None"),
    ],
)
def test_invalid_options_raise(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        prepare(images(), **options)
    assert message in str(caught.value)


def test_equal_pixels_cannot_be_standardised() -> None:
    # The mean of 0.1 is not exact: the standard deviation in floating point is tiny, not zero.
    x = np.full((7, 3), 0.1)
    dataset = Dataset("grey", x, np.arange(7), x, np.arange(7), tuple("abcdefg"))
    with pytest.raises(
        DataError,
        match=r"divides by the standard deviation of x_train, whose values lie between 0\.1 and",
    ):
        prepare(dataset, scaling="standard")


def test_values_whose_variance_overflows_cannot_be_standardised() -> None:
    x = np.array([[1e200], [-1e200]])
    dataset = Dataset("wide", x, np.arange(2), x, np.arange(2), ("a", "b"))
    with (
        np.errstate(over="ignore"),
        pytest.raises(DataError, match="divides by the standard deviation"),
    ):
        prepare(dataset, scaling="standard")


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0, 0.2), (-1, 1), (-0.4, 2.8), (0, 65_535), (-1, 255)]
)
@pytest.mark.parametrize("part", ["x_train", "x_test"])
def test_floats_that_are_no_pixels_are_not_divided(low: float, high: float, part: str) -> None:
    pixels = np.linspace(0, 255, 8)[:, None]
    arrays: dict[str, Any] = {"x_train": pixels, "x_test": pixels}
    arrays[part] = np.linspace(low, high, 8)[:, None]
    y = np.arange(8)
    dataset = Dataset("own", y_train=y, y_test=y, classes=tuple("abcdefgh"), **arrays)
    with pytest.raises(DataError) as caught:
        prepare(dataset)
    message = str(caught.value)
    assert message.startswith(
        f'dataset "own": {part} is float64 with values from {low:g} to {high:g}, and '
    )
    # The advice, followed to the letter.
    assert "--scaling raw" in message
    assert "--scaling standard" in message
    raw = prepare(dataset, scaling="raw", dtype="float64")
    np.testing.assert_array_equal(raw.train.x, arrays["x_train"])
    assert abs(prepare(dataset, scaling="standard").train.x.mean()) < 1e-6


def test_dark_pixels_are_divided() -> None:
    x = np.ones((8, 1), np.uint8)
    dark = Dataset("dark", x, np.arange(8), x, np.arange(8), tuple("abcdefgh"))
    assert prepare(dark).train.x.max() == np.float32(1 / 255)


@pytest.mark.parametrize("part", ["x_train", "x_test", "y_train", "y_test"])
def test_values_too_large_for_the_dtype_raise(part: str) -> None:
    arrays: dict[str, Any] = {
        "x_train": np.ones((4, 2)),
        "y_train": np.ones((4, 1)),
        "x_test": np.ones((2, 2)),
        "y_test": np.ones((2, 1)),
    }
    arrays[part][0, 0] = -1e39
    with pytest.raises(DataError, match=rf"{part[0]} reaches 1e\+39, too large for float32"):
        prepare(Dataset("wide", **arrays), scaling="raw")
