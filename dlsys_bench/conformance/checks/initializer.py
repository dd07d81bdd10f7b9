"""The start of a network that is built without weights: the distribution of every initialiser, and
the effect of the seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import scipy

from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.statistics import ALPHA
from dlsys_bench.conformance.checks.subjects import norm_if_available
from dlsys_bench.conformance.checks.support import supported
from dlsys_bench.conformance.checks.training import differing
from dlsys_bench.conformance.drawing import first_choice
from dlsys_bench.conformance.finding import BrokenError, Fault, broken
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.engines.plan import Array, Weights
from dlsys_bench.spec.graph import parallel, serial
from dlsys_bench.spec.initializers import (
    INITIALIZERS,
    Distribution,
    FanInUniform,
    GlorotUniform,
    Initializer,
    Normal,
    Uniform,
)
from dlsys_bench.spec.layers import Activation, Conv2D, Dense, Flatten, Layer, Shape
from dlsys_bench.spec.model import Model, Tensor
from dlsys_bench.spec.record import Record


@check_each("initializer", INITIALIZERS, requires=lambda record: [f"initializer:{record.kind}"])
def initializer(trial: Trial, record: type[Initializer]) -> None:
    """The kernels of a dense layer and a convolution, with different fans and tens of thousands of
    values, and the tensors beside them that start as a constant.

    Why: A start from the wrong scale trains slower or not at all, and looks like a bad learning
    rate.
    Broken by: An engine that takes fan-out for fan-in in {subject}, or forgets the size of the
    window of a convolution.
    Fix: Compute the bounds or the variance from `tensor.fans` by the formula of the record.
    """
    kernel = record.of()
    networks: list[tuple[Shape, tuple[Layer, ...]]] = [
        ((150,), (Dense(300, kernel_initializer=kernel), *norm_if_available(trial)))
    ]
    if {"conv2d", "flatten"} <= set(trial.kinds):
        convolution = Conv2D(32, (5, 3), kernel_initializer=kernel)
        networks.append(((6, 6, 60), (convolution, Flatten(), Dense(1))))
    for convention in trial.engine.conventions:
        for shape, layers in networks:
            model = supported(trial, Model("start", shape, layers), convention=convention)
            values = trial.engine.weights(trial.engine.build(model, seed=trial.seed))
            for tensor in model.tensors:
                expected = tensor.initializer.distribution(tensor.fans)
                if tensor is model.tensors[0] or expected.family == "constant":
                    check_draw(values[tensor.name].ravel(), expected, tensor)


@check("initializer", "every-tensor")
def every_tensor(trial: Trial) -> None:
    """Each tensor by its own initialiser and its options: three kernels, and a bias that does not
    start at zero.

    Why: Each tensor has an initialiser of its own, and frameworks have defaults that step in
    silently.
    Broken by: An engine that starts every bias at zero, or every kernel by the initialiser of the
    first.
    Fix: Go over `model.tensors` and use `tensor.initializer` for each.
    """
    layers = (
        Dense(1000, kernel_initializer=GlorotUniform(), bias_initializer=Normal(stddev=0.3)),
        Activation("tanh"),
        Dense(50, kernel_initializer=Normal(stddev=0.2)),
        Activation("tanh"),
        Dense(300, kernel_initializer=Uniform(low=-0.3, high=0.1)),
    )
    model = supported(trial, Model("start", (60,), layers))
    values = trial.engine.weights(trial.engine.build(model, seed=trial.seed))
    for tensor in model.tensors:
        expected = tensor.initializer.distribution(tensor.fans)
        check_draw(values[tensor.name].ravel(), expected, tensor)


class WideLayer(NamedTuple):
    """A layer with kernels of thousands of values, and the shape of its input."""

    shape: Shape
    layer: Layer

    @property
    def model(self) -> Model:
        """A network of two such layers, which share a width, or of one below a dense layer."""
        layer, dense = self.layer, Dense(50)
        if layer.merges:
            layer = parallel(serial(), dense, join=layer)
        above = dense if layer.takes == "int" else layer
        return Model("start", self.shape, (layer, above), input_dtype=layer.takes)

    @property
    def requires(self) -> list[str]:
        """What an engine must have for the network, with the initialisers that a norm does not let
        choose."""
        names = (name for layer in self.model.layers for name in layer.needs)
        options, starts = vars(self.layer).values(), self.layer.initializers().values()
        fixed = [f"initializer:{each.kind}" for each in starts if each not in options]
        return [*(f"layer:{name}" for name in dict.fromkeys((*names, "dense"))), *fixed]


def _wide(variant: str, *shape: int, **options: Any) -> WideLayer:
    return WideLayer(shape, replace(first_choice(variant), **options))


CONV1D: Mapping[str, Any] = {"filters": 64, "padding": "same"}
CONV2D: Mapping[str, Any] = {"filters": 64, "kernel_size": (3, 2), "padding": "same"}
ATTENTION: Mapping[str, Any] = {"heads": 4, "key_size": 20}

WIDE = {
    "dense": _wide("dense", 60, units=100),
    "conv2d": _wide("conv2d", 5, 4, 24, **CONV2D),
    "grouped_conv2d": _wide("grouped_conv2d", 5, 4, 24, **CONV2D),
    "dilated_conv2d": _wide("dilated_conv2d", 5, 4, 24, **CONV2D),
    "conv1d": _wide("conv1d", 6, 40, **CONV1D),
    "grouped_conv1d": _wide("grouped_conv1d", 6, 40, **CONV1D),
    "dilated_conv1d": _wide("dilated_conv1d", 6, 40, **CONV1D),
    "batch_norm": _wide("batch_norm", 60),
    "layer_norm": _wide("layer_norm", 6, 60),
    "rms_norm": _wide("rms_norm", 6, 60),
    "group_norm": _wide("group_norm", 6, 60),
    "embedding": _wide("embedding", 6, vocabulary=300, units=40),
    "position_embedding": _wide("position_embedding", 60, 40, positions=80),
    "multi_head_attention": _wide("multi_head_attention", 6, 60, **ATTENTION),
    "causal_attention": _wide("causal_attention", 6, 60, **ATTENTION),
    "cross_attention": _wide("cross_attention", 6, 60, **ATTENTION),
    "causal_cross_attention": _wide("causal_cross_attention", 6, 60, **ATTENTION),
}
"""Every variant of a layer that has tensors, by the name in its check."""


@check_each("initializer", WIDE, requires=lambda wide: wide.requires, prefix="tensors-of-")
def tensors_of(trial: Trial, wide: WideLayer) -> None:
    """Every tensor of two layers: by the defaults, and by an initialiser of its fan-in. The second
    draws, of three seeds, are also compared with each other.

    Why: A framework has its own defaults and packed kernels for each kind of layer, and a layer has
    several tensors, which must be drawn independently.
    Broken by: An engine that leaves {subject} to the defaults of its framework, takes the fans of a
    packed kernel, or draws all tensors of a layer with one key.
    Fix: Go over `model.tensors`, use `tensor.initializer` and `tensor.fans` for each, and split the
    key for each.
    """
    networks: list[Weights] = []
    for model, ahead in ((wide.model, 0), *((_by_fan_in(wide.model), each) for each in range(3))):
        model = supported(trial, model)
        networks.append(trial.engine.weights(trial.engine.build(model, seed=trial.seed + ahead)))
        for tensor in model.tensors:
            expected = tensor.initializer.distribution(tensor.fans)
            check_draw(networks[-1][tensor.name].ravel(), expected, tensor)
    named = dict(enumerate(networks[1:], start=trial.seed))
    _compare_draws(named, [each.name for each in model.tensors if not _is_constant(each)])


def _by_fan_in(model: Model) -> Model:
    """Return a model with an initialiser in the place of every other, which uses fans that differ
    from tensor to tensor."""

    def changed(record: Record) -> Record:
        return FanInUniform() if isinstance(record, Initializer) else record

    return model.map(changed)


def _is_constant(tensor: Tensor) -> bool:
    return tensor.initializer.distribution(tensor.fans).family == "constant"


def check_draw(values: Array, expected: Distribution, tensor: Tensor) -> None:
    """Test a draw by its bounds, its mean, its variance and its distribution function."""
    what = f"{tensor.name} {tensor.shape} by {tensor.initializer.kind}"
    if expected.family == "constant":
        if (values != expected.value).any():
            actual = f"{values[values != expected.value][0]:g}"
            raise _wrong(what, tensor, actual, f"{expected.value:g}", Fault.WRONG_VALUE)
        return
    known = _scipy(expected)
    low, high = known.support()
    slack = 1e-6 * known.std()
    if values.min() < low - slack or values.max() > high + slack:
        actual = f"[{values.min():.4g}, {values.max():.4g}]"
        raise _wrong(f"the range of {what}", tensor, actual, f"[{low:.4g}, {high:.4g}]")
    n, distinct = len(values), len(np.unique(values))
    if distinct < 0.98 * n:
        count = f"the number of distinct values of {what}"
        raise _wrong(count, tensor, f"{distinct:,}", f"about {n:,}: draws are used again")
    kurtosis = float(known.stats("k")) + 3
    for name, actual, right, error in (
        ("mean", values.mean(), known.mean(), known.std() / np.sqrt(n)),
        ("variance", values.var(), known.var(), known.var() * np.sqrt((kurtosis - 1) / n)),
    ):
        if abs(actual - right) > scipy.stats.norm.isf(ALPHA / 2) * error:
            raise _wrong(f"the {name} of {what}", tensor, f"{actual:.5g}", f"{right:.5g}")
    p_value = scipy.stats.kstest(values, known.cdf).pvalue
    if p_value < ALPHA:
        actual = f"another one (Kolmogorov-Smirnov, p-value {p_value:.1e})"
        raise _wrong(f"the distribution of {what}", tensor, actual, expected.family)


def _scipy(expected: Distribution) -> Any:
    """Return a distribution as scipy's frozen distribution."""
    if expected.family == "uniform":
        return scipy.stats.uniform(expected.low, expected.high - expected.low)
    if expected.family == "normal":
        return scipy.stats.norm(0, expected.stddev)
    return scipy.stats.truncnorm(-2, 2, scale=expected.stddev)


