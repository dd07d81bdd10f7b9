"""Models of several inputs, which are taken by their names and come together sample by sample."""

from __future__ import annotations

import numpy as np

from dlsys_bench.conformance.check import check
from dlsys_bench.conformance.checks import forward, gradient
from dlsys_bench.conformance.checks.directions import compare_slopes
from dlsys_bench.conformance.checks.fitting import compare_fit
from dlsys_bench.conformance.checks.large_trainings import compare_with_own_gradients
from dlsys_bench.conformance.checks.layouts import OF_INPUTS, change_x, compare_layouts
from dlsys_bench.conformance.checks.sizes import compare_outputs, random_example
from dlsys_bench.conformance.checks.subjects import networks
from dlsys_bench.conformance.checks.support import example_loss, needed_layers, supported
from dlsys_bench.conformance.checks.training import plans, regression_recipe
from dlsys_bench.conformance.expectation import magnitude
from dlsys_bench.conformance.finding import close
from dlsys_bench.conformance.training_case import TrainingCase
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples, join_inputs
from dlsys_bench.engines.epochs import train
from dlsys_bench.spec.graph import parallel, serial
from dlsys_bench.spec.inputs import Input
from dlsys_bench.spec.layers import Activation, Add, Dense, Embedding, Flatten
from dlsys_bench.spec.losses import MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe

DRAWN = ("inputs", "layer:concat", "layer:dense")
"""What an engine must have for drawn networks of several inputs."""

COUNTS = (2, 3)
"""The numbers of inputs of drawn networks."""


LAYOUT = Model(
    "layouts",
    inputs=(Input("photo", (4, 3, 2)), Input("words", (5,), "int")),
    layers=(
        parallel(
            serial(Flatten(), source="photo"), serial(Embedding(6, 3), Flatten(), source="words")
        ),
        Dense(2),
    ),
)


@check("shapes", "layout-of-inputs", requires=needed_layers(LAYOUT))
def layout(trial: Trial) -> None:
    """The structured array of several inputs in other memory layouts.

    Why: An input is a field of a structured array, which is neither contiguous nor aligned.
    Broken by: An engine that reads the memory of the array as if it had only one of its inputs.
    Fix: Take `x[name]`, and convert it by np.ascontiguousarray; `input_arrays` does.
    """
    compare_layouts(trial, "x", OF_INPUTS, example_loss(trial), change_x, LAYOUT)


@check("forward", "inputs", requires=DRAWN)
def outputs(trial: Trial) -> None:
    """Networks of two or three inputs, of floats and of token ids.

    Why: A model of several inputs gives other values for each order in which they are taken.
    Broken by: An engine that takes its inputs in the order of their names, or converts token ids to
    floats because another input has them.
    Fix: Take `x[name]` for each name of `model.inputs`, in that order; `input_arrays` does.
    """
    trial.search(networks(trial, COUNTS), lambda example: forward.compare(trial, example))


@check("gradient", "inputs", requires=DRAWN)
def gradients(trial: Trial) -> None:
    """Networks of two or three inputs, of floats and of token ids, with any loss.

    Why: Each input has a gradient of its own, and each of its branches passes one down.
    Broken by: An engine that computes only the gradient with respect to the first input, or
    leaves out the tensors of a branch.
    Fix: Return `join_inputs` of the gradients with respect to all float inputs, in the order of
    the model.
    """
    trial.search(networks(trial, COUNTS), lambda example: gradient.compare(trial, example))


OTHERS = tuple(Input(f"table_{number}", (3,)) for number in range(7))

LARGE = Model(
    "large",
    inputs=(
        *(Input("words", (70,), "int"), Input("photo", (6, 5, 3)), Input("features", (1030,))),
        *OTHERS,
    ),
    layers=(
        parallel(
            serial(Embedding(1030, 4), Flatten(), source="words"),
            serial(Flatten(), source="photo"),
            serial(Dense(300), Activation("tanh"), source="features"),
            *(serial(Dense(2), source=each.name) for each in OTHERS),
        ),
        Dense(3),
    ),
)


