"""Pictures of labelled images: how many there are of each class, and what they look like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.data import Dataset
from dlsys_bench.errors import DataError
from dlsys_bench.report.picture import BLUE, ORANGE, SLANTED, VERMILLION, WIDTH, every, save, short
from dlsys_bench.report.tables import NONE, Table

SPLITS = ("train", "test")
EACH = 3
"""Images of each class in the grid of classes."""
MOST_CLASSES = 50
"""A grid of more classes than this is longer than anyone scrolls: it shows the first of them."""
CLASSES_A_ROW = 10
FEWEST_COLUMNS = 5
"""A grid of fewer columns than this would blow its images up."""
MARK = "✗"


class Tile(NamedTuple):
    """One image (H, W, C) of a grid, C 1 or 3, the text above it, and whether it is marked by a
    frame."""

    image: NDArray[Any]
    caption: str = ""
    marked: bool = False


def check_images(dataset: Dataset) -> None:
    """Raise a DataError unless the dataset is images that can be shown, with labels."""
    takes = "it takes images (N, H, W, C) of 1 or 3 channels, with labels"
    shape = dataset.x_train.shape[1:]
    if not dataset.classes:
        raise DataError(
            f'dataset "{dataset.name}" has the targets of a regression, no classes to show; {takes}'
        )
    if len(shape) != 3:
        raise DataError(
            f'dataset "{dataset.name}" has vectors of shape {shape}, no images to show; {takes}'
        )
    if shape[2] not in (1, 3):
        raise DataError(f'dataset "{dataset.name}" has images of {shape[2]} channels; {takes}')


def class_counts(dataset: Dataset) -> dict[str, NDArray[np.int64]]:
    """The number of samples of each class, by split: (K,) each."""
    return {
        split: np.bincount(getattr(dataset, f"y_{split}"), minlength=len(dataset.classes)).astype(
            np.int64
        )
        for split in SPLITS
    }


def counts_table(dataset: Dataset) -> Table:
    """A row a class: its samples in each split, and their share of the split."""
    counts = class_counts(dataset)
    rows = [
        (
            str(label),
            name,
            *(
                cell
                for split in SPLITS
                for cell in _cells(counts[split][label], counts[split].sum())
            ),
        )
        for label, name in enumerate(dataset.classes)
    ]
    rows.append(
        (NONE, "all", *(cell for split in SPLITS for cell in _cells(*[counts[split].sum()] * 2)))
    )
    heads = (">label", "class", ">training", ">share", ">test", ">share")
    return Table(f"{dataset.name}: images of each class", heads, rows)


def _cells(count: int, of: int) -> tuple[str, str]:
    return f"{count:,}", f"{count / of:.1%}"


def draw_counts(dataset: Dataset, path: Path) -> Path:
    """Bars of the samples of each class, a panel a split: each has a scale of its own, so both can
    be read."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    counts = class_counts(dataset)
    names = [short(name) for name in dataset.classes]
    figure = Figure(figsize=(WIDTH, 6.2), layout="constrained")
    places = np.arange(len(names))
    for axis, split, title, colour in zip(
        figure.subplots(2, 1, sharex=True),
        SPLITS,
        ("training", "test"),
        (BLUE, ORANGE),
        strict=True,
    ):
        bars = axis.bar(places, counts[split], color=colour, width=0.75)
        if len(names) <= 25:
            axis.bar_label(
                bars,
                [f"{count:,}" for count in counts[split]],
                fontsize=8 if len(names) <= 12 else 6,
            )
        axis.margins(x=0.02, y=0.12)
        axis.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True))
        axis.yaxis.set_major_formatter("{x:,.0f}")
        axis.grid(axis="y", alpha=0.3)
        axis.set_axisbelow(True)
        axis.set_title(f"{title}, {counts[split].sum():,} images", fontsize=10)
        axis.set_ylabel("images")
    step = every(len(names))
    slant = SLANTED if max(map(len, names)) * len(names[::step]) > 90 else {}
    axis.set_xticks(places[::step], names[::step], fontsize=9, parse_math=False, **slant)
    axis.set_xlabel("class" if step == 1 else f"class (one in {step} is named)")
    figure.suptitle(f"{dataset.name}: images of each class", fontsize=12, parse_math=False)
    return save(figure, path)


