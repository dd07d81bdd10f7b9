"""Parameters and gradients: backpropagation by hand (nb1), batch norms that cancel (nb0)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dlsys_bench.data import Samples, prepare
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Array, Plan
from dlsys_bench.notebooks.claims import CLAIMS, PUBLISHED
from dlsys_bench.notebooks.zoo import lenet5_overlap_tanh, two_layer_sigmoid
from dlsys_bench.spec.layers import BatchNorm
from dlsys_bench.spec.losses import HalfMeanSquaredError
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies.base import Arm, ArmRun, Metric, Study


def two_layer_gradients(
    x: Array, y: Array, w1: Array, b1: Array, w2: Array, b2: Array
) -> tuple[float, list[Array]]:
    """The loss and gradients of nb1's formulas: z1 = x w1' + b1, h = s(z1), z2 = h w2' + b2,
    p = s(z2) and loss = 1/(2N) sum (p - y)^2, where s is the sigmoid.

    x (N, I), y (N, K), w1 (H, I), b1 (H,), w2 (K, H), b2 (K,). Returns the loss and its gradients
    with respect to w1, b1, w2 and b2.
    """
    h = 1.0 / (1.0 + np.exp(-(x @ w1.T + b1)))
    p = 1.0 / (1.0 + np.exp(-(h @ w2.T + b2)))
    loss = float(((p - y) ** 2).sum() / (2 * len(x)))
    dz2 = (p - y) / len(x) * p * (1.0 - p)
    dz1 = dz2 @ w2 * h * (1.0 - h)
    return loss, [dz1.T @ x, dz1.sum(axis=0), dz2.T @ h, dz2.sum(axis=0)]


def by_hand(run: ArmRun) -> Mapping[str, Any]:
    """Compare the notebook's formulas with the engine on one drawn network and batch."""
    # Scaled to the order of one, where a sigmoid is neither saturated nor linear.
    x = run.dataset.x_train[: run.recipe.batch_size] / 512.0
    y = (run.dataset.y_train[: run.recipe.batch_size] + 1000.0) / 2000.0
    weights = Plan(run.seed).weights(run.model)
    net = run.engine.build(run.model, weights)
    engine = run.engine.gradients(net, Batch(x, y), HalfMeanSquaredError())
    names = ("dense_1.kernel", "dense_1.bias", "dense_2.kernel", "dense_2.bias")
    parts = [weights[name].T if name.endswith("kernel") else weights[name] for name in names]
    loss, gradients = two_layer_gradients(x, y, *parts)
    largest = max(float(np.abs(gradient).max()) for gradient in gradients)
    error = max(
        float(np.abs(engine.weights[name].T - gradient).max())
        if name.endswith("kernel")
        else float(np.abs(engine.weights[name] - gradient).max())
        for name, gradient in zip(names, gradients, strict=True)
    )
    epsilon = float(np.finfo(run.engine.dtype).eps)
    return {
        "loss": loss,
        "engine_loss": engine.loss,
        "largest_gradient": largest,
        "relative_error": error / largest,
        "error_in_epsilons": error / largest / epsilon,
    }


BACKPROP = Study(
    "two-layer-backprop",
    "Forward and backward pass of a two-layer sigmoid network: formulas against the engine",
    "nb1",
    "eggholder",
    (
        Arm(
            "sigmoid-mse",
            two_layer_sigmoid(2, 3, 1),
            {
                tier: Recipe(loss=HalfMeanSquaredError(), batch_size=8, scaling="raw")
                for tier in ("quick", "full")
            },
            # The rounding error of a few dozen operations; a wrong term exceeds it a millionfold.
            bound=64.0,
        ),
    ),
    metric=Metric("error_in_epsilons", higher_is_better=False),
    plots=(),
    measure=by_hand,
    claims=CLAIMS,
    published=PUBLISHED,
)


def batch_norm_parameters(run: ArmRun) -> Mapping[str, Any]:
    """Train and measure gamma and beta. If only an average pool separates a batch norm from the
    next one, it affects neither the mean nor, but for epsilon, the scale of the output."""
    data = prepare(
        run.dataset,
        scaling=run.recipe.scaling,
        limit=run.recipe.samples,
        dtype=run.engine.dtype,
    )
    net = run.engine.build(run.model, seed=run.seed)
    train(run.engine, net, Samples(data.train.x, data.train.y), run.recipe, Plan(run.seed))
    weights = run.engine.weights(net)
    names = [
        name
        for name, layer in zip(run.model.names, run.model.layers, strict=True)
        if isinstance(layer, BatchNorm)
    ]
    first, after_pool = names[0], names[1]
    return {
        "max_abs_beta_first_hidden_bn": float(np.abs(weights[f"{first}.beta"]).max()),
        "max_change_of_gamma": float(np.abs(weights[f"{first}.gamma"] - 1.0).max()),
        "max_change_of_gamma_after_pool": float(np.abs(weights[f"{after_pool}.gamma"] - 1.0).max()),
        "max_abs_beta_after_pool": float(np.abs(weights[f"{after_pool}.beta"]).max()),
    }


INVARIANCE = Study(
    "batchnorm-parameters",
    "Batch norm, average pool, batch norm: the first batch norm gets no gradient on beta",
    "nb0",
    "mnist",
    (
        Arm(
            "standard+bn",
            lenet5_overlap_tanh("standard+bn"),
            {
                "quick": Recipe(
                    SGD(0.05), batch_size=64, epochs=1, steps=12, scaling="standard", samples=768
                ),
                "full": replace(Recipe(SGD(0.01), batch_size=128, epochs=20), scaling="standard"),
            },
            bound=1e-6,
        ),
    ),
    metric=Metric("max_abs_beta_first_hidden_bn", higher_is_better=False),
    plots=(),
    measure=batch_norm_parameters,
    claims=CLAIMS,
    published=PUBLISHED,
)

STUDIES = (BACKPROP, INVARIANCE)
