"""The masks that an engine draws by itself: how much they keep, and that draws are independent."""

from __future__ import annotations

import numpy as np

from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.statistics import check_binomial
from dlsys_bench.conformance.checks.support import has_layers, supported
from dlsys_bench.conformance.finding import close
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.engines.base import Batch
from dlsys_bench.spec.graph import parallel
from dlsys_bench.spec.layers import (
    Add,
    Concat,
    Dense,
    Dropout,
    Flatten,
    Layer,
    Shape,
    SpatialDropout,
)
from dlsys_bench.spec.model import Model

UNITS, SAMPLES = 400, 50


@check("state", "dropout", requires=["layer:dropout"])
def dropout(trial: Trial) -> None:
    """The fraction that is kept, of each unit and each sample, and the scale of the rest.

    Why: A wrong fraction or scale changes the strength of the regularisation without any error.
    Broken by: An engine that takes the drop rate for the keep rate, does not divide by the keep
    rate, or shares a mask among samples, among layers or among branches.
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
    # Two layers both keep a quarter, unless the second drops what the first does.
    for where, layers in _pairs(trial).items():
        model = supported(trial, Model("dropouts", (UNITS,), (*layers, Dense(1))))
        network = trial.engine.build(model, seed=trial.seed)
        first, second = trial.engine.trace(network, Batch(x, y, training=True))[:2]
        kept = ((first != 0) & (second != 0)).sum(axis=1)
        check_binomial(kept, UNITS, 0.25, f"what two dropout(0.5) {where} keep of each sample")


def _pairs(trial: Trial) -> dict[str, tuple[Layer, ...]]:
    """Return two layers in a row and, if the engine has branches, two beside each other."""
    pairs: dict[str, tuple[Layer, ...]] = {"in a row": (Dropout(0.5), Dropout(0.5))}
    for join in (Add(), Concat()):
        if has_layers(trial, [join]):
            pairs["in parallel"] = (parallel(Dropout(0.5), Dropout(0.5), join=join),)
    return pairs


PLACES = {"images": (10, 10, 4), "sequences": (12, 40)}
"""The shapes of inputs of dropout that have channels at several positions."""


@check_each(
    "state",
    PLACES,
    requires=lambda shape: ("layer:dropout", "layer:flatten"),
    prefix="dropout-of-",
)
def dropout_of_positions(trial: Trial, shape: Shape) -> None:
    """Every value of {subject} is dropped independently, and every sample has its own mask.

    Why: Dropping whole channels or positions is another layer (spatial dropout), which regularises
    differently.
    Broken by: An engine that draws one mask for all channels, for all positions, or for all samples
    of a batch.
    Fix: Draw a mask of the complete shape, (N, H, W, C) of images and (N, T, C) of sequences.
    """
    model = supported(trial, Model("places", shape, (Dropout(0.5), Flatten(), Dense(1))))
    network = trial.engine.build(model, seed=trial.seed)
    batch = Batch(np.ones((SAMPLES, *shape)), np.zeros((SAMPLES, 1)), training=True)
    kept = trial.engine.trace(network, batch)[0].reshape(SAMPLES, -1, shape[-1]) != 0
    what, (_, positions, channels) = "what dropout(0.5) keeps of each", kept.shape
    check_binomial(kept.sum(axis=1).ravel(), positions, 0.5, f"{what} channel of each sample")
    check_binomial(kept.sum(axis=2).ravel(), channels, 0.5, f"{what} position of each sample")
    check_binomial(kept.sum(axis=0).ravel(), SAMPLES, 0.5, f"{what} value in a batch")


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
