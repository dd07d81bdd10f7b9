"""The stored runs that a claim is about, and their figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.runs.result import Result
from dlsys_bench.studies.registry import studies
from dlsys_bench.verdicts.claims.ruling import Claim
from dlsys_bench.verdicts.claims.stored_runs import StoredRuns

FEWEST = 2
"""The smallest number of runs that is judged; two runs need the variance of the other arms."""

# The training figures that Keras prints are running means.
METRICS = {
    "train_accuracy": "running_accuracy",
    "train_loss": "running_loss",
    "val_accuracy": "validation_accuracy",
    "val_loss": "validation_loss",
}
ArmName = tuple[str, str]
"""The names of a study and of one of its arms."""

# The claims of the perceptron study are settled on the arms that give both losses the same points,
# initial weights, learning rate and epochs.
ARMS: dict[ArmName, ArmName] = {
    ("dying-relu", "leaky_relu(0.01)"): ("dying-relu", "leaky_relu"),
    ("learning-rate-sweep", "lenet5-tanh bn+bn"): ("learning-rate-sweep", "0.1"),
    ("cyclical-batch-size", "exp_range"): ("cyclical-learning-rate", "exp_range"),
    ("cyclical-batch-size", "cyclical-batch-size"): ("cyclical-batch-size", "sound"),
    ("perceptron", "perceptron"): ("perceptron", "sound/perceptron"),
    ("perceptron", "hinge"): ("perceptron", "sound/hinge"),
}
"""The arms that claims call by another name."""

ARMS_OF_CLAIMS: dict[str, ArmName] = {
    "nb2.perceptron.test_accuracy": ("perceptron", "nb2/perceptron"),
    "nb2.hinge.test_accuracy": ("perceptron", "nb2/hinge"),
    "nb4.perceptron.test_accuracy": ("perceptron", "nb4/perceptron"),
    "nb4.hinge.test_accuracy": ("perceptron", "nb4/hinge"),
    "nb4.relu.collapse": ("dying-relu", "nb4/relu"),
    "nb4.leaky.collapse": ("dying-relu", "nb4/leaky_relu on |x sin 5x|"),
    "nb2.cyclic-batch.train_accuracy": ("cyclical-batch-size", "published"),
}
"""The arms of claims on a single arm, by the id of the claim, where `ARMS` does not apply."""

AS_PUBLISHED: dict[str, tuple[ArmName, ArmName]] = {
    "nb2.perceptron>hinge": (("perceptron", "nb2/perceptron"), ("perceptron", "nb2/hinge")),
    "nb4.hinge>perceptron": (("perceptron", "nb4/hinge"), ("perceptron", "nb4/perceptron")),
}
"""The arms, greater and lesser, that follow the published protocol of an ordering."""


SUPERSEDED = "superseded"
"""The folder of the reference runs by superseded protocols."""


class Runs(StoredRuns):
    """The reference runs at tier full, each study's on its own dataset, and extra runs."""

    def superseded(self, study: str, arm: str) -> list[Result]:
        """Every run of an arm as it was before the study was corrected."""
        past = [old for one in studies()[study].superseded for old in one.arms if old.name == arm]
        return [run for old in past for run in self.matching(study, old, folder=SUPERSEDED)]

    def for_claim(self, claim: Claim, arm: str | None = None) -> list[Result]:
        """The runs of the claim's arm, or of another arm that it names."""
        name = claim["study"], arm or claim.get("arm", "")
        if arm is None and claim["id"] in ARMS_OF_CLAIMS:
            return self.of(*ARMS_OF_CLAIMS[claim["id"]])
        return self.of(*ARMS.get(name, name))


def metric_of(claim: Claim) -> str:
    """The name of the claim's metric in a run."""
    name = str(claim["metric"])
    return METRICS.get(name, name)


def figures(runs: Sequence[Result], metric: str, epoch: int | None = None) -> NDArray[np.float64]:
    """A metric of every run that has it, at an epoch or at the end."""
    found = []
    for run in runs:
        if epoch is not None and run.history:
            value = (
                getattr(run.history[epoch - 1], metric, None) if len(run.history) >= epoch else None
            )
        else:
            value = run.metric(metric)
        if value is not None:
            found.append(float(value))
    return np.array(found)


def measured(runs: Sequence[Result], metric: str) -> bool:
    """True if enough runs have the metric."""
    return len(figures(runs, metric)) >= FEWEST
