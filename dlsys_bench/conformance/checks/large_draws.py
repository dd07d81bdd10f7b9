"""What an engine draws by itself at the sizes of real networks: a kernel, and masks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dlsys_bench.conformance.check import check
from dlsys_bench.conformance.checks.initializer import check_draw
from dlsys_bench.conformance.checks.native_masks import IN_FIT, Kept, check_counts, times_kept
from dlsys_bench.conformance.checks.statistics import check_binomial
from dlsys_bench.conformance.checks.support import has, supported
from dlsys_bench.conformance.finding import BrokenError, Fault, broken
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.engines.base import Batch
from dlsys_bench.errors import NotApplicableError
from dlsys_bench.spec.initializers import INITIALIZERS, Fans
from dlsys_bench.spec.layers import Dense, Dropout, Flatten, MultiHeadAttention
from dlsys_bench.spec.model import Model


@check("initializer", "large")
def initializer(trial: Trial) -> None:
    """A kernel of 784 by 300, as a whole and in blocks of rows.

    Why: A large kernel may be drawn in blocks, each of which needs its own stream and the fans of
    the whole.
    Broken by: An engine that repeats the draw of a block, or computes the fans of the block.
    Fix: Draw from one generator in sequence, with the fans of the complete kernel.
    """
    known = {kind: f"initializer:{kind}" for kind in INITIALIZERS}
    drawn = [INITIALIZERS[kind].of() for kind, need in known.items() if has(trial, need)]
    fans = Fans(784, 300)
    kernels = [each for each in drawn if each.distribution(fans).family != "constant"]
    if not kernels:
        raise NotApplicableError("the engine lacks every initializer that draws")
    model = Model("large", (784,), (Dense(300, kernel_initializer=kernels[0]),))
    model = supported(trial, model)
    tensor = model.tensors[0]
    values = trial.engine.weights(trial.engine.build(model, seed=trial.seed))[tensor.name]
    expected = tensor.initializer.distribution(tensor.fans)
    check_draw(values.ravel(), expected, tensor)
    for first in range(0, 784, 112):
        try:
            check_draw(values[first : first + 112].ravel(), expected, tensor)
        except BrokenError as error:
            what = f"rows {first} to {first + 111}: {error.finding.what}"
            raise BrokenError(replace(error.finding, what=what)) from None


@check("state", "dropout-large", requires=["layer:dropout"])
def dropout(trial: Trial) -> None:
    """The masks that an engine draws for 520 samples of 784 values.

    Why: A large mask may be drawn in blocks or from few random bits, and then repeats.
    Broken by: An engine that reuses a block of random bits for every 256 samples.
    Fix: Draw as many random numbers as there are values.
    """
    samples, units = 520, 784
    model = supported(trial, Model("large", (units,), (Dropout(0.5), Dense(1))))
    network = trial.engine.build(model, seed=trial.seed)
    batch = Batch(np.ones((samples, units)), np.zeros((samples, 1)), training=True)
    kept = trial.engine.trace(network, batch)[0] != 0
    check_binomial(kept.sum(axis=0), samples, 0.5, "what dropout(0.5) keeps of each unit")
    check_binomial(kept.sum(axis=1), units, 0.5, "what dropout(0.5) keeps of each sample")


MANY_TOKENS = 64


@check(
    "state",
    "multi_head_attention-dropout-of-many-keys",
    requires=IN_FIT["multi_head_attention-dropout-in-fit"].requires,
)
def dropout_of_many_keys(trial: Trial) -> None:
    """The masks of attention to 64 keys in a native training, at a drop rate of 0.33: no two keys
    and no two queries have the same.

    Why: The masks of attention are large, and an engine may draw them in tiles.
    Broken by: An engine that repeats the mask of 32 keys for the next ones, or that rounds the drop
    rate.
    Fix: Draw a number for every query and key, and compare it with the rate as it is.
    """
    samples, rate, many = 16, 0.33, MANY_TOKENS
    case = Kept(
        lambda drop: (MultiHeadAttention(1, many, drop_rate=drop), Flatten()),
        np.eye(many),
        1 / many,
    )
    counts = times_kept(trial, case, rate, samples, samples, 1)
    what = f"the number of times that drop rate {rate:g} keeps each weight of {samples} samples"
    check_counts(counts, samples, rate, what, case)
    by_query = np.round(counts).reshape(many, many)
    for axis, of in enumerate(("queries", "keys")):
        if (found := np.unique(by_query, axis=axis).shape[axis]) < many:
            values = {"actual": f"{found}", "expected": f"{many}"}
            what = f"the number of different masks of {many} {of}"
            raise broken(
                Fault.WRONG_DISTRIBUTION, what, **values, layer=f"{MultiHeadAttention.kind}_1"
            )
