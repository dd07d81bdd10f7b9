"""The masks that an engine draws by itself: how much they keep, and that draws are independent."""

from __future__ import annotations

import numpy as np

from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.statistics import check_binomial
from dlsys_bench.conformance.checks.support import example_loss, supported
from dlsys_bench.conformance.checks.usage import common_targets, row_gradients, start_row
from dlsys_bench.conformance.finding import close
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.plan import Plan
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import Dense, Dropout, Flatten, Layer, Shape, SpatialDropout
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe

UNITS, SAMPLES = 400, 50


@check("state", "dropout", requires=["layer:dropout"])
def dropout(trial: Trial) -> None:
    """The fraction that is kept, of each unit and each sample, and the scale of the rest.

    Why: A wrong fraction or scale changes the strength of the regularisation without any error.
    Broken by: An engine that takes the drop rate for the keep rate, does not divide by the keep
    rate, or shares a mask.
    Fix: Keep a value if a uniform number is at least the drop rate, and divide what is kept by one
    minus it.
    """
    x, y = np.ones((SAMPLES, UNITS)), np.zeros((SAMPLES, 1))
    for rate in (0.5, 0.2, 0.1, 0.9):
        layer = f"dropout({rate:g})"
        model = supported(trial, Model("dropout", (UNITS,), (Dropout(rate), Dense(1))))
        network = trial.engine.build(model, seed=trial.seed)
        output = trial.engine.trace(network, Batch(x, y, training=True))[0]
        kept = output != 0
        expected, allowed = kept / (1 - rate), 1e-6 / (1 - rate)
        close(f"the values of one that {layer} keeps", output, expected, allowed, layer="dropout_1")
        units, samples = kept.sum(axis=0), kept.sum(axis=1)
        check_binomial(units, SAMPLES, 1 - rate, f"what {layer} keeps of each unit in a batch")
        check_binomial(samples, UNITS, 1 - rate, f"what {layer} keeps of each sample")
        output = trial.engine.trace(network, Batch(x, y, training=False))[0]
        close(f"{layer} in inference", output, x, 1e-6, layer="dropout_1")
    # Two layers in a row keep a quarter, unless the second drops what the first does.
    layers = (Dropout(0.5), Dropout(0.5), Dense(1))
    model = supported(trial, Model("dropouts", (UNITS,), layers))
    network = trial.engine.build(model, seed=trial.seed)
    output = trial.engine.trace(network, Batch(x, y, training=True))[1]
    kept = (output != 0).sum(axis=1)
    check_binomial(kept, UNITS, 0.25, "what two dropout(0.5) in a row keep of each sample")


@check("state", "dropout-of-images", requires=["layer:dropout", "layer:flatten"])
def dropout_of_images(trial: Trial) -> None:
    """Every value of an image is dropped independently, and every image has its own mask.

    Why: Dropping whole channels or pixels is another layer (spatial dropout), which regularises
    differently.
    Broken by: An engine that draws one mask for all channels, for all pixels, or for all images of
    a batch.
    Fix: Draw a mask of the complete shape (N, H, W, C).
    """
    layers = (Dropout(0.5), Flatten(), Dense(1))
    model = supported(trial, Model("images", (10, 10, 4), layers))
    network = trial.engine.build(model, seed=trial.seed)
    batch = Batch(np.ones((SAMPLES, 10, 10, 4)), np.zeros((SAMPLES, 1)), training=True)
    kept = trial.engine.trace(network, batch)[0] != 0
    what = "what dropout(0.5) keeps of each"
    check_binomial(kept.sum(axis=(1, 2)).ravel(), 100, 0.5, f"{what} channel of each image")
    check_binomial(kept.sum(axis=3).ravel(), 4, 0.5, f"{what} pixel of each image")
    check_binomial(kept.sum(axis=0).ravel(), SAMPLES, 0.5, f"{what} value in a batch of images")


CHANNELS = {"images": (5, 5, 40), "sequences": (12, 40)}
"""The shapes of inputs of spatial dropout, which have many channels."""


@check("state", "spatial_dropout", requires=["layer:spatial_dropout", "layer:flatten"])
def spatial_dropout(trial: Trial) -> None:
    """All positions of a channel are kept or dropped, each channel of each sample independently.

    Why: A mask per position is an ordinary dropout, which neighbouring positions undo.
    Broken by: An engine that draws a mask for each value, or one for all channels or samples.
    Fix: Draw a mask of the shape (N, 1, ..., C), and broadcast it over the positions.
    """
    for what, shape in CHANNELS.items():
        for rate in (0.5, 0.2):
            layer = f"spatial_dropout({rate:g}) of {what}"
            layers = (SpatialDropout(rate), Flatten(), Dense(1))
            model = supported(trial, Model("channels", shape, layers))
            network = trial.engine.build(model, seed=trial.seed)
            x, y = np.ones((SAMPLES, *shape)), np.zeros((SAMPLES, 1))
            output = trial.engine.trace(network, Batch(x, y, training=True))[0]
            output = output.reshape(SAMPLES, -1, shape[-1])
            kept = output[:, :1] != 0
            expected = np.broadcast_to(kept / (1 - rate), output.shape)
            close(layer, output, expected, 1e-6 / (1 - rate), layer="spatial_dropout_1")
            check_binomial(kept.sum(axis=(1, 2)), shape[-1], 1 - rate, f"{layer}, of each sample")
            check_binomial(kept.sum(axis=(0, 1)), SAMPLES, 1 - rate, f"{layer}, of each channel")


