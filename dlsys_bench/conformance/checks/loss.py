"""The value of every loss and its gradient in the outputs, also for large outputs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.check import check, check_each
from dlsys_bench.conformance.checks.subjects import magnitude
from dlsys_bench.conformance.finding import close
from dlsys_bench.conformance.trial import SINGLE, Trial
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.plan import Weights
from dlsys_bench.spec.layers import Dense
from dlsys_bench.spec.losses import LOSSES, Loss
from dlsys_bench.spec.model import Model


class LossCase(NamedTuple):
    """The outputs on which a loss is compared: their number, their scale and a seed."""

    samples: int
    outputs: int
    scale: float
    seed: int

    def __str__(self) -> str:
        shape = f"outputs ({self.samples}, {self.outputs})"
        return f"{shape} of standard deviation {self.scale:g}, seed {self.seed}"


CASES = st.builds(
    LossCase,
    st.integers(1, 5),
    st.integers(2, 5),
    st.sampled_from([1.0, 30.0, 1000.0]),
    st.integers(0, 2**16),
)


@check_each("loss", LOSSES, requires=lambda record: [f"loss:{record.kind}"])
def loss(trial: Trial, record: type[Loss]) -> None:
    """One loss, on outputs up to thousands, whose exponential overflows."""
    _compare(trial, record.of(), trial.tolerance)


@check("loss", "float32", dtype="float32")
def single(trial: Trial) -> None:
    """Every loss in single precision."""
    for kind in trial.losses:
        _compare(trial, LOSSES[kind].of(), trial.loosened(10 * SINGLE))


def _compare(trial: Trial, record: Loss, tolerance: float) -> None:
    """Compare a loss of the outputs of a dense layer that is the identity."""

    def body(case: LossCase) -> None:
        outputs = 1 if record.targets == "signs" else case.outputs
        model = Model("identity", (outputs,), (Dense(outputs, use_bias=False),))
        generator = np.random.default_rng(case.seed)
        # Both get numbers that single precision represents exactly.
        drawn = case.scale * generator.standard_normal((case.samples, outputs))
        x = np.float32(drawn).astype(float)
        batch = Batch(x, strategies.targets(record, outputs, case.samples, generator))
        weights: Weights = {"dense_1.kernel": np.eye(outputs)}
        actual = trial.engine.gradients(trial.engine.build(model, weights), batch, record)
        expected = trial.oracle.gradients(trial.oracle.build(model, weights), batch, record)
        # A small loss may be the difference of large outputs, and has their rounding error.
        rounding = 16 * float(np.finfo(trial.engine.dtype).eps) * magnitude(x)
        allowed = tolerance * abs(expected.loss) + rounding
        close(f"the value of {record.kind}", actual.loss, expected.loss, allowed)
        # Where a prediction is nearly certain, its gradient is a difference of similar numbers.
        allowed = tolerance * max(1 / case.samples, magnitude(expected.x))
        close(f"the gradient of {record.kind} in the outputs", actual.x, expected.x, allowed)

    trial.search(CASES, body)