def drawn(count: int, seed: int, most: int = 25) -> NDArray[np.int64]:
    """Up to `most` different places among `count`, drawn by the seed."""
    return np.random.default_rng(seed).choice(count, min(most, count), replace=False)


def drawn_of_each(
    y: NDArray[np.int64], label: int, seed: int, each: int = EACH
) -> NDArray[np.int64]:
    """Up to `each` different places of one label in y (N,), drawn by the seed and the label."""
    places = np.flatnonzero(y == label)
    return np.random.default_rng((seed, label)).permutation(places)[:each]


def draw_samples(dataset: Dataset, split: str, path: Path, *, seed: int = 0) -> Path:
    """Five by five images of a split, drawn by the seed, each under the name of its class."""
    x, y = getattr(dataset, f"x_{split}"), getattr(dataset, f"y_{split}")
    tiles = [Tile(x[place], short(dataset.classes[y[place]], 22)) for place in drawn(len(x), seed)]
    title = {"train": "training", "test": "test"}[split]
    return draw_grid(
        tiles, 5, f"{dataset.name}: {len(tiles)} of {len(x):,} {title} images, seed {seed}", path
    )


def draw_classes(dataset: Dataset, path: Path, *, seed: int = 0) -> Path:
    """Three training images of each class, one below the other under its name."""
    shown = dataset.classes[:MOST_CLASSES]
    columns = max(min(CLASSES_A_ROW, len(shown)), FEWEST_COLUMNS)
    tiles: list[Tile | None] = []
    for first in range(0, len(shown), columns):
        here = range(first, min(first + columns, len(shown)))
        places = [drawn_of_each(dataset.y_train, label, seed) for label in here]
        for row in range(EACH):
            names = [short(shown[label], 11) if row == 0 else "" for label in here]
            tiles += [
                Tile(dataset.x_train[place[row]], name) if row < len(place) else None
                for place, name in zip(places, names, strict=True)
            ]
            tiles += [None] * (columns - len(places))
    which = (
        "each class" if len(shown) == len(dataset.classes) else f"the first {len(shown)} classes"
    )
    title = f"{dataset.name}: {EACH} training images of {which}, seed {seed}"
    return draw_grid(tiles, columns, title, path)


def draw_grid(tiles: Sequence[Tile | None], columns: int, title: str, path: Path) -> Path:
    """Images in rows, each under its caption; None leaves a place empty. A marked one has a thick
    dashed frame.

    Bytes are shown from 0 to 255, floats from the least to the greatest value of the whole grid.
    """
    from matplotlib.figure import Figure

    images = [tile.image for tile in tiles if tile is not None]
    low, high = (0.0, 255.0) if images[0].dtype == np.uint8 else _range(images)
    rows = -(-len(tiles) // columns)
    size, pad = (9, 6) if columns <= 5 else (8, 3)
    lines = sum(
        max(
            len(tile.caption.splitlines()) if tile else 0 for tile in tiles[first : first + columns]
        )
        for first in range(0, len(tiles), columns)
    )
    side = WIDTH / columns
    height = rows * (side * images[0].shape[0] / images[0].shape[1] + 0.04) + lines * 0.18 + 0.4
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, tile in zip(axes, tiles, strict=False):
        if tile is None:
            continue
        grey = tile.image.shape[2] == 1
        shown = (tile.image.astype(np.float64) - low) / (high - low)
        axis.imshow(
            shown[..., 0] if grey else shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest"
        )
        look = {"color": VERMILLION, "weight": "bold"} if tile.marked else {}
        axis.set_title(tile.caption, fontsize=size, pad=pad, parse_math=False, **look)
        if tile.marked:
            axis.add_patch(_frame(tile.image.shape))
    figure.suptitle(title, fontsize=12, parse_math=False)
    return save(figure, path)


def _range(images: Sequence[NDArray[Any]]) -> tuple[float, float]:
    low, high = (
        min(float(image.min()) for image in images),
        max(float(image.max()) for image in images),
    )
    return low, high if high > low else low + 1.0


def _frame(shape: tuple[int, ...]) -> Any:
    from matplotlib.patches import Rectangle

    height, width = shape[:2]
    return Rectangle(
        (-0.5, -0.5),
        width,
        height,
        fill=False,
        edgecolor=VERMILLION,
        linewidth=4,
        linestyle=(0, (2, 1)),
        clip_on=False,
    )
