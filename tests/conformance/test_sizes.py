"""The checks of sizes, of smallest cases and of memory layouts find the engines that are wrong, and
name what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from faulty_sizes import (
    BatchOfOne,
    BatchOfOneUnchecked,
    Change,
    Channels,
    Masks,
    MisdescribedAsShuffling,
    RaisesValueError,
    ReadOnlyResults,
    RejectsLate,
    RepeatedLastBatch,
    Statistics,
    Tensors,
    WideFirstLayer,
    as_in_memory,
    ignoring_bytes,
    misreading,
    unmapped,
    written,
)

from dlsys_bench import check_engine
from dlsys_bench.conformance.blocks import close_in_blocks, describe_block, failing_range
from dlsys_bench.conformance.checks.initializer import WIDE
from dlsys_bench.conformance.drawing import first_choice
from dlsys_bench.conformance.finding import BrokenError
from dlsys_bench.conformance.result import CheckResult, Status
from dlsys_bench.data import Samples
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.epochs import train
from dlsys_bench.engines.numpy import NumpyEngine, losses
from dlsys_bench.engines.plan import Plan
from dlsys_bench.engines.registry import available, create, engines, one_of_each
from dlsys_bench.errors import BatchError
from dlsys_bench.spec.batches import CyclicalBatchSize
from dlsys_bench.spec.convention import to_convention
from dlsys_bench.spec.layers import VARIANTS, BatchNorm, Conv2D, Dense, Flatten
from dlsys_bench.spec.losses import Loss, MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe


def run(engine: type[Engine], *checks: str) -> list[CheckResult]:
    return check_engine(engine, "collect", checks=checks, beyond=True)


@pytest.mark.parametrize("dtype", ["", "@float32"])
@pytest.mark.parametrize(
    ("engine", "check", "message"),
    [
        (WideFirstLayer, "gradient/large-dense", "rows 640 to 1031 of d dense_1.kernel: "),
        (MisdescribedAsShuffling, "gradient/every-weight", "rows 512 to 599 of d dense_1.kernel"),
        (MisdescribedAsShuffling, "step/every-weight", "rows 512 to 599 of dense_1.kernel do not"),
        (Channels, "gradient/large-conv2d", "input channels 64 to 131"),
        (Masks, "forward/large-dropout", "samples 256 to 299 of the output of dropout_1"),
        (Statistics, "trajectory/fit-large", "entries 128 to 131 of batch_norm_1.moving_mean"),
        (Tensors, "gradient/tensors-40", "d dense_"),
        (RepeatedLastBatch, "evaluation/rows", "samples 9216 to 9999 of the prediction of 10,000"),
    ],
)
def test_a_fault_beyond_a_size_is_found_and_located(
    engine: type[Engine], check: str, message: str, dtype: str
) -> None:
    (result,) = run(engine, check + dtype)
    assert result.status is Status.FAILED
    assert message in str(result.finding)


@pytest.mark.parametrize(
    ("engine", "check", "message"),
    [
        (
            BatchOfOneUnchecked,
            "state/smallest-batch_norm-of-one",
            "moving_variance after 2 samples",
        ),
        (BatchOfOneUnchecked, "state/smallest-batch_norm-of-a-last-one", "actual nan"),
        (RaisesValueError, "state/smallest-one-sample", "fit raised ValueError"),
        (RejectsLate, "state/smallest-last-sample", "before it rejected 5 samples in batches of 4"),
    ],
)
def test_a_fault_in_a_smallest_case_is_found(
    engine: type[Engine], check: str, message: str
) -> None:
    (result,) = run(engine, check)
    assert result.status is Status.FAILED
    assert message in str(result.finding)


def test_a_batch_without_a_variance_is_rejected_by_name() -> None:
    assert all(result.status is Status.PASSED for result in run(BatchOfOne, "state/smallest-*"))
    model = Model("small", (3,), (Dense(2), BatchNorm(moving_variance="unbiased"), Dense(2)))
    samples = Samples(np.ones((5, 3)), np.ones((5, 2)))
    for sizes, words in ((None, "batches of 4"), (CyclicalBatchSize(1, 2), "its batches")):
        recipe = Recipe(batch_size=4, batch_sizes=sizes, loss=MeanSquaredError())
        message = f"batch_norm_1 cannot train .* 1 sample: .* 5 samples in {words} make one of 1"
        engine = create("numpy")
        with pytest.raises(BatchError, match=message):
            train(engine, engine.build(model), samples, recipe, Plan(0))


MISREAD = [
    ("build", "weights"),
    *(("predict", "x"), ("trace", "x"), ("gradients", "x"), ("fit", "x")),
    *(("gradients", "targets"), ("fit", "targets")),
    *(("trace", "masks"), ("gradients", "masks")),
]


def misread() -> Iterator[Any]:
    """Yield every argument of every method, with every way to misread it."""
    for method, argument in MISREAD:
        for change in (as_in_memory, ignoring_bytes, written, unmapped):
            # Masks have one byte per value.
            if (change, argument) != (ignoring_bytes, "masks"):
                yield pytest.param(
                    method, argument, change, id=f"{method}-{argument}-{change.__name__}"
                )


@pytest.mark.parametrize(("method", "argument", "change"), list(misread()))
def test_a_misread_argument_is_found(method: str, argument: str, change: Change) -> None:
    (result,) = run(misreading(method, argument, change), f"shapes/layout-of-{argument}")
    assert result.status is Status.FAILED
    assert method in str(result.finding)


def test_results_may_be_read_only() -> None:
    checks = ("shapes/layout-of-weights", "shapes/copies", "checkpoint/file", "checkpoint/weights")
    assert all(result.status is Status.PASSED for result in run(ReadOnlyResults, *checks))


@pytest.mark.xdist_group("keras+tensorflow")
def test_weights_may_be_arrays_of_frameworks() -> None:
    model = Model("small", (4, 4, 2), (Conv2D(3, (2, 3)), Flatten(), Dense(2)))
    expected = Plan(0).weights(model)
    for target in one_of_each(available()):
        if "cpu" in engines()[target].devices:
            engine = create(target)
            adapted = to_convention(engine.convention, model)
            for source in _arrays(expected):
                found = engine.weights(engine.build(adapted, source))
                for name, values in expected.items():
                    np.testing.assert_allclose(found[name], values, rtol=1e-6)


def _arrays(weights: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the weights as arrays of every framework that is installed."""
    torch = pytest.importorskip("torch")
    yield {name: torch.from_numpy(values) for name, values in weights.items()}
    jax = pytest.importorskip("jax")
    yield {name: jax.numpy.asarray(values) for name, values in weights.items()}


