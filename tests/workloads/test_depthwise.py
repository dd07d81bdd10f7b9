"""MobileNet: the published numbers of parameters and of multiply-adds, and its blocks."""

from __future__ import annotations

import pytest

from dlsys_bench.spec.layers import Conv2D
from dlsys_bench.timing.flops import multiply_adds
from dlsys_bench.workloads.depthwise import mobilenet, small_mobilenet


@pytest.mark.parametrize(
    ("kind", "parameters", "millions", "operations"),
    # Howard et al. 2017, tables 4 and 8: 4.2 and 29.3 million parameters, 569 and 4866 million
    # multiply-adds. Keras counts 4,253,864 parameters in MobileNet, with the moving statistics.
    [("depthwise", 4_231_976, 4.2, 569), ("ordinary", 29_294_088, 29.3, 4866)],
)
def test_mobilenet_has_the_published_counts(
    kind: str, parameters: int, millions: float, operations: int
) -> None:
    model = mobilenet(kind)
    assert model.counts.trainable == parameters
    assert round(parameters / 1e6, 1) == millions
    assert sum(multiply_adds(model)) / 1e6 == pytest.approx(operations, abs=1.5)
    assert model.shapes[-3] == (7, 7, 1024)


def test_the_total_of_mobilenet_is_that_of_keras() -> None:
    assert mobilenet("depthwise").counts.total == 4_253_864


def test_depthwise_and_pointwise_convolutions_alternate() -> None:
    layers = [each for each in small_mobilenet("depthwise").layers if isinstance(each, Conv2D)]
    assert [layer.kernel_size for layer in layers] == [(3, 3)] + [(3, 3), (1, 1)] * 3
    assert [layer.groups for layer in layers] == [1, 16, 1, 32, 1, 64, 1]
