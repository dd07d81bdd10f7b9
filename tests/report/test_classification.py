"""Scores and plots of a classifier, against values computed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlsys_bench.data import Dataset
from dlsys_bench.engines.plan import Weights
from dlsys_bench.errors import UserError
from dlsys_bench.report import classification, picture
from dlsys_bench.report.classification import Classification, Score, classify
from dlsys_bench.report.plots import classification as plots
from dlsys_bench.report.plots.classification import captions
from dlsys_bench.report.plots.images import MARK
from dlsys_bench.spec.layers import BatchNorm, Dense, Embedding, Flatten
from dlsys_bench.spec.model import Model

# One of three "a" is predicted as "b", one of two "b" as "a", and the only "c" as "b". "c" is never
# predicted.
FOUND = Classification(
    ("a", "b", "c"),
    np.array([0, 0, 0, 1, 1, 2]),
    np.array([0, 0, 1, 1, 0, 1]),
    np.array([0.9, 0.8, 0.6, 0.7, 0.95, 0.5]),
)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    kept: list[Any] = []

    def keep(figure: Any, path: Path) -> Path:
        kept.append(figure)
        return picture.save(figure, path)

    monkeypatch.setattr(plots, "save", keep)
    return kept


def test_rows_of_the_confusion_matrix_are_true_classes() -> None:
    assert FOUND.confusion.tolist() == [[2, 1, 0], [1, 1, 0], [0, 1, 0]]
    assert FOUND.accuracy == 0.5


def test_the_scores_of_each_class() -> None:
    a, b, c = FOUND.scores
    assert list(a[1:]) == pytest.approx([2 / 3, 2 / 3, 2 / 3, 3])
    assert list(b[1:]) == pytest.approx([1 / 3, 1 / 2, 2 / 5, 2])
    # "c" is never predicted, so that its precision is undefined.
    assert c == Score("c", None, 0.0, 0.0, 1)


def test_the_table_of_scores() -> None:
    table = classification.scores_table(FOUND, "small")
    assert table.title == "small: accuracy 0.5000"
    assert table.rows == [
        ("a", "0.6667", "0.6667", "0.6667", "3"),
        ("b", "0.3333", "0.5000", "0.4000", "2"),
        ("c", "-", "0.0000", "0.0000", "1"),
        ("mean of the classes", "0.5000", "0.3889", "0.3556", "6"),
    ]


def test_only_wrong_predictions_are_marked() -> None:
    lines = captions(FOUND, range(6))
    assert [wrong for _, wrong in lines] == [False, False, True, False, True, True]
    assert [MARK in text for text, _ in lines] == [False, False, True, False, True, True]
    assert (lines[0][0], lines[5][0]) == ("truth: a\npredicted: a", "truth: c\n✗ predicted: b")


def test_the_plot_of_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(
        plots,
        "draw_grid",
        lambda tiles, columns, title, path: drawn.append((tiles, title)),
    )
    x = np.arange(6)[:, None, None, None] + np.zeros((6, 2, 2, 1), int)
    plots.draw_predictions(FOUND, x, "small", tmp_path / "p.png", seed=3)
    ((tiles, title),) = drawn
    indices = [int(tile.image[0, 0, 0]) for tile in tiles]
    assert sorted(indices) == list(range(6))
    assert [(tile.caption, tile.marked) for tile in tiles] == captions(FOUND, indices)
    assert "3 of these 6 wrong" in title
    plots.draw_mistakes(FOUND, x, "small", tmp_path / "m.png")
    tiles, title = drawn[-1]
    assert [int(tile.image[0, 0, 0]) for tile in tiles] == [4, 2, 5]
    assert [tile.caption.partition(", ")[2] for tile in tiles] == ["95%", "60%", "50%"]
    assert "3 of 3 wrong predictions" in title
    assert FOUND.mistakes.tolist() == [4, 2, 5]


def test_no_mistakes_are_not_drawn(tmp_path: Path) -> None:
    right = Classification(("a",), np.zeros(1, int), np.zeros(1, int), np.ones(1))
    assert plots.draw_mistakes(right, np.zeros((1, 2, 2, 1)), "", tmp_path / "m.png") is None


def test_cells_show_their_counts(figures: list[Any], tmp_path: Path) -> None:
    path = plots.draw_confusion(FOUND, "small $x$", tmp_path / "c.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    axis = figures[0].axes[0]
    assert [text.get_text() for text in axis.texts] == list("210110010")
    assert [text.get_position() for text in axis.texts][:4] == [(0, 0), (1, 0), (2, 0), (0, 1)]
    for labels in (axis.get_xticklabels(), axis.get_yticklabels()):
        assert [label.get_text() for label in labels] == ["a", "b", "c"]
    np.testing.assert_allclose(axis.images[0].get_array()[0], [2 / 3, 1 / 3, 0])


def test_many_classes_have_no_numbers_in_cells(figures: list[Any], tmp_path: Path) -> None:
    y = np.arange(60)
    plots.draw_confusion(
        Classification(tuple(map(str, y)), y, y, np.ones(60)), "many", tmp_path / "c.png"
    )
    assert not figures[0].axes[0].texts
    assert "one in 3" in figures[0].axes[0].get_xlabel()


MODEL = Model("small", (1, 2, 1), (Flatten(), BatchNorm(epsilon=1e-12), Dense(3)))
WEIGHTS = {
    "batch_norm_1.gamma": np.ones(2),
    "batch_norm_1.beta": np.zeros(2),
    "batch_norm_1.moving_mean": np.array([10.0, 100.0]),
    "batch_norm_1.moving_variance": np.ones(2),
    "dense_1.kernel": np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]),
    "dense_1.bias": np.zeros(3),
}
X = np.array([[11, 90], [12, 80], [13, 120]], float).reshape(3, 1, 2, 1)
Y = np.array([0, 1, 1])


def own(x: Any = X, y: Any = Y, classes: tuple[str, ...] = ("left", "right")) -> Dataset:
    return Dataset("own", x, y, x, y, classes)


def test_predictions_use_the_moving_statistics() -> None:
    # Minus the moving mean, the samples are (1, -10), (2, -20) and (3, 20). Minus the mean of the
    # batch, both values of the first would be below zero, the output of the third class.
    found = classify(MODEL, WEIGHTS, own(), "raw")
    assert found.predicted.tolist() == [0, 0, 1]
    # The outputs of the first sample are (1, -10, 0).
    assert found.confidence[0] == pytest.approx(1 / (1 + np.exp(-1) + np.exp(-11)))
    assert found.truth.tolist() == [0, 1, 1]
    assert found.classes == ("left", "right", "2")
    assert found.accuracy == pytest.approx(2 / 3)


def test_the_test_split_is_scaled() -> None:
    weights = WEIGHTS | {"batch_norm_1.moving_mean": np.array([10.0, 100.0]) / 255}
    assert classify(MODEL, weights, own(), "unit").predicted.tolist() == [0, 0, 1]
    standard = WEIGHTS | {
        "batch_norm_1.moving_mean": (np.array([10.0, 100.0]) - X.mean()) / X.std()
    }
    assert classify(MODEL, standard, own(), "standard").predicted.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (
            own(np.zeros((3, 4, 4, 1))),
            "samples of shape (4, 4, 1), but model 'small' takes (1, 2, 1)",
        ),
        (
            own(X, np.array([0, 3, 1]), tuple("abcd")),
            "y_train[1] is 3, but the network has 3 outputs: labels are 0 to 2",
        ),
        (own(X, np.zeros((3, 3)), ()), "the targets of a regression; expected labels of classes"),
    ],
)
def test_data_that_do_not_fit_the_model_raise(dataset: Dataset, message: str) -> None:
    with pytest.raises(UserError) as error:
        classify(MODEL, WEIGHTS, dataset, "raw")
    assert message in str(error.value)


def test_weights_that_are_not_finite_raise() -> None:
    weights = WEIGHTS | {"dense_1.bias": np.array([0.0, np.nan, 0.0])}
    with pytest.raises(UserError, match="not finite for 3 of 3 test samples"):
        classify(MODEL, weights, own(), "raw")
    model = Model("one", (1, 2, 1), (Flatten(), Dense(1)))
    with pytest.raises(UserError, match="model 'one' has one output; expected a classifier"):
        classify(model, {}, own(), "raw")


def test_every_position_of_a_sequence_is_classified() -> None:
    x = np.array([[0, 1, 2], [2, 2, 1]], np.uint8)
    y = np.array([[0, 1, 2], [2, 0, 1]])
    data = Dataset("sequences", x, y, x, y, ("a", "b", "c"))
    layers = (Embedding(3, 3), Dense(3, use_bias=False))
    model = Model("identity", (3,), layers, input_dtype="int")
    weights: Weights = {"embedding_1.embeddings": np.eye(3), "dense_1.kernel": np.eye(3)}
    found = classify(model, weights, data, "raw")
    assert found.confusion.tolist() == [[1, 0, 1], [0, 2, 0], [0, 0, 2]]
    assert found.accuracy == 5 / 6
