"""Sweeps: points, their tables and plots, and the command."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from command_line import enter, invoke

from dlsys_bench.cli import cli
from dlsys_bench.cli.measuring import places_of
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.engines.registry import unavailable
from dlsys_bench.errors import UserError
from dlsys_bench.report.plots.speed import speed
from dlsys_bench.report.speed import VARIABLES, crossover, series, speed_tables
from dlsys_bench.timing.epoch_benchmark import Rounds, Workload, train_rounds
from dlsys_bench.timing.points import THREADS
from dlsys_bench.timing.sweep import Point, measure, read, sweep
from dlsys_bench.timing.validity import LossNotFallingError, NotTrainingError


def point(rate: float, **fields: Any) -> dict[str, Any]:
    measured = {
        "parameters": 1,
        "samples_a_second": rate,
        "samples_a_second_low": rate,
        "samples_a_second_high": rate,
        "microseconds_a_step": 1e6 / rate,
        "peak_memory_bytes": 2**30,
        "others_share": None,
        "provenance": {"commit": "c"},
    }
    return asdict(Point("numpy")) | measured | fields


@pytest.mark.parametrize(
    ("gpu", "message"),
    [
        ([50, 150, 300], "a GPU is faster from 32"),
        ([150, 50, 300], "a GPU is faster from 128"),
        ([150, 150, 300], "a GPU is faster from 8"),
        ([50, 50, 50], "the CPU is faster throughout"),
        ([150, 150, 50], "a GPU is faster only at 8, 32"),
        ([], "no GPU was measured"),
    ],
)
def test_the_crossover_is_where_a_gpu_stays_faster(gpu: list[float], message: str) -> None:
    sizes = (8, 32, 128)
    cpu = [
        point(rate, batch_size=size, engine=engine)
        for engine, rate in (("a", 100), ("b", 70))
        for size in sizes
    ]
    gpus = [
        point(rate, batch_size=size, device="cuda") for size, rate in zip(sizes, gpu, strict=False)
    ]
    assert crossover([*cpu, *gpus]) == message
    assert crossover([*cpu, *gpus][::-1]) == message


def test_a_gpu_is_compared_with_a_cpu_at_the_same_dtype() -> None:
    points = [
        point(100, batch_size=8),
        point(50, batch_size=8, dtype="float64"),
        point(70, batch_size=8, dtype="float64", device="cuda"),
    ]
    assert crossover(points) == "float32: no GPU was measured; float64: a GPU is faster from 8"


def test_a_series_differs_in_one_variable() -> None:
    points = [
        point(1, batch_size=8),
        point(2, batch_size=32),
        point(3, batch_size=8, engine="torch"),
        point(4, batch_size=32, device="cuda"),
        point(5, batch_size=8, threads=2),
        point(6, batch_size=8, threads=1),
        point(7, arm="other", parameters=9, batch_size=8),
        point(8, arm="equal", parameters=1, batch_size=32),
        point(9, arm="larger", parameters=5, batch_size=32),
    ]
    batch, threads, replicas, parameters = (series(points, axis) for axis in VARIABLES)
    assert [[p["samples_a_second"] for p in line] for line in batch.values()] == [[1, 2]]
    assert [[p["samples_a_second"] for p in line] for line in threads.values()] == [[6, 5]]
    assert not replicas
    assert [[p["samples_a_second"] for p in line] for line in parameters.values()] == [[1, 7]]


def test_the_table_by_batch_size_and_the_plot(tmp_path: Path) -> None:
    points = [
        point(1234.5, batch_size=8),
        point(2, batch_size=32),
        point(3, batch_size=8, engine="torch"),
    ]
    table, every = speed_tables(points)
    assert len(every.rows) == 3
    assert table.columns == ("engine", "device", "dtype", ">8", ">32")
    assert list(table.rows) == [
        ("numpy", "cpu", "float32", "1,234", "2"),
        ("torch", "cpu", "float32", "3", "-"),
    ]
    assert "no GPU was measured" in table.title
    path = tmp_path / "speed.png"
    assert speed(points, path) == path
    assert path.stat().st_size > 10_000
    path.unlink()
    assert speed(points[:1], path) is None
    assert not path.exists()
    assert [table.title for table in speed_tables(points[:1])] == ["All points"]


def test_memory_on_a_gpu_is_that_of_the_framework(monkeypatch: pytest.MonkeyPatch) -> None:
    hot = {"gpu": {"slowed_by": ["sync boost"]}}
    points = [
        point(1, batch_size=8),
        point(2, batch_size=32),
        point(3, batch_size=8, device="cuda", peak_device_memory_bytes=2**28, **hot),
        point(4, batch_size=32, device="cuda", gpu={"slowed_by": []}),
    ]
    every = speed_tables(points)[-1]
    columns = [every.columns.index(name) for name in (">memory, MiB", "GPU slowed by")]
    found = [tuple(row[column] for column in columns) for row in every.rows]
    assert found == [("1,024", "-"), ("1,024", "-"), ("256", "sync boost"), ("-", "not slowed")]
    drawn: list[Any] = []
    monkeypatch.setattr(
        "dlsys_bench.report.plots.speed.save", lambda figure, path: drawn.append(figure)
    )
    speed(points, Path("none.png"))
    rates, held = drawn[0].axes
    assert held.get_ylabel() == "peak memory (MiB)"
    assert [axis.get_legend() for axis in drawn[0].axes] == [None, None]
    assert not any("10^" in tick.get_text() for tick in held.get_yticklabels())
    cpu, gpu = (line.get_ydata() for line in held.lines)
    assert list(cpu) == [1024, 1024]
    assert (gpu[0], np.isnan(gpu[1])) == (256, True)
    assert [list(line.get_ydata()) for line in rates.lines] == [[1, 2], [3, 4]]


@pytest.mark.usefixtures("programs")
def test_points_are_measured_once_and_failures_have_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "speed.jsonl"
    points = [Point("numpy", study="eggholder", arm="16-16", batch_size=size) for size in (32, 64)]
    broken = Point("numpy", device="tpu", study="eggholder", arm="16-16")
    first = list(sweep([*points, broken], path, 0.1))
    assert isinstance(first[-1][1], str)
    assert "tpu" in first[-1][1]
    lines = read(path)
    assert [line["batch_size"] for line in lines] == [32, 64]
    for line in lines:
        # The sweep has required that the loss falls. The first and the last are those of single
        # batches of 32 samples, which differ by more than a short training changes them.
        assert 0 < line["loss_last"] != line["loss_first"] > 0
        assert len(line["seconds"]) >= 7
        assert line["samples_a_second"] == pytest.approx(
            1e6 * line["batch_size"] / line["microseconds_a_step"]
        )
        assert line["peak_memory_bytes"] > 10_000_000
        assert line["parameters"] == 401
        assert line["roofline"]["fraction"] > 0
        assert line["provenance"]["machine"]["cores"]
    assert list(sweep(points, path, 0.1)) == first[:2]
    assert read(path) == lines
    # A measurement with another version is repeated, and the last one counts.
    lines[0]["provenance"]["versions"]["numpy"] = "1.0"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    list(sweep(points[:1], path, 0.1))
    assert len(path.read_text().splitlines()) == 3
    assert [line["batch_size"] for line in read(path)] == [32, 64]
    assert read(path)[0]["provenance"]["versions"]["numpy"] != "1.0"


def test_threads_are_set_in_the_environment() -> None:
    found = Point("numpy", threads=1).environment
    assert {found[name] for name in THREADS} == {"1"}
    assert not set(THREADS) & set(Point("numpy").environment)


@pytest.mark.slow
def test_points_with_replicas_and_threads(tmp_path: Path) -> None:
    points = [
        Point("numpy", study="eggholder", arm="16-16", batch_size=100, replicas=many, threads=1)
        for many in (1, 8)
    ]
    alone, eight = (found for _, found in sweep(points, tmp_path / "speed.jsonl", 0.1))
    for line in read(tmp_path / "speed.jsonl"):
        assert line["provenance"]["machine"]["threads"]["OMP_NUM_THREADS"] == "1"
    assert isinstance(alone, dict)
    assert isinstance(eight, dict)
    assert eight["replicas"] == 8
    # The time per step is that of one network, not of all eight.
    assert eight["microseconds_a_step"] < 3 * alone["microseconds_a_step"]


@pytest.mark.usefixtures("programs")
def test_the_command_measures_and_draws_and_resumes(tmp_path: Path) -> None:
    arguments = [
        "bench",
        "sweep",
        "eggholder",
        "--arm",
        "16-16",
        "--engine",
        "numpy",
        "--batch-size",
        "32",
        "--batch-size",
        "64",
        "--seconds",
        "0.1",
        "--output",
        str(tmp_path / "s.jsonl"),
    ]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    page = (tmp_path / "s.md").read_text()
    assert "eggholder/16-16: samples per second by batch size" in page
    assert (tmp_path / "s.png").exists()
    assert "![](s.png)" in (tmp_path / "s.md").read_text()
    lines = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    assert [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()] == lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "s.md"], "expected NAME.jsonl"),
        (["--arm", "16-61"], "no arm '16-61' (did you mean"),
        (["--engine", "nunpy"], "unknown engine 'nunpy'"),
    ],
)
def test_invalid_options_are_reported_before_anything_is_measured(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = CliRunner().invoke(
        cli, ["bench", "sweep", "eggholder", "--output", str(tmp_path / "s.jsonl"), *arguments]
    )
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "s.jsonl").exists()


def measured(**changes: Any) -> str:
    """Return the line of a measured point with other values."""
    versions = {"provenance": {"versions": {"numpy": "2.0"}, "commit": None}}
    return json.dumps(point(3.0, study="eggholder", arm="16-16") | versions | changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no json", "line 1: it is not JSON"),
        ('{"study": "x"}', "line 1: engine is missing"),
        ("[1]", "line 1: the line is a list; expected an object"),
        ("[" * 100_000, "line 1: it is nested too deeply"),
        (f"{measured()}\n{measured(provenance=None)}", "line 2: provenance is null"),
        (measured(provenance={"commit": None}), "line 1: provenance.versions is missing"),
        (measured(samples_a_second="many"), "samples_a_second is 'many'; expected a finite number"),
        (measured(samples_a_second_high=float("inf")), "samples_a_second_high is inf"),
        (measured(others_share=True), "others_share is true"),
        (measured(gpu={"slowed_by": 3}), "gpu.slowed_by is 3; expected a list"),
        (measured(gpu="hot"), "gpu is 'hot'; expected an object"),
        ("\xff", "it is not text"),
    ],
)
def test_a_file_of_other_contents_raises(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match="s.jsonl is not a file of measured points") as raised:
        read(path)
    assert message in str(raised.value)
    done = CliRunner().invoke(cli, ["bench", "sweep", "eggholder", "--output", str(path)])
    assert done.exit_code == 2


def test_the_stored_points_are_read() -> None:
    path = Path(__file__).parents[2] / "reports" / "speed" / "cpu.jsonl"
    assert len(read(path)) == len({*path.read_text().splitlines()})
    assert read(path.with_name("none.jsonl")) == []


OWN = """
import numpy as np
from dlsys_bench.data import Dataset
from dlsys_bench.spec.layers import Dense
from dlsys_bench.spec.losses import MeanSquaredError
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies.base import Arm, Study

