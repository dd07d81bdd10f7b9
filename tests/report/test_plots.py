"""Every plot draws artificial runs: one seed, several seeds and engines, and diverged runs; its
numbers agree with SciPy's or with arithmetic."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from results import make_result
from scipy import stats

from dlsys_bench.engines.history import Epoch
from dlsys_bench.notebooks.plots.activations import layer_density
from dlsys_bench.notebooks.plots.collapse import published as published_collapse
from dlsys_bench.notebooks.plots.draws import pooled as pooled_draws
from dlsys_bench.notebooks.plots.draws import published as published_draw
from dlsys_bench.notebooks.plots.phase_diagram import bounds, has_theory
from dlsys_bench.notebooks.plots.phase_diagram import pooled as pooled_diagram
from dlsys_bench.notebooks.plots.range_test import read_off
from dlsys_bench.notebooks.plots.steps import by_step
from dlsys_bench.notebooks.plots.steps import published as published_curve
from dlsys_bench.notebooks.plots.sweep import last_values, logarithmic, swept
from dlsys_bench.notebooks.studies.initialization import INITIALIZATION
from dlsys_bench.notebooks.studies.perceptron import PERCEPTRON
from dlsys_bench.notebooks.studies.phase_diagram import PHASE_DIAGRAM
from dlsys_bench.report import picture
from dlsys_bench.report.plots.groups import groups, not_drawn
from dlsys_bench.report.plots.seeds import seeds_of_training, versions_of
from dlsys_bench.report.plots.statistics import fraction, from_quantiles, mean, percentile, smooth
from dlsys_bench.report.plots.table import plots
from dlsys_bench.runs.key import CALLABLE
from dlsys_bench.runs.result import Result
from dlsys_bench.studies.registry import studies

RATE = {
    "optimizer": {"learning_rate": 0.1},
    "batch_size": 64,
    "epochs": 2,
    "schedule": {"kind": "own"},
}


def run(study: str, arm: str = "own", seed: int = 0, **changes: Any) -> Result:
    fields: dict[str, Any] = {"dataset": "own", "tier": "full", "protocol": "p" * 12}
    fields |= {"history": [], "recipe": RATE, "seconds": 1.0}
    return make_result(seed, study=study, arm=arm, **fields | changes)


def history(seed: int, *, kept: bool = True) -> list[Epoch]:
    """Two epochs of 40 steps with learning rates from 1e-4 to 10, whose loss falls and diverges."""
    rates = np.geomspace(1e-4, 10.0, 80)
    losses = (2.0 / (1.0 + rates * 50) + 0.2 + rates**3).tolist()
    return [
        Epoch(
            epoch,
            40 * epoch,
            1.0,
            1.0 / epoch + 0.01 * seed,
            0.5,
            test_accuracy=0.4 + 0.1 * epoch + 0.01 * seed,
            by_step={
                "learning_rate": rates[40 * (epoch - 1) : 40 * epoch].tolist(),
                "batch_size": [64.0] * 39 + [32.0],
                "loss": losses[40 * (epoch - 1) : 40 * epoch],
            }
            if kept
            else None,
        )
        for epoch in (1, 2)
    ]


def figures(plot: str, arm: str, seed: int) -> dict[str, Any]:
    """The figures of a run of a study with a measure."""
    counts = np.bincount(
        np.random.default_rng(seed).binomial(1000, 0.95, 200), minlength=1001
    ).tolist()
    grid = np.full((3, 2), 0.25 + 0.1 * seed).tolist()
    levels = np.linspace(0.0, 1.0, 101).tolist()
    by_plot: dict[str, dict[str, Any]] = {
        "collapse": {
            "networks": 100,
            "failed": seed,
            "flat": 95,
            "identical": 40,
            "collapsed": 95,
            "train_loss": None,
        },
        "phase_diagram": {
            "depths": [1, 2, 5],
            "widths": [1, 2],
            "networks": 100 + 100 * seed,
            "flat": grid,
            "dead": grid,
        },
        "draws": {"draws": 200, "counts": counts},
        "activations": {
            "deviation": [0.3] * 5,
            "saturated": [0.0] * 5,
            "quantiles": [levels] * 5,
            "theory": {"deviation": [0.29] * 5, "saturated": [0.0] * 5},
        },
        "eggholder": {
            "test_rmse": 200.0 + seed,
            "test_rmse_in_training_mode": 201.0,
            "train_seconds": 1.0 + seed,
            "parameters": 100 * len(arm),
            "layers": 1 + arm.count("-"),
        },
    }
    return by_plot[plot]


ARMS = {
    "activations": [INITIALIZATION.arms[0].name, INITIALIZATION.arms[-1].name],
    "collapse": ["relu", "nb4/leaky_relu"],
    "curves": ["bn+bn", "dropout"],
    "draws": [PERCEPTRON.arms[0].name, PERCEPTRON.arms[1].name],
    "eggholder": ["64", "16-16"],
    "phase_diagram": ["trained/relu, glorot_uniform", "born/relu, he_uniform"],
    "range_test": ["bn+bn", "own"],
    "steps": ["exp_range", "fixed"],
    "sweep": ["0.1", "10"],
}
STUDY = {
    plot: next(study.name for study in studies().values() if plot in study.plots) for plot in ARMS
}


def made(plot: str, number: int, seed: int, **changes: Any) -> Result:
    """One run of an arm of a plot."""
    arm = ARMS[plot][number]
    recipe = (
        {**RATE, "optimizer": {"learning_rate": 0.1 * 100**number}} if plot == "sweep" else RATE
    )
    kept = arm != "fixed"
    what = (
        {"history": history(seed, kept=kept)}
        if plot in OF_HISTORY
        else {"figures": figures(plot, arm, seed)}
    )
    return run(STUDY[plot], arm, seed, **{"recipe": recipe, **what, **changes})


OF_HISTORY = ("curves", "range_test", "steps", "sweep")
LOST: dict[str, Any] = {
    "status": "diverged",
    "reason": "the loss became nan",
    "history": [],
    "figures": {},
}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are saved, at a low resolution."""
    from matplotlib.figure import Figure

    kept: list[Any] = []
    savefig = Figure.savefig

    def keep(figure: Any, *args: Any, **options: Any) -> None:
        kept.append(figure)
        savefig(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    monkeypatch.setattr(picture, "DPI", 25)
    return kept


def check(path: Path, drawn: Sequence[Any]) -> str:
    """Check that a plot is a PNG with labelled axes, 600 to 1700 pixels wide at full resolution,
    without a legend over its data or small text; return its text."""
    from matplotlib.text import Text

    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = (pixels * 110 / 25 for pixels in struct.unpack(">II", data[16:24]))
    assert 600 < width < 1700
    assert 300 < height < 2500
    (figure,) = drawn
    assert any(axis.get_xlabel() for axis in figure.axes)
    assert any(axis.get_ylabel() or axis.get_yticklabels() for axis in figure.axes)
    for axis in figure.axes:
        if (legend := axis.get_legend()) is not None:
            assert legend.get_window_extent().y1 < axis.get_window_extent().y0
    assert not any("10^" in text.get_text() for a in figure.axes for text in a.get_yticklabels())
    texts = [text for text in figure.findobj(Text) if text.get_text().strip()]
    assert min(text.get_fontsize() for text in texts) >= 8
    return "\n".join(text.get_text() for text in texts)


def test_every_plot_of_a_study_is_registered() -> None:
    assert {plot for study in studies().values() for plot in study.plots} <= set(plots())
    assert set(ARMS) <= set(plots())


@pytest.mark.rotates("plots of one run", 4)
@pytest.mark.parametrize("plot", ARMS)
def test_one_run_is_drawn(plot: str, drawn: list[Any], tmp_path: Path) -> None:
    text = check(plots()[plot]([made(plot, 0, 0)], tmp_path / "new" / "one.png"), drawn)
    assert f"{STUDY[plot]} on own, tier full, numpy (cpu)" in text
    assert "diverged" not in text.replace("diverged, omitted", "")


@pytest.mark.parametrize("plot", ARMS)
def test_several_arms_seeds_and_engines_are_drawn_and_diverged_runs_named(
    plot: str, drawn: list[Any], tmp_path: Path
) -> None:
    results = [made(plot, number, seed) for number in (0, 1) for seed in (0, 1)]
    results += [made(plot, 0, 0, engine="torch", device="cuda"), made(plot, 1, 2, **LOST)]
    text = check(plots()[plot](results, tmp_path / "some.png"), drawn)
    assert "torch on cuda" in text
    assert "diverged" in text
    assert "1 of 3" in text


@pytest.mark.rotates("plots of runs that diverged", 4)
@pytest.mark.parametrize("plot", ARMS)
def test_runs_that_all_diverged_are_named(plot: str, drawn: list[Any], tmp_path: Path) -> None:
    text = check(plots()[plot]([made(plot, 0, 0, **LOST)], tmp_path / "lost.png"), drawn)
    assert "diverged" in text
    # A panel that stays empty gives the reason.
    assert text.count("its first epoch") == (2 if plot in ("curves", "steps") else 0)


def test_curves_leave_out_early_values_beyond_all_later_ones(
    drawn: list[Any], tmp_path: Path
) -> None:
    accuracies = [0.1, 0.91, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99]
    losses = [9.0, 0.5, 0.3, 0.2, 0.1, 0.08, 0.07, 0.05]
    epochs = [
        Epoch(n, n, 1.0, loss, test_accuracy=accuracy, test_loss=loss)
        for n, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True), start=1)
    ]
    check(plots()["curves"]([made("curves", 0, 0, history=epochs)], tmp_path / "a.png"), drawn)
    loss, accuracy = drawn[0].axes
    assert 0.3 < loss.get_ylim()[1] < 0.5
    assert loss.get_yscale() == "log"
    assert 0.91 < accuracy.get_ylim()[0] < 0.95
    assert accuracy.get_yscale() == "linear"


