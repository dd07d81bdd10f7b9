"""The stored runs that claims are ruled on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import find_reference, read
from dlsys_bench.studies.base import Arm
from dlsys_bench.studies.registry import studies

ENGINES = ("numpy", "numba")
"""The engines whose runs are ruled on together: they draw the same initial weights and orders of
the samples from a seed, and agree in distribution (`reports/engines/agreement.md`)."""


class StoredRuns:
    """The reference runs of arms, each on the dataset that it is meant for, and `extra` runs.

    A run that occurs in both counts once, and of a seed of several `engines` the run of the first.
    """

    def __init__(self, extra: Sequence[Result] = (), engines: Sequence[str] = ENGINES) -> None:
        self.extra, self.engines = extra, engines
        self.files: dict[Path, list[Result]] = {}
        self.known: dict[tuple[str, ...], list[Result]] = {}

    def of(self, study: str, arm: str, tier: str = "full", dataset: str = "") -> list[Result]:
        """Every run of an arm by its current protocol, including those that diverged.

        `dataset` is by default that of the arm or of the study. There are no runs of an arm that is
        not registered.
        """
        asked = study, arm, tier, dataset
        if asked not in self.known:
            known = studies().get(study)
            record = next((one for one in known.arms if one.name == arm), None) if known else None
            self.known[asked] = self.matching(study, record, tier, dataset) if record else []
        return self.known[asked]

    def matching(
        self, study: str, arm: Arm, tier: str = "full", dataset: str = "", folder: str = ""
    ) -> list[Result]:
        """The runs by the protocol of an arm, in a folder beside the reference files."""
        dataset = dataset or arm.dataset or studies()[study].dataset
        path = find_reference(study, dataset, tier)
        path = path.parent / folder / path.name
        if path not in self.files:
            self.files[path] = read(path) if path.exists() else []
        asked = (study, arm.name, dataset, tier, arm.protocol(tier))
        found = {
            (run.key.device, run.seed): run
            for engine in reversed(self.engines)
            for run in (*self.extra, *self.files[path])
            if run.key.engine == engine
            and asked
            == (run.key.study, run.key.arm, run.key.dataset, run.key.tier, run.key.protocol)
        }
        return [found[key] for key in sorted(found)]
