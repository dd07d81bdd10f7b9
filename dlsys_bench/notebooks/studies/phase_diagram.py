"""The fraction of dead ReLU networks by depth and width, at birth and after two epochs.

A network is "born dead" if it is constant before any training. With zero biases, a network of one
input is linear on either side of zero: f(x) = x f(1) for x > 0 and |x| f(-1) for x < 0. It is born
dead if it is zero on both sides, that is, if both rays have died. A layer of N units kills a single
live ray with probability 2^-N for any symmetric distribution of its weights. Lu, Shin, Su,
Karniadakis 2019.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from dlsys_bench.engines.plan import Array, draw
from dlsys_bench.notebooks.studies.dying_relu import FLAT, LIKE_NB2, collapse
from dlsys_bench.notebooks.zoo import narrow
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.initializers import Fans, GlorotUniform, HeUniform, Initializer
from dlsys_bench.spec.model import Model
from dlsys_bench.studies.base import Arm, ArmRun, Metric, Study

DEPTHS = {"quick": (1, 2, 5, 10, 20), "full": tuple(range(1, 21))}
WIDTHS = {"quick": (1, 2, 3, 5, 10), "full": tuple(range(1, 11))}
NETWORKS = {"quick": 50, "full": 1000}
BORN = {"quick": 1000, "full": 1000}

Parameters = tuple[Array, Array | None]
"""The kernels (R, in, out) of a layer of R networks and its biases (R, 1, out), None if zero."""


class LayerSizes(NamedTuple):
    """The size of one layer in a number of networks."""

    networks: int
    fan_in: int
    fan_out: int


Start = Callable[[np.random.Generator, LayerSizes], Parameters]
"""Draws the parameters of one layer."""


def symmetric(initializer: Initializer) -> Start:
    """Kernels drawn by an initialiser, and zero biases."""

    def start(generator: np.random.Generator, sizes: LayerSizes) -> Parameters:
        distribution = initializer.distribution(Fans(sizes.fan_in, sizes.fan_out))
        return draw(distribution, tuple(sizes), generator), None

    return start


ASYMMETRIC_DEVIATION = 0.6007


def asymmetric(generator: np.random.Generator, sizes: LayerSizes) -> Parameters:
    """Randomized asymmetric initialization (Lu et al. 2019, section 4).

    The weights and the bias of a unit are normal with a standard deviation of 0.6007 / sqrt(fan_in)
    except for one of them, chosen uniformly, which is drawn from Beta(2, 1).
    """
    networks, fan_in, fan_out = sizes
    both = generator.normal(
        0.0, ASYMMETRIC_DEVIATION / np.sqrt(fan_in), (networks, fan_in + 1, fan_out)
    )
    chosen = generator.integers(0, fan_in + 1, (networks, 1, fan_out))
    np.put_along_axis(both, chosen, generator.beta(2.0, 1.0, chosen.shape), axis=1)
    return both[:, :fan_in], both[:, fan_in:]


STARTS: dict[str, Start] = {
    "glorot_uniform": symmetric(GlorotUniform()),
    "he_uniform": symmetric(HeUniform()),
    "asymmetric": asymmetric,
}
SYMMETRIC = [name for name, start in STARTS.items() if start is not asymmetric]
"""The ways of drawing weights that are symmetric about zero, without biases."""


class BirthCounts(NamedTuple):
    """The numbers of networks of one depth and width that are dead (constant) and flat (a variance
    of at most 1e-3) before training.

    They are evaluated on the two rays and 1000 fresh points if biases are zero, else on 64 points.
    """

    dead: int
    flat: int


def born(
    start: Start, slope: float, depth: int, width: int, networks: int, seed: int
) -> BirthCounts:
    """Draw networks of one input and one output, and count those that are dead or flat on
    (-sqrt 7, sqrt 7) without training."""
    generator = np.random.default_rng((seed, depth, width))
    fresh = generator.uniform(-np.sqrt(7.0), np.sqrt(7.0), 1000)
    widths = [1, *[width] * depth, 1]
    h = (
        np.broadcast_to(fresh[:64, None], (networks, 64, 1))
        if start is asymmetric
        else np.array([[[-1.0], [1.0]]])
    )
    for number, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
        kernel, bias = start(generator, LayerSizes(networks, fan_in, fan_out))
        h = h @ kernel if bias is None else h @ kernel + bias
        if number < depth:
            h = np.where(h > 0, h, slope * h)
            ends = h
    dead = (np.ptp(ends, axis=1) == 0).all(axis=1)
    outputs = h[..., 0]
    if start is not asymmetric:
        # One point on either side determines a network without biases.
        outputs = np.where(fresh > 0, outputs[:, 1:], outputs[:, :1]) * np.abs(fresh)
    return BirthCounts(int(dead.sum()), int((outputs.var(axis=1) <= FLAT).sum()))


def born_dead_bounds(depth: int, width: int) -> tuple[float, float]:
    """Lower and upper bound on the probability that a ReLU network of one input is born dead.

    The weights are independent, each with a symmetric distribution without an atom at zero; the
    biases are zero. The bounds are those of a Markov chain whose state is the number of live rays.

    The first layer assigns each unit to one ray. Afterwards, while both rays live, let d be the
    probability that a layer kills both. A unit is off for one ray with probability 1/2, and for
    both with at least 1/4: no ray has a negative entry, so both sums increase with every weight and
    are positively associated (Harris 1960). Hence d lies between 4^-N and 2^-N, which parallel rays
    attain. The probability of death grows with d, because a layer that kills both rays at once
    leaves no single ray, so each bound is the chain with the extreme value of d. The argument
    follows Lu et al. 2019, whose bounds for normal weights are tighter.
    """
    half = 0.5**width
    bounds = []
    for both_die in (half**2, half):
        none, one, both = 0.0, 2.0 * half, 1.0 - 2.0 * half
        for _ in range(depth - 1):
            none, one, both = (
                none + half * one + both_die * both,
                (1.0 - half) * one + 2.0 * (half - both_die) * both,
                (1.0 - 2.0 * half + both_die) * both,
            )
        bounds.append(none)
    return bounds[0], bounds[1]


def diagram(run: ArmRun) -> Mapping[str, Any]:
    """The fractions of flat and of dead networks for each depth and width. After a training, a
    network is dead if its predictions are identical."""
    depths, widths = DEPTHS[run.tier], WIDTHS[run.tier]
    start, slope = run.arm.options["start"], run.arm.options["slope"]
    flat, dead = np.zeros((len(depths), len(widths))), np.zeros((len(depths), len(widths)))
    for row, depth in enumerate(depths):
        for column, width in enumerate(widths):
            if start is None:
                cell = collapse(
                    run._replace(
                        model=to_convention(run.engine.convention, _cell(run, depth, width))
                    )
                )
                flat[row, column] = cell["collapse_fraction"]
                dead[row, column] = cell["identical"] / cell["networks"]
            else:
                counts = born(STARTS[start], slope, depth, width, run.networks, run.seed)
                flat[row, column] = counts.flat / run.networks
                dead[row, column] = counts.dead / run.networks
    return {
        "depths": list(depths),
        "widths": list(widths),
        "networks": run.networks,
        "flat": flat.tolist(),
        "dead": dead.tolist(),
        "collapse_fraction": float(flat.mean()),
        "dead_fraction": float(dead.mean()),
    }


def _cell(run: ArmRun, depth: int, width: int) -> Model:
    return narrow(run.arm.options["activation"], depth, width)


def _arm(name: str, activation: str, slope: float, start: str | None) -> Arm:
    return Arm(
        name,
        narrow(activation),
        {"quick": LIKE_NB2, "full": LIKE_NB2},
        networks=BORN if start else NETWORKS,
        options={
            "rule": "flat",
            "start": start,
            "slope": slope,
            "activation": activation,
            "depths": DEPTHS,
            "widths": WIDTHS,
        },
    )


PHASE_DIAGRAM = Study(
    "dying-relu-phase-diagram",
    "The fraction of constant networks by depth and width: trained, and at birth by slope and "
    "initializer",
    "Lu et al. 2019",
    "absolute",
    (
        _arm("trained/relu, glorot_uniform", "relu", 0.0, None),
        _arm("born/relu, glorot_uniform", "relu", 0.0, "glorot_uniform"),
        _arm("born/relu, he_uniform", "relu", 0.0, "he_uniform"),
        _arm("born/leaky_relu 0.01, he_uniform", "leaky_relu", 0.01, "he_uniform"),
        _arm("born/leaky_relu 0.1, he_uniform", "leaky_relu", 0.1, "he_uniform"),
        _arm("born/leaky_relu 0.3, he_uniform", "leaky_relu", 0.3, "he_uniform"),
        _arm("born/relu, asymmetric", "relu", 0.0, "asymmetric"),
    ),
    metric=Metric("collapse_fraction", higher_is_better=False, is_fraction=True),
    plots=("phase_diagram",),
    measure=diagram,
)

STUDIES = (PHASE_DIAGRAM,)
