"""Plots of labelled images: bars of the class counts, and grids of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from dlsys_bench.data import Dataset
from dlsys_bench.errors import count_of
from dlsys_bench.report.images import SPLITS, class_counts
from dlsys_bench.report.picture import (
    BLUE,
    ORANGE,
    SLANTED,
    VERMILLION,
    WIDTH,
    label_step,
    save,
    shorten,
)

IMAGES_PER_CLASS = 3
MAX_CLASSES = 50
"""The grid of classes shows the first of them if there are more than this."""
CLASSES_PER_ROW = 10
MIN_COLUMNS = 5
"""A grid of fewer columns would enlarge its images too much."""
MARK = "✗"


class Tile(NamedTuple):
    """An image (H, W, C) of a grid, with C 1 or 3, and the caption above it.

    A marked tile is framed.
    """

    image: NDArray[Any]
    caption: str = ""
    marked: bool = False


def draw_counts(dataset: Dataset, path: Path) -> Path:
    """Draw bars of the samples per class, with one panel and scale per split, as a PNG."""
    counts = class_counts(dataset)
    names = [shorten(name) for name in dataset.classes]
    figure = Figure(figsize=(WIDTH, 6.2), layout="constrained")
    axes = figure.subplots(2, 1, sharex=True)
    for axis, (split, title), colour in zip(axes, SPLITS.items(), (BLUE, ORANGE), strict=True):
        _draw_bars(axis, counts[split], title, colour)
    step = label_step(len(names))
    slant = SLANTED if max(map(len, names)) * len(names[::step]) > 90 else {}
    positions = np.arange(len(names))
    axes[1].set_xticks(positions[::step], names[::step], fontsize=9, parse_math=False, **slant)
    axes[1].set_xlabel("class" if step == 1 else f"class (one in {step} is named)")
    figure.suptitle(f"{dataset.name}: images of each class", fontsize=12, parse_math=False)
    return save(figure, path)


def _draw_bars(axis: Any, counts: NDArray[np.int64], title: str, colour: str) -> None:
    bars = axis.bar(np.arange(len(counts)), counts, color=colour, width=0.75)
    if len(counts) <= 25:
        size = 8 if len(counts) <= 12 else 6
        axis.bar_label(bars, [f"{count:,}" for count in counts], fontsize=size)
    axis.margins(x=0.02, y=0.12)
    axis.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True))
    axis.yaxis.set_major_formatter("{x:,.0f}")
    axis.grid(axis="y", alpha=0.3)
    axis.set_axisbelow(True)
    axis.set_title(f"{title}, {count_of(int(counts.sum()), 'image')}", fontsize=10)
    axis.set_ylabel("images")


def draw_indices(count: int, seed: int, most: int = 25) -> NDArray[np.int64]:
    """Draw up to `most` different indices below `count` from the seed."""
    return np.random.default_rng(seed).choice(count, min(most, count), replace=False)


def draw_class_indices(
    y: NDArray[np.int64], label: int, seed: int, most: int = IMAGES_PER_CLASS
) -> NDArray[np.int64]:
    """Draw up to `most` different indices of a label in y (N,) from the seed and the label."""
    indices = np.flatnonzero(y == label)
    return np.random.default_rng((seed, label)).permutation(indices)[:most]


def draw_samples(dataset: Dataset, split: str, path: Path, *, seed: int = 0) -> Path:
    """Draw 5 x 5 images of a split, selected by the seed, with their class names, as a PNG."""
    x, y = getattr(dataset, f"x_{split}"), getattr(dataset, f"y_{split}")
    tiles = [
        Tile(x[index], shorten(dataset.classes[y[index]], 22))
        for index in draw_indices(len(x), seed)
    ]
    title = f"{len(tiles)} of {len(x):,} {SPLITS[split]} images, seed {seed}"
    return draw_grid(tiles, 5, f"{dataset.name}: {title}", path)


def draw_classes(dataset: Dataset, path: Path, *, seed: int = 0) -> Path:
    """Draw three training images of each class, in a column under its name, as a PNG."""
    shown = dataset.classes[:MAX_CLASSES]
    columns = max(min(CLASSES_PER_ROW, len(shown)), MIN_COLUMNS)
    tiles: list[Tile | None] = []
    for first in range(0, len(shown), columns):
        labels = range(first, min(first + columns, len(shown)))
        indices = [draw_class_indices(dataset.y_train, label, seed) for label in labels]
        for row in range(IMAGES_PER_CLASS):
            names = [shorten(shown[label], 11) if row == 0 else "" for label in labels]
            tiles += [
                Tile(dataset.x_train[index[row]], name) if row < len(index) else None
                for index, name in zip(indices, names, strict=True)
            ]
            tiles += [None] * (columns - len(indices))
    everything = len(shown) == len(dataset.classes)
    which = "each class" if everything else f"the first {len(shown)} classes"
    title = f"{dataset.name}: {IMAGES_PER_CLASS} training images of {which}, seed {seed}"
    return draw_grid(tiles, columns, title, path)


def draw_grid(tiles: Sequence[Tile | None], columns: int, title: str, path: Path) -> Path:
    """Draw images in rows, each under its caption, as a PNG. None leaves a cell empty.

    Integer images are shown on the scale 0 to 255, floats from the smallest to the largest value of
    the grid. Marked tiles have a thick dashed frame.
    """
    images = [tile.image for tile in tiles if tile is not None]
    low, high = (0.0, 255.0) if images[0].dtype == np.uint8 else _value_range(images)
    rows = -(-len(tiles) // columns)
    figure = Figure(figsize=(WIDTH, _grid_height(tiles, columns)), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    size, pad = (9, 6) if columns <= 5 else (8, 3)
    for axis, tile in zip(axes, tiles, strict=False):
        if tile is None:
            continue
        shown = (tile.image.astype(np.float64) - low) / (high - low)
        if tile.image.shape[2] == 1:
            shown = shown[..., 0]
        axis.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        look = {"color": VERMILLION, "weight": "bold"} if tile.marked else {}
        axis.set_title(tile.caption, fontsize=size, pad=pad, parse_math=False, **look)
        if tile.marked:
            axis.add_patch(_frame(tile.image.shape))
    figure.suptitle(title, fontsize=12, parse_math=False)
    return save(figure, path)


def _grid_height(tiles: Sequence[Tile | None], columns: int) -> float:
    """Return the height in inches of a grid with its captions."""
    rows = [tiles[first : first + columns] for first in range(0, len(tiles), columns)]
    heights = [[len(tile.caption.splitlines()) for tile in row if tile] for row in rows]
    caption_lines = sum(max(lines, default=0) for lines in heights)
    height, width = next(tile for tile in tiles if tile).image.shape[:2]
    row_height: float = WIDTH / columns * height / width + 0.04
    return len(rows) * row_height + caption_lines * 0.18 + 0.4


def _value_range(images: Sequence[NDArray[Any]]) -> tuple[float, float]:
    low = min(float(image.min()) for image in images)
    high = max(float(image.max()) for image in images)
    return low, high if high > low else low + 1.0


def _frame(shape: tuple[int, ...]) -> Rectangle:
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
