"""A prediction does not depend on the number of samples, of which a block may leave one over."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dlsys_bench import check_engine
from dlsys_bench.engines.numpy.engine import NumpyEngine


class InBlocks(NumpyEngine):
    """Predictions in blocks, of which the last may be smaller."""

    block = 32

    def predict(self, net: Any, x: Any) -> Any:
        starts = range(0, max(len(x), 1), self.block)
        predict = super().predict
        return np.concatenate([predict(net, x[start : start + self.block]) for start in starts])


def loses_the_axis(size: int) -> type[NumpyEngine]:
    """Return an engine that gives a last block of one sample the output of the one before."""

    class LosesTheAxis(InBlocks):
        block = size

        def predict(self, net: Any, x: Any) -> Any:
            found = super().predict(net, x)
            if len(x) > self.block and len(x) % self.block == 1:
                found[-1] = found[-2]
            return found

    return LosesTheAxis


@pytest.mark.parametrize("size", [32, 128, 1024])
def test_a_last_block_of_one_sample_is_checked(size: int) -> None:
    (result, *_) = check_engine(loses_the_axis(size), "collect", checks=["shapes/batches"])
    assert result.finding is not None
    message = f"the prediction of sample {size} of {size + 1} differs from that of it among 41"
    assert message in result.message()


@pytest.mark.parametrize("size", [1, 7, 32])
def test_predictions_in_blocks_conform(size: int) -> None:
    class Healthy(InBlocks):
        block = size

    check_engine(Healthy, checks=["shapes/batches"])