@pytest.mark.parametrize("size", [1, 2, 7])
def test_the_range_of_a_fault_is_located(size: int) -> None:
    for first in range(size):
        for last in range(first, size):
            wrong = np.isin(np.arange(size), (first, last))

            def fails(part: slice, wrong: Any = wrong) -> bool:
                return bool(wrong[part].any())

            assert failing_range(size, fails) == (first, last)


def test_a_block_is_described_by_its_axes() -> None:
    assert describe_block((4, 9), [(0, 3), (2, 5)], ("rows", "columns")) == "columns 2 to 5"
    assert describe_block((4, 9), [(0, 3), (0, 8)], ("rows", "columns")) == ""
    actual = np.zeros((4, 9))
    actual[1:3, 2] = np.nan
    with pytest.raises(BrokenError, match="rows 1 to 2, columns 2 to 2 of the kernel"):
        close_in_blocks("the kernel", actual, np.zeros((4, 9)), 0.0, ("rows", "columns"))


@pytest.mark.parametrize("kind", ["categorical_crossentropy", "sparse_categorical_crossentropy"])
def test_a_loss_that_tells_axes_apart_by_their_sizes_is_found(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = losses.LOSSES[kind]

    def classes_by_size(loss: Loss, outputs: Any, y: Any) -> tuple[Any, Any]:
        """Take positions for classes where there are as many of both."""
        if outputs.ndim != 4 or outputs.shape[1] != outputs.shape[2]:
            return compute(loss, outputs, y)
        value, gradient = compute(loss, outputs.swapaxes(1, 2), y)
        return value, gradient.swapaxes(1, 2)

    monkeypatch.setitem(losses.LOSSES, kind, classes_by_size)
    (result,) = run(NumpyEngine, f"loss/large-{kind}")
    assert result.status is Status.FAILED


def test_the_start_of_every_variant_with_tensors_is_checked() -> None:
    assert set(WIDE) == {name for name in VARIANTS if first_choice(name).initializers()}
