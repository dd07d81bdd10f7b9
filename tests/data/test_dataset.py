"""The validation of a dataset."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlsys_bench.data import Dataset
from dlsys_bench.errors import DataError


def dataset(**changed: Any) -> Dataset:
    """Return six training and three test images of two classes, with changes."""
    arrays: dict[str, Any] = {
        "x_train": np.zeros((6, 4, 4, 1), np.uint8),
        "y_train": np.array([0, 1, 0, 1, 0, 1]),
        "x_test": np.zeros((3, 4, 4, 1), np.uint8),
        "y_test": np.array([0, 1, 0]),
        "classes": ("no", "yes"),
    }
    return Dataset(changed.pop("name", "mine"), **(arrays | changed))


def filled(shape: tuple[int, ...], index: tuple[int, ...], value: float) -> np.ndarray:
    values = np.zeros(shape)
    # The last value too: the message names the first invalid one.
    values[index] = values[(-1,) * len(shape)] = value
    return values


FLOATS = {"x_train": np.zeros((6, 4, 4, 1)), "x_test": np.zeros((3, 4, 4, 1))}
TARGETS = {"y_train": np.zeros((6, 2)), "y_test": np.zeros((3, 2)), "classes": ()}

INVALID: dict[str, tuple[dict[str, Any], str]] = {
    "empty train": (
        {"x_train": np.zeros((0, 4, 4, 1), np.uint8), "y_train": np.array([], int)},
        "x_train is empty: its shape is (0, 4, 4, 1)",
    ),
    "empty test": (
        {"x_test": np.zeros((0, 4, 4, 1), np.uint8), "y_test": np.array([], int)},
        "x_test is empty",
    ),
    "no pixels": (
        {"x_train": np.zeros((6, 0, 4, 1), np.uint8)},
        "x_train is empty: its shape is (6, 0, 4, 1)",
    ),
    "train lengths": ({"y_train": np.zeros(5, int)}, "x_train has 6 samples, but y_train has 5"),
    "test lengths": ({"y_test": np.zeros(4, int)}, "x_test has 3 samples, but y_test has 4"),
    "label too large": (
        {"y_train": np.array([0, 1, 1, 2, 3, 0])},
        "y_train[3] is 2, but there are 2 classes: labels are 0 to 1",
    ),
    "label negative": (
        {"y_test": np.array([0, -1, -2])},
        "y_test[1] is -1, but there are 2 classes: labels are 0 to 1",
    ),
    "labels from one": (
        {"y_train": np.array([1, 2, 1, 2, 1, 2])},
        "y_train[1] is 2, but there are 2 classes: labels are 0 to 1; no label is 0, and the "
        "smallest is 1, but labels count from 0: take y_train - 1 and y_test - 1",
    ),
    "signs": (
        {"y_train": np.array([1, -1, 1, 1, 1, 1])},
        "y_train[1] is -1, but there are 2 classes: labels are 0 to 1; the labels are signs: "
        "take (y_train + 1) // 2 and (y_test + 1) // 2",
    ),
    "one class in train": (
        {"y_train": np.ones(6, int)},
        "y_train has one class: all 6 labels are 1; expected two classes or more",
    ),
    "one class in test": (
        {"y_test": np.zeros(3, int)},
        "y_test has one class: all 3 labels are 0; expected two classes or more",
    ),
    "several classes of a sample": (
        {"y_train": np.ones((6, 2), int)},
        "y_train is int64 of shape (6, 2); labels are (N,) of whole numbers",
    ),
    "label wraps": (
        {"y_test": np.array([0, 1, 2**64 - 1], np.uint64)},
        "y_test[2] is 18446744073709551615",
    ),
    "labels without classes": (
        {"classes": ()},
        "y_train[0] is 0, but there are 0 classes: name the classes",
    ),
    "float labels": (
        {"y_train": np.zeros(6)},
        "y_train is float64 of shape (6,); expected labels (N,) of whole numbers",
    ),
    "bool labels": (
        {"y_test": np.zeros(3, bool)},
        "y_test is bool of shape (3,); labels are (N,) of whole numbers",
    ),
    "text labels": ({"y_test": np.array(["a", "b", "c"])}, "y_test is <U1 of shape (3,)"),
    "one-hot": (
        {"y_train": np.eye(2, dtype=int)[[0, 1, 0, 1, 0, 1]]},
        "y_train is int64 of shape (6, 2); labels are (N,) of whole numbers; its rows are one-hot",
    ),
    "targets and classes": (
        {"y_train": np.zeros((6, 2))},
        "y_train is float64, targets of a regression, but there are 2 classes",
    ),
    "target nan": (
        TARGETS | {"y_test": filled((3, 2), (1, 1), np.nan)},
        "y_test[1, 1] is nan; every value has to be finite",
    ),
    "no targets": (TARGETS | {"y_train": np.zeros((6, 0))}, "y_train is float64 of shape (6, 0)"),
    "other targets": (
        TARGETS | {"y_test": np.zeros((3, 1))},
        "y_train has samples of shape (2,) and type float64, but y_test of shape (1,)",
    ),
    "targets in one split": ({"y_test": np.zeros((3, 2)), "classes": ()}, "name the classes"),
    "nan": (
        FLOATS | {"x_train": filled((6, 4, 4, 1), (3, 0, 2, 0), np.nan)},
        "x_train[3, 0, 2, 0] is nan; every value has to be finite",
    ),
    "infinite": (
        FLOATS | {"x_test": filled((3, 4, 4, 1), (1, 3, 3, 0), -np.inf)},
        "x_test[1, 3, 3, 0] is -inf",
    ),
    "other shape": (
        {"x_test": np.zeros((3, 4, 5, 1), np.uint8)},
        "x_train has samples of shape (4, 4, 1) and type uint8, but x_test of shape (4, 5, 1)",
    ),
    "other type": (
        {"x_test": np.zeros((3, 4, 4, 1))},
        "type uint8, but x_test of shape (4, 4, 1) and type float64",
    ),
    "one axis": (
        {"x_train": np.zeros(6)},
        "x_train has shape (6,); expected (N, H, W, C), (N, H, W) or (N, units)",
    ),
    "five axes": ({"x_train": np.zeros((6, 4, 4, 1, 1))}, "x_train has shape (6, 4, 4, 1, 1)"),
    "a number": ({"x_train": np.float64(1)}, "x_train has shape ()"),
    "whole-number pixels": (
        {"x_train": np.zeros((6, 4, 4, 1), np.int64)},
        'x_train is int64; expected uint8 (pixels 0 to 255) or float, as x_train.astype("uint8") '
        "is",
    ),
    "whole-number values": (
        {"x_test": np.full((3, 4, 4, 1), 256, np.uint16)},
        'x_test is uint16; expected uint8 (pixels 0 to 255) or float, as x_test.astype("float32") '
        "is",
    ),
    "truth values": (
        {"x_test": np.ones((3, 4, 4, 1), bool)},
        'x_test is bool; expected uint8 (pixels 0 to 255) or float, as x_test.astype("float32") is',
    ),
    "text": ({"x_test": np.full((3, 4, 4, 1), "a")}, "x_test is <U1; expected uint8"),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_arrays_raise(case: str) -> None:
    changed, message = INVALID[case]
    with pytest.raises(DataError) as caught:
        dataset(**changed)
    assert str(caught.value).startswith('dataset "mine": ')
    assert message in str(caught.value)


def test_images_without_channels_get_one() -> None:
    made = dataset(
        x_train=np.arange(96, dtype=np.uint8).reshape(6, 4, 4), x_test=np.zeros((3, 4, 4), np.uint8)
    )
    assert made.x_train.shape == (6, 4, 4, 1)
    assert made.x_test.shape == (3, 4, 4, 1)
    np.testing.assert_array_equal(made.x_train.ravel(), np.arange(96))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.uint64])
def test_labels_become_int64(dtype: type) -> None:
    made = dataset(y_train=np.array([0, 1, 0, 1, 1, 1], dtype))
    assert made.y_train.dtype == made.y_test.dtype == np.int64
    assert made.y_train.tolist() == [0, 1, 0, 1, 1, 1]


def test_vectors_and_targets_are_unchanged() -> None:
    made = dataset(
        x_train=np.ones((6, 5), np.float32), x_test=np.ones((3, 5), np.float32), **TARGETS
    )
    assert made.x_train.shape == (6, 5)
    assert made.x_train.dtype == np.float32
    assert made.y_train.shape == (6, 2)
    assert made.classes == ()


def test_a_class_may_have_no_samples() -> None:
    assert dataset(classes=["no", "yes", "perhaps"]).classes == ("no", "yes", "perhaps")


LABELS = np.array([0, 1, 0, 1, 0, 1])
CONVERTED: dict[str, Any] = {
    "one row": (LABELS[None], "y_train[0]"),
    "one row of text": (np.array([["0", "1", "0", "1", "0", "1"]]), "y_train[0]"),
    "one-hot": (np.eye(2, dtype=np.uint8)[LABELS], "y_train.argmax(axis=1)"),
    "one-hot floats": (np.eye(2)[LABELS], "y_train.argmax(axis=1)"),
    "one-hot truth": (np.eye(2)[LABELS] == 1, "y_train.argmax(axis=1)"),
    "floats": (LABELS.astype(np.float32), 'y_train.astype("int64")'),
    "a column of floats": (LABELS[:, None] * 1.0, 'y_train[:, 0].astype("int64")'),
    "truth": (LABELS == 1, 'y_train.astype("int64")'),
    "a column of truth": (LABELS[:, None] == 1, 'y_train[:, 0].astype("int64")'),
    "signs": (2 * LABELS - 1, "(y_train + 1) // 2"),
    "from one": (LABELS + 1, "y_train - 1"),
    "from seven": (LABELS.astype(np.uint8) + np.uint8(7), "y_train - 7"),
}


@pytest.mark.parametrize("case", CONVERTED)
def test_advice_gives_the_labels_if_it_is_followed(case: str) -> None:
    y_train, advice = CONVERTED[case]
    with pytest.raises(DataError) as caught:
        dataset(y_train=y_train)
    assert advice in str(caught.value)
    followed = eval(advice, {"y_train": y_train})
    if case == "one row of text":
        assert followed.shape == LABELS.shape
    else:
        np.testing.assert_array_equal(dataset(y_train=followed).y_train, LABELS)


def test_advice_numbers_names_if_it_is_followed() -> None:
    arrays = {"y_train": np.array(list("nynyny")), "y_test": np.array(list("nyn"))}
    with pytest.raises(DataError) as caught:
        dataset(**arrays)
    advice = str(caught.value).partition("number the names: ")[2]
    for step in advice.split("), "):
        exec(step if step.endswith(")") else step + ")", {"numpy": np}, arrays)
    made = dataset(**(arrays | {"classes": arrays["classes"]}))
    np.testing.assert_array_equal(made.y_train, LABELS)
    np.testing.assert_array_equal(made.y_test, LABELS[:3])


def test_fractions_are_targets_if_the_advice_is_followed() -> None:
    y = np.linspace(0, 0.5, 6)
    with pytest.raises(DataError, match=r"\(N, K\), as y_train\[:, None\] is"):
        dataset(y_train=y, classes=())
    made = dataset(y_train=y[:, None], y_test=y[:3, None], classes=())
    assert made.y_train.shape == (6, 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_a_column_of_labels_is_accepted(dtype: type) -> None:
    made = dataset(y_train=LABELS[:, None].astype(dtype), y_test=LABELS[:3])
    np.testing.assert_array_equal(made.y_train, LABELS)
    assert made.y_train.dtype == np.int64


def test_a_test_split_of_one_sample_is_accepted() -> None:
    assert len(dataset(x_test=np.zeros((1, 4, 4), np.uint8), y_test=np.array([1])).y_test) == 1
