"""Look at a dataset."""

from __future__ import annotations

import json
from pathlib import Path

import click

from dlsys_bench.cli.options import as_json, data_dir
from dlsys_bench.cli.terminal import show


@click.command("look")
@click.argument("dataset")
@data_dir
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("reports/look"),
    show_default=True,
    help="Folder for the pictures.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Draws the samples shown.",
)
@as_json
def look_command(
    dataset: str, data_dir: str | None, output: Path, seed: int, as_json: bool
) -> None:
    """Class counts and sample images of DATASET: mnist, fashion_mnist, digits, a .npz file,
    package.module:callable."""
    from dlsys_bench.data import load
    from dlsys_bench.report import images
    from dlsys_bench.runs.store import file_name

    data = load(dataset, data_dir)
    images.check_images(data)
    place = {
        name: output / f"{file_name(data.name, name)}.png"
        for name in ("counts", "train", "test", "classes")
    }
    pictures = [
        images.draw_counts(data, place["counts"]),
        *(images.draw_samples(data, split, place[split], seed=seed) for split in images.SPLITS),
        images.draw_classes(data, place["classes"], seed=seed),
    ]
    if not as_json:
        show(images.counts_table(data))
        for path in pictures:
            click.echo(path)
        return
    counts = images.class_counts(data)
    classes = [
        {"label": label, "class": name}
        | {split: int(counts[split][label]) for split in images.SPLITS}
        for label, name in enumerate(data.classes)
    ]
    shape = list(data.x_train.shape[1:])
    click.echo(
        json.dumps(
            {
                "dataset": data.name,
                "shape": shape,
                "classes": classes,
                "pictures": list(map(str, pictures)),
            }
        )
    )
