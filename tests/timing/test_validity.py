"""A benchmark that does not train fails."""

from __future__ import annotations

import numpy as np
import pytest

from dlsys_bench.errors import UserError
from dlsys_bench.timing.validity import NotTrainingError, check_losses, check_weights


def test_losses_that_fall_are_accepted() -> None:
    check_losses([2.0, 1.0], 20)
    check_losses([2.0, 2.5, 1.0, 1.1], 2)


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        (
            [1.0, 1.0],
            "the loss did not fall: the mean of the first 1 of 2 steps is 1, that of the last 1",
        ),
        ([1.0, 0.5, 1.0, 1.5], "the loss did not fall: the mean of the first 2 of 4 steps is 0.75"),
        ([1.0, float("nan"), 0.5], "the loss of step 2 is nan"),
        ([1.0, 0.5, float("inf")], "the loss of step 3 is inf"),
    ],
)
def test_losses_that_do_not_fall_raise(losses: list[float], message: str) -> None:
    with pytest.raises(NotTrainingError, match=message):
        check_losses(losses, 2)


def test_one_step_raises() -> None:
    with pytest.raises(UserError, match="1 loss cannot fall"):
        check_losses([1.0], 20)


def test_every_tensor_has_to_change() -> None:
    before = {"kernel": np.zeros(2), "bias": np.zeros(1)}
    check_weights(before, {"kernel": np.array([0.0, 1.0]), "bias": np.ones(1)})
    with pytest.raises(NotTrainingError, match="these did not change: bias"):
        check_weights(before, {"kernel": np.ones(2), "bias": np.zeros(1)})
    with pytest.raises(UserError, match="returned bias only before or only after training"):
        check_weights(before, {"kernel": np.ones(2)})
    with pytest.raises(NotTrainingError, match="not finite: kernel"):
        check_weights(before, {"kernel": np.array([np.nan, 1.0]), "bias": np.ones(1)})