def test_a_run_without_epochs_is_not_said_to_have_diverged(
    drawn: list[Any], tmp_path: Path
) -> None:
    bare = made("curves", 1, 0, history=[])
    text = check(plots()["curves"]([made("curves", 0, 0), bare], tmp_path / "a.png"), drawn)
    assert "no epochs" in text
    assert "diverged" not in text


def test_the_title_names_the_datasets_of_all_arms(drawn: list[Any], tmp_path: Path) -> None:
    results = [made("collapse", 0, 0), made("collapse", 1, 0, dataset="other")]
    assert "dying-relu on own, other, tier full" in check(
        plots()["collapse"](results, tmp_path / "a.png"), drawn
    )


def test_runs_with_a_reason_instead_of_figures_are_named(drawn: list[Any], tmp_path: Path) -> None:
    results = [
        made("eggholder", 0, 0),
        made("eggholder", 1, 0, figures={"reason": "the loss became inf"}),
    ]
    assert "diverged, not drawn: 16-16 (1 of 1)" in check(
        plots()["eggholder"](results, tmp_path / "a.png"), drawn
    )


def test_the_standard_deviation_of_the_noise_is_drawn(drawn: list[Any], tmp_path: Path) -> None:
    plots()["eggholder"]([made("eggholder", 0, 0)], tmp_path / "a.png")
    heights = [
        line.get_ydata()[0]
        for axis in drawn[0].axes
        for line in axis.lines
        if "noise" in line.get_label()
    ]
    assert heights == pytest.approx([0.5477], abs=1e-4)


