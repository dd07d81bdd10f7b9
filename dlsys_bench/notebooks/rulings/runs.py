"""The stored runs that a claim is about, and their figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.notebooks.rulings.ruling import Claim
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import find_reference, read
from dlsys_bench.studies.registry import studies

FEWEST = 2
"""So many runs of an arm are judged: by the spread of its study's arms together, where it has
others."""

# What Keras prints as training figures are running means; validation is called by its whole name
# here.
METRICS = {"train": "running", "val": "validation"}

# Arms that a claim calls otherwise: (study, arm), None for the claim's own study.
ARMS: dict[tuple[str, str], tuple[str, str]] = {
    ("dying-relu", "leaky_relu(0.01)"): ("dying-relu", "leaky_relu"),
    ("learning-rate-sweep", "lenet5-tanh bn+bn"): ("learning-rate-sweep", "0.1"),
    ("cyclical-batch-size", "exp_range"): ("cyclical-learning-rate", "exp_range"),
    ("cyclical-batch-size", "cyclical-batch-size"): ("cyclical-batch-size", "sound"),
    ("two-layer-backprop", "sigmoid-mse"): ("two-layer-backprop", "sigmoid-mse"),
}
OF: dict[str, tuple[str, str]] = {
    "nb2.perceptron.test_accuracy": ("perceptron", "nb2/perceptron"),
    "nb2.hinge.test_accuracy": ("perceptron", "nb2/hinge"),
    "nb4.perceptron.test_accuracy": ("perceptron", "nb4/perceptron"),
    "nb4.hinge.test_accuracy": ("perceptron", "nb4/hinge"),
    "nb4.relu.collapse": ("dying-relu", "nb4/relu"),
    "nb4.leaky.collapse": ("dying-relu", "nb4/leaky_relu on |x sin 5x|"),
    "nb2.cyclic-batch.train_accuracy": ("cyclical-batch-size", "published"),
}
"""Claims whose arm here has another name."""


class Runs:
    """The stored runs of one engine at tier full, each study's on the data it is meant for; `extra`
    are more, of one's own. A run that is in both counts once."""

    def __init__(self, extra: Sequence[Result] = (), engine: str = "numpy") -> None:
        self.extra, self.engine = extra, engine
        self.files: dict[Path, list[Result]] = {}
        self.known: dict[tuple[str, str], list[Result]] = {}

    def of(self, study: str, arm: str) -> list[Result]:
        """Every run of an arm by its protocol of today, those that diverged too."""
        if (study, arm) not in self.known:
            self.known[study, arm] = self._read(study, arm)
        return self.known[study, arm]

    def _read(self, study: str, arm: str) -> list[Result]:
        if study not in studies() or arm not in {record.name for record in studies()[study].arms}:
            return []
        record = studies()[study].arm(arm)
        dataset, protocol = record.dataset or studies()[study].dataset, record.protocol("full")
        path = find_reference(study, dataset, "full")
        if path not in self.files:
            self.files[path] = read(path) if path.exists() else []
        asked = (study, arm, dataset, "full", protocol, self.engine)
        found = {
            (run.key.device, run.seed): run
            for run in (*self.extra, *self.files[path])
            if (
                run.key.study,
                run.key.arm,
                run.key.dataset,
                run.key.tier,
                run.key.protocol,
                run.key.engine,
            )
            == asked
        }
        return [found[key] for key in sorted(found)]

    def for_claim(self, claim: Claim, arm: str | None = None) -> list[Result]:
        """The runs that a claim is about."""
        name = arm or claim.get("arm", "")
        own = ARMS.get((claim["study"], name), (claim["study"], name))
        return self.of(*(own if arm else OF.get(claim["id"], own)))


def metric_of(claim: Claim) -> str:
    """The claim's metric by our name."""
    kind, _, what = claim["metric"].partition("_")
    return f"{METRICS.get(kind, kind)}_{what}"


def figures(runs: Sequence[Result], metric: str, epoch: int | None = None) -> NDArray[np.float64]:
    """A figure of each run that has it, at an epoch or at the end."""
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
    """Whether there are enough to judge by."""
    return len(figures(runs, metric)) >= FEWEST
