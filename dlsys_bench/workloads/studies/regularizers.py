"""Regularisers against each other: two networks and three sizes of the training set.

Every run draws its training set by its seed, and all arms share it, so that differences between
arms are paired. Each study runs on MNIST and on Fashion-MNIST (`--dataset`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dlsys_bench.spec.augmentation import InputNoise, Shift
from dlsys_bench.spec.decay import WeightDecay
from dlsys_bench.spec.layers import BatchNorm, Dropout, GroupNorm, LayerNorm, SpatialDropout
from dlsys_bench.spec.losses import CategoricalCrossEntropy
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import Adam, AdamW, Optimizer
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies.base import Arm, Metric, Study
from dlsys_bench.workloads.generalization import generalize
from dlsys_bench.workloads.published import CLAIMS
from dlsys_bench.workloads.regularized import Places, lenet5, mlp

RATE = 0.001
RATES = (0.1, 0.25, 0.5)
PAIRS = (
    ("dropout-0.25", "label-smoothing"),
    ("dropout-0.25", "shift-1"),
    ("batch-norm", "shift-1"),
)
"""The pairs that are compared: of the regularisers that were the best of their kind in the runs of
the perceptron on 600 images."""

COMPARED = "a comparison at tier full; tier quick only shows that the arms train"


class Treatment(NamedTuple):
    """A regulariser: layers of the network, an optimiser with its decay, options of the recipe, and
    options of the measure."""

    places: Places = Places()
    optimizer: Optimizer = Adam(RATE)
    recipe: Mapping[str, Any] = {}
    options: Mapping[str, Any] = {}

    def with_other(self, other: Treatment) -> Treatment:
        """Return both regularisers together. Where both use one place, the other's is taken."""
        places = (theirs or own for own, theirs in zip(self.places, other.places, strict=True))
        return Treatment(
            Places(*places),
            other.optimizer if other.optimizer.decay else self.optimizer,
            {**self.recipe, **other.recipe},
            {**self.options, **other.options},
        )


class Architecture(NamedTuple):
    """A network by its name and its layers.

    `groups` is the number of groups of its group norms, and `has_images` states that outputs of
    hidden layers are images, whose channels can be dropped.
    """

    title: str
    build: Callable[[str, Places], Model]
    groups: int
    has_images: bool

    def treatments(self) -> dict[str, Treatment]:
        """Return every regulariser of the network by name, and the pairs of PAIRS."""
        alone = self._alone()
        pairs = {"+".join(pair): alone[pair[0]].with_other(alone[pair[1]]) for pair in PAIRS}
        return alone | pairs

    def _alone(self) -> dict[str, Treatment]:
        return {
            "none": Treatment(),
            "early-stopping": Treatment(
                recipe={"validation_split": 1 / 6}, options={"patience": 5}
            ),
            "l2": Treatment(optimizer=Adam(RATE, decay=WeightDecay(0.001, "coupled"))),
            "decoupled-decay": Treatment(optimizer=AdamW(RATE, 0.5)),
            "label-smoothing": Treatment(
                recipe={"loss": CategoricalCrossEntropy(label_smoothing=0.1)}
            ),
            **{f"dropout-{rate:g}": Treatment(Places(drop=Dropout(rate))) for rate in RATES},
            **(
                {"spatial-dropout": Treatment(Places(drop_images=SpatialDropout(0.1)))}
                if self.has_images
                else {}
            ),
            "batch-norm": Treatment(Places(norm=BatchNorm(moving_decay=0.9))),
            "layer-norm": Treatment(Places(norm=LayerNorm())),
            "group-norm": Treatment(Places(norm=GroupNorm(groups=self.groups))),
            "input-noise": Treatment(recipe={"augment": (InputNoise(0.1),)}),
            **{
                f"shift-{pixels}": Treatment(recipe={"augment": (Shift(pixels),)})
                for pixels in (1, 2)
            },
        }


NETWORKS = {
    "mlp": Architecture("An MLP of 784-196-49-10", mlp, 7, has_images=False),
    "lenet5": Architecture("LeNet-5 with ReLU", lenet5, 2, has_images=True),
}


class TrainingSize(NamedTuple):
    """A size of the training set, None for all of it, and the epochs of each tier."""

    samples: int | None
    quick: int
    full: int


SIZES = {
    "600": TrainingSize(600, 5, 30),
    "6000": TrainingSize(6000, 2, 15),
    "all": TrainingSize(None, 1, 10),
}


def _study(network: str, size: str) -> Study:
    """Return the study of a network at a size."""
    title, build = NETWORKS[network][:2]
    samples, quick, full = SIZES[size]
    arms = []
    for name, (places, optimizer, changes, options) in NETWORKS[network].treatments().items():
        recipes = {
            tier: Recipe.of(optimizer=optimizer, batch_size=32, epochs=epochs, **changes)
            for tier, epochs in (("quick", quick), ("full", full))
        }
        arms.append(
            Arm(
                name,
                build(name, places),
                recipes,
                {"quick": COMPARED},
                options={"samples": samples, **options},
            )
        )
    count = "all" if samples is None else f"{samples:,}"
    return Study(
        f"regularizers/{network}-{size}",
        f"{title} on {count} images: every regulariser",
        "the kinds of regularisers compared by Goodfellow, Bengio, Courville, Deep learning, 2016, "
        "chapter 7",
        "mnist",
        tuple(arms),
        metric=Metric("test_accuracy", higher_is_better=True, is_fraction=True),
        plots=(),
        measure=generalize,
        group="regularizers",
        claims=CLAIMS,
    )


STUDIES = tuple(_study(network, size) for network in NETWORKS for size in SIZES)
