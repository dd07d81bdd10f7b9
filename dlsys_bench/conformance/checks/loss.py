"""The value of every loss and its gradient in the outputs, far out too."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.check import SINGLE, Trial, check
from dlsys_bench.conformance.checks.subjects import size
from dlsys_bench.conformance.finding import close
from dlsys_bench.conformance.guard import Guard
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.plan import Weights
from dlsys_bench.spec.layers import Dense
from dlsys_bench.spec.losses import LOSSES
from dlsys_bench.spec.model import Model


@check("loss", *LOSSES)
def loss(trial: Trial, subject: str) -> None:
    """A dense layer that changes nothing hands the loss what is drawn: outputs up to hundreds,
    where exp overflows."""
    _compare(trial, trial.engine, subject, trial.tolerance)


@check("loss", "float32")
def single(trial: Trial, subject: str) -> None:
    """Every loss in single precision."""
    for kind in trial.losses:
        _compare(trial, trial.at("float32"), kind, max(10 * SINGLE, trial.loosens or 0.0))


def _compare(trial: Trial, engine: Guard, subject: str, tolerance: float) -> None:
    record = LOSSES[subject].of()

    def body(drawn: tuple[int, int, float, int]) -> None:
        samples, outputs, scale, seed = drawn
        outputs = 1 if record.targets == "signs" else outputs
        model = Model("identity", (outputs,), (Dense(outputs, use_bias=False),))
        generator = np.random.default_rng(seed)
        # What single precision has: both get the same numbers.
        x = np.float32(scale * generator.standard_normal((samples, outputs))).astype(float)
        batch = Batch(x, strategies.targets(record, outputs, samples, generator))
        weights: Weights = {"dense_1.kernel": np.eye(outputs)}
        found = engine.gradients(engine.build(model, weights), batch, record)
        right = trial.oracle.gradients(trial.oracle.build(model, weights), batch, record)
        # A small loss is the difference of large outputs, and has their rounding.
        rounding = 16 * float(np.finfo(engine.dtype).eps) * size(x)
        allowed = tolerance * abs(right.loss) + rounding
        close(f"the value of {subject}", np.array(found.loss), np.array(right.loss), allowed)
        # Where an answer is nearly certain, its gradient is the difference of nearly equal numbers.
        allowed = tolerance * max(1 / samples, size(right.x))
        close(f"the gradient of {subject} in the outputs", found.x, right.x, allowed)

    parts = (
        st.integers(1, 5),
        st.integers(2, 5),
        st.sampled_from([1.0, 30.0, 1000.0]),
        st.integers(0, 2**16),
    )
    trial.search(st.tuples(*parts), body)
