"""Learning-rate schedules and batch-size policies, against the formulas of the papers."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlsys_bench.engines.plan import Plan, count_steps, epoch_batch_sizes
from dlsys_bench.errors import BatchError, SpecError
from dlsys_bench.spec.batches import BatchSizes, CyclicalBatchSize
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.record import from_dict
from dlsys_bench.spec.schedules import CyclicalLearningRate, LearningRateRamp, Schedule


def test_triangular_is_piecewise_linear() -> None:
    schedule = CyclicalLearningRate(1.0, 5.0, 4)
    assert [schedule.rate(step) for step in range(10)] == [1, 2, 3, 4, 5, 4, 3, 2, 1, 2]


def test_triangular2_halves_its_amplitude_each_cycle() -> None:
    schedule = CyclicalLearningRate(1.0, 5.0, 4, "triangular2")
    assert [schedule.rate(step) for step in (4, 12, 20, 28)] == [5, 3, 2, 1.5]


def test_exp_range_shrinks_with_each_step() -> None:
    schedule = CyclicalLearningRate(0.1, 1e-9, 1000, "exp_range", 0.99994)
    assert schedule.rate(0) == 0.1
    assert schedule.rate(1000) == pytest.approx(0.1 - (0.1 - 1e-9) * 0.99994**1000, rel=1e-12)
    assert schedule.rate(2000) == 0.1
    assert min(schedule.rate(step) for step in range(5000)) > 0


@given(
    base=st.floats(1e-6, 1),
    maximum=st.floats(1e-6, 1),
    size=st.integers(1, 50),
    step=st.integers(0, 500),
)
def test_the_formula_of_smith(base: float, maximum: float, size: int, step: int) -> None:
    """The code of the paper (section 3.1), line by line."""
    cycle = np.floor(1 + step / (2 * size))
    x = np.abs(step / size - 2 * cycle + 1)
    expected = base + (maximum - base) * np.maximum(0, 1 - x)
    assert CyclicalLearningRate(base, maximum, size).rate(step) == pytest.approx(
        expected, rel=1e-12
    )


def test_a_custom_scale_is_a_subclass_that_survives_json() -> None:
    @dataclass(frozen=True)
    class Sine(CyclicalLearningRate):
        kind: ClassVar[str] = "sine_cyclical"

        def scaled(self, cycle: int, step: int) -> float:
            return 0.5 * (1 + float(np.sin(cycle * np.pi / 2)))

    own = Sine(0.0, 1.0, 2)
    assert [own.rate(step) for step in (2, 6, 10)] == pytest.approx([1.0, 0.5, 0.0])
    assert from_dict(Recipe(schedule=own).to_dict()) == Recipe(schedule=own)


@pytest.mark.parametrize(("spacing", "middle"), [("factor", 0.1), ("difference", 0.505)])
def test_a_ramp_goes_from_low_to_high_and_stays_there(spacing: str, middle: float) -> None:
    ramp = LearningRateRamp(0.01, 1.0, 5, spacing)  # type: ignore[arg-type]
    assert [ramp.rate(step) for step in (0, 2, 4, 9)] == pytest.approx([0.01, middle, 1.0, 1.0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Recipe(schedule="triangular"), "schedule is 'triangular'"),  # type: ignore[arg-type]
        (lambda: Recipe(batch_sizes=64), "batch_sizes is 64"),  # type: ignore[arg-type]
        (lambda: Recipe(samples=0), "samples is 0"),
    ],
)
def test_invalid_options_raise_with_one_line(make: object, message: str) -> None:
    with pytest.raises(SpecError, match=message) as error:
        make()  # type: ignore[operator]
    assert "\n" not in str(error.value)


def test_a_base_above_the_maximum_is_valid() -> None:
    assert CyclicalLearningRate(0.1, 1e-9, 10).rate(10) == pytest.approx(1e-9)


def test_the_published_batch_sizes_give_the_published_updates() -> None:
    """nb2: epochs 3 and 5 make two updates, epoch 4 sixteen."""
    sizes = list(itertools.islice(CyclicalBatchSize(ends="early").epochs(60_000), 5))
    assert [len(epoch) for epoch in sizes] == [57, 17, 2, 16, 2]
    assert sizes[0][:8] == [64, 128, 256, 512, 256, 128, 64, 128]
    with pytest.raises(BatchError, match="65536 samples and the data 60000"):
        list(itertools.islice(CyclicalBatchSize(ends="early").epochs(60_000), 6))


@given(
    samples=st.integers(1, 3000),
    epochs=st.integers(1, 6),
    growing=st.booleans(),
    power=st.integers(1, 4),
)
def test_a_policy_visits_every_sample_once_per_epoch(
    samples: int, epochs: int, growing: bool, power: int
) -> None:
    policy = CyclicalBatchSize(4, 4 * 2**power, growing)
    for epoch in itertools.islice(policy.epochs(samples), epochs):
        assert sum(epoch) == samples
        assert all(size >= 1 for size in epoch)
    if not growing:
        assert max(itertools.islice(policy.sizes(), 100)) == 4 * 2**power


@given(
    samples=st.integers(8, 300),
    batch=st.integers(1, 8),
    epochs=st.integers(1, 4),
    limit=st.one_of(st.none(), st.integers(1, 200)),
    cyclical=st.booleans(),
)
def test_epochs_end_where_the_steps_end(
    samples: int, batch: int, epochs: int, limit: int | None, cyclical: bool
) -> None:
    sizes: BatchSizes | None = CyclicalBatchSize(2, 8) if cyclical else None
    recipe = Recipe(batch_size=batch, epochs=epochs, steps=limit, batch_sizes=sizes)
    found = list(epoch_batch_sizes(samples, recipe, Plan(0)))
    whole = list(
        epoch_batch_sizes(
            samples, Recipe(batch_size=batch, epochs=epochs, batch_sizes=sizes), Plan(0)
        )
    )
    flat = [size for epoch in whole for size in epoch]
    assert [size for epoch in found for size in epoch] == flat[:limit]
    assert all(found)
    assert count_steps(samples, recipe, Plan(0)) == len(flat[:limit])


def test_a_batch_larger_than_the_data_raises() -> None:
    with pytest.raises(
        BatchError, match="batch_size is 129, but the data have 128 training samples"
    ):
        count_steps(128, Recipe(batch_size=129), Plan(0))


def test_options_added_later_are_not_in_the_json_while_unused() -> None:
    """A stored run has a digest of its recipe, which must not change with a new option."""
    plain = Recipe(SGD(0.1))
    assert not {"schedule", "batch_sizes", "samples"} & set(plain.to_dict())
    assert from_dict(plain.to_dict()) == plain
    full = Recipe(
        SGD(0.1), schedule=LearningRateRamp(), batch_sizes=CyclicalBatchSize(), samples=10
    )
    assert from_dict(full.to_dict()) == full
    assert isinstance(full.schedule, Schedule)


def test_a_subclass_without_its_own_kind_raises() -> None:
    """It would replace its base class in every stored recipe."""
    with pytest.raises(
        SpecError, match="Mine needs its own kind: 'cyclical_learning_rate' is the kind of Cyc"
    ):

        class Mine(CyclicalLearningRate):
            pass

    with pytest.raises(SpecError, match="Other needs its own kind"):

        @dataclass(frozen=True)
        class Other(Schedule):
            kind: ClassVar[str] = "learning_rate_ramp"

    assert from_dict(LearningRateRamp().to_dict()) == LearningRateRamp()