def _wrong(
    what: str, tensor: Tensor, actual: str, expected: str, fault: Fault = Fault.WRONG_DISTRIBUTION
) -> BrokenError:
    where = {"layer": tensor.name.partition(".")[0], "tensor": tensor.name}
    return broken(fault, what, actual=actual, expected=expected, **where)


@check("initializer", "seeds")
def seeds(trial: Trial) -> None:
    """One seed gives one network, another seed another, and no two tensors are the same draw.

    Why: Runs of different seeds have to be independent, and runs of one seed equal.
    Broken by: An engine that draws all layers from one seed, adds the number of a layer to the
    seed, cuts a seed to 8 bits, or treats seed 0 as no seed (`if seed:`).
    Fix: Derive a separate stream for each tensor from the whole seed, and test `seed is None`
    instead of its truth.
    """
    model = Model("seeds", (20,), (Dense(20), Dense(20), Dense(2)))
    model = supported(trial, model)

    def draw(seed: int) -> Weights:
        return trial.engine.weights(trial.engine.build(model, seed=seed))

    for seed in (1, 0):
        for name in differing(draw(seed), draw(seed)):
            what = f"{name} differs between two networks of seed {seed}"
            if seed == 0:
                text = "seed 0 is treated as no seed"
                raise broken(
                    Fault.SEED_ZERO, f"{what}, and not of seed 1", tensor=name, diagnosis=text
                )
            raise broken(Fault.NOT_DETERMINISTIC, what, tensor=name)
    first, second = draw(1), draw(2)
    for tensor in model.tensors:
        if not _is_constant(tensor) and np.array_equal(first[tensor.name], second[tensor.name]):
            name = tensor.name
            raise broken(Fault.NOT_DETERMINISTIC, f"{name} is equal for seeds 1 and 2", tensor=name)
    kernel = "dense_1.kernel"
    for seed in (0, 257, 2**31 + 1):
        if np.array_equal(first[kernel], draw(seed)[kernel]):
            what = f"{kernel} is equal for seeds 1 and {seed}"
            raise broken(Fault.NOT_DETERMINISTIC, what, tensor=kernel)
    _compare_draws({1: first, 2: second, 3: draw(3)}, [kernel, "dense_2.kernel"])


