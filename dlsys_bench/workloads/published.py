"""The published figures of the workloads."""

from __future__ import annotations

from dlsys_bench.studies.base import Published

CLAIMS = "dlsys_bench.workloads.claims:CLAIM_SET"
"""The claims of a study of the workloads."""

FIGURES: dict[str, list[Published]] = {
    "resnet/cifar10": [
        # An error of 8.75%. The arm has shortcuts by option B, and the paper by option A.
        Published("resnet20", "test_accuracy", 0.9125, "He et al. 2015, table 6"),
    ],
}
"""The figures by study."""


def published_figures(study: str) -> list[Published]:
    """Return the published figures of a study."""
    return FIGURES.get(study, [])
