"""The value of every loss and its gradient in the outputs, also for large outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from dlsys_bench.conformance import strategies
from dlsys_bench.conformance.check import check_each
from dlsys_bench.conformance.expectation import magnitude
from dlsys_bench.conformance.oracle import Oracle
from dlsys_bench.conformance.trial import Trial
from dlsys_bench.engines.base import Batch
from dlsys_bench.engines.plan import Array, Weights
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
    """One loss, on outputs up to thousands, whose exponential overflows: the outputs of a dense
    layer that is the identity.

    Why: The loss and its gradient start every update; a wrong factor is a wrong learning rate.
    Broken by: An engine that sums {subject} over the batch, takes probabilities for logits, or
    overflows on large outputs.
    Fix: Take the mean over the batch, and compute the logarithm of a softmax with the largest
    output subtracted.
    """
    trial.search(CASES, lambda case: _compare(trial, record.of(), case))


def _compare(trial: Trial, record: Loss, case: LossCase) -> None:
    outputs = 1 if record.targets == "signs" else case.outputs
    model = Model("identity", (outputs,), (Dense(outputs, use_bias=False),))
    generator = np.random.default_rng(case.seed)
    # Both get numbers that single precision represents exactly.
    drawn = case.scale * generator.standard_normal((case.samples, outputs))
    x = np.float32(drawn).astype(float)
    batch = Batch(x, strategies.targets(record, outputs, case.samples, generator))
    weights: Weights = {"dense_1.kernel": np.eye(outputs)}

    def compute(oracle: Oracle) -> dict[str, Any]:
        found = oracle.gradients(oracle.build(model, weights), batch, record)
        return {"value": found.loss, "gradient": found.x}

    def scales(values: Mapping[str, Array]) -> dict[str, float]:
        # Where a prediction is nearly certain, its gradient is a difference of similar numbers.
        slope = max(1 / case.samples, magnitude(values["gradient"]))
        return {"value": max(1.0, abs(float(values["value"]))), "gradient": slope}

    expected = trial.expect(compute, scales)
    actual = trial.engine.gradients(trial.engine.build(model, weights), batch, record)
    expected.check("value", actual.loss, f"the value of {record.kind}")
    assert actual.x is not None
    expected.check("gradient", actual.x, f"the gradient of {record.kind} in the outputs")
    expected.reject_unless_sharp()
