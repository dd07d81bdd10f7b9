"""`look` and `inspect`: what they print, what they write, what they refuse."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from dlsys_bench.cli import main
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


class Said(NamedTuple):
    code: int
    out: str
    err: str


Call = Callable[..., Said]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DLSYS_BENCH_DATA", raising=False)
    monkeypatch.setattr(sys, "path", sys.path[:])
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


@pytest.fixture
def call(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["dlsys-bench", *arguments])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        return Said(code, *capsys.readouterr())

    return run


def test_look_counts_and_draws_a_dataset(folder: Path, call: Call) -> None:
    said = json.loads(call("look", "digits", "--json", "--seed", "5").out)
    data = load("digits")
    assert said["shape"] == [28, 28, 1]
    for split, y in (("train", data.y_train), ("test", data.y_test)):
        assert [record[split] for record in said["classes"]] == np.bincount(y).tolist()
    assert [record["class"] for record in said["classes"]] == list("0123456789")
    pictures = [
        f"reports/look/digits.{name}.png" for name in ("counts", "train", "test", "classes")
    ]
    assert said["pictures"] == pictures
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    assert len(list((folder / "reports" / "look").iterdir())) == 4
    again = images.draw_samples(data, "test", folder / "again.png", seed=5)
    assert again.read_bytes() == (folder / "reports/look/digits.test.png").read_bytes()


def test_look_shows_an_archive_of_ones_own_as_a_table(folder: Path, call: Call) -> None:
    x, y = np.zeros((6, 5, 5), np.uint8), np.array([0, 0, 0, 0, 1, 1])
    np.savez(
        folder / "own.npz", x_train=x, y_train=y, x_test=x[:1], y_test=y[:1], classes=["cat", "dog"]
    )
    said = call("look", "own.npz", "--output", "pictures")
    assert (said.code, said.err) == (0, "")
    assert [
        line.split()[3:10:2] for line in said.out.splitlines() if "cat" in line or "dog" in line
    ] == [
        ["cat", "4", "66.7%", "1"],
        ["dog", "2", "33.3%", "0"],
    ]
    assert (folder / "pictures" / "own.classes.png").is_file()


def test_inspect_finds_what_the_engine_finds(folder: Path, call: Call) -> None:
    done = call("inspect", f"{NAME}.npz", "--json")
    said = json.loads(done.out)
    assert "on digits, which the file's name says" in done.err
    engine, data = NumpyEngine(), prepare(load("digits"))
    outputs = engine.predict(engine.build(NORMED, Plan(0).weights(NORMED)), data.test.x)
    assert said["accuracy"] == pytest.approx(evaluate(outputs, data.test, Recipe().loss)[1])
    matrix = np.zeros((10, 10), int)
    np.add.at(matrix, (data.test.y, outputs.argmax(axis=1)), 1)
    assert said["confusion"] == matrix.tolist()
    assert [record["support"] for record in said["classes"]] == np.bincount(data.test.y).tolist()
    assert [Path(name).name for name in said["pictures"]] == [
        f"{NAME}.{what}.png" for what in ("confusion", "predictions", "batch-norm")
    ]
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in said["pictures"])


def test_inspect_of_vectors_leaves_the_images_out_and_says_so(folder: Path, call: Call) -> None:
    done = call("inspect", "vector.npz", "--dataset", "vectors.npz", "--scaling", "raw")
    assert done.code == 0
    assert 'no pictures of predictions: dataset "vectors" has vectors of shape (4,)' in done.err
    assert "vector on vectors: accuracy" in done.out
    assert [path.name for path in (folder / "reports" / "inspect").iterdir()] == [
        "vector.confusion.png"
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("look", "vectors.npz"),
            "vectors of shape (4,), no images to show; it takes images (N, H, W, C)",
        ),
        (
            ("look", "regression.npz"),
            "the targets of a regression, no classes to show; it takes images",
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
            "the targets of a regression; it takes labels",
        ),
        (("inspect", "vector.npz", "--dataset", "vectors.npz"), 'or scaling="raw"'),
        (
            ("inspect", "narrow.npz"),
            "the name of narrow.npz says no dataset: give one, --dataset mnist|fashion_mnist|",
        ),
        (
            ("inspect", "mine.own.quick.numpy.0.npz"),
            "the name of mine.own.quick.numpy.0.npz says no dataset",
        ),
        (("inspect", "narrow.npz", "--scaling", "half"), "--scaling"),
    ],
)
def test_a_mistake_is_one_clear_line_and_leaves_nothing(
    folder: Path, call: Call, arguments: tuple[str, ...], message: str
) -> None:
    before = sorted(folder.rglob("*"))
    done = call(*arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1 or "Usage" in done.err
    assert sorted(folder.rglob("*")) == before
