"""Claims about one arm: a figure, a fraction, a draw, a count of parameters, a speed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import scipy

from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.notebooks.rulings.pool import predict, too_wide
from dlsys_bench.notebooks.rulings.readings import try_readings
from dlsys_bench.notebooks.rulings.runs import FEWEST, Runs, figures, metric_of
from dlsys_bench.runs.result import Result
from dlsys_bench.spec.layers import Activation
from dlsys_bench.spec.model import Model
from dlsys_bench.studies.registry import studies
from dlsys_bench.verdicts.claims.ruling import Claim, Judged, Ruling, unmeasured
from dlsys_bench.verdicts.difference import LEVEL

PARAMETER_COUNTS = {
    "params_total": "total",
    "params_trainable": "trainable",
    "params_non_trainable": "non_trainable",
}
"""The counts of a model's parameters by the metric of a claim."""


def band(claim: Claim, runs: Runs) -> Judged:
    """Test a figure against the prediction interval of one run; a fraction of networks and a single
    draw have tests of their own kind."""
    of_arm = runs.for_claim(claim)
    if of_arm and "collapsed" in of_arm[0].figures:
        return _fraction(claim, of_arm)
    if of_arm and "counts" in of_arm[0].figures:
        return _draw(claim, of_arm)
    metric, epoch = metric_of(claim), claim.get("epoch")
    values = figures(of_arm, metric, epoch)
    if len(values) < FEWEST:
        return unmeasured(claim, len(values))
    one = predict(runs, of_arm, metric, epoch)
    low, high = one.interval()
    inside = low <= claim["value"] <= high
    wide = (too_wide(claim, metric, (low, high), one.mean) or one.borrowed) if inside else ""
    parts = [
        f"{'inside' if inside else 'outside'} the prediction interval of one run, "
        f"{one.deviations(claim['value']):.1f} standard deviations from the mean",
        f"but this is {wide}" if wide else "",
        one.pooled,
    ]
    ruling = Ruling.UNDECIDED if wide else Ruling.REPRODUCED if inside else Ruling.NOT_REPRODUCED
    measured = f"{one.mean:.4f} ± {one.deviation:.4f}"
    reason = "; ".join(filter(None, parts))
    p = one.p_value(claim["value"])
    judged = Judged(claim, ruling, reason, measured, (low, high), p, one.n)
    return try_readings(judged, runs, one)


def _fraction(claim: Claim, of_arm: Sequence[Result]) -> Judged:
    """Compare the published count of networks with the measured one by Fisher's exact test."""
    hits, networks = (
        sum(run.figures[name] for run in of_arm) for name in ("collapsed", "networks")
    )
    published = round(claim["value"] * claim["n"])
    table = [[hits, networks - hits], [published, claim["n"] - published]]
    p = float(scipy.stats.fisher_exact(table).pvalue)
    low, high = scipy.stats.binomtest(published, claim["n"]).proportion_ci(LEVEL, "exact")
    ruling = Ruling.REPRODUCED if p >= 1 - LEVEL else Ruling.NOT_REPRODUCED
    reason = (
        f"{published} of {claim['n']} published (95% interval {low:.4f} to {high:.4f}) "
        f"against {hits} of {networks}: p {p:.2g} by Fisher's exact test; {_dispersion(of_arm)}"
    )
    interval = scipy.stats.binomtest(hits, networks).proportion_ci(LEVEL, "exact")
    return Judged(
        claim,
        ruling,
        reason,
        f"{hits / networks:.4f}",
        (interval.low, interval.high),
        p,
        len(of_arm),
    )


def _dispersion(of_arm: Sequence[Result]) -> str:
    """Compare the variation between runs, each with one draw of the data, with that of independent
    networks."""
    table = [
        [run.figures["collapsed"], run.figures["networks"] - run.figures["collapsed"]]
        for run in of_arm
    ]
    if len(table) < 2 or not all(map(sum, zip(*table, strict=True))):
        return "binomial interval of all networks"
    p = float(scipy.stats.chi2_contingency(table).pvalue)
    return f"binomial interval of all networks; overdispersion of the runs: p {p:.2g} (chi-squared)"


def _draw(claim: Claim, of_arm: Sequence[Result]) -> Judged:
    """Locate the published draw in the distribution of draws."""
    counts = np.sum([run.figures["counts"] for run in of_arm], axis=0)
    values = np.arange(len(counts)) / (len(counts) - 1)
    below = float(
        counts[values < claim["value"] - 1e-9].sum()
        + counts[np.isclose(values, claim["value"])].sum() / 2
    )
    place = below / counts.sum()
    edges = np.cumsum(counts) / counts.sum()
    low, high = (
        float(values[np.searchsorted(edges, edge)]) for edge in ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    )
    p = 2 * min(place, 1 - place)
    ruling = Ruling.REPRODUCED if low <= claim["value"] <= high else Ruling.NOT_REPRODUCED
    mean = float((values * counts).sum() / counts.sum())
    percentile = f"at percentile {100 * place:.0f} of {counts.sum():,} draws"
    reason = f"{percentile}; 95% of them lie in the interval"
    return Judged(claim, ruling, reason, f"{mean:.4f}", (low, high), p, len(of_arm))


