"""Show a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from dlsys_bench.cli.terminal import emit
from dlsys_bench.data import Dataset, load
from dlsys_bench.options.command import receives
from dlsys_bench.report import images
from dlsys_bench.report.display import show
from dlsys_bench.report.plots import images as plots
from dlsys_bench.runs.store import file_name
from dlsys_bench.strict_json import dumps


@dataclass(frozen=True)
class LookOptions:
    """The argument and the options of `look`."""

    dataset: str
    data_dir: str | None
    output: Path
    seed: int
    json: bool


@receives(LookOptions)
def look_command(options: LookOptions) -> None:
    """Draw the pictures, and print the class counts."""
    data = load(options.dataset, options.data_dir)
    images.check_images(data)
    pictures = _draw(data, options.output, options.seed)
    if options.json:
        emit(dumps(_summary(data) | {"pictures": list(map(str, pictures))}))
        return
    show(images.counts_table(data))
    for path in pictures:
        click.echo(path)


def _draw(data: Dataset, folder: Path, seed: int) -> list[Path]:
    path = {
        name: folder / f"{file_name(data.name, name)}.png"
        for name in ("counts", "train", "test", "classes")
    }
    return [
        plots.draw_counts(data, path["counts"]),
        *(plots.draw_samples(data, split, path[split], seed=seed) for split in images.SPLITS),
        plots.draw_classes(data, path["classes"], seed=seed),
    ]


def _summary(data: Dataset) -> dict[str, object]:
    counts = images.class_counts(data)
    classes = [
        {"label": label, "class": name}
        | {split: int(counts[split][label]) for split in images.SPLITS}
        for label, name in enumerate(data.classes)
    ]
    return {"dataset": data.name, "shape": list(data.x_train.shape[1:]), "classes": classes}
