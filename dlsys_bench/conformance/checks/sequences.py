"""Positions: what an output may depend on, their order, and attention at its limits."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.statistics import check_binomial
from dlsys_bench.conformance.checks.support import (
    example_loss,
    needed_layers,
    supported,
    trainable,
)
from dlsys_bench.conformance.expectation import magnitude
from dlsys_bench.conformance.finding import Fault, broken, close
from dlsys_bench.conformance.oracle import Oracle
from dlsys_bench.conformance.strategies import nonzero_weights, targets, usable
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.plan import Array, Plan, Weights
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.graph import residual
from dlsys_bench.spec.layers import (
    Activation,
    Conv1D,
    Dense,
    Flatten,
    Layer,
    LayerNorm,
    MultiHeadAttention,
    PositionEmbedding,
)
from dlsys_bench.spec.model import Model

POSITIONS, CHANNELS, SAMPLES = 5, 4, 3


class Causal(NamedTuple):
    """A causal layer and a network of it, of which no output depends on a later position."""

    layer: Layer
    layers: tuple[Layer, ...]

    @property
    def requires(self) -> list[str]:
        """The layers that nothing can replace."""
        model = Model("causal", (POSITIONS, CHANNELS), (*self.layers, Flatten()))
        own = [f"layer:{name}" for name in self.layer.needs]
        return list(dict.fromkeys([*own, *needed_layers(model)]))


ATTENTION = MultiHeadAttention(2, causal=True)
TO_CONTEXT = MultiHeadAttention(2, causal=True, context=True)
LAYERS: dict[str, Layer] = {
    "conv1d": Conv1D(3, 3, padding="causal"),
    "dilated_conv1d": Conv1D(3, 2, padding="causal", dilation=2),
    "causal_attention": ATTENTION,
    "causal_attention-dropout": MultiHeadAttention(2, causal=True, drop_rate=0.5),
}
TRANSFORMER = (
    PositionEmbedding(POSITIONS),
    residual(LayerNorm(), ATTENTION),
    residual(LayerNorm(), Dense(6), Activation("gelu"), Dense(CHANNELS)),
    residual(LayerNorm(), ATTENTION),
)
FUTURES = {
    **{name: Causal(layer, (layer,)) for name, layer in LAYERS.items()},
    "causal_attention-transformer": Causal(ATTENTION, TRANSFORMER),
    "causal_attention-cross_attention": Causal(TO_CONTEXT, (usable(TO_CONTEXT),)),
}
"""Causal layers and networks, by the subject of their check."""


@check_each("gradient", FUTURES, requires=lambda case: case.requires, prefix="future-")
def future(trial: Trial, case: Causal) -> None:
    """No output of a causal network depends on a later position: the gradient is exactly zero.

    Why: A network that sees the token it should predict trains to a loss that it never reaches in
    use.
    Broken by: An engine that masks after the softmax, masks one position too few in {subject}, or
    pads a causal convolution at both ends.
    Fix: Set the scores of later positions to minus infinity before the softmax; pad by the span of
    the kernel, less one, in front.
    """
    layers = (*case.layers, Flatten(), Dense(1))
    model = trainable(trial, Model("causal", (POSITIONS, CHANNELS), layers))
    weights, loss = nonzero_weights(model, trial.seed), example_loss(trial)
    x = trial.generator.standard_normal((SAMPLES, POSITIONS, CHANNELS))
    y = targets(loss, 1, SAMPLES, trial.generator)
    planned = Plan(trial.seed).masks(model, 0, SAMPLES)
    # A native training draws the masks elsewhere, and may use another kernel of the framework.
    drawn = [None] if planned and trial.native else []
    kernel = f"{model.names[-1]}.kernel"
    for position in range(POSITIONS):
        # The output of the network is a sum over the channels of one position.
        chosen = np.zeros((POSITIONS, len(weights[kernel]) // POSITIONS))
        chosen[position] = 1.0
        own = weights | {kernel: chosen.reshape(-1, 1)}
        network = trial.engine.build(model, own)
        for masks in (planned, *drawn):
            dx = trial.engine.gradients(network, Batch(x, y, masks), loss).x
            assert dx is not None
            later = dx[:, position + 1 :]
            if later.any():
                first = position + 1 + int(np.flatnonzero(later.any(axis=(0, 2)))[0])
                what = f"the gradient of the output at position {position} in x at position {first}"
                what += "" if masks is planned else ", with masks that the engine draws"
                actual = f"{later.flat[np.abs(later).argmax()]:.6g}"
                raise broken(Fault.WRONG_VALUE, what, actual=actual, expected="0")


ATTENTIONS = {
    "multi_head_attention": MultiHeadAttention(2),
    "multi_head_attention-of-one-head": MultiHeadAttention(1, key_size=3, use_bias=False),
    "cross_attention": MultiHeadAttention(2, context=True),
}
"""Attention that sees all positions, by the subject of its check."""


@check_each(
    "forward",
    ATTENTIONS,
    requires=lambda layer: [*(f"layer:{name}" for name in layer.needs), "layer:flatten"],
    prefix="permuted-",
)
def permuted(trial: Trial, layer: Layer) -> None:
    """Attention without positions is equivariant: it permutes its outputs as its inputs are.

    Why: Attention has no order of its own, so that positions alone decide what an order means.
    Broken by: An engine that splits heads over the positions, or adds positions by itself.
    Fix: Split the channels of each position into heads, before positions and heads change places.
    """
    layers = (usable(layer), Flatten(), Dense(1))
    model = supported(trial, Model("permuted", (POSITIONS, CHANNELS), layers))
    network = trial.engine.build(model, nonzero_weights(model, trial.seed))
    x = trial.generator.standard_normal((SAMPLES, POSITIONS, CHANNELS))
    order, y = trial.generator.permutation(POSITIONS), np.zeros((SAMPLES, 1))
    expected, actual = (
        trial.engine.trace(network, Batch(given, y, training=False))[-3]
        for given in (x, x[:, order])
    )
    allowed = trial.tolerance * magnitude(expected)
    what = f"the output of {layer.kind} for positions in the order {order.tolist()}"
    close(what, actual, expected[:, order], allowed, layer=model.names[-3])


LARGE = 32.0
"""A factor of queries and keys, with which the exponential of a score overflows in double
precision. The scores are whole numbers, so no rounding decides how near two of them are."""


def _large_weights(model: Model, seed: int) -> Weights:
    weights = nonzero_weights(model, seed)
    name = model.names[0]
    for part in ("query", "key"):
        kernel = weights[f"{name}.{part}_kernel"]
        weights[f"{name}.{part}_kernel"] = LARGE * np.eye(*kernel.shape)
        weights[f"{name}.{part}_bias"] = np.zeros(kernel.shape[1])
    return weights


OUTPUT = "the output of attention"


@check_each(
    "forward",
    {"multi_head_attention-far": MultiHeadAttention(1), "causal_attention-far": ATTENTION},
    requires=lambda layer: [*(f"layer:{name}" for name in layer.needs), "layer:flatten"],
)
def far(trial: Trial, layer: Layer) -> None:
    """Attention with scores whose exponential overflows: the output is right and the gradient is
    finite.

    Why: Scores grow with training and with the width; an overflow turns all weights into NaN.
    Broken by: An engine that takes the exponential of scores without subtracting the largest.
    Fix: Subtract the largest score of each row before the exponential.
    """
    loss, layers = example_loss(trial), (layer, Flatten(), Dense(2))
    model = trainable(trial, Model("far", (POSITIONS, CHANNELS), layers))
    weights = _large_weights(model, trial.seed)
    x = trial.generator.integers(-3, 4, (SAMPLES, POSITIONS, CHANNELS)).astype(float)
    x[:, 1] = x[:, 0]
    batch = Batch(x, targets(loss, model.output_shape[0], SAMPLES, trial.generator))

    def compute(oracle: Oracle, *, model: Model, batch: Batch) -> dict[str, Array]:
        return {OUTPUT: oracle.trace(oracle.build(model, weights), batch)[0]}

    expected = trial.expect(partial(compute, model=model, batch=batch))
    network = trial.engine.build(model, weights)
    actual = trial.engine.trace(network, batch)[0]
    expected.check(OUTPUT, actual, f"{OUTPUT} with large scores", layer=model.names[0])
    found = trial.engine.gradients(network, batch, loss)
    gradients: dict[str, Any] = {"x": found.x, **found.weights}
    for name, values in gradients.items():
        if not np.isfinite(values).all():
            what = f"d {name} with large scores"
            wrong = f"{values[~np.isfinite(values)][0]}"
            raise broken(
                Fault.NOT_FINITE, what, actual=wrong, expected="finite", layer=model.names[0]
            )


TOKENS, MANY = 12, 60
"""The positions and samples whose native masks of attention are counted."""


@check("state", "multi_head_attention-dropout", requires=["layer:multi_head_attention"])
def dropout(trial: Trial) -> None:
    """The masks of attention weights that an engine draws: for each head, query and key.

    Why: A mask that heads, queries or samples share drops whole columns, which is another method.
    Broken by: An engine that draws one mask for all heads, or drops the output of attention.
    Fix: Draw a mask of the shape (N, heads, T, T), and apply it after the softmax.
    """
    rate, keep = 0.25, 0.75
    model = Model("drops", (TOKENS, TOKENS), (MultiHeadAttention(2, TOKENS, drop_rate=rate),))
    model = to_convention(trial.convention, model)
    eye, none = np.eye(TOKENS), np.zeros((TOKENS, 2 * TOKENS))
    # All weights are equal. The values of position s are one in channel s, and the second head
    # counts three times, so the output shows what each head keeps of each position.
    parts = {
        **{f"{name}_kernel": none for name in ("query", "key")},
        "value_kernel": np.hstack([eye, eye]),
        "output_kernel": np.vstack([eye, 3 * eye]),
        **{f"{name}_bias": none[0] for name in ("query", "key", "value")},
        "output_bias": none[0, :TOKENS],
    }
    weights = {f"{model.names[0]}.{name}": values for name, values in parts.items()}
    x = np.broadcast_to(eye, (MANY, TOKENS, TOKENS)).copy()
    network = trial.engine.build(model, weights, seed=trial.seed)
    output = trial.engine.trace(network, Batch(x, np.zeros(MANY), training=True))[0]
    counted = np.round(output * TOKENS * keep)
    what = f"multi_head_attention of two heads, drop_rate {rate:g}"
    expected = counted / (TOKENS * keep)
    close(f"the output of {what}", output, expected, 1e-5, layer=model.names[0])
    first, second = counted % 3 > 0, counted >= 3
    for name, kept in (("first", first), ("second", second)):
        here = f"what the {name} head keeps of each"
        check_binomial(kept.sum(axis=(0, 1)), MANY * TOKENS, keep, f"{here} key")
        check_binomial(kept.sum(axis=(0, 2)), MANY * TOKENS, keep, f"{here} query")
        check_binomial(kept.sum(axis=(1, 2)), TOKENS**2, keep, f"{here} sample")
    both = (first & second).sum(axis=(1, 2))
    check_binomial(both, TOKENS**2, keep**2, "what both heads keep of each sample")
