"""Datasets of labelled images: validation, and the number of images per class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dlsys_bench.data import Dataset
from dlsys_bench.errors import DataError
from dlsys_bench.report.layout import NONE
from dlsys_bench.report.table import Table

SPLITS = {"train": "training", "test": "test"}
"""The splits of a dataset, and what they are called in titles."""


def check_images(dataset: Dataset) -> None:
    """Raise a DataError unless the dataset consists of labelled images that can be shown."""
    accepted = "expected images (N, H, W, C) of 1 or 3 channels, with labels"
    shape = dataset.x_train.shape[1:]
    if not dataset.classes:
        problem = "the targets of a regression, no classes to show"
    elif names := dataset.x_train.dtype.names:
        problem = f"the inputs {', '.join(names)}, which are not shown"
    elif len(shape) != 3:
        problem = f"vectors of shape {shape}, no images to show"
    elif shape[2] not in (1, 3):
        problem = f"images of {shape[2]} channels"
    else:
        return
    raise DataError(f'dataset "{dataset.name}" has {problem}; {accepted}')


def class_counts(dataset: Dataset) -> dict[str, NDArray[np.int64]]:
    """Return the number of samples of each class (K,) for each split."""
    classes = len(dataset.classes)
    return {
        split: np.bincount(getattr(dataset, f"y_{split}"), minlength=classes).astype(np.int64)
        for split in SPLITS
    }


def counts_table(dataset: Dataset) -> Table:
    """Return a table with one row per class: its samples in each split, and their fraction."""
    counts = class_counts(dataset)
    totals = [counts[split].sum() for split in SPLITS]

    def row(label: str, name: str, numbers: list[int]) -> tuple[str, ...]:
        cells = [(f"{n:,}", f"{n / total:.1%}") for n, total in zip(numbers, totals, strict=True)]
        return (label, name, *(text for cell in cells for text in cell))

    rows = [
        row(str(label), name, [counts[split][label] for split in SPLITS])
        for label, name in enumerate(dataset.classes)
    ]
    rows.append(row(NONE, "all", totals))
    heads = (">label", "class", ">training", ">fraction", ">test", ">fraction")
    return Table(f"{dataset.name}: images of each class", heads, rows)
