"""The embedded dataset "digits"."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from dlsys_bench.data import Dataset, fetch, is_available, load, verify
from dlsys_bench.data.digits import enlarge


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits", offline=True)


def test_the_bytes_are_the_same_on_every_machine(digits: Dataset) -> None:
    parts = (digits.x_train, digits.y_train, digits.x_test, digits.y_test)
    content = b"".join(part.astype(np.uint8).tobytes() for part in parts)
    assert (
        hashlib.sha256(content).hexdigest()
        == "7334bd348fc8ff998ddca3232045de1eaf368a5ea4c7c4407e9dc0d1016c0f3e"
    )


def test_the_format_is_that_of_mnist(digits: Dataset) -> None:
    assert (digits.x_train.shape, digits.x_test.shape) == ((1437, 28, 28, 1), (360, 28, 28, 1))
    assert digits.x_train.dtype == np.uint8
    assert digits.x_train.max() == 255
    assert not digits.x_train[:, :4].any()
    assert not digits.x_train[:, :, 24:].any()


def test_a_fifth_of_each_class_is_in_the_test_split(digits: Dataset) -> None:
    train, test = np.bincount(digits.y_train), np.bincount(digits.y_test)
    assert (np.abs(test - (train + test) / 5) < 1).all()


def test_the_splits_are_disjoint_and_keep_the_order(digits: Dataset) -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    index = {image.tobytes(): i for i, image in enumerate(enlarge(bunch.images.astype(np.int64)))}
    train, test = ([index[image.tobytes()] for image in x] for x in (digits.x_train, digits.x_test))
    assert sorted(train + test) == list(range(1797))
    assert train == sorted(train)
    assert test == sorted(test)
    np.testing.assert_array_equal(digits.y_train, bunch.target[train])


@given(images=hnp.arrays(np.int64, (2, 8, 8), elements={"min_value": 0, "max_value": 16}))
def test_enlarging_is_bilinear(images: np.ndarray) -> None:
    from scipy.ndimage import zoom

    expected = (
        zoom(images.astype(float), (1, 2.5, 2.5), order=1, mode="nearest", grid_mode=True)
        * 255
        / 16
    )
    assert np.abs(enlarge(images)[:, 4:24, 4:24, 0] - expected).max() <= 0.5 + 1e-9


def test_digits_have_no_files() -> None:
    assert is_available("digits")
    assert not verify("digits")
    assert not fetch("digits")
