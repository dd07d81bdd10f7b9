"""Where two notebooks say what cannot both be true in general: who is right, and under which
conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from dlsys_bench.notebooks.rulings.ruling import Judged

EQUAL = "settled on the same points, start, rate and epochs for both"
Side = Mapping[str, str]

CONTRADICTIONS: tuple[tuple[Side, Side], ...] = (
    ({"nb2.perceptron>hinge": EQUAL}, {"nb4.hinge>perceptron": EQUAL}),
    (
        {
            "nb2.relu.collapse": "Glorot uniform weights, 2 epochs, collapsed where the variance is at most 1e-3"
        },
        {
            "nb4.relu.collapse": "normal weights, one more linear layer, 20 epochs, collapsed where all is one number"
        },
    ),
    (
        {"nb2.leaky.collapse": "on |x|, 2 epochs"},
        {"nb4.leaky.collapse": "on |x sin 5x|, 20 epochs"},
    ),
    (
        {"nb0.std~bn-input": "tanh, SGD, 20 epochs, against an input that is standardised"},
        {
            "nb2.bn-input>std.train": "tanh, SGD, 10 epochs, against an input that is only divided by 255",
            "nb2.bn-input>std.test": "tanh, SGD, 10 epochs, against an input that is only divided by 255",
            "nb4.bn>std": "sigmoid, Adam, 5 epochs, against an input whose standardisation was never fitted",
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
            "nb4.dropout>standard": "sigmoid, Adam, 15 epochs against 5; batch norm on all but the input"
        },
    ),
    (
        {"nb1.dropout>plain": "LeNet-5, batches of 128, 15 epochs against 10"},
        {
            "nb3.vanilla>bn": "with nb3.bn>dropout, plain beats dropout: a narrow MLP, batches of 8",
            "nb3.bn>dropout": "with nb3.vanilla>bn, plain beats dropout: a narrow MLP, batches of 8",
        },
    ),
)
"""Two sides, each by claim: under which conditions it was published and is judged here."""


def confront(judged: Sequence[Judged]) -> list[Judged]:
    """The rulings, each with those of the claims that say the contrary, and the conditions of
    both."""
    by_id = {one.claim["id"]: one for one in judged}
    return [
        replace(one, reason="; ".join([one.reason, *_contrary(one.claim["id"], by_id)]))
        for one in judged
    ]


def _contrary(name: str, by_id: Mapping[str, Judged]) -> list[str]:
    said = []
    for here, there in (sides for pair in CONTRADICTIONS for sides in (pair, pair[::-1])):
        if name in here:
            against = "; ".join(
                f"{other} is {by_id[other].ruling} ({there[other]})" for other in there
            )
            said.append(f"here: {here[name]}; to the contrary {against}")
    return said