def data():
    x = np.random.default_rng(0).normal(size=(96, 3)).astype("float32")
    y = x @ np.array([[1.0], [2.0], [3.0]], "float32")
    return Dataset("sums", x, y, x, y)

MODEL = Model("line", (3,), (Dense(1),))
RECIPE = Recipe(SGD(0.01), batch_size=32, epochs=2, loss=MeanSquaredError(), scaling="raw")
ARMS = tuple(Arm(name, MODEL, {"quick": RECIPE}) for name in ("one", "two"))
STUDY = Study("mine", "Sums", "ours", "studies_of_a_test:data", ARMS, "test_loss")
OTHER = Study("other", "Sums", "ours", "digits", ARMS, "test_loss")
"""


@pytest.mark.usefixtures("programs")
@pytest.mark.parametrize(
    ("target", "arm"), [("studies_of_a_test:STUDY", "one"), ("studies_of_a_test:STUDY/two", "two")]
)
def test_a_study_of_the_user_is_measured(
    target: str, arm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(tmp_path, monkeypatch)
    (tmp_path / "studies_of_a_test.py").write_text(OWN)
    command = ["bench", "sweep", target, "--engine", "numpy", "--batch-size", "32"]
    command += ("--seconds", "0.1", "--output", "s.jsonl")
    assert "not measured" not in invoke(*command).stderr
    (line,) = read(tmp_path / "s.jsonl")
    assert (line["study"], line["arm"]) == ("studies_of_a_test:STUDY", arm)
    # The stored point serves until the study changes.
    monkeypatch.setattr("dlsys_bench.timing.points.run_program", None)
    invoke(*command)
    (tmp_path / "studies_of_a_test.py").write_text(OWN.replace("epochs=2", "epochs=3"))
    enter(tmp_path, monkeypatch)
    monkeypatch.delitem(sys.modules, "studies_of_a_test", raising=False)
    with pytest.raises(TypeError):
        invoke(*command)


@pytest.mark.usefixtures("programs")
def test_a_point_that_is_not_measured_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(tmp_path, monkeypatch)
    (tmp_path / "studies_of_a_test.py").write_text(OWN)
    done = invoke(
        *("bench", "sweep", "studies_of_a_test:OTHER", "--engine", "numpy"),
        *("--batch-size", "32", "--seconds", "0.1", "--output", "s.jsonl"),
        code=2,
    )
    assert "not measured: dataset 'digits' has samples of shape (28, 28, 1)" in done.stderr


def test_replicas_that_train_one_by_one_raise(tmp_path: Path) -> None:
    class Sequential(NumpyEngine):
        def replicate(self, models: Any, plans: Any) -> Any:
            return Engine.replicate(self, models, plans)

    work = Workload("eggholder", "16-16", 32, 2)
    with pytest.raises(UserError, match="one by one"):
        train_rounds(Sequential(), work, 3, replicas=2)


def test_a_group_of_studies_is_rejected(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        cli, ["bench", "sweep", "regularization", "--output", str(tmp_path / "s.jsonl")]
    )
    assert "expected one study, but regularization has 5" in done.stderr


@pytest.mark.usefixtures("programs")
def test_an_engine_without_the_device_is_left_out(tmp_path: Path) -> None:
    arguments = [
        "--engine",
        "numpy",
        "--device",
        "cuda",
        "--device",
        "cpu",
        "--arm",
        "16-16",
        "--batch-size",
        "32",
    ]
    done = CliRunner().invoke(
        cli,
        [
            "bench",
            "sweep",
            "eggholder",
            *arguments,
            "--seconds",
            "0.1",
            "--output",
            str(tmp_path / "s.jsonl"),
        ],
    )
    assert done.exit_code == 0, done.output
    assert "left out: numpy has no cuda" in done.output
    assert not (tmp_path / "s.png").exists()


def test_an_engine_without_the_dtype_is_left_out(tmp_path: Path) -> None:
    if reason := unavailable("torch"):
        pytest.skip(reason)
    arguments = [
        "--engine",
        "torch-bf16",
        "--dtype",
        "float64",
        "--output",
        str(tmp_path / "s.jsonl"),
    ]
    done = CliRunner().invoke(cli, ["bench", "sweep", "eggholder", *arguments])
    assert (done.exit_code, done.output) == (0, "left out: torch-bf16 has no float64\n")


def test_bfloat16_on_a_cpu_is_measured_only_by_request(monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := unavailable("torch"):
        pytest.skip(reason)
    monkeypatch.setattr("dlsys_bench.cli.measuring.available", lambda: ["numpy", "torch-bf16"])
    assert places_of((), ("cpu", "cuda")) == [
        ("numpy", "cpu", "float32"),
        ("torch-bf16", "cuda", "float32"),
    ]
    assert places_of(("torch-bf16",), ("cpu",)) == [("torch-bf16", "cpu", "float32")]


@pytest.mark.parametrize(
    ("error", "trainings"), [(LossNotFallingError("not yet"), 4), (NotTrainingError("never"), 3)]
)
def test_a_slow_learner_gets_more_rounds(
    error: NotTrainingError, trainings: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounds are added up to a limit. Other errors are raised at once."""
    trained: list[int] = []

    def train(engine: object, work: Workload, rounds: int, replicas: int) -> Rounds:
        trained.append(rounds)
        if rounds > 3:
            raise error
        return Rounds([1.0, 1e-4, 1e-4], [])

    monkeypatch.setattr("dlsys_bench.timing.sweep.train_rounds", train)
    with pytest.raises(type(error), match=str(error)):
        measure(Point("numpy", study="eggholder", arm="16-16", batch_size=60_000 // 8), 10.0)
    assert len(trained) == trainings
    assert trained[3:] == [4 * rounds for rounds in trained[2:-1]]