@check("state", "dropout-in-fit", requires=["layer:dropout", "native", "optimizer:sgd"])
def dropout_in_fit(trial: Trial) -> None:
    """The masks of a native training: a new one for every sample, every step and every epoch.

    Why: Masks that repeat from step to step freeze a part of the network instead of averaging over
    many.
    Broken by: An engine that seeds the generator of the masks in every step or every epoch, or
    compiles the mask in as a constant.
    Fix: Seed once at the start of `fit`, and carry the state of the generator from step to step.
    """
    turns = 16
    for drop_rate in (0.5, 0.25):
        for unit, samples, batch_size, epochs in (
            ("samples of a batch", turns, turns, 1),
            ("steps of an epoch", turns, 1, 1),
            ("epochs", 1, 1, turns),
        ):
            counts = _times_kept(trial, drop_rate, samples, batch_size, epochs)
            whole = np.round(counts)
            layer = f"dropout({drop_rate:g})"
            what = f"the number of times that {layer} keeps each input in {turns} {unit}"
            close(what, counts, whole, 0.02, layer="dropout_1")
            check_binomial(whole, turns, 1 - drop_rate, what)


def _times_kept(
    trial: Trial, drop_rate: float, samples: int, batch_size: int, epochs: int
) -> np.ndarray:
    """Return how often each of 300 inputs was kept in a training.

    All inputs are one, the weights start equal and the learning rate is tiny, so a weight moves in
    proportion to the number of times that its input was kept.
    """
    units, rate, loss = 300, 1e-7, example_loss(trial)
    row = start_row(loss)
    model = Model("kept", (units,), (Dropout(drop_rate), Dense(row.shape[1], use_bias=False)))
    recipe = Recipe(SGD(rate), batch_size=batch_size, epochs=epochs, loss=loss)
    recipe = to_convention(trial.convention, recipe)
    start = np.repeat(row, units, axis=0)
    network = trial.engine.build(model, {"dense_1.kernel": start})
    ones = Samples(np.ones((samples, units)), common_targets(loss, samples))
    train(trial.engine, network, ones, recipe, Plan(trial.seed))
    moved: np.ndarray = trial.engine.weights(network)["dense_1.kernel"] - start
    # The rate is so small that the slope of the loss stays what it is at the start.
    slope = row_gradients(loss, row)[0, 0]
    kept: np.ndarray = -moved[:, 0] * (1 - drop_rate) * batch_size / (slope * rate)
    return kept


MASKED = {
    "dropout": ((1,), (Dropout(0.5),)),
    # An engine may train sequences by other code than vectors.
    "dropout-of-sequences": ((1, 1), (Dropout(0.5), Flatten())),
    "spatial_dropout": ((1, 1), (SpatialDropout(0.5), Flatten())),
}
"""The shape of an input of one value, and the layers that drop what a dense layer makes of it."""


@check_each(
    "state",
    MASKED,
    requires=lambda of: ("native", "optimizer:sgd", *(f"layer:{layer.kind}" for layer in of[1])),
    prefix="mask-of-the-gradient-",
)
def mask_of_the_gradient(trial: Trial, of: tuple[Shape, tuple[Layer, ...]]) -> None:
    """In a native training, gradients go back through what was kept, with its scale, and through
    nothing else.

    Why: The masks of a native training are drawn elsewhere than those of a plan, and the gradient
    of what was dropped would move weights that had no influence.
    Broken by: An engine whose backward pass draws another mask, lets dropped values through, or
    forgets the scale.
    Fix: Keep the mask of the forward pass, and multiply the gradient by it and by the scale.
    """
    units, x, loss = 300, 8.0, example_loss(trial)
    row = np.array([[-0.5, 0.25]])[:, : start_row(loss).shape[1]] / units
    shape, layers = of
    first, last = Dense(units, use_bias=False), Dense(row.shape[1], use_bias=False)
    model = supported(trial, Model("masks", shape, (first, *layers, last)))
    weights = {
        "dense_1.kernel": np.full((1, units), 1 / x),
        "dense_2.kernel": np.repeat(row, units, axis=0),
    }
    recipe = to_convention(trial.convention, Recipe(SGD(0.125), 1, epochs=1, loss=loss))
    network = trial.engine.build(model, weights)
    samples = Samples(np.full((1, *shape), x), common_targets(loss, 1))
    train(trial.engine, network, samples, recipe, Plan(trial.seed))
    after = trial.engine.weights(network)
    moved = {name: after[name] - values for name, values in weights.items()}
    # The last kernel moves where its input was kept, all rows alike, and the first one with it.
    slopes = moved["dense_2.kernel"] @ row[0]
    kept = np.abs(slopes) > np.abs(slopes).max() / 2
    expected = np.where(kept, x * slopes[kept].mean(), 0.0)
    allowed = 1e-4 * np.abs(expected).max()
    what = "the movement of a kernel before dropout, by what the kernel after it shows to be kept"
    close(what, moved["dense_1.kernel"][0], expected, allowed, layer=layers[0].kind + "_1")
