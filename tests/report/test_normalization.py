"""The plot of the batch norms: violins where there is a density, layers in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import FillBetweenPolyCollection

from dlsys_bench.engines.plan import Plan
from dlsys_bench.notebooks.zoo import MODELS
from dlsys_bench.report import picture
from dlsys_bench.report.plots import normalization
from dlsys_bench.report.plots.normalization import NormTensors, batch_norms, has_density


def norm(name: str, channels: int, seed: int = 0, ratio: float = 1.0) -> NormTensors:
    generator = np.random.default_rng(seed)
    tensors = {name: generator.normal(size=channels) for name in ("beta", "moving_mean")}
    return NormTensors(
        name,
        {
            "gamma": np.ones(channels),
            "moving_variance": ratio ** generator.random(channels),
            **tensors,
        },
    )


def drawn(norms: list[NormTensors], path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Draw the batch norms, and return the four panels."""
    kept: list[Any] = []

    def keep(figure: Any, path: Path) -> Path:
        kept.append(figure)
        return picture.save(figure, path)

    monkeypatch.setattr(normalization, "save", keep)
    assert normalization.draw_batch_norms(norms, "own", path) == path
    assert path.read_bytes().startswith(b"\x89PNG")
    (figure,) = kept
    return list(figure.axes)


def violins(axis: Any) -> int:
    return sum(isinstance(artist, FillBetweenPolyCollection) for artist in axis.collections)


def test_the_batch_norms_of_a_model_are_in_order() -> None:
    model = MODELS["lenet5-tanh/bn+bn"]
    weights = Plan(0).weights(model)
    norms = batch_norms(model, weights)
    assert [(one.name, len(one.tensors["beta"])) for one in norms] == [
        ("batch_norm_1", 1),
        ("batch_norm_2", 6),
        ("batch_norm_3", 16),
        ("batch_norm_4", 120),
        ("batch_norm_5", 84),
    ]
    for one in norms:
        for tensor, *_, start in normalization.PANELS:
            assert one.tensors[tensor] is weights[f"{one.name}.{tensor}"]
            assert (one.tensors[tensor] == start).all()
    assert batch_norms(MODELS["lenet5-tanh/dropout"], {}) == []


def test_a_density_needs_several_different_values() -> None:
    assert has_density(np.array([1.0, 2.0]))
    assert not has_density(np.array([1.0]))
    assert not has_density(np.ones(5))


def test_values_without_a_density_are_drawn_as_a_box(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    axes = drawn(
        [norm("first", 1), norm("second", 6, 1), norm("third", 9, 2)],
        tmp_path / "bn.png",
        monkeypatch,
    )
    assert [axis.get_title() for axis in axes] == [panel[1] for panel in normalization.PANELS]
    # Every gamma is 1, and so is every moving variance with a ratio of 1.
    assert [violins(axis) for axis in axes] == [0, 2, 2, 0]
    assert [label.get_text() for label in axes[3].get_xticklabels()] == [
        "first (1)",
        "second (6)",
        "third (9)",
    ]
    points = [
        artist.get_offsets()[:, 1]
        for artist in axes[1].collections
        if len(artist.get_offsets()) > 1
    ]
    assert [len(values) for values in points] == [6, 9]
    np.testing.assert_allclose(points[0], norm("second", 6, 1).tensors["beta"])
    assert [float(axis.lines[0].get_ydata()[0]) for axis in axes] == [1, 0, 0, 1]


def test_values_over_decades_have_a_logarithmic_axis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    axes = drawn([norm("only", 50, 0, 1e6)], tmp_path / "bn.png", monkeypatch)
    (points,) = (
        artist.get_offsets()[:, 1]
        for artist in axes[3].collections
        if len(artist.get_offsets()) > 1
    )
    np.testing.assert_allclose(10**points, norm("only", 50, 0, 1e6).tensors["moving_variance"])
    assert float(axes[3].lines[0].get_ydata()[0]) == 0
    assert axes[3].yaxis.get_major_formatter()(3.0) == "1000"
    dead = norm("only", 50, 0, 1e6)
    dead.tensors["moving_variance"][0] = 0.0
    axes = drawn([dead], tmp_path / "bn.png", monkeypatch)
    assert float(axes[3].lines[0].get_ydata()[0]) == 1
