"""Datasets that are computed from a formula; each seed draws them anew."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from dlsys_bench.data.dataset import Dataset
from dlsys_bench.data.source import Source
from dlsys_bench.engines.plan import Array

REACH = math.sqrt(7.0)
"""Functions of one variable are learned on (-REACH, REACH)."""


def _generator(name: str, seed: int) -> np.random.Generator:
    # The name enters the seed, so that two datasets of one seed share no draw.
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, *name.encode()))))


def _one_variable(name: str, target: Callable[[Array], Array], seed: int) -> Dataset:
    """3000 training and 1000 test points, uniform on (-sqrt 7, sqrt 7): x (N, 1), y (N, 1)."""
    generator = _generator(name, seed)
    x, fresh = (generator.uniform(-REACH, REACH, (count, 1)) for count in (3000, 1000))
    return Dataset(
        name,
        x,
        target(x),
        fresh,
        target(fresh),
        redraw=lambda other: _one_variable(name, target, other),
    )


def absolute(seed: int = 0) -> Dataset:
    """The function |x| of nb2, nb4 and Lu et al. 2019."""
    return _one_variable("absolute", np.abs, seed)


def absolute_sine(seed: int = 0) -> Dataset:
    """The function |x sin 5x| of nb4."""
    return _one_variable("absolute-sine", lambda x: np.abs(x * np.sin(5.0 * x)), seed)


EGGHOLDER_NOISE = math.sqrt(0.3)
"""The standard deviation of the noise, which bounds the RMSE on noisy targets from below."""


def eggholder_function(a: Array, b: Array) -> Array:
    """Evaluate -(b + 47) sin sqrt|b + a/2 + 47| - a sin sqrt|a - (b + 47)|.

    The minimum on (-512, 512)^2 is -959.6407, at (512, 404.2319).
    """
    first = -(b + 47.0) * np.sin(np.sqrt(np.abs(b + a / 2.0 + 47.0)))
    return first - a * np.sin(np.sqrt(np.abs(a - (b + 47.0))))


def eggholder(seed: int = 0) -> Dataset:
    """The noisy Eggholder function of nb4: 80,000 training and 20,000 test points.

    x (N, 2) is uniform on (-512, 512)^2, and y (N, 1) has noise of variance 0.3.
    """
    generator = _generator("eggholder", seed)
    x = generator.uniform(-512.0, 512.0, (100_000, 2))
    y = eggholder_function(x[:, :1], x[:, 1:]) + generator.normal(0.0, EGGHOLDER_NOISE, (len(x), 1))
    return Dataset("eggholder", x[:80_000], y[:80_000], x[80_000:], y[80_000:], redraw=eggholder)


def half_planes(generator: np.random.Generator, draws: int, points: int) -> tuple[Array, Array]:
    """Draw points uniformly on (0, 1)^2, R draws at once: x (R, N, 2), and the signs of x1 - x2 (R,
    N)."""
    x = generator.random((draws, points, 2))
    return x, np.where(x[..., 0] > x[..., 1], 1.0, -1.0)


def half_plane(seed: int = 0) -> Dataset:
    """The points of nb2 and nb4: 20 for training and 1000 for testing, uniform on (0, 1)^2, with
    label 1 if x1 > x2, else 0."""
    x, signs = half_planes(_generator("half-plane", seed), 1, 1020)
    points, labels = x[0], (signs[0] > 0).astype(np.int64)
    classes = ("x1 <= x2", "x1 > x2")
    return Dataset(
        "half-plane", points[:20], labels[:20], points[20:], labels[20:], classes, redraw=half_plane
    )


def _formula(
    name: str, title: str, shape: tuple[int, ...], classes: tuple[str, ...], citation: str
) -> Source:
    factory = f"{__name__}:{name.replace('-', '_')}"
    return Source(name, title, name, classes, shape, "none: computed", citation, factory=factory)


_SOURCES = (
    _formula(
        "absolute",
        "|x| on (-sqrt 7, sqrt 7)",
        (1,),
        (),
        "Lu, Shin, Su, Karniadakis: Dying ReLU and initialization. Commun. Comput. Phys. 28(5), "
        "2020",
    ),
    _formula(
        "absolute-sine", "|x sin 5x| on (-sqrt 7, sqrt 7)", (1,), (), "the fourth notebook (nb4)"
    ),
    _formula(
        "eggholder",
        "Eggholder function on (-512, 512)^2 with noise of variance 0.3",
        (2,),
        (),
        "Whitley, Rana, Dzubera, Mathias: Evaluating evolutionary algorithms. Artif. Intell. 85, "
        "1996",
    ),
    _formula(
        "half-plane",
        "Two uniform numbers, which is the larger",
        (2,),
        ("x1 <= x2", "x1 > x2"),
        "the second and fourth notebooks (nb2, nb4)",
    ),
)

DATASETS: dict[str, Source] = {source.name: source for source in _SOURCES}
"""Every dataset that a formula computes, by name."""
