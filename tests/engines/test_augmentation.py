"""Augmented inputs: by hand, anew in each epoch, and never those that are evaluated."""

from __future__ import annotations

import numpy as np
import pytest

from dlsys_bench.data import Samples, load
from dlsys_bench.engines.augmentation import RULES, augment
from dlsys_bench.engines.epochs import training_epochs
from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.registry import create
from dlsys_bench.errors import SpecError
from dlsys_bench.runs.metrics import with_figures
from dlsys_bench.runs.preparation import prepare_for
from dlsys_bench.spec.augmentation import Augmentation, HorizontalFlip, InputNoise, Shift
from dlsys_bench.spec.layers import Dense, Embedding, Flatten
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.record import from_dict

IMAGES = Model("images", (28, 28, 1), (Flatten(), Dense(10)))
EVERY = (Shift(1), HorizontalFlip(), InputNoise(0.3))


@pytest.mark.parametrize(
    ("record", "draws", "expected"),
    [
        (Shift(1), [[1, 0]], [[0, 0, 0], [1, 2, 3]]),
        (Shift(1), [[0, -1]], [[2, 3, 0], [5, 6, 0]]),
        (Shift(1, "edge"), [[-1, 1]], [[4, 4, 5], [4, 4, 5]]),
        (HorizontalFlip(), [True], [[3, 2, 1], [6, 5, 4]]),
        (HorizontalFlip(), [False], [[1, 2, 3], [4, 5, 6]]),
    ],
)
def test_images_by_hand(record: Augmentation, draws: list[object], expected: list[object]) -> None:
    x = np.array([[1, 2, 3], [4, 5, 6]], np.float32)[None, :, :, None]
    found = RULES[type(record)](record, x, np.array(draws))
    assert found.dtype == x.dtype
    np.testing.assert_array_equal(found[0, :, :, 0], expected)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "uint8"])
def test_inputs_are_drawn_anew_and_kept_as_they_are(dtype: str) -> None:
    x = np.random.default_rng(0).integers(0, 9, (20, 8, 8, 1)).astype(dtype)
    recipe, before = Recipe(augment=EVERY), x.copy()
    first, second = (augment(x, recipe, Plan(3), epoch) for epoch in (1, 2))
    np.testing.assert_array_equal(x, before)
    assert first.dtype == (np.float64 if dtype == "uint8" else dtype)
    assert first.shape == x.shape
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, augment(x, recipe, Plan(3), 1))
    assert not np.array_equal(first, augment(x, recipe, Plan(4), 1))
    assert augment(x, Recipe(), Plan(3), 1) is x


def test_what_is_evaluated_is_not_augmented() -> None:
    """Nothing is learned here, so that only the inputs make a difference."""
    engine, digits = create("numpy"), load("digits")
    found = []
    for records in ((), (Shift(2), InputNoise(1.0))):
        recipe = Recipe(SGD(0.0), 64, 1, validation_split=0.1, augment=records)
        data, net = prepare_for(recipe, digits, "float32", 0), engine.build(IMAGES)
        (epoch,) = engine.fit(net, data.train, recipe, Plan(0))
        found.append(with_figures(epoch, engine, net, data, recipe))
    plain, augmented = found
    assert plain.running_loss != augmented.running_loss
    for split in ("train", "validation", "test"):
        assert getattr(plain, f"{split}_loss") == getattr(augmented, f"{split}_loss")


@pytest.mark.parametrize(
    ("record", "model", "message"),
    [
        (Shift(), Model("m", (4,), (Dense(2),)), "shift takes images (height, width, channels)"),
        (HorizontalFlip(), Model("m", (4, 3), (Dense(2),)), "horizontal_flip takes images"),
        (Shift(28), IMAGES, "pixels is 28, but model 'images' takes images of 28 by 28"),
        (
            InputNoise(),
            Model("m", (4,), (Embedding(5, 2), Dense(2)), input_dtype="int"),
            "input_noise is added to floats, but model 'm' takes token ids",
        ),
    ],
)
def test_inputs_that_cannot_be_augmented_raise(
    record: Augmentation, model: Model, message: str
) -> None:
    recipe = Recipe(batch_size=2, augment=(record,))
    samples = Samples(np.zeros((4, *model.input_shape)), np.zeros(4, int))
    with pytest.raises(SpecError) as error:
        next(training_epochs(model, samples, recipe, Plan(0)))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrong", [Shift(), ("shift",), (SGD(),), [Shift()]])
def test_a_recipe_takes_a_tuple_of_augmentations(wrong: object) -> None:
    with pytest.raises(SpecError, match="recipe: augment is"):
        Recipe.of(augment=wrong)


def test_augmentations_survive_json_and_are_left_out_while_unused() -> None:
    recipe = Recipe(augment=EVERY)
    assert from_dict(recipe.to_dict()) == recipe
    assert "augment" not in Recipe().to_dict()
