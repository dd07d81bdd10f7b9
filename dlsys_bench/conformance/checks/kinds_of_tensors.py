"""Updates of tensors of every kind, with every part of a recipe.

The tensors of a layer differ in rank, in name and in how their gradients come about. An engine may
decay, clip or accumulate those of one kind otherwise than the others.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from dlsys_bench.conformance.check import check_each
from dlsys_bench.conformance.checks.large_trainings import compare_with_own_gradients
from dlsys_bench.conformance.checks.networks import mild_weights, smooth
from dlsys_bench.conformance.checks.support import example_loss, has, supported, trainable
from dlsys_bench.conformance.checks.training import allowing_conventions, plans
from dlsys_bench.conformance.checks.update_cases import (
    CASES,
    UpdateCase,
    batch_size_of,
    chosen_optimizers,
    sample_count_of,
    with_part,
)
from dlsys_bench.conformance.strategies import targets
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import (
    Conv1D,
    Dense,
    Embedding,
    Flatten,
    LayerNorm,
    MultiHeadAttention,
    PositionEmbedding,
)
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe

POSITIONS = 6
VOCABULARY = POSITIONS * sample_count_of(CASES["accumulate-9"]) + 9
CHANNELS = 4


def _model(trial: Trial) -> Model:
    """Return a network of layers with tensors of every kind that the engine has."""
    tokens = has(trial, "layer:embedding")
    layers = (
        *(Embedding(VOCABULARY, CHANNELS),) * tokens,
        PositionEmbedding(POSITIONS),
        MultiHeadAttention(2),
        *(Conv1D(5, 3),) * has(trial, "layer:conv1d"),
        LayerNorm(),
        Flatten(),
        Dense(2),
    )
    shape = (POSITIONS,) if tokens else (POSITIONS, CHANNELS)
    return trainable(trial, Model("kinds", shape, layers, input_dtype="int" if tokens else "float"))


@check_each("step", CASES, requires=lambda case: (*case.requires, "layer:flatten"), prefix="kinds-")
def kinds(trial: Trial, case: UpdateCase) -> None:
    """Two updates of tensors of every kind and rank: of tokens, positions, attention, convolution
    and norms, with a plan and natively. Most tokens do not occur in a batch.

    Why: A part of a recipe applies to all tensors, or to those that it names; one kind of them is
    easily forgotten.
    Broken by: An engine whose {subject} leaves out embeddings, takes the gradient of the last part
    of a batch for them, or leaves rows without a token out of the optimiser.
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
        x: NDArray[Any] = trial.generator.standard_normal((count, *model.input_shape))
        if model.input_dtype == "int":
            # No token occurs twice: a framework may add up their gradients in another order.
            x = trial.generator.permutation(VOCABULARY)[: x.size].reshape(x.shape)
        samples = Samples(x, targets(loss, model.output_shape, count, trial.generator))
        weights = mild_weights(model, trial.seed)
        own_plans = plans(trial)
        training = TrainingCase(model, weights, samples, recipe, own_plans[0])
        compare_with_own_gradients(trial, training, state=False, plans=own_plans)
