"""`look` and `inspect`: their output, their files, and their errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import enter, invoke

from dlsys_bench.data import load, prepare
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.engines.plan import Plan
from dlsys_bench.report.plots import images
from dlsys_bench.runs import checkpoint
from dlsys_bench.runs.metrics import evaluate
from dlsys_bench.spec.layers import BatchNorm, Dense, Flatten
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe

NORMED = Model("normed", (28, 28, 1), (BatchNorm(), Flatten(), Dense(10)))
NARROW = Model("narrow", (28, 28, 1), (Flatten(), Dense(3)))
SMALL = Model("small", (8, 8, 1), (Flatten(), Dense(10)))
VECTOR = Model("vector", (4,), (Dense(2),))
NAME = "mine.only.digits.quick.numpy.10000"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    enter(tmp_path, monkeypatch)
    x, y = np.random.default_rng(0).random((6, 4)), np.arange(6) % 2
    np.savez(tmp_path / "vectors.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    np.savez(tmp_path / "regression.npz", x_train=x, y_train=x, x_test=x, y_test=x)
    (tmp_path / "text.npz").write_text("no archive")
    for model, name in (
        (NORMED, NAME),
        (NARROW, "narrow"),
        (NARROW, "mine.own.quick.numpy.0"),
        (SMALL, "small"),
        (VECTOR, "vector"),
    ):
        checkpoint.save(tmp_path / f"{name}.npz", model, Plan(0).weights(model))
    return tmp_path


def test_look_counts_and_draws_a_dataset(folder: Path) -> None:
    shown = json.loads(invoke("look", "digits", "--json", "--seed", "5").stdout)
    data = load("digits")
    assert shown["shape"] == [28, 28, 1]
    for split, y in (("train", data.y_train), ("test", data.y_test)):
        assert [record[split] for record in shown["classes"]] == np.bincount(y).tolist()
    assert [record["class"] for record in shown["classes"]] == list("0123456789")
    pictures = [
        f"reports/look/digits.{name}.png" for name in ("counts", "train", "test", "classes")
    ]
    assert shown["pictures"] == pictures
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    assert len(list((folder / "reports" / "look").iterdir())) == 4
    again = images.draw_samples(data, "test", folder / "again.png", seed=5)
    assert again.read_bytes() == (folder / "reports/look/digits.test.png").read_bytes()


def test_look_shows_an_archive_as_a_table(folder: Path) -> None:
    x, y = np.zeros((6, 5, 5), np.uint8), np.array([0, 0, 0, 0, 1, 1])
    np.savez(
        folder / "own.npz", x_train=x, y_train=y, x_test=x[:1], y_test=y[:1], classes=["cat", "dog"]
    )
    shown = invoke("look", "own.npz", "--output", "pictures")
    assert shown.stderr == ""
    assert [
        line.split()[3:10:2] for line in shown.stdout.splitlines() if "cat" in line or "dog" in line
    ] == [
        ["cat", "4", "66.7%", "1"],
        ["dog", "2", "33.3%", "0"],
    ]
    assert (folder / "pictures" / "own.classes.png").is_file()


def test_inspect_agrees_with_the_engine_and_writes_a_page_with_its_pictures(folder: Path) -> None:
    done = invoke("inspect", f"{NAME}.npz", "--json", "--html", "page.html")
    shown = json.loads(done.stdout)
    assert "on digits, the dataset in the file's name" in done.stderr
    engine, data = NumpyEngine(), prepare(load("digits"))
    outputs = engine.predict(engine.build(NORMED, Plan(0).weights(NORMED)), data.test.x)
    assert shown["accuracy"] == pytest.approx(evaluate(outputs, data.test, Recipe().loss)[1])
    matrix = np.zeros((10, 10), int)
    np.add.at(matrix, (data.test.y, outputs.argmax(axis=1)), 1)
    assert shown["confusion"] == matrix.tolist()
    assert [record["support"] for record in shown["classes"]] == np.bincount(data.test.y).tolist()
    assert [Path(name).name for name in shown["pictures"]] == [
        f"{NAME}.{what}.png" for what in ("confusion", "mistakes", "predictions", "batch-norm")
    ]
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in shown["pictures"])
    page = (folder / "page.html").read_text()
    for name in ("confusion", "mistakes", "predictions", "batch-norm"):
        assert f'<img alt="{name}" src="data:image/png;base64,' in page
    assert "precision" in page


def test_inspect_of_vectors_states_that_it_leaves_the_images_out(folder: Path) -> None:
    done = invoke("inspect", "vector.npz", "--dataset", "vectors.npz", "--scaling", "raw")
    assert 'no pictures of predictions: dataset "vectors" has vectors of shape (4,)' in done.stderr
    assert "vector on vectors: accuracy" in done.stdout
    assert [path.name for path in (folder / "reports" / "inspect").iterdir()] == [
        "vector.confusion.png"
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("look", "vectors.npz"),
            "vectors of shape (4,), no images to show; expected images (N, H, W, C)",
        ),
        (
            ("look", "regression.npz"),
            "the targets of a regression, no classes to show; expected images",
        ),
        (("look", "mnits"), 'did you mean "mnist"?'),
        (("look", "digits", "--seed", "-1"), "--seed"),
        (("look", "digits", "--output", "text.npz"), "text.npz"),
        (
            ("look", "digits", "--output", "text.npz/deep"),
            "cannot write a plot to text.npz/deep/digits.counts.png",
        ),
        (("inspect", "nowhere.npz", "--dataset", "digits"), "cannot read weights from nowhere.npz"),
        (("inspect", "text.npz", "--dataset", "digits"), "text.npz holds no model and weights"),
        (
            ("inspect", "vectors.npz", "--dataset", "digits"),
            "vectors.npz holds no model and weights",
        ),
        (
            ("inspect", "small.npz", "--dataset", "digits"),
            "of shape (28, 28, 1), but model 'small' takes (8, 8, 1)",
        ),
        (
            ("inspect", "narrow.npz", "--dataset", "digits"),
            "but the network has 3 outputs: labels are 0 to 2",
        ),
        (
            ("inspect", "vector.npz", "--dataset", "regression.npz"),
            "the targets of a regression; expected labels",
        ),
        (("inspect", "vector.npz", "--dataset", "vectors.npz"), "--scaling raw takes the values"),
        (
            ("inspect", "narrow.npz"),
            "the name of narrow.npz has no dataset: give --dataset mnist|fashion_mnist|",
        ),
        (
            ("inspect", "mine.own.quick.numpy.0.npz"),
            "the name of mine.own.quick.numpy.0.npz has no dataset",
        ),
        (("inspect", "narrow.npz", "--scaling", "half"), "--scaling"),
    ],
)
def test_a_mistake_is_one_clear_line_and_leaves_nothing(
    folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    before = sorted(folder.rglob("*"))
    done = invoke(*arguments, code=2)
    assert done.stdout == ""
    assert message in done.stderr
    assert done.stderr.count("\n") == 1 or "Usage" in done.stderr
    assert sorted(folder.rglob("*")) == before
