"""Depthwise convolutions and ordinary ones in the same stages, on MNIST and Fashion-MNIST."""

from __future__ import annotations

from dlsys_bench.studies.base import Arm, BenchmarkSize, Study
from dlsys_bench.workloads.depthwise import KINDS, small_mobilenet
from dlsys_bench.workloads.published import CLAIMS
from dlsys_bench.workloads.studies.recipes import TIERS

HOWARD_2017 = "Howard et al. 2017, arXiv:1704.04861"
AWAITED = "its reference runs on digits are not made yet"


def _study(dataset: str, title: str, benchmarks: tuple[BenchmarkSize, ...] = ()) -> Study:
    return Study(
        f"depthwise/{dataset}",
        f"{title}: depthwise and pointwise convolutions, and ordinary ones",
        HOWARD_2017,
        dataset,
        tuple(
            Arm(kind, small_mobilenet(kind), TIERS, {("digits", "quick"): AWAITED})
            for kind in KINDS
        ),
        group="depthwise",
        claims=CLAIMS,
        benchmarks=benchmarks,
    )


STUDIES = (
    _study("mnist", "MNIST", (BenchmarkSize("depthwise", 128, 10),)),
    _study("fashion_mnist", "Fashion-MNIST"),
)
