"""Pairs of claims that cannot both hold in general, with the conditions of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dlsys_bench.verdicts.claims.ruling import Judged

EQUAL = "settled on the same points, start, rate and epochs for both"
ONLY_DIVIDED = "tanh, SGD, 10 epochs, against an input that is only divided by 255"
PLAIN_BEATS_DROPOUT = "plain beats dropout: a narrow MLP, batches of 8"

ClaimSide = Mapping[str, str]
"""The conditions under which each claim of one side was published and is judged, by its id."""

CONTRADICTIONS: tuple[tuple[ClaimSide, ClaimSide], ...] = (
    ({"nb2.perceptron>hinge": EQUAL}, {"nb4.hinge>perceptron": EQUAL}),
    (
        {
            "nb2.relu.collapse": "Glorot uniform weights, 2 epochs, collapsed if the variance is "
            "at most 1e-3"
        },
        {
            "nb4.relu.collapse": "normal weights, one more linear layer, 20 epochs, collapsed if "
            "all predictions are equal"
        },
    ),
    (
        {"nb2.leaky.collapse": "on |x|, 2 epochs"},
        {"nb4.leaky.collapse": "on |x sin 5x|, 20 epochs"},
    ),
    (
        {"nb0.std~bn-input": "tanh, SGD, 20 epochs, against a standardised input"},
        {
            "nb2.bn-input>std.train": ONLY_DIVIDED,
            "nb2.bn-input>std.test": ONLY_DIVIDED,
            "nb4.bn>std": "sigmoid, Adam, 5 epochs, against an input whose standardisation was "
            "never fitted",
        },
    ),
    (
        {
            "nb0.bn>bn+dropout": "tanh, SGD, 20 epochs against 50",
            "nb2.bn>bn+dropout": "tanh, SGD, 10 epochs of both",
        },
        {"nb4.both>bn": "sigmoid, Adam, 15 epochs against 5"},
    ),
    (
        {
            "nb0.bn+dropout>dropout": "LeNet-5 on MNIST, batches of 128, 50 epochs against 20",
            "nb2.bn+dropout>dropout": "LeNet-5 on MNIST, batches of 128",
        },
        {"nb3.dropout>bn+dropout": "a narrow MLP on Fashion-MNIST, batches of 8"},
    ),
    (
        {
            "nb0.bn>dropout": "tanh, SGD, 20 epochs of both",
            "nb2.bn>dropout": "tanh, SGD, 10 epochs of both",
        },
        {
            "nb4.dropout>standard": "sigmoid, Adam, 15 epochs against 5; batch norm on all but the "
            "input"
        },
    ),
    (
        {"nb1.dropout>plain": "LeNet-5, batches of 128, 15 epochs against 10"},
        {
            "nb3.vanilla>bn": f"with nb3.bn>dropout, {PLAIN_BEATS_DROPOUT}",
            "nb3.bn>dropout": f"with nb3.vanilla>bn, {PLAIN_BEATS_DROPOUT}",
        },
    ),
)
"""The two sides of every contradiction."""


def confront(judged: Sequence[Judged]) -> list[Judged]:
    """Add to the reason of each ruling the rulings of the claims that contradict it, with the
    conditions of both."""
    by_id = {one.claim["id"]: one for one in judged}
    return [
        replace(one, reason="; ".join([one.reason, *_contrary(one.claim["id"], by_id)]))
        for one in judged
    ]


def _contrary(name: str, by_id: Mapping[str, Judged]) -> list[str]:
    remarks = []
    for here, there in (sides for pair in CONTRADICTIONS for sides in (pair, pair[::-1])):
        if name in here:
            against = "; ".join(
                f"{other} is {by_id[other].ruling} ({there[other]})" for other in there
            )
            remarks.append(f"here: {here[name]}; to the contrary {against}")
    return remarks
