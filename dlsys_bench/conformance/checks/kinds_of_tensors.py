"""Updates of tensors of every kind, with every part of a recipe.

The tensors of a layer differ in rank, in name and in how their gradients come about. An engine may
decay, clip or accumulate those of one kind otherwise than the others.
"""

from __future__ import annotations

from dlsys_bench.conformance.check import check_each
from dlsys_bench.conformance.checks.large_trainings import compare_with_own_gradients
from dlsys_bench.conformance.checks.networks import mild_weights, smooth
from dlsys_bench.conformance.checks.support import example_loss, needed_layers, supported, trainable
from dlsys_bench.conformance.checks.training import allowing_conventions
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
from dlsys_bench.engines.plan import Plan
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
MODEL = Model(
    "kinds",
    (POSITIONS,),
    (
        Embedding(POSITIONS * sample_count_of(CASES["accumulate-9"]) + 9, 4),
        PositionEmbedding(POSITIONS),
        MultiHeadAttention(2),
        Conv1D(5, 3),
        LayerNorm(),
        Flatten(),
        Dense(2),
    ),
    input_dtype="int",
)


@check_each(
    "step", CASES, requires=lambda case: (*case.requires, *needed_layers(MODEL)), prefix="kinds-"
)
def kinds(trial: Trial, case: UpdateCase) -> None:
    """Two updates of tensors of every kind and rank: of tokens, positions, attention, convolution
    and norms. Most tokens do not occur in a batch.

    Why: A part of a recipe applies to all tensors, or to those that it names; one kind of them is
    easily forgotten.
    Broken by: An engine whose {subject} leaves out embeddings, takes the gradient of the last part
    of a batch for them, or leaves rows without a token out of the optimiser.
    Fix: Loop over the tensors of the model, not over a list of known names, ranks or layers.
    """
    for optimizer in chosen_optimizers(trial, 2):
        way = allowing_conventions(trial, optimizer)[0]
        model = to_convention(way, trainable(trial, MODEL))
        batch_size, count = batch_size_of(case), sample_count_of(case)
        loss = example_loss(trial)
        recipe = Recipe(smooth(optimizer), batch_size, epochs=1, shuffle=False, loss=loss)
        # The first loss scale is a power of two, which changes no bit of a gradient.
        recipe = with_part(recipe, case.option, case.values[0])
        recipe = supported(trial, recipe, convention=way)
        # No token occurs twice: a framework may add up their gradients in another order.
        tokens = trial.generator.permutation(model.layers[0].vocabulary)[: POSITIONS * count]  # type: ignore[attr-defined]
        samples = Samples(
            tokens.reshape(count, POSITIONS),
            targets(loss, model.output_shape, count, trial.generator),
        )
        weights = mild_weights(model, trial.seed)
        training = TrainingCase(model, weights, samples, recipe, Plan(1, parity=True))
        compare_with_own_gradients(trial, training, state=False)