def test_runs_of_two_protocols_form_two_groups() -> None:
    one, other, torch = (
        run("s"),
        run("s", seed=1, protocol="q" * 12),
        run("s", "second", engine="torch"),
    )
    labels = [group.label for group in groups([one, other, torch])]
    assert labels == [
        "own (numpy, protocol pppppp)",
        "own (numpy, protocol qqqqqq)",
        "second (torch)",
    ]
    assert [group.label for group in groups([one])] == ["own"]
    assert not_drawn(groups([one])) == ""


def test_the_interval_of_a_mean_is_students() -> None:
    values = [1.0, 2.0, 4.0]
    wanted = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert mean(values) == pytest.approx((np.mean(values), wanted.low, wanted.high))
    assert mean([3.0]) == (3.0, 3.0, 3.0)
    logs = mean(values, logarithmic=True)
    assert logs.value == pytest.approx(2.0)
    assert logs.low * logs.high == pytest.approx(4.0)


@pytest.mark.parametrize(("count", "of"), [(0, 20), (7, 20), (20, 20), (964, 1000)])
def test_the_interval_of_a_fraction_is_clopper_and_pearsons(count: int, of: int) -> None:
    wanted = stats.binomtest(count, of).proportion_ci(0.95, method="exact")
    assert fraction(count, of) == pytest.approx((count / of, wanted.low, wanted.high))


def test_a_fraction_of_nothing_has_the_widest_interval() -> None:
    assert fraction(0, 0)[1:] == (0.0, 1.0)


