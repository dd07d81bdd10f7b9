"""Operations of training, against published values and the counter of torch."""

from __future__ import annotations

import numpy as np
import pytest

from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.notebooks.zoo import MODELS
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import Conv1D, Conv2D, Dense, Flatten, MultiHeadAttention
from dlsys_bench.spec.model import Model
from dlsys_bench.timing.flops import multiply_adds, training_flops


def test_the_operations_of_a_dense_network() -> None:
    model = Model("two", (2, 2, 1), (Flatten(), Dense(3), Dense(5)))
    assert multiply_adds(model) == [0, 12, 15]
    # The outputs and the gradients of the kernels of both layers, and the gradient of the inputs of
    # the second.
    assert training_flops(model) == 2 * (27 + 27 + 15)


def test_the_operations_of_groups_sequences_and_attention() -> None:
    images = (Conv2D(8, (3, 3), padding="same", groups=4), Conv2D(8, (3, 3), dilation=(2, 2)))
    assert multiply_adds(Model("m", (6, 6, 4), images)) == [36 * 8 * 9, 4 * 8 * 9 * 8]
    sequences = (Conv1D(6, 3, padding="causal"), MultiHeadAttention(2, 5, causal=True))
    # Of 4 kernels of 6 by 10 for each position, and twice of 4 by 4 positions in two heads of 5.
    expected = [4 * 6 * 3 * 2, 4 * 4 * 60 + 2 * 4 * 4 * 10]
    assert multiply_adds(Model("m", (4, 2), sequences)) == expected


@pytest.mark.parametrize(
    ("name", "millions"),
    [("lenet5-tanh/standard+bn", 2.264), ("lenet5-overlap-tanh/standard+bn", 25.17)],
)
def test_the_operations_of_published_models(name: str, millions: float) -> None:
    assert training_flops(MODELS[name]) / 1e6 == pytest.approx(millions, rel=3e-4)


@pytest.mark.parametrize(
    "name", ["lenet5-tanh/standard+bn", "lenet5-overlap-tanh/dropout", "lenet5-tanh/bn+bn"]
)
def test_torch_counts_the_same_operations(name: str) -> None:
    if reason := unavailable("torch"):
        pytest.skip(reason)
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    engine, model = create("torch"), to_convention("torch", MODELS[name])
    net, samples = engine.build(model, seed=1), 4
    x = torch.from_numpy(np.random.default_rng(0).random((samples, 1, 28, 28), np.float32))
    with FlopCounterMode(display=False) as counter:
        torch.nn.functional.cross_entropy(  # type: ignore[no-untyped-call]
            net((x,), {}), torch.zeros(samples, dtype=torch.long)
        ).backward()
    assert counter.get_total_flops() == samples * training_flops(model)
