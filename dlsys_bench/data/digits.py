"""The dataset "digits": 1,797 handwritten digits that come with the package, in MNIST's format."""

from __future__ import annotations

import gzip
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.data.dataset import Dataset

# The test part of UCI's "Optical recognition of handwritten digits" (CC BY 4.0, Alpaydin and
# Kaynak, 1998), byte for byte as scikit-learn ships it. A row holds 64 pixels and the label.
_FILE = "digits.csv.gz"

# The pixels are 0 to 16; a bilinear weight is a whole number of tenths on each axis.
_BRIGHTEST, _TENTHS = 16, 10


def digits() -> Dataset:
    """Return the digits in the format of MNIST.

    x has the shapes (1437, 28, 28, 1) and (360, 28, 28, 1), uint8, with 20x20 pixels of a digit in
    the middle.

    The split is a rule without randomness: of the digits sorted by class, every fifth is a test
    digit, so that each class gives a fifth. Both parts keep the order of the source.
    """
    content = gzip.decompress((files("dlsys_bench.data") / _FILE).read_bytes())
    rows = np.loadtxt(content.decode().splitlines(), np.int64, delimiter=",")
    x, y = enlarge(rows[:, :-1].reshape(-1, 8, 8)), rows[:, -1]
    test = np.zeros(len(y), bool)
    test[np.argsort(y, kind="stable")[::5]] = True
    return Dataset("digits", x[~test], y[~test], x[test], y[test], tuple("0123456789"))


def enlarge(images: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Enlarge images by bilinear interpolation, (N, 8, 8) -> (N, 28, 28, 1).

    Values from 0 to 16 become values from 0 to 255. The image fills the 20x20 pixels in the middle.
    The arithmetic is in integers, so that every machine gives the same bytes.
    """
    weights = np.zeros((20, 8), np.int64)
    for row in range(20):
        # The centre of pixel `row` of 20 lies at (row + 1/2) 8/20 - 1/2 of 8; beyond the outermost
        # centres the nearest pixel counts.
        place = min(max(4 * row - 3, 0), 70)
        below, share = divmod(place, _TENTHS)
        weights[row, below] += _TENTHS - share
        weights[row, min(below + 1, 7)] += share
    hundredths = weights @ images @ weights.T
    whole = _BRIGHTEST * _TENTHS**2
    pixels = ((255 * hundredths + whole // 2) // whole).astype(np.uint8)
    return np.pad(pixels, ((0, 0), (4, 4), (4, 4)))[..., np.newaxis]