def test_smoothing_averages_finite_neighbours() -> None:
    assert smooth([1.0, 2.0, 6.0, 4.0], 3).tolist() == [1.5, 3.0, 4.0, 5.0]
    assert smooth([1.0, np.nan, 3.0], 3).tolist() == [1.0, 2.0, 3.0]
    assert smooth([1.0, 5.0], 1).tolist() == [1.0, 5.0]
    assert np.isnan(smooth([np.nan, 1.0, 1.0], 1)[0])


def test_a_percentile_counts_equals_by_half() -> None:
    counts = np.bincount([2, 3, 3, 5], minlength=7).tolist()
    values = [2, 3, 3, 5]
    for value in range(7):
        assert percentile(counts, value) == pytest.approx(
            stats.percentileofscore(values, value, kind="mean")
        )


def test_quantiles_reproduce_their_distribution() -> None:
    normal = stats.norm.ppf(np.linspace(0.001, 0.999, 101))
    values = from_quantiles(normal.tolist(), 5000)
    assert np.quantile(values, [0.25, 0.5, 0.9]) == pytest.approx(
        np.quantile(normal, [0.25, 0.5, 0.9]), abs=0.01
    )


def test_the_density_of_a_layer_is_relative_to_its_fullest_bin() -> None:
    edges = np.linspace(0.0, 1.0, 5)
    assert layer_density([np.linspace(0, 1, 101).tolist()], edges, powers=False) == pytest.approx(
        np.ones(4), abs=0.01
    )
    # For ReLU, zeros are excluded and the logarithms of the other outputs are binned.
    half = [0.0] * 51 + [10.0] * 50
    assert layer_density([half], np.array([-0.5, 0.5, 1.5]), powers=True) == pytest.approx(
        [0.0, 1.0], abs=0.03
    )
    assert layer_density([[0.0] * 101], np.array([0.5, 1.5]), powers=True).tolist() == [0.0]


def test_a_range_test_finds_the_descent_and_the_divergence() -> None:
    rates = np.geomspace(1e-6, 10.0, 700)
    # A logistic descent in the logarithm around 1e-3, and a divergence where the square dominates.
    losses = 0.5 + 2.0 / (1.0 + (rates / 1e-3) ** 1.5) + 20.0 * rates**2
    losses *= np.exp(0.05 * np.random.default_rng(0).normal(size=700))
    found = read_off(rates, losses)
    assert 3e-4 < found.steepest < 3e-3
    assert found.steepest < found.lowest < 0.15
    assert found.diverged == pytest.approx(np.sqrt(1.5 / 20), rel=0.3)
    assert read_off(rates, np.linspace(2.0, 1.0, 700)).diverged is None


def test_a_range_test_that_ends_in_nan_has_diverged_there() -> None:
    rates = np.geomspace(1e-3, 1.0, 90)
    losses = np.linspace(2.0, 1.0, 90)
    losses[80:] = np.nan
    assert read_off(rates, losses).diverged == pytest.approx(rates[80])


def test_the_swept_parameter_is_the_one_that_varies() -> None:
    sizes = [run("own", str(size), recipe={**RATE, "batch_size": size}) for size in (64, 128)]
    rates = [
        run("own", str(rate), recipe={**RATE, "optimizer": {"learning_rate": rate}})
        for rate in (0.1, 1.0)
    ]
    assert [swept(sizes).value(made.recipe) for made in sizes] == [64.0, 128.0]
    assert [swept(rates).value(made.recipe) for made in rates] == [0.1, 1.0]
    assert "batch" in swept([run("batch-size-sweep")]).label
    assert "rate" in swept([run("learning-rate-sweep")]).label


def test_a_sweep_is_logarithmic_if_the_loss_spans_a_decade() -> None:
    near, far = ([Epoch(1, 1, 1.0, loss)] for loss in (1.0, 30.0))
    lines = {"": groups([run("s", "a", history=near), run("s", "b", history=far)])}
    assert logarithmic(lines, "running_loss")
    assert not logarithmic(lines, "test_accuracy")
    assert not logarithmic({"": lines[""][:1]}, "running_loss")
    assert last_values(
        groups([run("s", history=near), run("s", seed=1, **LOST)])[0], "running_loss"
    ) == [1.0]


