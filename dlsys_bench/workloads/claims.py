"""Published statements about the networks of the workloads, which stored runs decide.

They are about the kinds of networks, tasks and training, and not about the sizes here: a caveat
states in what the tested network differs from that of the source.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from dlsys_bench.runs.result import Result
from dlsys_bench.spec.model import Model
from dlsys_bench.timing.flops import multiply_adds
from dlsys_bench.verdicts.claims.statements import (
    Greater,
    Majority,
    Printed,
    Statement,
    statement_set,
)
from dlsys_bench.workloads.delay import LEVEL
from dlsys_bench.workloads.depthwise import mobilenet
from dlsys_bench.workloads.residual import resnet20
from dlsys_bench.workloads.transformer import gpt2

DELAY = 2.0
"""Generalisation is delayed if it takes at least as many times the steps of fitting."""

IMAGES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
"""The datasets of images on which a statement is tested, with their titles."""

MILLION = 1e6


def _delayed(run: Result) -> bool:
    fitted, generalized = run.figures["fitted_at"], run.figures["generalized_at"]
    return None not in (fitted, generalized) and generalized >= DELAY * fitted


def _solved(run: Result) -> bool:
    return (run.metric("test_accuracy") or 0.0) >= LEVEL


def _unsolved(run: Result) -> bool:
    return not _solved(run)


POWER = "Power et al. 2022, arXiv:2201.02177"
SMALL_SUM = "addition modulo 31 in place of division modulo 97, with one block of 64 channels"

TRANSFORMERS: tuple[Statement, ...] = (
    Majority(
        id="power-2022.delay",
        study="transformer/addition",
        source=f"{POWER}, figure 1",
        text="A network generalises long after it has fitted its training set: the test accuracy "
        f"reaches {LEVEL} after at least {DELAY:g} times as many steps as the training accuracy",
        caveat=SMALL_SUM,
        arm="small-decay",
        holds=_delayed,
    ),
    Greater(
        id="power-2022.decay.accuracy",
        study="transformer/addition",
        source=f"{POWER}, figure 2",
        text="Within a number of steps, weight decay improves generalisation: the test accuracy is "
        "higher with it",
        caveat=SMALL_SUM,
        greater="small-decay",
        lesser="small-no-decay",
        metric="test_accuracy",
    ),
    Greater(
        id="power-2022.decay.steps",
        study="transformer/addition",
        source=f"{POWER}, figure 2",
        text="Weight decay improves generalisation: without it, the test accuracy reaches "
        f"{LEVEL} later, or not at all",
        caveat=SMALL_SUM,
        greater="small-no-decay",
        lesser="small-decay",
        metric="generalized_at",
        missing=math.inf,
    ),
    Majority(
        id="jelassi-2024.copying",
        study="transformer/sequences",
        source="Jelassi et al. 2024, arXiv:2402.01032",
        text=f"A small transformer learns to copy: its test accuracy reaches {LEVEL}",
        caveat="sequences of 8 symbols, as long as those that it is trained on",
        arm="copying",
        holds=_solved,
    ),
    Majority(
        id="hahn-2020.parity",
        study="transformer/sequences",
        source="Hahn 2020, arXiv:1906.06755; Bhattamishra et al. 2020, arXiv:2009.11264",
        text="Parity is hard for self-attention: the test accuracy does not reach "
        f"{LEVEL} within twice the steps that suffice to copy",
        caveat="Hahn proves a limit for long sequences; here they have 16 bits, and the training "
        "300 steps",
        arm="parity",
        holds=_unsolved,
    ),
    Printed(
        id="gpt-2.parameters",
        study="transformer/sequences",
        source="the repository of GPT-2, which corrects the 117 million of Radford et al. 2019",
        text="The smallest GPT-2 has 124 million parameters",
        caveat="the kernel of the last layer, which GPT-2 shares with the embedding, is left out",
        count=lambda: gpt2().counts.total - gpt2().tensors[-1].size,
        value=124,
        unit=MILLION,
    ),
)

HE = "He et al. 2015, arXiv:1512.03385"
HOWARD = "Howard et al. 2017, arXiv:1704.04861"


def _convolutional(dataset: str, title: str) -> tuple[Statement, ...]:
    """Return the statements about residual networks and MobileNet on a dataset."""
    return (
        Greater(
            id=f"he-2015.convergence.{dataset}",
            study=f"resnet/{dataset}",
            source=f"{HE}, section 4.1",
            text="Where a plain network can be trained as well, a residual one converges faster at "
            f"the early stage: its training loss on {title} is lower after 300 steps",
            caveat="8 layers in place of 18",
            greater="plain",
            lesser="post",
            metric="train_loss",
        ),
        Greater(
            id=f"howard-2017.accuracy.{dataset}",
            study=f"depthwise/{dataset}",
            source=f"{HOWARD}, table 4",
            text="Depthwise and pointwise convolutions are less accurate than full ones in the "
            f"same stages, here on {title}",
            caveat="three stages in place of 13, and images of 28 x 28 pixels",
            greater="ordinary",
            lesser="depthwise",
            metric="test_accuracy",
        ),
    )


def _parameters(model: Model) -> int:
    return model.counts.trainable


def _operations(model: Model) -> int:
    return sum(multiply_adds(model))


def _operations_before_the_last_product(model: Model) -> int:
    return sum([number for number in multiply_adds(model) if number][:-1])


class MobileNetCount(NamedTuple):
    """A printed count of MobileNet, in millions, with digits after the point."""

    kind: str
    title: str
    what: str
    count: Callable[[Model], int]
    value: float
    digits: int = 0
    caveat: str = ""


FULL = "MobileNet with full convolutions"
MOBILENET_COUNTS = (
    MobileNetCount("depthwise", "MobileNet", "parameters", _parameters, 4.2, 1),
    MobileNetCount("depthwise", "MobileNet", "multiply-adds", _operations, 569),
    MobileNetCount("ordinary", FULL, "parameters", _parameters, 29.3, 1),
    MobileNetCount(
        "ordinary",
        FULL,
        "multiply-adds",
        _operations_before_the_last_product,
        4866,
        caveat="without the 1.02 million of the last layer, which the 569 million of MobileNet "
        "include",
    ),
)

COUNTS: tuple[Statement, ...] = (
    Printed(
        id="he-2015.parameters",
        study="resnet/cifar10",
        source=f"{HE}, table 6",
        text="ResNet-20 has 0.27 million parameters",
        caveat="shortcuts by option B in place of A",
        count=lambda: _parameters(resnet20()),
        value=0.27,
        unit=MILLION,
        digits=2,
    ),
    *(
        Printed(
            id=f"howard-2017.{row.kind}.{row.what}",
            study="depthwise/mnist",
            source=f"{HOWARD}, table 4",
            text=f"{row.title} has {row.value:g} million {row.what}",
            caveat=row.caveat,
            count=partial(lambda row: row.count(mobilenet(row.kind)), row),
            value=row.value,
            unit=MILLION,
            digits=row.digits,
        )
        for row in MOBILENET_COUNTS
    ),
)


def _regularizing(dataset: str, title: str) -> tuple[Statement, ...]:
    """Return the statements about regularisers on 600 images of a dataset."""
    few = f"a perceptron on 600 images of {title}, at one strength of each regulariser"
    return (
        Greater(
            id=f"muller-2019.calibration.{dataset}",
            study="regularizers/mlp-600",
            source="Müller et al. 2019, arXiv:1906.02629, section 3",
            text="Label smoothing lowers the expected calibration error",
            caveat=few,
            tier="full",
            dataset=dataset,
            greater="none",
            lesser="label-smoothing",
            metric="calibration_error",
        ),
        Greater(
            id=f"loshchilov-2019.accuracy.{dataset}",
            study="regularizers/mlp-600",
            source="Loshchilov and Hutter 2019, arXiv:1711.05101, section 4",
            text="With Adam, decoupled weight decay generalises better than L2 regularisation",
            caveat=few,
            tier="full",
            dataset=dataset,
            greater="decoupled-decay",
            lesser="l2",
            metric="test_accuracy",
        ),
    )


STATEMENTS: tuple[Statement, ...] = (
    *TRANSFORMERS,
    *COUNTS,
    *(one for each in IMAGES.items() for one in _convolutional(*each)),
    *(one for each in IMAGES.items() for one in _regularizing(*each)),
)
"""Every statement."""

CLAIM_SET = statement_set("the networks of today", STATEMENTS)
"""The claims of the workloads, which their studies name."""
