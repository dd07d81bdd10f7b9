"""Residual networks: their blocks and their parameter counts, against He et al. 2015 and 2016."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dlsys_bench.engines.registry import create, unavailable
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import Add, BatchNorm, Conv2D, Dense
from dlsys_bench.spec.model import Model
from dlsys_bench.workloads.published import published_figures
from dlsys_bench.workloads.residual import BLOCKS, resnet20, small_resnet
from dlsys_bench.workloads.studies import STUDIES
from dlsys_bench.workloads.zoo import MODELS


def depth(model: Model) -> int:
    """Return the number of layers with a kernel on the longest path."""
    longest = [0]
    for row in model.table:
        own = isinstance(row.layer, Conv2D | Dense)
        longest.append(own + max(longest[source] for source in row.sources))
    return longest[-1]


def takers(model: Model, name: str) -> list[str]:
    """Return the kinds of the layers that take the output of a node."""
    return [row.layer.kind for row in model.table if name in row.inputs]


def test_resnet_20_has_the_published_depth_and_number_of_parameters() -> None:
    model = resnet20()
    assert depth(model) == 20
    shapes = [row.output_shape for row in model.table if isinstance(row.layer, Add)]
    assert shapes == [(32, 32, 16)] * 3 + [(16, 16, 32)] * 3 + [(8, 8, 64)] * 3
    # Table 6 of He et al. 2015 has 0.27 million. Their shortcuts, option A, have no parameters.
    shortcuts = [row.name for row in model.table if getattr(row.layer, "kernel_size", 0) == (1, 1)]
    norms = [row.name for row in model.table if set(row.inputs).intersection(shortcuts)]
    option_b = [each for each in model.tensors if each.name.split(".")[0] in shortcuts + norms]
    assert model.counts.trainable == 272_474
    assert model.counts.trainable - sum(each.size for each in option_b if each.trainable) == 269_722


def test_blocks_are_those_of_the_papers() -> None:
    plain, post, pre = (small_resnet(kind) for kind in BLOCKS)
    assert [depth(model) for model in (plain, post, pre)] == [8, 8, 8]
    sums = {
        model.name: [row for row in model.table if isinstance(row.layer, Add)]
        for model in (plain, post, pre)
    }
    assert not sums[plain.name]
    assert all(takers(post, row.name) == ["activation"] for row in sums[post.name])
    # Nothing but a sum or a batch norm follows a sum of pre-activation blocks.
    assert all(set(takers(pre, row.name)) <= {"add", "batch_norm"} for row in sums[pre.name])
    convolutions = [row.inputs[0] for row in pre.table[1:] if isinstance(row.layer, Conv2D)]
    kinds = {row.name: row.layer.kind for row in pre.table}
    assert {kinds[name] for name in convolutions} == {"activation"}
    assert all(
        takers(post, row.name) == ["batch_norm"]
        for row in post.table
        if isinstance(row.layer, Conv2D)
    )
    assert sum(isinstance(layer, BatchNorm) for layer in post.layers) == 9


def test_resnet_20_on_cifar_10_has_the_published_recipe() -> None:
    recipe = STUDIES["resnet/cifar10"].arm("resnet20").recipe("full")
    rates = {0: 0.1, 15_999: 0.1, 31_999: 0.1, 32_000: 0.01, 47_999: 0.01, 48_000: 0.001}
    assert {step: round(recipe.rate(step), 9) for step in rates} == rates
    assert recipe.steps == 64_000
    (figure,) = published_figures("resnet/cifar10")
    assert figure.value == 1 - 0.0875


SMALL = [model for model in MODELS.values() if model.counts.total < 10**6]


def counted_by_torch(net: Any) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def counted_by_keras(net: Any) -> int:
    return sum(
        int(variable.value.shape.num_elements()) for variable in net.network.trainable_variables
    )


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("torch", counted_by_torch),
        pytest.param("keras", counted_by_keras, marks=pytest.mark.slow),
    ],
)
def test_built_networks_have_the_counts_of_the_specification(
    name: str, count: Callable[[Any], int]
) -> None:
    if reason := unavailable(name):
        pytest.skip(reason)
    engine = create(name)
    for model in SMALL:
        net = engine.build(to_convention(engine.convention, model))
        assert count(net) == model.counts.trainable, model.name