def test_the_best_of_a_sweep_is_the_lowest_loss_and_the_highest_accuracy(
    drawn: list[Any], tmp_path: Path
) -> None:
    def at(rate: float, loss: float, accuracy: float) -> Result:
        kept = [Epoch(1, 1, 1.0, loss, test_accuracy=accuracy)]
        recipe = {**RATE, "optimizer": {"learning_rate": rate}}
        return run("learning-rate-sweep", f"{rate:g}", history=kept, recipe=recipe)

    plots()["sweep"]([at(0.01, 1.0, 0.7), at(0.1, 0.5, 0.6), at(1.0, 2.0, 0.1)], tmp_path / "a.png")
    stars = [
        line.get_xydata()[0].tolist()
        for axis in drawn[0].axes
        for line in axis.lines
        if line.get_marker() == "*"
    ]
    assert stars == [[0.1, 0.5], [0.01, 0.7]]


def test_steps_are_concatenated_over_epochs() -> None:
    assert len(by_step(run("s", history=history(0)), "loss")) == 80
    assert len(by_step(run("s", history=history(0, kept=False)), "loss")) == 0


def test_published_figures_come_from_the_claims() -> None:
    metric, accuracies = published_curve("cyclical-learning-rate", "exp_range")
    assert metric == "test_accuracy"
    assert accuracies == {1: 0.8696, 2: 0.8560, 3: 0.8907, 4: 0.8443, 5: 0.9042}
    assert published_curve("cyclical-batch-size", "published")[1][5] == 0.844462
    assert published_curve("cyclical-batch-size", "sound") == ("", {})
    assert [published_draw(arm.name) for arm in PERCEPTRON.arms] == [
        0.929,
        0.726,
        0.902,
        0.955,
        None,
        None,
    ]


def test_a_published_fraction_requires_the_same_number_of_epochs() -> None:
    found = published_collapse(run("dying-relu", "leaky_relu"))
    assert found is not None
    assert found == ("nb2", fraction(955, 1000))
    assert published_collapse(run("dying-relu", "nb4/relu")) is None
    assert (
        published_collapse(run("dying-relu", "nb4/relu", recipe={**RATE, "epochs": 20})) is not None
    )


def test_seeds_are_pooled_by_their_networks() -> None:
    results = [made("phase_diagram", 1, seed) for seed in (0, 1)]
    found = pooled_diagram(results)
    assert found.networks == 300
    assert found.fractions["dead"][0, 0] == pytest.approx((0.25 * 100 + 0.35 * 200) / 300)
    assert pooled_draws([made("draws", 0, seed) for seed in (0, 1)]).sum() == 400


def test_theory_is_drawn_only_for_symmetric_relu_at_birth() -> None:
    assert [arm.name for arm in PHASE_DIAGRAM.arms if has_theory(arm.name)] == [
        "born/relu, glorot_uniform",
        "born/relu, he_uniform",
    ]
    low, high = bounds([1, 5, 20], [1, 2, 5])
    assert low.shape == (3, 3)
    assert np.all(low <= high)
    assert np.all(np.diff(high, axis=0) >= 0)
    assert np.all(np.diff(high, axis=1) <= 0)


def test_the_plot_of_a_training_has_a_row_for_each_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dlsys_bench.report.plots.seeds.save", lambda drawn, path: drawn)
    results = [
        make_result(
            seed,
            study="mine:train",
            engine=CALLABLE,
            protocol=protocol,
            figures={"accuracy": 0.9 + seed / 100, "$loss_": 0.1} if seed else {},
            status="finished" if seed else "diverged",
            provenance={"time": f"2026-01-{day:02}T00:00:00+00:00"},
        )
        for protocol, day in (("fedcba987", 9), ("abcdef123", 1), ("", 5))
        for seed in range(4)
    ]
    versions = versions_of(results)
    assert [each.label for each in versions] == [
        "version abcdef, 2026-01-01",
        "runs of gates, 2026-01-05",
        "version fedcba, 2026-01-09",
    ]
    figure: Any = seeds_of_training(results, tmp_path / "x.png")
    figures = figure.axes
    assert [axis.get_xlabel() for axis in figures] == ["accuracy", "$loss_"]
    dots = [line for line in figures[0].lines if line.get_marker() == "o"]
    for line in dots:
        assert line.get_xdata() == pytest.approx([0.91, 0.92, 0.93])
    assert len(dots) == 3
    # The range of the oldest version.
    (span,) = figures[0].patches
    assert span.get_extents().width > 0
    assert "3 of 12 runs diverged, not drawn" in figure.get_suptitle()
