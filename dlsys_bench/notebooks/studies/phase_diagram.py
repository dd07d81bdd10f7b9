"""How often a ReLU network dies, over depth and width: trained for two epochs, and at birth, before
any training.

At birth theory stands beside the measured. With biases of zero a network of one input is one ray to
either side: f(x) = x f(1) for x > 0 and |x| f(-1) for x < 0. It is born dead when both rays have
died, and a layer of N units kills a ray that stands alone with probability 2^-N whatever the
symmetric law of its weights. Lu, Shin, Su, Karniadakis 2019.
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
from dlsys_bench.studies.base import Arm, Study, Trial

DEPTHS = {"quick": (1, 2, 5, 10, 20), "full": tuple(range(1, 21))}
WIDTHS = {"quick": (1, 2, 3, 5, 10), "full": tuple(range(1, 11))}
NETWORKS = {"quick": 50, "full": 1000}
BORN = {"quick": 1000, "full": 1000}

Layer = tuple[Array, Array | None]
"""Kernels (R, in, out) and biases (R, 1, out), None for none."""

Start = Callable[[np.random.Generator, int, int, int], Layer]


def symmetric(initializer: Initializer) -> Start:
    """Kernels by an initialiser, biases of zero."""

    def start(generator: np.random.Generator, networks: int, fan_in: int, fan_out: int) -> Layer:
        return draw(
            initializer.distribution(Fans(fan_in, fan_out)), (networks, fan_in, fan_out), generator
        ), None

    return start


ASYMMETRIC_DEVIATION = 0.6007


def asymmetric(generator: np.random.Generator, networks: int, fan_in: int, fan_out: int) -> Layer:
    """Randomised asymmetric initialisation: the weights and the bias of a unit are normal of
    deviation 0.6007 over the root of the fan in, but for one of them, drawn evenly, which is
    Beta(2, 1). Lu et al. 2019, section 4."""
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


class Born(NamedTuple):
    """How many networks of one depth and width are dead (one constant) and flat (of a variance of
    at most 1e-3): on the two rays and 1000 fresh points without biases, on 64 fresh points with
    them."""

    dead: int
    flat: int


def born(start: Start, slope: float, depth: int, width: int, networks: int, seed: int) -> Born:
    """Draw networks of one input and one output, and look at them on (-sqrt 7, sqrt 7) without
    training."""
    generator = np.random.default_rng((seed, depth, width))
    fresh = generator.uniform(-np.sqrt(7.0), np.sqrt(7.0), 1000)
    sizes = [1, *[width] * depth, 1]
    h = (
        np.broadcast_to(fresh[:64, None], (networks, 64, 1))
        if start is asymmetric
        else np.array([[[-1.0], [1.0]]])
    )
    for number, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        kernel, bias = start(generator, networks, fan_in, fan_out)
        h = h @ kernel if bias is None else h @ kernel + bias
        if number < depth:
            h = np.where(h > 0, h, slope * h)
            ends = h
    dead = (np.ptp(ends, axis=1) == 0).all(axis=1)
    outputs = h[..., 0]
    if start is not asymmetric:
        # Two points say all: each side is a ray.
        outputs = np.where(fresh > 0, outputs[:, 1:], outputs[:, :1]) * np.abs(fresh)
    return Born(int(dead.sum()), int((outputs.var(axis=1) <= FLAT).sum()))


def born_dead_bounds(depth: int, width: int) -> tuple[float, float]:
    """Bounds on the probability that a ReLU network of one input is born dead, for independent
    weights, each of a symmetric law without an atom at zero, and biases of zero.

    The first layer gives each unit to one ray. From then on, while both rays live, let d be the
    chance that a layer kills both. A unit is off for one ray with probability 1/2, and for both
    with 1/4 at least: both sums rise with every weight, no ray having a negative entry, so they are
    positively associated (Harris 1960). Hence d lies between 4^-N and 2^-N, which parallel rays
    reach. What a layer kills at once it does not leave to one ray alone, so death grows with d, and
    each bound is the chain of (none, one, both) with its d. The argument is that of Lu et al. 2019,
    whose own bounds, for normal weights, are closer.
    """
    half = 0.5**width
    bounds = []
    for together in (half**2, half):
        none, one, both = 0.0, 2.0 * half, 1.0 - 2.0 * half
        for _ in range(depth - 1):
            none, one, both = (
                none + half * one + together * both,
                (1.0 - half) * one + 2.0 * (half - together) * both,
                (1.0 - 2.0 * half + together) * both,
            )
        bounds.append(none)
    return bounds[0], bounds[1]


def diagram(trial: Trial) -> Mapping[str, Any]:
    """A cell for each depth and width: the fraction that is flat, and the fraction that is dead;
    after a training, that gives identical predictions."""
    depths, widths = DEPTHS[trial.tier], WIDTHS[trial.tier]
    start, slope = trial.arm.options["start"], trial.arm.options["slope"]
    flat, dead = np.zeros((len(depths), len(widths))), np.zeros((len(depths), len(widths)))
    for row, depth in enumerate(depths):
        for column, width in enumerate(widths):
            if start is None:
                cell = collapse(
                    trial._replace(
                        model=to_convention(trial.engine.convention, _cell(trial, depth, width))
                    )
                )
                flat[row, column] = cell["collapse_fraction"]
                dead[row, column] = cell["identical"] / cell["networks"]
            else:
                found = born(STARTS[start], slope, depth, width, trial.networks, trial.seed)
                flat[row, column], dead[row, column] = (
                    found.flat / trial.networks,
                    found.dead / trial.networks,
                )
    return {
        "depths": list(depths),
        "widths": list(widths),
        "networks": trial.networks,
        "flat": flat.tolist(),
        "dead": dead.tolist(),
        "collapse_fraction": float(flat.mean()),
        "dead_fraction": float(dead.mean()),
    }


def _cell(trial: Trial, depth: int, width: int) -> Model:
    return narrow(trial.arm.options["activation"], depth, width)


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
    "How often a network is one constant, by depth and width: trained, and at birth by slope and initialiser",
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
    metric="collapse_fraction",
    plots=("phase_diagram",),
    measure=diagram,
)

STUDIES = (PHASE_DIAGRAM,)
