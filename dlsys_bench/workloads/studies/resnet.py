"""Residual networks and a plain one, on MNIST, Fashion-MNIST and CIFAR-10.

The quick tier trains networks of 8 layers with a learning rate that falls linearly, which makes
runs vary less than a constant one. ResNet-20 is large enough for a GPU; a core takes minutes.
"""

from __future__ import annotations

from dlsys_bench.spec.augmentation import HorizontalFlip, Shift
from dlsys_bench.spec.decay import WeightDecay
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.schedules import StepDecay, WarmUp
from dlsys_bench.studies.base import Arm, BenchmarkSize, Study
from dlsys_bench.workloads.published import CLAIMS
from dlsys_bench.workloads.residual import BLOCKS, resnet20, small_resnet
from dlsys_bench.workloads.studies.recipes import TIERS

HE_2015 = "He et al. 2015, arXiv:1512.03385"
IMAGES = (28, 28, 1)
LARGE = "ResNet-20 takes minutes on a core for the steps that it needs; --tier full judges it"
NO_DATA = "CIFAR-10 was not available where the other reference runs were made"


def _study(dataset: str, title: str, benchmarks: tuple[BenchmarkSize, ...] = ()) -> Study:
    return Study(
        f"resnet/{dataset}",
        f"{title}: residual blocks with post- and pre-activation, plain blocks, and ResNet-20",
        HE_2015,
        dataset,
        (
            *(Arm(kind, small_resnet(kind), TIERS) for kind in BLOCKS),
            Arm("resnet20", resnet20(IMAGES), TIERS, {"quick": LARGE}),
        ),
        group="resnet",
        claims=CLAIMS,
        benchmarks=benchmarks,
    )


PUBLISHED_RECIPE = Recipe(
    # 0.1 for 32,000 steps, a tenth for 16,000 and a hundredth for 16,000.
    SGD(0.1, momentum=0.9, decay=WeightDecay(0.0001, "coupled", "all")),
    batch_size=128,
    epochs=1000,
    steps=64_000,
    scaling="standard",
    schedule=WarmUp(16_000, StepDecay(0.1, 16_000, 0.1), start=0.1),
    augment=(Shift(4), HorizontalFlip()),
)
"""The recipe of He et al. 2015, section 4.2, but that the mean of all pixels is subtracted, and not
that of each, and that they are divided by their standard deviation."""

CIFAR_TIERS = {"quick": TIERS["quick"], "full": PUBLISHED_RECIPE}

CIFAR10 = Study(
    "resnet/cifar10",
    "CIFAR-10: ResNet-20 with post- and pre-activation",
    HE_2015,
    "cifar10",
    tuple(
        Arm(name, resnet20(kind=kind), CIFAR_TIERS, dict.fromkeys(CIFAR_TIERS, NO_DATA))
        for name, kind in (("resnet20", "post"), ("resnet20-pre", "pre"))
    ),
    group="resnet",
    claims=CLAIMS,
    published="dlsys_bench.workloads.published:published_figures",
)

STUDIES = (
    _study("mnist", "MNIST", (BenchmarkSize("post", 128, 10), BenchmarkSize("resnet20", 128, 4))),
    _study("fashion_mnist", "Fashion-MNIST"),
    CIFAR10,
)
