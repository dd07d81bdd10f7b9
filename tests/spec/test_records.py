"""The options of every record in the tables: valid, invalid and stored as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from dlsys_bench.errors import SpecError
from dlsys_bench.spec.augmentation import AUGMENTATIONS
from dlsys_bench.spec.averaging import WeightAverage
from dlsys_bench.spec.batches import BATCH_SIZES
from dlsys_bench.spec.clipping import CLIPS
from dlsys_bench.spec.decay import WeightDecay
from dlsys_bench.spec.initializers import INITIALIZERS
from dlsys_bench.spec.layers import LAYERS
from dlsys_bench.spec.loss_scale import LossScale
from dlsys_bench.spec.losses import LOSSES
from dlsys_bench.spec.optimizers import OPTIMIZERS
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.spec.record import Record, from_dict
from dlsys_bench.spec.schedules import SCHEDULES
from dlsys_bench.spec.stopping import EarlyStopping

RECORDS: dict[str, type[Record]] = {
    **LAYERS,
    **INITIALIZERS,
    **LOSSES,
    **OPTIMIZERS,
    **SCHEDULES,
    **BATCH_SIZES,
    **AUGMENTATIONS,
    **CLIPS,
    WeightDecay.kind: WeightDecay,
    WeightAverage.kind: WeightAverage,
    LossScale.kind: LossScale,
    EarlyStopping.kind: EarlyStopping,
}


@pytest.mark.parametrize("kind", RECORDS)
def test_every_variant_survives_json(kind: str) -> None:
    for record in RECORDS[kind].examples().values():
        assert from_dict(record.to_dict()) == record


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [(kind, *invalid) for kind, record in RECORDS.items() for invalid in record.invalid],
)
def test_invalid_options_raise_with_one_line(
    kind: str, options: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(SpecError) as error:
        RECORDS[kind].of(**options)
    assert message in str(error.value)
    assert str(error.value).startswith(kind)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", RECORDS)
def test_records_with_numbers_have_examples_of_invalid_options(kind: str) -> None:
    record = RECORDS[kind]
    numbers = [field.name for field in fields(record) if field.type in ("int", "float", "IntPair")]
    assert record.invalid or not numbers


SWITCHES = [
    (record, field.name)
    for record in (*RECORDS.values(), Recipe)
    for field in fields(record)
    if field.type == "bool"
]


@pytest.mark.parametrize("value", ["no", 0, 1, None])
@pytest.mark.parametrize(("record", "name"), SWITCHES)
def test_a_switch_is_true_or_false(record: type[Record], name: str, value: object) -> None:
    """`shuffle="no"` would shuffle."""
    example = next(iter(record.examples().values()))
    message = f"{record.kind}: {name} is {value!r}; expected True or False"
    with pytest.raises(SpecError, match=message):
        replace(example, **{name: value})


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("sgd", {"learning_rate": 10**400}, r"expected a number in \[0, inf\)"),
        ("uniform", {"low": -(10**400)}, r"expected a number in \(-inf, inf\)"),
        ("dense", {"units": 2**63}, r"expected at most 2\*\*63 - 1"),
        ("cosine_decay", {"steps": 10**30}, r"expected at most 2\*\*63 - 1"),
        ("activation", {"function": np.array(["relu", "tanh"])}, "expected one of linear, sigmoid"),
    ],
)
def test_a_value_that_no_engine_can_compute_with_raises(
    kind: str, options: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        RECORDS[kind].of(**options)


@pytest.mark.parametrize("kind", RECORDS)
def test_an_unknown_option_raises(kind: str) -> None:
    with pytest.raises(SpecError, match=f"{kind} has no option 'no_such_option'"):
        RECORDS[kind].of(no_such_option=1)
