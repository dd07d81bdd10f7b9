"""Inspect trained weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dlsys_bench.cli.options import as_json, data_dir
from dlsys_bench.cli.terminal import say, show
from dlsys_bench.errors import UserError

if TYPE_CHECKING:
    from dlsys_bench.data.samples import Scaling


def _named(weights: Path) -> str:
    """The dataset in the name that `run --weights` gives: ....DATASET.TIER.ENGINE.SEED.npz."""
    from dlsys_bench.data import datasets

    parts = weights.stem.split(".")
    if len(parts) < 4 or parts[-4] not in datasets():
        raise UserError(
            f"the name of {weights.name} says no dataset: give one, --dataset {'|'.join(datasets())}|..."
        )
    say(f"on {parts[-4]}, which the file's name says; --dataset chooses another")
    return parts[-4]


@click.command("inspect")
@click.argument("weights", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--dataset",
    help="mnist, fashion_mnist, digits, a .npz file, or package.module:callable. "
    "Default: the one that the file's name says.",
)
@data_dir
@click.option(
    "--scaling",
    type=click.Choice(["raw", "unit", "standard"]),
    default="unit",
    show_default=True,
    help="What the training made of the pixels.",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("reports/inspect"),
    show_default=True,
    help="Folder for the pictures.",
)
@as_json
def inspect_command(
    weights: Path,
    dataset: str | None,
    data_dir: str | None,
    scaling: Scaling,
    output: Path,
    as_json: bool,
) -> None:
    """What the model in WEIGHTS, a .npz that `run --weights` wrote, gets right and wrong on a test
    split."""
    from dlsys_bench.data import load
    from dlsys_bench.report import classification, images, normalization
    from dlsys_bench.runs import checkpoint

    model, tensors = checkpoint.load(weights)
    data = load(dataset or _named(weights), data_dir)
    found = classification.classify(model, tensors, data, scaling)
    title = f"{model.name} on {data.name}"
    place = {
        name: output / f"{weights.stem}.{name}.png"
        for name in ("confusion", "predictions", "batch-norm")
    }
    pictures = [classification.draw_confusion(found, title, place["confusion"])]
    try:
        images.check_images(data)
    except UserError as error:
        say(f"no pictures of predictions: {error}")
    else:
        pictures.append(
            classification.draw_predictions(found, data.x_test, title, place["predictions"])
        )
    norms = normalization.batch_norms(model, tensors)
    if norms:
        heading = f"{model.name}: batch norms, the channels by layer"
        pictures.append(normalization.draw_batch_norms(norms, heading, place["batch-norm"]))
    if as_json:
        head = {"model": model.name, "dataset": data.name, "scaling": scaling}
        click.echo(json.dumps(head | found.to_dict() | {"pictures": list(map(str, pictures))}))
        return
    show(classification.scores_table(found, title))
    for path in pictures:
        click.echo(path)
