"""Weight decay, clipping, accumulation and averages, as records of a recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from dlsys_bench.engines.plan import Plan, epoch_batch_sizes, require_batches
from dlsys_bench.errors import BatchError, SpecError
from dlsys_bench.spec.clipping import ClipNorm
from dlsys_bench.spec.convention import protocol, to_convention
from dlsys_bench.spec.decay import WeightDecay
from dlsys_bench.spec.layers import BatchNorm, Dense
from dlsys_bench.spec.loss_scale import LARGEST_BACKOFF, SMALLEST_GROWTH, LossScale
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD, Adam, AdamW
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.record import from_dict
from dlsys_bench.spec.schedules import (
    ConstantRate,
    CosineDecay,
    OneCycle,
    Schedule,
    StepDecay,
    WarmUp,
)


@pytest.mark.parametrize(
    ("tensors", "decaying"),
    [
        ("all", "kernel bias gamma embeddings"),
        ("matrices", "kernel embeddings"),
        ("kernels", "kernel"),
    ],
)
def test_which_tensors_decay(tensors: str, decaying: str) -> None:
    decay = WeightDecay(tensors=tensors)  # type: ignore[arg-type]
    axes = {"kernel": 2, "bias": 1, "gamma": 1, "embeddings": 2}
    found = [name for name, count in axes.items() if decay.applies(f"layer_1.{name}", count)]
    assert found == decaying.split()


def test_adamw_is_adam_with_a_decay() -> None:
    recipe = Recipe(AdamW(0.01, 0.1, beta_1=0.8))
    assert recipe.optimizer == Adam(0.01, beta_1=0.8, decay=WeightDecay(0.1))
    assert from_dict(recipe.to_dict()) == recipe


def test_new_options_leave_the_json_of_other_recipes_as_it_was() -> None:
    recipe = Recipe(Adam())
    assert not {"clip", "accumulate", "average", "loss_scale", "products"} & set(recipe.to_dict())
    assert "decay" not in recipe.optimizer.to_dict()


def test_one_training_has_one_protocol_in_every_convention() -> None:
    recipe = Recipe(SGD(0.1, decay=WeightDecay(0.1, "coupled")), clip=ClipNorm(1.0))
    torch = to_convention("torch", recipe)
    assert torch != recipe
    assert protocol(torch) == protocol(recipe)
    assert protocol(replace(recipe, loss_scale=LossScale())) == protocol(
        replace(torch, loss_scale=LossScale(schedule_counts="batches"))
    )
    other = replace(recipe, optimizer=replace(recipe.optimizer, decay=WeightDecay(0.1)))
    assert protocol(other) != protocol(recipe)


def test_parts_of_a_batch_are_equal_but_for_the_last() -> None:
    recipe = Recipe(batch_size=8, accumulate=4)
    assert [recipe.micro_batches(size) for size in (8, 7, 5, 1)] == [
        [2, 2, 2, 2],
        [2, 2, 2, 1],
        [2, 2, 1],
        [1],
    ]
    assert Recipe(batch_size=8).micro_batches(8) == [8]


def test_a_part_has_to_be_large_enough_for_batch_norm() -> None:
    model = to_convention("torch", Model("m", (3,), (BatchNorm(), Dense(2))))
    with pytest.raises(BatchError, match="batches of 4, each in 4 parts, make one of 1"):
        require_batches(model, 8, Recipe(batch_size=4, accumulate=4), Plan(0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Recipe(batch_size=10, accumulate=3), "does not divide the batch_size 10"),
        (lambda: Recipe(accumulate=0), "accumulate is 0"),
        (lambda: Recipe(clip=1.0), "clip is 1.0"),  # type: ignore[arg-type]
        (lambda: Recipe(clip="clip_norm"), "such as ClipNorm()"),  # type: ignore[arg-type]
        (lambda: Recipe(average=0.9), "average is 0.9"),  # type: ignore[arg-type]
        (lambda: Recipe(products="float8"), "expected one of float16, bfloat16"),  # type: ignore[arg-type]
        (lambda: Recipe(loss_scale=2.0**16), "loss_scale is 65536.0"),  # type: ignore[arg-type]
        (lambda: Recipe(SGD(decay=0.1)), "such as WeightDecay(0.01)"),  # type: ignore[arg-type]
    ],
)
def test_wrong_options_raise_with_one_line(make: Callable[[], Recipe], message: str) -> None:
    with pytest.raises(SpecError) as error:
        make()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (CosineDecay(1.0, 4, 0.5), [1.0, 0.9267766953, 0.75, 0.5732233047, 0.5, 0.5]),
        (StepDecay(1.0, 2, 0.5), [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]),
        (WarmUp(2, ConstantRate(1.0)), [0.0, 0.5, 1.0, 1.0]),
        (WarmUp(2, CosineDecay(1.0, 2), 0.5), [0.5, 0.75, 1.0, 0.5, 0.0, 0.0]),
        # torch 2.13: OneCycleLR(optimizer, 1.0, total_steps=5, pct_start=0.6, div_factor=4,
        # final_div_factor=5, anneal_strategy="linear", cycle_momentum=False)
        (OneCycle(1.0, 5, 0.6, 4.0, 5.0, "linear"), [0.25, 0.625, 1.0, 0.525, 0.05, 0.05]),
    ],
)
def test_rates(schedule: Schedule, expected: list[float]) -> None:
    found = [schedule.rate(step) for step in range(len(expected))]
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("schedule", "length"),
    [
        (CosineDecay(0.1, 7), 7),
        (OneCycle(0.1, 7), 7),
        (WarmUp(7), 7),
        (WarmUp(2, CosineDecay(0.1, 5)), 7),
    ],
)
def test_a_schedule_longer_than_the_training_raises(schedule: Schedule, length: int) -> None:
    recipe = Recipe(batch_size=4, epochs=2, schedule=schedule)
    text = f"the schedule {schedule.kind} has {length} steps, but the training 6"
    with pytest.raises(SpecError, match=text):
        next(epoch_batch_sizes(11, recipe, Plan(0)))
    with pytest.raises(SpecError, match="the training 5"):
        next(epoch_batch_sizes(100, replace(recipe, steps=5), Plan(0)))
    # A plan ends a training early on purpose, and a longer training stays at the last rate.
    assert next(epoch_batch_sizes(14, recipe, Plan(0, steps=1))) == [4]


def test_the_bounds_of_the_factors_change_every_scale_in_single_precision() -> None:
    mantissas = np.arange(2**23, 2**24, 997, dtype=np.int64)
    scales = np.ldexp(np.append(mantissas, (2**23, 2**24 - 1)).astype(np.float32), -23)
    assert (scales * np.float32(LARGEST_BACKOFF) < scales).all()
    assert (scales * np.float32(SMALLEST_GROWTH) > scales).all()
    assert np.float32(1 - 2.0**-25) == np.float32(1 + 2.0**-24) == 1