def trajectory(claim: Claim, runs: Runs) -> Judged:
    """Test the figure of each epoch against the prediction interval of that epoch (Bonferroni over
    the epochs)."""
    of_arm = runs.for_claim(claim)
    metric, count = metric_of(claim), len(claim["values"])
    reached = len(figures(of_arm, metric, count))
    if reached < FEWEST:
        return unmeasured(claim, reached)
    epochs = [predict(runs, of_arm, metric, epoch, at=epoch) for epoch in range(1, count + 1)]
    intervals = [one.interval(1 - (1 - LEVEL) / count) for one in epochs]
    inside = [
        low <= value <= high for value, (low, high) in zip(claim["values"], intervals, strict=True)
    ]
    wide = [
        why
        for one, edges in zip(epochs, intervals, strict=True)
        if (why := too_wide(claim, metric, edges, one.mean) or one.borrowed)
    ]
    ruling = (
        Ruling.NOT_REPRODUCED
        if not all(inside)
        else Ruling.UNDECIDED
        if wide
        else Ruling.REPRODUCED
    )
    figures_by_epoch = ", ".join(f"{one.mean:.3f} ± {one.deviation:.3f}" for one in epochs)
    parts = [
        f"{sum(inside)} of {count} epochs inside their prediction intervals",
        f"but {len(wide)} of them are {wide[0]}" if wide else "",
        f"at the end {epochs[-1].pooled}" if epochs[-1].pooled else "",
    ]
    return Judged(claim, ruling, "; ".join(filter(None, parts)), figures_by_epoch, runs=len(of_arm))


def bound(claim: Claim, runs: Runs) -> Judged:
    """Test that a parameter without a gradient in exact arithmetic stays within rounding errors."""
    of_arm = runs.for_claim(claim)
    values = figures(of_arm, claim["metric"])
    if not len(values):
        return unmeasured(claim, 0)
    limit = studies()[claim["study"]].arm(claim["arm"]).bound
    assert limit is not None
    ruling = Ruling.REPRODUCED if values.max() < limit else Ruling.NOT_REPRODUCED
    gamma = max(run.figures["max_change_of_gamma"] for run in of_arm)
    after = min(run.figures["max_change_of_gamma_after_pool"] for run in of_arm)
    reason = (
        f"at most {limit:g}, because the gradient is zero in exact arithmetic; "
        f"|gamma - 1| {gamma:.1e}, after the pool {after:.1e}"
    )
    return Judged(claim, ruling, reason, f"{values.max():.1e}", runs=len(values))


def exact(claim: Claim, runs: Runs) -> Judged:
    """Compare a count of parameters, or the sum of a softmax, with that of the model."""
    model = studies()[claim["study"]].arm(claim["arm"]).model
    if claim["metric"] not in PARAMETER_COUNTS:
        return _softmax_sum(claim, model)
    count = getattr(model.counts, PARAMETER_COUNTS[claim["metric"]])
    if not claim.get("printed", True):
        return Judged(claim, Ruling.NOT_PRINTED, "counted from the layers", str(count))
    ruling = Ruling.REPRODUCED if count == claim["value"] else Ruling.NOT_REPRODUCED
    return Judged(claim, ruling, "counted from the layers", str(count))


def _softmax_sum(claim: Claim, model: Model) -> Judged:
    probabilities = Model(model.name, model.input_shape, (*model.layers, Activation("softmax")))
    engine = NumpyEngine()
    x = np.random.default_rng(0).random((8, *model.input_shape))
    sums = engine.predict(engine.build(probabilities), x).sum(axis=1)
    ruling = (
        Ruling.REPRODUCED if np.abs(sums - claim["value"]).max() < 1e-5 else Ruling.NOT_REPRODUCED
    )
    return Judged(claim, ruling, "untrained network, eight random inputs", f"{sums.mean():.6f}")


SECONDS: dict[str, Callable[[Result], list[float]]] = {
    "seconds_for_1000_networks": lambda run: [run.seconds],
    "seconds_per_epoch": lambda run: [epoch.seconds for epoch in run.history],
}
"""The times of a run by the metric of a claim."""


def speed(claim: Claim, runs: Runs) -> Judged:
    """State the time measured here: a published time is of another machine."""
    of_arm = runs.for_claim(claim)
    seconds = [value for run in of_arm for value in SECONDS[claim["metric"]](run)]
    measured = f"{np.median(seconds):.2g} s here" if seconds else ""
    return Judged(
        claim,
        Ruling.NOT_TESTABLE,
        f"another machine: {claim['hardware']}",
        measured,
        runs=len(of_arm),
    )


def unrecoverable(claim: Claim, runs: Runs) -> Judged:
    """State why a figure cannot be tested."""
    return Judged(claim, Ruling.NOT_TESTABLE, claim["note"])