def _compare_draws(networks: Mapping[int, Weights], names: list[str]) -> None:
    """Raise BrokenError if two tensors of networks, by their seeds, are the same draw, as if the
    number of a tensor is added to the seed."""
    drawn = [
        (name, f"{name} of seed {seed}", network[name])
        for seed, network in networks.items()
        for name in names
    ]
    for (_, one, values), (name, other, others) in combinations(drawn, 2):
        if (found := _correlation(values, others)) is not None:
            what = f"the correlation of {one} and {other}, in the order of their values"
            where = {"layer": name.partition(".")[0], "tensor": name}
            expected = "about 0, that of independent draws"
            raise broken(
                Fault.WRONG_DISTRIBUTION, what, actual=f"{found:.3g}", expected=expected, **where
            )


def _correlation(one: Array, other: Array) -> float | None:
    """Return the correlation of the leading values of two tensors, row by row or column by column,
    if one of them is significant.

    It also shows one draw that is scaled, or turned into two distributions.
    """
    for order in ("C", "F"):
        x, y = one.ravel(order), other.ravel(order)
        n = min(len(x), len(y))
        x, y = x[:n] - x[:n].mean(), y[:n] - y[:n].mean()
        found = float(x @ y / max(np.sqrt((x @ x) * (y @ y)), np.finfo(float).tiny))
        if abs(found) > min(scipy.stats.norm.isf(ALPHA / 2) / np.sqrt(n), 0.99):
            return found
    return None
