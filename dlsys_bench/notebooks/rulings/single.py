"""Claims about one arm: a figure, a fraction, a draw, a count."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from dlsys_bench.engines.numpy import NumpyEngine
from dlsys_bench.notebooks.rulings.pool import predict, too_wide
from dlsys_bench.notebooks.rulings.ruling import LEVEL, Claim, Judged, Ruling, unmeasured
from dlsys_bench.notebooks.rulings.runs import FEWEST, Runs, figures, metric_of
from dlsys_bench.notebooks.zoo import MODELS
from dlsys_bench.runs.result import Result
from dlsys_bench.spec.layers import Activation
from dlsys_bench.spec.model import Model
from dlsys_bench.studies.registry import studies


def band(claim: Claim, runs: Runs) -> Judged:
    mine = runs.for_claim(claim)
    if mine and "collapsed" in mine[0].figures:
        return _fraction(claim, mine)
    if mine and "counts" in mine[0].figures:
        return _draw(claim, mine)
    metric, epoch = metric_of(claim), claim.get("epoch")
    values = figures(mine, metric, epoch)
    if len(values) < FEWEST:
        return unmeasured(claim, len(values))
    one = predict(runs, mine, metric, epoch)
    low, high = one.interval()
    inside = low <= claim["value"] <= high
    wide = too_wide(claim, metric, (low, high), one.mean) if inside else ""
    parts = [
        f"{'inside' if inside else 'outside'} the prediction interval of one run, "
        f"{abs(claim['value'] - one.mean) / one.spread.deviation:.1f} spreads from the mean",
        f"but this is {wide}" if wide else "",
        one.pooled,
    ]
    ruling = Ruling.UNDECIDED if wide else Ruling.REPRODUCED if inside else Ruling.NOT_REPRODUCED
    measured = f"{one.mean:.4f} ± {one.deviation:.4f}"
    reason = "; ".join(filter(None, parts))
    return Judged(claim, ruling, reason, measured, (low, high), one.chance(claim["value"]), one.n)


def _fraction(claim: Claim, mine: Sequence[Result]) -> Judged:
    """A count of networks against a count of networks: Fisher's exact test."""
    hits, networks = (sum(run.figures[name] for run in mine) for name in ("collapsed", "networks"))
    theirs = round(claim["value"] * claim["n"])
    table = [[hits, networks - hits], [theirs, claim["n"] - theirs]]
    p = float(stats.fisher_exact(table).pvalue)
    low, high = stats.binomtest(theirs, claim["n"]).proportion_ci(LEVEL, "exact")
    ruling = Ruling.REPRODUCED if p >= 1 - LEVEL else Ruling.NOT_REPRODUCED
    reason = (
        f"{theirs} of {claim['n']} published (95% of such counts come from {low:.4f} to {high:.4f}) against {hits} of "
        f"{networks}: p {p:.2g} by Fisher's exact test; {_dispersion(mine)}"
    )
    own = stats.binomtest(hits, networks).proportion_ci(LEVEL, "exact")
    return Judged(
        claim, ruling, reason, f"{hits / networks:.4f}", (own.low, own.high), p, len(mine)
    )


def _dispersion(mine: Sequence[Result]) -> str:
    """Whether the runs, each of one draw of the data, stray more than independent networks
    would."""
    table = [
        [run.figures["collapsed"], run.figures["networks"] - run.figures["collapsed"]]
        for run in mine
    ]
    if len(table) < 2 or not all(map(sum, zip(*table, strict=True))):
        return "the interval is binomial, of all networks"
    p = float(stats.chi2_contingency(table).pvalue)
    return f"the interval is binomial, of all networks; the runs stray as p {p:.2g} by chi-squared says"


def _draw(claim: Claim, mine: Sequence[Result]) -> Judged:
    """One draw against the distribution of draws."""
    counts = np.sum([run.figures["counts"] for run in mine], axis=0)
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
    reason = f"at the {100 * place:.0f}th percentile of {counts.sum():,} draws; 95% of them lie in the interval"
    return Judged(claim, ruling, reason, f"{mean:.4f}", (low, high), p, len(mine))


def trajectory(claim: Claim, runs: Runs) -> Judged:
    """Each epoch's figure in the prediction interval of that epoch (Bonferroni over the epochs)."""
    mine = runs.for_claim(claim)
    metric, count = metric_of(claim), len(claim["values"])
    reached = len(figures(mine, metric, count))
    if reached < FEWEST:
        return unmeasured(claim, reached)
    epochs = [predict(runs, mine, metric, epoch, at=epoch) for epoch in range(1, count + 1)]
    intervals = [one.interval(1 - (1 - LEVEL) / count) for one in epochs]
    inside = [
        low <= value <= high for value, (low, high) in zip(claim["values"], intervals, strict=True)
    ]
    wide = [
        why
        for one, edges in zip(epochs, intervals, strict=True)
        if (why := too_wide(claim, metric, edges, one.mean))
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
    return Judged(claim, ruling, "; ".join(filter(None, parts)), figures_by_epoch, runs=len(mine))


def bound(claim: Claim, runs: Runs) -> Judged:
    mine = runs.for_claim(claim)
    values = figures(mine, claim["metric"])
    if not len(values):
        return unmeasured(claim, 0)
    limit = studies()[claim["study"]].arm(claim["arm"]).bound
    assert limit is not None
    ruling = Ruling.REPRODUCED if values.max() < limit else Ruling.NOT_REPRODUCED
    gamma = max(run.figures["max_change_of_gamma"] for run in mine)
    after = min(run.figures["max_change_of_gamma_after_pool"] for run in mine)
    reason = (
        f"at most {limit:g} where the gradient is zero in exact arithmetic; "
        f"|gamma - 1| {gamma:.1e}, after the pool {after:.1e}"
    )
    return Judged(claim, ruling, reason, f"{values.max():.1e}", runs=len(values))


def exact(claim: Claim, runs: Runs) -> Judged:
    model = MODELS[f"{claim['study'].removeprefix('regularization/')}/{claim['arm']}"]
    if claim["metric"] == "softmax_sum":
        return _softmax_sum(claim, model)
    count = getattr(model.counts, claim["metric"].removeprefix("params_"))
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
    return Judged(
        claim, ruling, "of the network before training, eight random inputs", f"{sums.mean():.6f}"
    )


def speed(claim: Claim, runs: Runs) -> Judged:
    mine = runs.for_claim(claim)
    epochs = [epoch.seconds for run in mine for epoch in run.history]
    seconds = (
        [run.seconds for run in mine] if claim["metric"] == "seconds_for_1000_networks" else epochs
    )
    measured = f"{np.median(seconds):.2g} s here" if seconds else ""
    return Judged(
        claim,
        Ruling.NOT_TESTABLE,
        f"another machine: {claim['hardware']}",
        measured,
        runs=len(mine),
    )


def unrecoverable(claim: Claim, runs: Runs) -> Judged:
    return Judged(claim, Ruling.NOT_TESTABLE, claim["note"])
