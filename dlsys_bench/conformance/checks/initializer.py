"""How a network starts when nothing is given: the law of every initialiser, and what a seed
decides."""

from __future__ import annotations

import numpy as np
from scipy import stats

from dlsys_bench.conformance.check import Trial, check
from dlsys_bench.conformance.checks.state import NEVER
from dlsys_bench.conformance.finding import broken
from dlsys_bench.engines.plan import Array
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.initializers import INITIALIZERS, Distribution, GlorotUniform, Normal, Uniform
from dlsys_bench.spec.layers import Activation, BatchNorm, Conv2D, Dense, Flatten
from dlsys_bench.spec.model import Model, Tensor


@check("initializer", *INITIALIZERS)
def initializer(trial: Trial, subject: str) -> None:
    """A dense and a convolution's kernel, whose fans differ, each of tens of thousands of values;
    and what starts as a constant beside them."""
    record = INITIALIZERS[subject].of()
    conv = Conv2D(32, (5, 3), kernel_initializer=record)
    norm = [BatchNorm()] if "batch_norm" in trial.kinds else []
    for convention in trial.engine.conventions:
        for shape, layers in (
            ((150,), (Dense(300, kernel_initializer=record), *norm)),
            *([((6, 6, 60), (conv, Flatten(), Dense(1)))] if "conv2d" in trial.kinds else []),
        ):
            model = to_convention(convention, Model("start", shape, layers))
            values = trial.engine.weights(trial.engine.build(model, seed=trial.seed))
            for tensor in model.tensors:
                law = tensor.initializer.distribution(tensor.fans)
                if tensor is model.tensors[0] or law.family == "constant":
                    _follows(values[tensor.name].ravel(), law, tensor)


def _follows(values: Array, law: Distribution, tensor: Tensor) -> None:
    """By its bounds, its mean, its variance and its whole distribution; each but for one chance in
    a billion."""
    what, where = (
        f"{tensor.name} {tensor.shape} by {tensor.initializer.kind}",
        tensor.name.partition(".")[0],
    )
    n = len(values)
    if law.family == "constant":
        if (values != law.value).any():
            raise broken(
                f"{what} is {values[values != law.value][0]:g}, not {law.value:g}", layer=where
            )
        return
    known = {
        "uniform": lambda: stats.uniform(law.low, law.high - law.low),
        "normal": lambda: stats.norm(0, law.stddev),
        "truncated_normal": lambda: stats.truncnorm(-2, 2, scale=law.stddev),
    }[law.family]()
    low, high = known.support()
    slack = 1e-6 * known.std()
    if values.min() < low - slack or values.max() > high + slack:
        raise broken(
            f"{what} goes from {values.min():.4g} to {values.max():.4g}, outside [{low:.4g}, {high:.4g}]",
            layer=where,
        )
    if len(np.unique(values)) < 0.98 * n:
        raise broken(
            f"{what} has {len(np.unique(values)):,} different values of {n:,}: draws are used again",
            layer=where,
        )
    kurtosis = float(known.stats("k")) + 3
    for name, found, right, error in (
        ("a mean", values.mean(), 0.0, known.std() / np.sqrt(n)),
        ("a variance", values.var(), known.var(), known.var() * np.sqrt((kurtosis - 1) / n)),
    ):
        if (
            abs(found - right - (known.mean() if name == "a mean" else 0))
            > stats.norm.isf(NEVER / 2) * error
        ):
            raise broken(
                f"{what} has {name} of {found:.5g}, where {right:.5g} is right", layer=where
            )
    chance = stats.kstest(values, known.cdf).pvalue
    if chance < NEVER:
        raise broken(
            f"{what} is of another law than {law.family} (Kolmogorov-Smirnov, chance {chance:.1e})",
            layer=where,
        )


@check("initializer", "every-tensor")
def every(trial: Trial, subject: str) -> None:
    """Each tensor by its own initialiser and its options: kernels of three laws, a bias that does
    not start at 0."""
    layers = (
        Dense(1000, kernel_initializer=GlorotUniform(), bias_initializer=Normal(stddev=0.3)),
        Activation("tanh"),
        Dense(50, kernel_initializer=Normal(stddev=0.2)),
        Activation("tanh"),
        Dense(300, kernel_initializer=Uniform(low=-0.3, high=0.1)),
    )
    model = to_convention(trial.engine.conventions[0], Model("start", (60,), layers))
    values = trial.engine.weights(trial.engine.build(model, seed=trial.seed))
    for tensor in model.tensors:
        _follows(values[tensor.name].ravel(), tensor.initializer.distribution(tensor.fans), tensor)


@check("initializer", "seeds")
def seeds(trial: Trial, subject: str) -> None:
    """The same seed gives the same network, another another; no two tensors of a network are the
    same draw."""
    convention = trial.engine.conventions[0]
    model = to_convention(convention, Model("seeds", (20,), (Dense(20), Dense(20), Dense(2))))
    draws = [trial.engine.weights(trial.engine.build(model, seed=seed)) for seed in (1, 1, 2)]
    for name, first in draws[0].items():
        if not np.array_equal(first, draws[1][name]):
            raise broken(f"{name} starts differently from the same seed", tensor=name)
        if "kernel" in name and np.array_equal(first, draws[2][name]):
            raise broken(f"{name} starts alike from seeds 1 and 2", tensor=name)
    zero, again, byte, large = (
        trial.engine.weights(trial.engine.build(model, seed=seed))["dense_1.kernel"]
        for seed in (0, 0, 257, 2**31 + 1)
    )
    if not np.array_equal(zero, again):
        raise broken(
            "dense_1.kernel starts differently from the seed 0 twice", tensor="dense_1.kernel"
        )
    for seed, values in ((0, zero), (257, byte), (2**31 + 1, large)):
        if np.array_equal(draws[0]["dense_1.kernel"], values):
            raise broken(
                f"dense_1.kernel starts alike from seeds 1 and {seed}", tensor="dense_1.kernel"
            )
    if np.array_equal(draws[0]["dense_1.kernel"], draws[0]["dense_2.kernel"]):
        raise broken("dense_1.kernel and dense_2.kernel are the same draw", tensor="dense_2.kernel")
