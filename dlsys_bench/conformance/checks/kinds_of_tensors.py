"""Updates of tensors of every kind, with every part of a recipe.

The tensors of a layer differ in rank, in name and in how their gradients come about. An engine may
decay, clip, accumulate or check those of one kind otherwise than the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.conformance.check import check_each
from dlsys_bench.conformance.checks.large_trainings import compare_with_own_gradients
from dlsys_bench.conformance.checks.networks import mild_weights, smooth
from dlsys_bench.conformance.checks.support import (
    example_loss,
    has,
    needed_layers,
    supported,
    trainable,
)
from dlsys_bench.conformance.checks.training import (
    allowing_conventions,
    plans,
    regression_recipe,
    start,
)
from dlsys_bench.conformance.checks.update_cases import (
    CASES,
    UpdateCase,
    batch_size_of,
    chosen_optimizers,
    sample_count_of,
    with_part,
)
from dlsys_bench.conformance.finding import close
from dlsys_bench.conformance.strategies import targets
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples, join_inputs
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.graph import INPUT, Node, parallel, serial
from dlsys_bench.spec.inputs import Input
from dlsys_bench.spec.layers import (
    Conv1D,
    Conv2D,
    Dense,
    Embedding,
    Flatten,
    Layer,
    LayerNorm,
    MultiHeadAttention,
    PositionEmbedding,
    ValueKind,
)
from dlsys_bench.spec.loss_scale import LossScale
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe

POSITIONS = 6
VOCABULARY = POSITIONS * sample_count_of(CASES["accumulate-9"]) + 9
CHANNELS = 4
LAST = "unbiased_norm_of_embeddings"
"""The name of the last layer, in which the kind of a tensor may be looked for."""


def _model(trial: Trial) -> Model:
    """Return a network of layers with tensors of every kind that the engine has. It has two
    inputs if the engine can join them."""
    tokens = has(trial, "layer:embedding")
    layers: tuple[Layer, ...] = (
        *(Embedding(VOCABULARY, CHANNELS),) * tokens,
        PositionEmbedding(POSITIONS),
        MultiHeadAttention(2),
        *(Conv1D(5, 3),) * has(trial, "layer:conv1d"),
        LayerNorm(),
        Flatten(),
    )
    shape = (POSITIONS,) if tokens else (POSITIONS, CHANNELS)
    dtype: ValueKind = "int" if tokens else "float"
    if not has(trial, "inputs", "layer:concat", "layer:conv2d"):
        last = Node(LAST, Dense(2), "flatten_1")
        return trainable(trial, Model("kinds", shape, (*layers, last), input_dtype=dtype))
    of_images = serial(Conv2D(3, (2, 2)), Flatten(), source="image")
    both = parallel(serial(*layers, source="sequence"), of_images)
    inputs = Input("sequence", shape, dtype), Input("image", (3, 3, 2))
    last = Node(LAST, Dense(2), "concat_1")
    return trainable(trial, Model("kinds", inputs=inputs, layers=(both, last)))


def _inputs(trial: Trial, model: Model, count: int) -> NDArray[Any]:
    """Return random inputs in which no token occurs twice: a framework may add up the gradients of
    one in another order."""
    arrays: dict[str, NDArray[Any]] = {}
    for each in model.input_table:
        values: NDArray[Any] = trial.generator.standard_normal((count, *each.shape))
        if each.dtype == "int":
            values = trial.generator.permutation(VOCABULARY)[: values.size].reshape(values.shape)
        arrays[each.name] = values
    return join_inputs(arrays) if model.inputs else arrays[INPUT]


@check_each("step", CASES, requires=lambda case: (*case.requires, "layer:flatten"), prefix="kinds-")
def kinds(trial: Trial, case: UpdateCase) -> None:
    """Two updates of tensors of every kind and rank: of tokens, positions, attention, convolutions
    and norms, with a plan and natively. Most tokens do not occur in a batch, and the name of a
    layer contains those of other tensors.

    Why: A part of a recipe applies to all tensors, or to those that it names; one kind of them is
    easily forgotten.
    Broken by: An engine whose {subject} leaves out embeddings or kernels of four axes, takes the
    gradient of the last part of a batch for them, takes one input of the first part for every
    part, or leaves rows without a token out of the optimiser.
    Fix: Loop over the tensors of the model, not over a list of known names, ranks or layers.
    """
    for optimizer in chosen_optimizers(trial, 2):
        way = allowing_conventions(trial, optimizer)[0]
        model = to_convention(way, _model(trial))
        batch_size, count = batch_size_of(case), sample_count_of(case)
        loss = example_loss(trial)
        recipe = Recipe(smooth(optimizer), batch_size, epochs=1, shuffle=False, loss=loss)
        # The first loss scale is a power of two, which changes no bit of a gradient.
        recipe = with_part(recipe, case.option, case.values[0])
        recipe = supported(trial, recipe, convention=way)
        x = _inputs(trial, model, count)
        samples = Samples(x, targets(loss, model.output_shape, count, trial.generator))
        weights = mild_weights(model, trial.seed)
        own_plans = plans(trial)
        training = TrainingCase(model, weights, samples, recipe, own_plans[0])
        compare_with_own_gradients(trial, training, state=False, plans=own_plans)


OVERFLOWING: Mapping[str, Model] = {
    Conv1D.kind: Model("overflowing", (3, 1), (Conv1D(2, 2), Flatten(), Dense(2))),
    Conv2D.kind: Model("overflowing", (3, 3, 1), (Conv2D(2, (2, 2)), Flatten(), Dense(2))),
}
"""Networks whose first kernel alone can be made to overflow, by the kind of its layer."""


@check_each(
    "step",
    OVERFLOWING,
    requires=lambda model: ("loss_scale", *needed_layers(model)),
    prefix="loss_scale-overflow-in-",
)
def overflow(trial: Trial, model: Model) -> None:
    """An update that overflows in the kernel of a convolution alone is skipped, with a plan and
    natively: no tensor moves.

    Why: The search for an overflow has to look at tensors of every rank.
    Broken by: An engine that leaves the kernel of {subject} out of the search for an overflow.
    Fix: Look at every entry of every gradient before any tensor is updated.
    """
    model = to_convention(trial.convention, trainable(trial, model))
    recipe = regression_recipe(trial, batch_size=2, epochs=1, loss_scale=LossScale())
    # A kernel of zeros hides the large inputs from the outputs, but not from its gradient.
    kernel, weights = f"{model.names[0]}.kernel", start(trial, model)
    weights |= {kernel: np.zeros_like(weights[kernel])}
    x = np.full((2, *model.input_shape), np.finfo(trial.engine.dtype).max / 16)
    samples = Samples(x, targets(recipe.loss, model.output_shape, 2, trial.generator))
    for plan in plans(trial):
        actual = TrainingCase(model, weights, samples, recipe, plan).run(trial.engine)
        for name, values in weights.items():
            what = f"{name} after an update that overflows in {kernel}"
            close(what, actual[name], values.astype(trial.engine.dtype), 0.0, tensor=name)
