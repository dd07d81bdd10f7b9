"""Plots of labelled images: class counts, samples, classes and marked tiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from dlsys_bench.data import Dataset
from dlsys_bench.errors import DataError, StoreError
from dlsys_bench.report import images, picture
from dlsys_bench.report.plots import images as plots

CLASSES = ("T-shirt $1$", "a name that is too long for its place", "c")


@pytest.fixture
def dataset() -> Dataset:
    """Return three classes, the last with one training and no test image.

    The pixels of an image have its index as their value.
    """
    y = np.array([0, 1, 0, 1, 1, 0, 1, 1, 2, 0, 0])
    x = np.arange(11, dtype=np.uint8)[:, None, None, None] + np.zeros((11, 4, 4, 1), np.uint8)
    return Dataset("three", x, y, x[:6], y[:6], CLASSES)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the figures that are written, which this collects."""
    kept: list[Any] = []

    def keep(figure: Any, path: Path) -> Path:
        kept.append(figure)
        return picture.save(figure, path)

    monkeypatch.setattr(plots, "save", keep)
    return kept


def size(path: Path) -> tuple[int, int]:
    """Return the width and height in the header of a PNG."""
    head = path.read_bytes()[:24]
    assert head.startswith(b"\x89PNG\r\n")
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def test_class_counts_and_their_table(dataset: Dataset) -> None:
    counts = images.class_counts(dataset)
    assert counts["train"].tolist() == np.bincount(dataset.y_train).tolist() == [5, 5, 1]
    assert counts["test"].tolist() == np.bincount(dataset.y_test, minlength=3).tolist() == [3, 3, 0]
    assert [row[2::2] for row in images.counts_table(dataset).rows] == [
        ("5", "3"),
        ("5", "3"),
        ("1", "0"),
        ("11", "6"),
    ]
    assert images.counts_table(dataset).rows[2][3::2] == ("9.1%", "0.0%")


def test_bars_have_the_height_of_the_counts(
    dataset: Dataset, figures: list[Any], tmp_path: Path
) -> None:
    assert size(plots.draw_counts(dataset, tmp_path / "deep" / "counts.png")) == (990, 682)
    train, test = figures[0].axes
    assert [bar.get_height() for bar in train.patches] == [5, 5, 1]
    assert [bar.get_height() for bar in test.patches] == [3, 3, 0]
    assert [label.get_text() for label in test.get_xticklabels()] == [
        "T-shirt $1$",
        "a name that is …",
        "c",
    ]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["counts.png"]


def test_of_many_classes_only_some_are_labelled(figures: list[Any], tmp_path: Path) -> None:
    y = np.arange(60)
    x = np.zeros((60, 3, 2, 3))
    dataset = Dataset("many", x, y, x, y, tuple(f"class {label}" for label in y))
    plots.draw_counts(dataset, tmp_path / "counts.png")
    assert [label.get_text() for label in figures[0].axes[1].get_xticklabels()] == [
        f"class {k}" for k in range(0, 60, 3)
    ]
    assert len(figures[0].axes[0].texts) == 0


def test_indices_are_drawn_from_the_seed_without_replacement() -> None:
    first = plots.draw_indices(1000, 7)
    assert len(set(first.tolist())) == 25
    assert (
        first.tolist()
        == plots.draw_indices(1000, 7).tolist()
        != plots.draw_indices(1000, 8).tolist()
    )
    assert sorted(plots.draw_indices(6, 0).tolist()) == list(range(6))
    y = np.arange(100) % 4
    assert [set(y[plots.draw_class_indices(y, label, 3)]) for label in range(4)] == [
        {0},
        {1},
        {2},
        {3},
    ]
    assert len(set(plots.draw_class_indices(y, 1, 3).tolist())) == 3


@pytest.mark.parametrize("split", images.SPLITS)
def test_samples_have_the_name_of_their_class(
    split: str, dataset: Dataset, figures: list[Any], tmp_path: Path
) -> None:
    width, height = size(plots.draw_samples(dataset, split, tmp_path / "samples.png", seed=1))
    assert (width, height > 400) == (990, True)
    y = getattr(dataset, f"y_{split}")
    shown = [
        (axis.get_title(), round(float(axis.images[0].get_array()[0, 0]) * 255))
        for axis in figures[0].axes
        if axis.images
    ]
    assert [title for title, _ in shown] == [
        picture.shorten(CLASSES[y[index]], 22) for _, index in shown
    ]
    assert sorted(index for _, index in shown) == list(range(len(y)))
    assert f"{len(y)} of {len(y)}" in figures[0].get_suptitle()


def test_a_column_has_three_images_of_its_class(
    dataset: Dataset, figures: list[Any], tmp_path: Path
) -> None:
    plots.draw_classes(dataset, tmp_path / "classes.png")
    axes = figures[0].axes
    for label in range(3):
        column = [axis.images[0].get_array()[0, 0] * 255 for axis in axes[label::5] if axis.images]
        assert len(set(column)) == len(column) == min(3, (dataset.y_train == label).sum())
        assert {int(dataset.y_train[round(float(index))]) for index in column} == {label}
    assert [axis.get_title() for axis in axes if axis.get_title()] == [
        "T-shirt $1$",
        "a name tha…",
        "c",
    ]


def test_only_marked_tiles_have_a_frame(figures: list[Any], tmp_path: Path) -> None:
    image = np.zeros((2, 2, 3))
    tiles = [
        plots.Tile(image, "right"),
        None,
        plots.Tile(image + 1, "wrong", marked=True),
        plots.Tile(image),
    ]
    plots.draw_grid(tiles, 5, "title", tmp_path / "grid.png")
    assert [len(axis.patches) for axis in figures[0].axes] == [0, 0, 1, 0, 0]
    assert figures[0].axes[2].images[0].get_array().max() == 1


@pytest.mark.parametrize(
    ("x", "y", "classes", "message"),
    [
        (
            np.zeros((2, 5)),
            np.arange(2),
            ("a", "b"),
            "vectors of shape (5,), no images to show; expected images",
        ),
        (
            np.zeros((2, 5)),
            np.zeros((2, 1)),
            (),
            "targets of a regression, no classes to show; expected images",
        ),
        (np.zeros((2, 5, 5, 2)), np.arange(2), ("a", "b"), "images of 2 channels; expected images"),
    ],
)
def test_data_that_are_not_images_raise(
    x: Any, y: Any, classes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DataError) as error:
        images.check_images(Dataset("own", x, y, x, y, classes))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_plot_is_written_atomically(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot write a plot to .*file/a.png"):
        picture.save(Figure(), tmp_path / "file" / "a.png")

    class Broken(Figure):
        def savefig(self, fname: Any, **options: Any) -> None:
            Path(fname).write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match="No space left"):
        picture.save(Broken(), tmp_path / "b.png")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