@check("gradient", "large-inputs", requires=needed_layers(LARGE))
def large(trial: Trial) -> None:
    """The outputs and the gradients of a network of ten inputs on many samples.

    Why: The samples of several inputs are gathered in blocks of different sizes.
    Broken by: An engine that computes the size of the blocks from a single input, or that takes no
    more than eight inputs.
    Fix: The finding names the samples that differ: look for a limit of that number.
    """
    example = random_example(trial, LARGE, samples=520)
    compare_outputs(trial, example)
    compare_slopes(trial, example)


@check("trajectory", "fit-large-inputs", requires=needed_layers(LARGE))
def large_updates(trial: Trial) -> None:
    """Two updates of a network of ten inputs on many samples.

    Why: A training step gathers the samples of each input by itself, with other code than
    `gradients`.
    Broken by: An engine whose training step gathers no more than eight inputs.
    Fix: Gather the samples of all inputs of the model, however many there are.
    """
    example = random_example(trial, LARGE, samples=520)
    samples = Samples(example.batch.x, example.batch.y)
    recipe = regression_recipe(trial, batch_size=300, epochs=1)
    # A native training, which is what users run, if the engine has it.
    plan = plans(trial)[-1]
    training = TrainingCase(example.model, example.weights, samples, recipe, plan)
    compare_with_own_gradients(trial, training)


@check("trajectory", "fit-inputs", requires=DRAWN)
def updates(trial: Trial) -> None:
    """Two steps of networks of two or three inputs, of floats and of token ids.

    Why: A training step gathers the samples of each input by itself, with other code than
    `gradients`.
    Broken by: An engine whose training step leaves out the branch of one input, or takes the first
    samples of it for every batch.
    Fix: Select the samples of all inputs by one index, as `x[chosen]` does.
    """
    drawn = networks(trial, COUNTS)
    trial.search(drawn, lambda example: compare_fit(trial, example, 0.05), examples=12)


COUNT = 30

TOGETHER = Model(
    "together",
    inputs=(Input("left", (COUNT,)), Input("right", (COUNT,))),
    layers=(
        parallel(serial(source="left"), serial(source="right"), join=Add()),
        Dense(1, use_bias=False),
    ),
)


@check(
    "trajectory",
    "inputs-together",
    requires=[*needed_layers(TOGETHER), "loss:mean_squared_error"],
)
def together(trial: Trial) -> None:
    """Shuffled trainings in which the loss of every sample is zero, as long as its inputs and its
    target come together: no weight may move.

    The inputs of sample i are 2 and -1 times the unit vector i. Their sum selects row i of the
    kernel, which is the target.

    Why: Inputs of different samples in one batch train without an error, only worse.
    Broken by: An engine that shuffles each input by itself, or one of them not at all.
    Fix: Draw one order per epoch, and select the samples of every input and the targets by it.
    """
    model = supported(trial, TOGETHER)
    recipe = Recipe(SGD(0.1), batch_size=4, epochs=3, loss=MeanSquaredError())
    recipe = supported(trial, recipe)
    rows = np.eye(COUNT)
    # Multiples of 1/16 are the same in every dtype.
    targets = np.arange(1.0, COUNT + 1)[:, None] / 16
    samples = Samples(join_inputs({"left": 2 * rows, "right": -rows}), targets)
    for plan in plans(trial, seed=trial.seed):
        network = trial.engine.build(model, {"dense_1.kernel": targets})
        train(trial.engine, network, samples, recipe, plan)
        actual = trial.engine.weights(network)["dense_1.kernel"]
        allowed = trial.tolerance * magnitude(targets)
        what = "the kernel, which no update may move while the inputs of a sample come together"
        close(what, actual, targets, allowed, tensor="dense_1.kernel")
