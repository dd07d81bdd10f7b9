"""Inspect trained weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from dlsys_bench.cli.page import check_page, write
from dlsys_bench.cli.terminal import emit, say
from dlsys_bench.data import Dataset, Scaling, datasets, load
from dlsys_bench.errors import UserError
from dlsys_bench.options.command import receives
from dlsys_bench.report.classification import Classification, classify, scores_table
from dlsys_bench.report.display import progress, show
from dlsys_bench.report.html.page import Graphic, Section, Sheet
from dlsys_bench.report.images import check_images
from dlsys_bench.report.plots.classification import draw_confusion, draw_mistakes, draw_predictions
from dlsys_bench.report.plots.normalization import batch_norms, draw_batch_norms
from dlsys_bench.runs import checkpoint
from dlsys_bench.strict_json import dumps

PARTS_AFTER_DATASET = 4
"""`run --weights` names a file STUDY.ARM.DATASET.TIER.ENGINE.SEED.npz."""

Drawing = Callable[[Classification, Path], Path | None]
"""Draws a picture as a PNG; None if there is nothing to show."""


@dataclass(frozen=True)
class InspectOptions:
    """The argument and the options of `inspect`."""

    weights: Path
    dataset: str | None
    data_dir: str | None
    scaling: Scaling
    output: Path
    json: bool
    html: Path | None

    def picture(self, name: str) -> Path:
        """The file of a picture."""
        return self.output / f"{self.weights.stem}.{name}.png"


@receives(InspectOptions)
def inspect_command(options: InspectOptions) -> None:
    """Classify the test split, draw the pictures, and print the scores."""
    check_page(options.html)
    model, weights = checkpoint.load(options.weights)
    data = load(options.dataset or _dataset_in_name(options.weights), options.data_dir)
    title = f"{model.name} on {data.name}"
    problem = _problem_of_images(data)
    drawings = _drawings(data, title, images=not problem)
    if norms := batch_norms(model, weights):
        heading = f"{model.name}: batch norms, the channels by layer"
        drawings["batch-norm"] = lambda found, path: draw_batch_norms(norms, heading, path)
    drawn: list[Path | None] = []
    with progress(1 + len(drawings)) as advance:
        found = classify(model, weights, data, options.scaling)
        advance("scores", 1)
        for name, draw in drawings.items():
            drawn.append(draw(found, options.picture(name)))
            advance(name, 1)
    pictures = [path for path in drawn if path is not None]
    if problem:
        say(f"no pictures of predictions: {problem}")
    table = scores_table(found, title)
    panels = [Graphic(path.stem.rpartition(".")[2], path) for path in pictures]
    sections = (Section("Scores", sheets=[Sheet.of(table)]), Section("Pictures", panels=panels))
    write(options.html, title, f"accuracy {found.accuracy:.4f}", (), sections)
    if options.json:
        head = {"model": model.name, "dataset": data.name, "scaling": options.scaling}
        emit(dumps(head | found.to_dict() | {"pictures": list(map(str, pictures))}))
        return
    show(table)
    for path in pictures:
        click.echo(path)


def _problem_of_images(data: Dataset) -> str:
    """The reason for which the samples cannot be shown as images, "" if they can."""
    try:
        check_images(data)
    except UserError as error:
        return str(error)
    return ""


def _drawings(data: Dataset, title: str, images: bool) -> dict[str, Drawing]:
    """The confusion matrix and, for images, the most confident mistakes and a sample of all
    predictions."""
    drawings: dict[str, Drawing] = {
        "confusion": lambda found, path: draw_confusion(found, title, path)
    }
    if images:
        drawings["mistakes"] = lambda found, path: draw_mistakes(found, data.x_test, title, path)
        drawings["predictions"] = lambda found, path: draw_predictions(
            found, data.x_test, title, path
        )
    return drawings


def _dataset_in_name(weights: Path) -> str:
    """The dataset in a file name that `run --weights` gives. Raises UserError if there is none."""
    parts = weights.stem.split(".")
    if len(parts) < PARTS_AFTER_DATASET or parts[-PARTS_AFTER_DATASET] not in datasets():
        raise UserError(
            f"the name of {weights.name} has no dataset: give --dataset {'|'.join(datasets())}|..."
        )
    name = parts[-PARTS_AFTER_DATASET]
    say(f"on {name}, the dataset in the file's name; --dataset chooses another")
    return name
