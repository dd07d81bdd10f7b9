"""Real digits that need no network: scikit-learn's 1,797, brought to MNIST's format."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.data.dataset import Dataset
from dlsys_bench.errors import DataError

# The pixels are 0 to 16; a bilinear weight is a whole number of tenths on each axis.
_BRIGHTEST, _TENTHS = 16, 10


def digits() -> Dataset:
    """The digits as MNIST has them: x (1437, 28, 28, 1) and (360, 28, 28, 1) uint8, a 20x20 digit
    in the middle.

    The split is a rule, not a draw: sorted by class, every fifth digit from the first is a test
    digit, so each class gives a fifth; both parts keep the order of the source. Errors: DataError
    without scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(
            f"digits come with scikit-learn, which cannot be imported ({error}): pip install scikit-learn"
        ) from error

    bunch: Any = load_digits()
    x, y = enlarge(bunch.images.astype(np.int64)), bunch.target
    test = np.zeros(len(y), bool)
    test[np.argsort(y, kind="stable")[::5]] = True
    return Dataset("digits", x[~test], y[~test], x[test], y[test], tuple("0123456789"))


def enlarge(images: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Bilinear from 8x8 (0 to 16) to 20x20 (0 to 255), in the middle of 28x28. (N, 8, 8) -> (N, 28,
    28, 1).

    In whole numbers, so that every machine gives the same bytes.
    """
    weights = np.zeros((20, 8), np.int64)
    for row in range(20):
        # The centre of pixel `row` of 20 lies at (row + 1/2) 8/20 - 1/2 of 8; at the rim the
        # nearest pixel counts.
        place = min(max(4 * row - 3, 0), 70)
        below, share = divmod(place, _TENTHS)
        weights[row, below] += _TENTHS - share
        weights[row, min(below + 1, 7)] += share
    hundredths = weights @ images @ weights.T
    whole = _BRIGHTEST * _TENTHS**2
    pixels = ((255 * hundredths + whole // 2) // whole).astype(np.uint8)
    return np.pad(pixels, ((0, 0), (4, 4), (4, 4)))[..., np.newaxis]
