"""The bound of a training step: its operations and bytes by phase, and what the reports show."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dlsys_bench.report.html.included import included_sections
from dlsys_bench.report.html.speed import speed_sections
from dlsys_bench.report.speed import speed_tables
from dlsys_bench.spec.averaging import WeightAverage
from dlsys_bench.spec.layers import Activation, Dense, Embedding, Flatten
from dlsys_bench.spec.losses import MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import OPTIMIZERS, SGD, Adam, RMSprop
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.timing import roofline
from dlsys_bench.timing.peak import LARGEST, SMALLEST, Meter, copy_meter
from dlsys_bench.timing.roofline import MOMENTS, Phase, Roofline, step_phases

TWO = Model("two", (2, 2, 1), (Flatten(), Dense(3), Activation("relu"), Dense(5, use_bias=False)))
RECIPE = Recipe(SGD(), batch_size=10, loss=MeanSquaredError())


def test_the_phases_of_a_dense_network() -> None:
    """The input is flattened without a copy; of the layers' outputs, the second product needs
    one again, and only its kernel takes part in a gradient of values."""
    inputs, value, parameters = 4 * 10 * 4, 4 * 10 * 3, 4 * (15 + 15)
    assert step_phases(TWO, RECIPE) == {
        "forward": Phase(10 * 2 * (12 + 15), inputs + value + parameters),
        "backward": Phase(10 * 2 * (12 + 15 + 15), inputs + value + 4 * 15),
        "update": Phase(0, 2 * parameters),
    }
    twice = step_phases(TWO, RECIPE, itemsize=8)
    assert all(twice[name].bytes == 2 * own.bytes for name, own in step_phases(TWO, RECIPE).items())


@pytest.mark.parametrize(
    ("optimizer", "values"), [(SGD(momentum=0.9), 2), (Adam(), 3), (RMSprop(), 2)]
)
def test_an_update_moves_what_the_optimiser_keeps(optimizer: Any, values: int) -> None:
    recipe = replace(RECIPE, optimizer=optimizer)
    assert step_phases(TWO, recipe)["update"].bytes == 2 * values * 4 * 30
    averaged = replace(recipe, average=WeightAverage(0.9))
    assert step_phases(TWO, averaged)["update"].bytes == 2 * (values + 1) * 4 * 30
    assert set(MOMENTS) == set(OPTIMIZERS.values())


def test_vectors_that_no_sample_looks_up_need_not_be_read() -> None:
    model = Model("e", (2,), (Embedding(1000, 3), Flatten(), Dense(1)), input_dtype="int")
    assert step_phases(model, RECIPE)["update"].bytes == 2 * 4 * 7
    moved = step_phases(model, replace(RECIPE, optimizer=Adam()))["update"]
    assert moved.bytes == 3 * 2 * 4 * 3007
    assert step_phases(model, RECIPE)["forward"].bytes == 4 * (10 * 2 + 10 * 6 + 7)


def meter(rate: float) -> Any:
    """A meter with a rate that is given."""
    found = Meter(rate, (), lambda: None)
    found.tries, found.fastest = 5, 1.0
    return found


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 10 GFLOP/s and 1 GB/s."""
    monkeypatch.setattr(roofline, "product_meter", lambda dtype, threads: meter(1e10))
    monkeypatch.setattr(roofline, "copy_meter", lambda size, threads: meter(1e9))


@pytest.mark.usefixtures("machine")
def test_the_bound_is_the_sum_over_the_phases_of_the_slower_limit() -> None:
    """Of this network memory limits the update, and products the other phases."""
    model = Model("wide", (100,), (Dense(100, use_bias=False), Dense(100, use_bias=False)))
    info = Roofline(model, replace(RECIPE, batch_size=1000)).info(0.032)
    each = {name: phase["bound_microseconds"] for name, phase in info["phases"].items()}
    assert each == pytest.approx({"forward": 4000.0, "backward": 6000.0, "update": 160.0})
    assert info["bound_microseconds"] == pytest.approx(10160.0)
    assert info["fraction"] == pytest.approx(10.16 / 32)
    assert "fraction" not in Roofline(model, RECIPE).info()


def test_a_copy_is_measured_in_arrays_of_the_size_of_the_work() -> None:
    small, large = copy_meter(1, 1), copy_meter(1e12, 1)
    assert [sum(array.nbytes for array in one.arrays[0]) for one in (small, large)] == [
        SMALLEST,
        LARGEST,
    ]
    assert copy_meter(2**20 + 1, 1) is copy_meter(2**21, 1)
    calls: list[int] = []
    counted = Meter(8.0, ((1,), (2,)), calls.append)
    counted.sample()
    assert (len(calls), counted.tries) == (4, 1)
    assert counted.rate() > 0
    assert counted.tries == 5


def test_the_fastest_of_several_products_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("dlsys_bench.timing.peak.time.perf_counter", lambda: now[0])

    def call(seconds: float) -> None:
        now[0] += seconds

    lasting = [lambda _, seconds=seconds: call(seconds) for seconds in (3.0, 2.0, 5.0)]
    assert Meter(8.0, ((1,),), *lasting).rate() == 4.0


@pytest.mark.usefixtures("machine")
def test_reports_show_the_bound(tmp_path: Path) -> None:
    bound = Roofline(TWO, RECIPE).info(1e-6)
    info = {"gflops": 2.0, "matrix_peak_gflops": 10.0, "roofline": bound}
    entry = {"fullname": "test_two", "stats": {"data": [0.1]}, "extra_info": info}
    (tmp_path / "session.json").write_text(json.dumps({"benchmarks": [entry]}))
    (section,) = included_sections([tmp_path / "session.json"])
    rows = [tuple(row) for row in section.sheets[1].rows]
    assert [row[:2] + row[5:] for row in rows] == [
        ("test_two", "forward", "memory", ""),
        ("test_two", "backward", "memory", ""),
        ("test_two", "update", "memory", ""),
        ("test_two", "step", "", "98.0%"),
    ]
    points = [_point(size, bound) for size in (10, 20)]
    (row, _) = speed_tables(points)[-1].rows
    columns = speed_tables(points)[-1].columns
    shown = {name: row[columns.index(name)] for name in (">bound, µs", ">of the bound")}
    assert shown == {">bound, µs": "1.0", ">of the bound": "98.0%"}
    (_, drawn) = speed_sections(points)
    assert "bound of the machine" in str(drawn.legend)
    (_, without) = speed_sections([point | {"roofline": None} for point in points])
    assert "bound of the machine" not in str(without.legend)


def _point(size: int, bound: dict[str, Any]) -> dict[str, Any]:
    place = {"study": "s", "arm": "a", "engine": "numpy", "device": "cpu", "dtype": "float32"}
    rates = dict.fromkeys(("samples_a_second", "samples_a_second_low", "samples_a_second_high"), 9)
    return {
        **place,
        **rates,
        "batch_size": size,
        "threads": None,
        "replicas": 1,
        "parameters": 30,
        "microseconds_a_step": float(size),
        "gflops": 1.0,
        "peak_memory_bytes": 2**20,
        "others_share": None,
        "first_steps_seconds": 2.5,
        "roofline": bound,
        "provenance": {"commit": "c"},
    }
