"""Every claim has a ruling, and each kind of ruling is right on artificial runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from results import changed, make_result
from scipy import special, stats

from dlsys_bench.engines.history import Epoch
from dlsys_bench.notebooks.claims import claims
from dlsys_bench.notebooks.rulings import CLAIM_SET, KINDS, Judged, Ruling, Runs, judge, pool, rule
from dlsys_bench.notebooks.rulings.comparisons import ALIKE, CONFOUNDED
from dlsys_bench.notebooks.rulings.contradictions import CONTRADICTIONS
from dlsys_bench.report.claims import category_tables
from dlsys_bench.runs.result import Result
from dlsys_bench.studies.registry import studies
from dlsys_bench.verdicts.claims.stored_runs import ENGINES
from dlsys_bench.verdicts.difference import difference

CLAIMS = {claim["id"]: claim for claim in claims()}


class Made(Runs):
    """Artificial runs by (study, arm) in place of the stored ones."""

    def __init__(self, runs: dict[tuple[str, str], list[Result]]) -> None:
        super().__init__()
        self.made = runs

    def of(self, study: str, arm: str, tier: str = "full", dataset: str = "") -> list[Result]:
        return self.made.get((study, arm), [])


def result(
    study: str,
    arm: str,
    seed: int,
    history: Sequence[Epoch] = (),
    status: str = "finished",
    **figures: Any,
) -> Result:
    return make_result(
        seed,
        study=study,
        arm=arm,
        dataset="made",
        tier="full",
        history=list(history),
        seconds=1.0,
        status=status,
        figures=figures,
    )


def runs(
    study: str, arm: str, metric: str, values: Sequence[float], epochs: int = 1
) -> list[Result]:
    return [
        result(
            study,
            arm,
            seed,
            [
                Epoch(n + 1, n + 1, 1.0, **{"running_loss": 1.0, metric: value})  # type: ignore[arg-type]
                for n in range(epochs)
            ],
        )
        for seed, value in enumerate(values)
    ]


def judged(claim: str, made: dict[tuple[str, str], list[Result]]) -> Judged:
    return judge(CLAIMS[claim], Made(made))


def test_every_claim_has_a_ruling_with_a_reason() -> None:
    rulings = rule()
    assert [one.claim["id"] for one in rulings] == [claim["id"] for claim in claims()]
    assert len(rulings) == 195
    assert all(one.reason for one in rulings)
    assert {claim["kind"] for claim in claims()} == set(KINDS)
    counts = Counter(one.ruling for one in rulings if one.category == "counts")
    assert counts == {Ruling.REPRODUCED: 37, Ruling.NOT_PRINTED: 12}
    tables = category_tables("the notebooks", rulings)
    assert [table.title.split(":")[0] for table in tables] == [
        "49 counts of the notebooks",
        "120 measurements of the notebooks",
        "26 statements of the notebooks",
    ]
    assert tables[0].title == "49 counts of the notebooks: 37 reproduced, 12 not printed"
    assert sum(len(table.rows) for table in tables) == 195
    json.dumps([one.to_dict() for one in rulings])


def test_a_claim_without_runs_is_unmeasured_and_names_the_command(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("dlsys_bench.verdicts.claims.stored_runs.read", lambda *_: [])
    rulings = [
        one for one in rule() if one.claim["kind"] not in ("exact", "speed", "unrecoverable")
    ]
    assert {one.ruling for one in rulings} == {Ruling.UNMEASURED}
    assert all(f"dlsys-bench run {one.claim['study']} --tier full" in one.reason for one in rulings)


@pytest.mark.parametrize(
    ("values", "ruling"),
    [
        ([0.9042, 0.9040, 0.9050, 0.9035], Ruling.REPRODUCED),
        ([0.8942, 0.8940, 0.8950, 0.8935], Ruling.NOT_REPRODUCED),
        # A wide interval cannot exclude it: half = t(.975, 3) s sqrt(5/4) on the logit scale.
        ([0.8942, 0.8840, 0.8950, 0.8835], Ruling.REPRODUCED),
        ([0.9042], Ruling.UNMEASURED),
    ],
)
def test_a_figure_is_compared_with_the_prediction_interval_of_one_run(
    values: list[float], ruling: Ruling
) -> None:
    arm = ("cyclical-learning-rate", "exp_range")
    one = judged("nb2.clr.val_accuracy@5", {arm: runs(*arm, "test_accuracy", values, 5)})
    assert one.ruling is ruling
    if one.interval:
        logits = special.logit(values)
        half = 3.182446 * np.std(logits, ddof=1) * 1.25**0.5
        ends = special.expit([np.mean(logits) - half, np.mean(logits) + half])
        assert one.interval == pytest.approx(tuple(ends), rel=1e-6)


def learning_curve(seed: int, accuracy: float) -> Result:
    """A run that leaves chance level in epoch 3, and has an accuracy ten epochs after that."""
    values = [0.1, 0.1, *(0.5 + (accuracy - 0.5) * n / 10 for n in range(13))]
    history = [
        Epoch(n, n, 1.0, running_loss=1.0, running_accuracy=value)
        for n, value in enumerate(values, start=1)
    ]
    return result("regularization/lenet5-sigmoid", "dropout", seed, history)


@pytest.mark.parametrize(
    ("accuracy", "ruling", "tried"),
    [(0.9104, Ruling.REPRODUCED, "inside"), (0.87, Ruling.NOT_REPRODUCED, "outside")],
)
def test_epochs_are_also_counted_from_leaving_chance_level(
    accuracy: float, ruling: Ruling, tried: str
) -> None:
    arm = ("regularization/lenet5-sigmoid", "dropout")
    made = [learning_curve(seed, accuracy + 1e-3 * (seed - 1.5)) for seed in range(4)]
    one = judged("nb4.dropout.train_accuracy@15", {arm: made})
    assert one.ruling is ruling
    assert (
        f"by epochs counted from leaving chance level, published in epoch 5 {accuracy:.4f} ± "
        f"0.0013, 4 runs: {tried}"
    ) in one.reason


def test_superseded_runs_are_a_reading_of_their_own() -> None:
    arm = ("regularization/lenet5-sigmoid", "bn+bn")
    past = runs(*arm, "running_accuracy", [0.9847, 0.9850, 0.9844], 5)
    made = Made({arm: runs(*arm, "running_accuracy", [0.95, 0.951, 0.949], 5)})
    made.superseded = lambda study, name: past if (study, name) == arm else []  # type: ignore[assignment,method-assign]
    one = judge(CLAIMS["nb4.bn+bn.train_accuracy@5"], made)
    assert one.ruling is Ruling.REPRODUCED
    assert (
        'by padding "same" of the first convolution 0.9847 ± 0.0003, 3 runs: inside' in one.reason
    )


def test_superseded_runs_are_found_by_their_protocol() -> None:
    found = Runs().superseded("regularization/lenet5-sigmoid", "bn+bn")
    assert [run.seed for run in found] == [0, 1, 2, 3, 4]
    assert not Runs().superseded("regularization/lenet5-tanh", "bn+bn")


@pytest.mark.parametrize(
    ("collapsed", "ruling"), [(9640, "reproduced"), (9690, "reproduced"), (9900, "not reproduced")]
)
def test_a_fraction_is_compared_by_fishers_test(collapsed: int, ruling: str) -> None:
    arm = ("dying-relu", "relu")
    half = [result(*arm, seed, collapsed=collapsed // 2, networks=5000) for seed in range(2)]
    one = judged("nb2.relu.collapse", {arm: half})
    assert one.p == pytest.approx(
        stats.fisher_exact([[collapsed, 10_000 - collapsed], [964, 36]]).pvalue
    )
    assert one.ruling == ruling
    assert one.interval is not None
    assert one.interval[0] < collapsed / 10_000 < one.interval[1]


@pytest.mark.parametrize(
    ("centre", "ruling"), [(900, "reproduced"), (980, "not reproduced"), (940, "reproduced")]
)
def test_a_draw_is_located_in_the_distribution_of_draws(centre: int, ruling: str) -> None:
    """The published 0.902 in draws around a centre."""
    arm = ("perceptron", "nb4/perceptron")
    values = np.clip(np.random.default_rng(0).normal(centre, 20, 5000).round(), 0, 1000).astype(int)
    counts = np.bincount(values, minlength=1001).tolist()
    one = judged("nb4.perceptron.test_accuracy", {arm: [result(*arm, 0, counts=counts)]})
    assert one.ruling == ruling
    assert one.interval == pytest.approx(
        tuple(np.quantile(values / 1000, [0.025, 0.975])), abs=0.0011
    )


def test_two_claims_that_contradict_each_other_get_opposite_rulings() -> None:
    generator = np.random.default_rng(1)
    made = {}
    for arm, mean in (("sound/perceptron", 0.966), ("sound/hinge", 0.958)):
        figures = generator.normal(mean, 4e-4, 5)
        made["perceptron", arm] = [
            result("perceptron", arm, s, test_accuracy=v) for s, v in enumerate(figures)
        ]
    assert judged("nb2.perceptron>hinge", made).ruling is Ruling.REPRODUCED
    assert judged("nb4.hinge>perceptron", made).ruling is Ruling.NOT_REPRODUCED
    even = {
        key: [result(*key, s, test_accuracy=0.96 + 0.01 * generator.normal()) for s in range(5)]
        for key in made
    }
    assert judged("nb2.perceptron>hinge", even).ruling is Ruling.UNDECIDED


def test_runs_of_one_seed_are_compared_in_pairs_others_by_welch() -> None:
    """The tests agree with SciPy's on the same figures."""
    arm, generator = ("a", "b"), np.random.default_rng(7)
    common = generator.normal(0.5, 0.3, 6)
    x, y = common + 0.01 + generator.normal(0, 0.002, 6), common
    left, right = runs(*arm, "test_accuracy", list(x)), runs(*arm, "test_accuracy", list(y))
    paired = difference(left, right, "test_accuracy")
    expected = stats.ttest_rel(x, y)
    assert paired.how == "6 pairs"
    assert (paired.p, paired.mean) == pytest.approx((expected.pvalue, (x - y).mean()))
    assert paired.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert paired.low > 0
    shifted = [changed(run, seed=run.seed + 100) for run in right[:4]]
    welch, expected = (
        difference(left, shifted, "test_accuracy"),
        stats.ttest_ind(x, y[:4], equal_var=False),
    )
    assert welch.how == "Welch, 6 and 4 runs"
    assert (welch.p, welch.mean) == pytest.approx((expected.pvalue, x.mean() - y[:4].mean()))
    assert welch.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    # Two seeds in common are too few for pairs; three are enough.
    for shared, how in ((2, "Welch"), (3, "3 pairs")):
        part = [
            changed(run, seed=run.seed + (0 if n < shared else 100)) for n, run in enumerate(right)
        ]
        assert difference(left, part, "test_accuracy").how.startswith(how)
    same = difference(left, left, "test_accuracy")
    assert (same.mean, same.interval, same.p) == (0.0, (0.0, 0.0), 1.0)


def test_the_p_value_of_a_figure_is_students() -> None:
    values = [0.90, 0.91, 0.89, 0.905]
    arm = ("cyclical-learning-rate", "exp_range")
    one = judged("nb2.clr.val_accuracy@5", {arm: runs(*arm, "test_accuracy", values, 5)})
    logits = special.logit(values)
    distance = abs(special.logit(0.9042) - np.mean(logits)) / np.std(logits, ddof=1)
    assert one.p == pytest.approx(2 * stats.t.sf(distance / 1.25**0.5, 3))
    assert f"{distance:.1f} standard deviations" in one.reason
    assert (one.runs, one.measured) == (4, f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}")


def test_a_percentile_counts_the_draws_below_and_half_of_the_equal_ones() -> None:
    arm = ("perceptron", "nb4/hinge")
    counts = [0] * 1001
    counts[940], counts[955], counts[960] = 10, 20, 70
    one = judged(
        "nb4.hinge.test_accuracy", {arm: [result(*arm, s, counts=counts) for s in range(2)]}
    )
    assert "percentile 20 of 200 draws" in one.reason
    assert one.p == pytest.approx(0.4)
    assert one.interval == pytest.approx((0.94, 0.96))
    assert one.measured == f"{(0.94 * 10 + 0.955 * 20 + 0.96 * 70) / 100:.4f}"


def test_a_trajectory_is_corrected_for_the_number_of_epochs() -> None:
    """At 95% over five epochs, each has a level of 99%: one between the quantiles is inside."""
    arm = ("cyclical-batch-size", "published")
    published = CLAIMS["nb2.cyclic-batch.train_accuracy"]["values"]
    deviations = np.array([-0.1, -0.05, 0.0, 0.05, 0.1])  # On the logit scale.
    error = deviations.std(ddof=1) * 1.2**0.5
    narrow, wide = (stats.t.ppf(1 - tail / 2, 4) * error for tail in (0.05, 0.01))
    for shift, ruling in (((narrow + wide) / 2, "reproduced"), (wide * 1.01, "not reproduced")):
        moved = [
            special.logit(value) + (shift if n == 2 else 0.0) for n, value in enumerate(published)
        ]
        made = [
            result(
                *arm,
                seed,
                [
                    Epoch(n + 1, n + 1, 1.0, 1.0, float(special.expit(value + deviation)))
                    for n, value in enumerate(moved)
                ],
            )
            for seed, deviation in enumerate(deviations)
        ]
        one = judged("nb2.cyclic-batch.train_accuracy", {arm: made})
        assert one.ruling == ruling
        assert f"{5 - (ruling != 'reproduced')} of 5 epochs inside" in one.reason


GRID = [f"{rate:g}" for rate in CLAIMS["nb2.lr.best"]["grid"]]


def sweep(best: str, gap: float = 0.5) -> dict[tuple[str, str], list[Result]]:
    made = {}
    for place, arm in enumerate(GRID):
        losses = [
            (0.3 if arm == best else 0.3 + gap + 0.1 * place) + 0.01 * seed for seed in range(3)
        ]
        made["learning-rate-sweep", arm] = runs("learning-rate-sweep", arm, "running_loss", losses)
    made["learning-rate-sweep", "10"] = [
        result("learning-rate-sweep", "10", s, status="diverged") for s in range(3)
    ]
    return made


def test_the_best_of_a_grid_has_to_differ_from_all_others() -> None:
    assert judged("nb2.lr.best", sweep("0.1")).ruling is Ruling.REPRODUCED
    assert "at 10, 3 of 3 runs diverged" in judged("nb2.lr.best", sweep("0.1")).reason
    assert judged("nb2.lr.best", sweep("0.01")).ruling is Ruling.NOT_REPRODUCED
    noisy = sweep("0.1")
    noisy["learning-rate-sweep", "0.01"] = runs(
        "learning-rate-sweep", "0.01", "running_loss", [0.31, 0.30, 0.34]
    )
    assert judged("nb2.lr.best", noisy).ruling is Ruling.UNDECIDED
    # A third that is higher on average but lower for most seeds is not significantly different.
    third = sweep("0.1")
    third["learning-rate-sweep", "1e-05"] = runs(
        "learning-rate-sweep", "1e-05", "running_loss", [0.29, 0.30, 2.5]
    )
    assert judged("nb2.lr.best", third).ruling is Ruling.UNDECIDED
    assert "not significantly different from 1e-05" in judged("nb2.lr.best", third).reason
    # A learning rate at which some runs diverge is excluded.
    lucky = sweep("0.1")
    lucky["learning-rate-sweep", "1"] = [
        *runs("learning-rate-sweep", "1", "running_loss", [0.1, 0.1, 0.1]),
        result("learning-rate-sweep", "1", 3, status="diverged"),
    ]
    assert judged("nb2.lr.best", lucky).ruling is Ruling.REPRODUCED
    assert "at 1, 1 of 4 runs diverged" in judged("nb2.lr.best", lucky).reason
    del noisy["learning-rate-sweep", "1e-09"]
    assert judged("nb2.lr.best", noisy).ruling is Ruling.UNMEASURED


@pytest.mark.parametrize(
    ("means", "ruling"),
    [
        ([0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], Ruling.REPRODUCED),
        ([0.2, 0.3, 0.4, 0.5, 0.45, 0.7, 0.8, 0.9], Ruling.NOT_REPRODUCED),
        ([0.2, 0.3, 0.4, 0.4001, 0.45, 0.7, 0.8, 0.9], Ruling.UNDECIDED),
    ],
)
def test_a_trend_has_to_hold_at_every_step(means: list[float], ruling: Ruling) -> None:
    generator = np.random.default_rng(2)
    made = {
        ("batch-size-sweep", str(size)): runs(
            "batch-size-sweep",
            str(size),
            "running_loss",
            (mean + generator.normal(0, 0.001, 5)).tolist(),
        )
        for size, mean in zip(CLAIMS["nb2.batch-size"]["grid"], means, strict=True)
    }
    assert judged("nb2.batch-size", made).ruling is ruling


@pytest.mark.parametrize(
    ("gap", "spread", "ruling"),
    [
        (0.0, 1e-4, Ruling.REPRODUCED),
        (0.02, 1e-4, Ruling.NOT_REPRODUCED),
        (0.004, 3e-3, Ruling.UNDECIDED),
    ],
)
def test_equivalence_within_a_margin(gap: float, spread: float, ruling: Ruling) -> None:
    generator = np.random.default_rng(3)
    study = CLAIMS["nb0.std~bn-input"]["study"]
    made = {
        (study, arm): runs(
            study, arm, "test_accuracy", (0.98 + shift + generator.normal(0, spread, 5)).tolist()
        )
        for arm, shift in (("standard+bn", 0.0), ("bn+bn", gap))
    }
    assert judged("nb0.std~bn-input", made).ruling is ruling


def test_a_trajectory_is_judged_by_epoch_and_an_unsound_figure_stays_unsound(
    monkeypatch: Any,
) -> None:
    arm = ("cyclical-batch-size", "published")
    published = CLAIMS["nb2.cyclic-batch.train_accuracy"]["values"]

    def made(shift: float) -> list[Result]:
        return [
            result(
                *arm,
                s,
                [
                    Epoch(n + 1, n + 1, 1.0, 1.0, v + shift + 0.005 * (s - 2))
                    for n, v in enumerate(published)
                ],
            )
            for s in range(5)
        ]

    assert judged("nb2.cyclic-batch.train_accuracy", {arm: made(0.0)}).ruling is Ruling.REPRODUCED
    assert (
        judged("nb2.cyclic-batch.train_accuracy", {arm: made(0.2)}).ruling is Ruling.NOT_REPRODUCED
    )
    monkeypatch.setattr("dlsys_bench.notebooks.rulings.Runs", lambda *_: Made({arm: made(0.0)}))
    (one,) = [one for one in rule() if one.claim["id"] == "nb2.cyclic-batch.train_accuracy"]
    assert one.ruling is Ruling.UNSOUND
    assert "never shuffled" in one.reason
    assert "reproduced" in one.reason


def eggholder(deeper: float) -> dict[tuple[str, str], list[Result]]:
    """Errors that change by `deeper` per layer, with symmetric deviations between seeds."""
    made = {}
    for arm in (record.name for record in studies()["eggholder"].arms):
        layers, shallow = arm.count("-") + 1, arm in {pair[0] for pair in (*ALIKE, CONFOUNDED)}
        made["eggholder", arm] = [
            result(
                "eggholder",
                arm,
                seed,
                test_rmse=250.0,
                train_seconds=1.0 * layers + 0.01 * seed,
                test_rmse_in_training_mode=250.0
                + deeper * layers
                + (seed if shallow else 4 - seed),
            )
            for seed in range(5)
        ]
    return made


@pytest.mark.parametrize(
    ("deeper", "ruling"), [(-10, "reproduced"), (10, "not reproduced"), (0.0, "undecided")]
)
def test_the_deeper_network_is_better_for_the_same_number_of_parameters(
    deeper: float, ruling: str
) -> None:
    one = judged("nb4.eggholder", eggholder(deeper))
    assert one.ruling == ruling
    assert "3 of 3 pairs take longer" in one.reason


def violins(**changed: Any) -> dict[tuple[str, str], list[Result]]:
    made = {}
    for record in studies()["initialization"].arms:
        function, start = record.name.split("/")
        sigma = float(start[7:-1]) if start.startswith("normal") else 0.0
        figures: dict[str, Any] = {
            "saturated": [2 * sigma] + [0.0] * 4,
            "decay": 1.0,
            "deviation": [sigma] * 5,
        }
        if function == "relu":
            figures["decay"] = 0.25 if start == "glorot_normal" else 1.0
        figures |= changed.get(record.name.replace("/", "_"), {})
        made["initialization", record.name] = [
            result("initialization", record.name, s, **figures) for s in range(3)
        ]
    return made


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, None),
        ({"tanh_normal(0.1)": {"deviation": [0.9] * 5}}, "tanh moves to the ends"),
        ({"sigmoid_normal(0.2)": {"saturated": [0.0] * 5}}, "sigmoid moves to the ends"),
        ({"relu_glorot_normal": {"decay": 0.9}}, "ReLU shrinks under Glorot"),
        ({"relu_he_normal": {"decay": 0.3}}, "ReLU keeps its scale under He"),
        ({"relu_he_normal": {"decay": 2.3}}, "ReLU keeps its scale under He"),
        ({"sigmoid_glorot_normal": {"saturated": [0.5] * 5}}, "Glorot keeps sigmoid"),
        ({"tanh_glorot_normal": {"decay": 0.2}}, "Glorot keeps tanh"),
    ],
)
def test_statements_about_violin_plots_are_tested_as_numbers(
    changed: dict[str, Any], said: str | None
) -> None:
    one = judged("nb2.init", violins(**changed))
    assert one.ruling is (Ruling.NOT_REPRODUCED if said else Ruling.REPRODUCED)
    assert said is None or said in one.reason


def test_a_bound_is_reproduced_within_rounding_errors() -> None:
    arm = ("batchnorm-parameters", "standard+bn")
    others: dict[str, Any] = {"max_change_of_gamma": 1e-5, "max_change_of_gamma_after_pool": 0.1}
    for beta, ruling in ((1e-8, Ruling.REPRODUCED), (1e-3, Ruling.NOT_REPRODUCED)):
        made = {arm: [result(*arm, 0, max_abs_beta_first_hidden_bn=beta, **others)]}
        assert judged("nb0.bn-invariance.beta", made).ruling is ruling


def test_a_wrong_count_of_parameters_is_not_reproduced(monkeypatch: Any) -> None:
    claim = CLAIMS["nb2.standard+bn.params_total"] | {"value": 62_611}
    assert KINDS["exact"](claim, Made({})).ruling is Ruling.NOT_REPRODUCED


def test_the_false_discovery_rate_is_controlled_over_all_figures(monkeypatch: Any) -> None:
    """A figure just outside its interval is not significant among many; one far outside is."""
    near, far = ("cyclical-learning-rate", "exp_range"), ("dying-relu", "relu")
    values = np.array([-1, 0, 1, 0.5, -0.5])

    def made(sigmas: float) -> dict[tuple[str, str], list[Result]]:
        spread = values.std(ddof=1) * 1.2**0.5
        accuracy = 0.9042 + 0.003 * (values + sigmas * spread)
        table = {near: runs(*near, "test_accuracy", accuracy, 5)}
        for arm, claim in (("relu", 0.964), ("leaky_relu", 0.955)):
            hits = round(claim * 10_000)
            table["dying-relu", arm] = [
                result("dying-relu", arm, 0, collapsed=hits, networks=10_000)
            ]
        return table

    def ruled(sigmas: float) -> Judged:
        monkeypatch.setattr("dlsys_bench.notebooks.rulings.Runs", lambda *_: Made(made(sigmas)))
        return next(one for one in CLAIM_SET.rulings_on("cyclical-learning-rate", (), ENGINES))

    alone = judged("nb2.clr.val_accuracy@5", made(3.0))
    assert alone.ruling is Ruling.NOT_REPRODUCED
    assert ruled(3.0).ruling is Ruling.UNDECIDED
    assert "not significant among 1 figure of its run and 3 runs" in ruled(3.0).reason
    assert (ruled(3.0).q or 0) > 0.05 > (ruled(3.0).p or 1)
    assert ruled(30.0).ruling is Ruling.NOT_REPRODUCED
    assert far in made(0.0)


def test_a_run_counts_once_and_only_for_its_own_claim(tmp_path: Path, monkeypatch: Any) -> None:
    """Runs of another dataset, tier, engine or protocol do not count, and duplicates count once."""
    arm = studies()["dying-relu"].arm("relu")
    good = changed(
        result("dying-relu", "relu", 3, collapsed=1, networks=2),
        dataset="absolute",
        protocol=arm.protocol("full"),
    )
    others = [
        changed(good, **{key: "another"})
        for key in ("dataset", "tier", "engine", "protocol", "arm")
    ]
    monkeypatch.setattr("dlsys_bench.verdicts.claims.stored_runs.read", lambda *_: [good])
    assert Runs([good, *others]).of("dying-relu", "relu") == [good]
    assert Runs([good, *others], ["another"]).of("dying-relu", "relu") == [others[2]]
    # Of a seed of several engines, the first engine counts.
    numba = [changed(good, engine="numba", seed=seed) for seed in (good.seed, good.seed + 1)]
    assert Runs([*numba, *others]).of("dying-relu", "relu") == [good, numba[1]]


def test_pairs_have_nearly_the_same_number_of_parameters() -> None:
    counts = {arm.name: arm.model.counts.trainable for arm in studies()["eggholder"].arms}
    for shallow, deep in (*ALIKE, CONFOUNDED):
        assert counts[deep] == pytest.approx(counts[shallow], rel=0.1)


def test_overdispersion_of_runs_is_reported() -> None:
    arm = ("dying-relu", "relu")
    even = [result(*arm, s, collapsed=964 + s, networks=1000) for s in range(4)]
    uneven = [result(*arm, s, collapsed=900 + 30 * s, networks=1000) for s in range(4)]
    assert "p 0.9" in judged("nb2.relu.collapse", {arm: even}).reason.split("overdispersion")[1]
    assert "e-1" in judged("nb2.relu.collapse", {arm: uneven}).reason.split("overdispersion")[1]


def test_the_test_of_the_pairs_is_scipys() -> None:
    made = eggholder(-10.0)
    one = judged("nb4.eggholder", made)
    gaps = [
        np.mean(
            [
                made["eggholder", deep][seed].figures["test_rmse_in_training_mode"]
                - made["eggholder", shallow][seed].figures["test_rmse_in_training_mode"]
                for shallow, deep in ALIKE
            ]
        )
        for seed in range(5)
    ]
    expected = stats.ttest_1samp(gaps, 0.0)
    assert one.p == pytest.approx(expected.pvalue)
    assert one.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    for name in ("64-32-64", "64-128-64", "128-256-128"):
        for run in made["eggholder", name]:
            run.figures["train_seconds"] -= 2.0
    assert judged("nb4.eggholder", made).ruling is Ruling.NOT_REPRODUCED


def test_one_pair_that_is_significantly_worse_is_enough() -> None:
    made = eggholder(-10.0)
    for run in made["eggholder", "64-32-64"]:
        run.figures["test_rmse_in_training_mode"] += 25.0 - 2 * (4 - 2 * run.seed) / 2
    one = judged("nb4.eggholder", made)
    assert one.ruling is Ruling.NOT_REPRODUCED


# Five differences whose mean is positive with a p-value between 0.05 / 7 and 0.05, significant in
# one test but not in one of seven.
BARELY = np.array([0.4, 1.9, 1.0, 0.2, 1.5])


def test_tests_of_several_steps_are_corrected() -> None:
    assert 0.05 / 7 < stats.ttest_1samp(BARELY, 0.0).pvalue < 0.05
    sizes = CLAIMS["nb2.batch-size"]["grid"]
    losses = np.array([0.3 * n + np.zeros(5) for n in range(8)])
    losses[4:] += 0.01 * BARELY - 0.3
    made = {
        ("batch-size-sweep", str(size)): runs(
            "batch-size-sweep", str(size), "running_loss", list(values)
        )
        for size, values in zip(sizes, losses, strict=True)
    }
    one = judged("nb2.batch-size", made)
    assert one.ruling is Ruling.UNDECIDED
    assert "6 of 7 doublings raise the loss; not 512 to 1024" in one.reason
    rates = sweep("0.1")
    for arm in GRID[:-1]:
        level = 0.3 if arm == "0.1" else 0.9
        rates["learning-rate-sweep", arm] = runs(
            "learning-rate-sweep", arm, "running_loss", [level] * 5
        )
    rates["learning-rate-sweep", "0.01"] = runs(
        "learning-rate-sweep", "0.01", "running_loss", list(0.3 + 0.01 * BARELY)
    )
    rates["learning-rate-sweep", "10"] = [
        result("learning-rate-sweep", "10", s, status="diverged") for s in range(5)
    ]
    assert judged("nb2.lr.best", rates).ruling is Ruling.UNDECIDED
    made = eggholder(-10.0)
    for n, run in enumerate(made["eggholder", "64-32-64"]):
        shallow = made["eggholder", "64-64"][n].figures["test_rmse_in_training_mode"]
        run.figures["test_rmse_in_training_mode"] = shallow + BARELY[n]
    assert judged("nb4.eggholder", made).ruling is Ruling.REPRODUCED


MLP = "regularization/fashion-mlp"


def narrow(values: Mapping[str, Sequence[float]]) -> dict[tuple[str, str], list[Result]]:
    """Runs of 25 epochs of the narrow MLP with given test accuracies by arm."""
    return {
        (MLP, arm): runs(MLP, arm, "test_accuracy", figures, 25) for arm, figures in values.items()
    }


SPREAD = {
    "vanilla": [0.880, 0.884, 0.882],
    "bn": [0.866, 0.868, 0.871],
    "bn+dropout": [0.770, 0.768, 0.773],
}


def test_two_runs_are_judged_by_the_pooled_variance_of_the_study() -> None:
    """Two runs alone have hardly any power; with the variances of three other arms they detect half
    a point."""
    alone = judged("nb3.dropout.test_accuracy@25", narrow({"dropout": [0.852, 0.855]}))
    together = judged("nb3.dropout.test_accuracy@25", narrow({"dropout": [0.852, 0.855], **SPREAD}))
    assert alone.interval is not None
    assert together.interval is not None
    logits = special.logit([0.852, 0.855])
    half = 12.7062 * (logits[1] - logits[0]) / 2**0.5 * 1.5**0.5
    ends = special.expit([logits.mean() - half, logits.mean() + half])
    assert alone.interval == pytest.approx(tuple(ends), rel=1e-4)
    assert "pooled" not in alone.reason
    assert together.ruling is Ruling.REPRODUCED
    assert together.interval[1] - together.interval[0] < 0.3 * (
        alone.interval[1] - alone.interval[0]
    )
    assert "pooled over 4 arms, d.f. 4.0" in together.reason
    far = narrow({"dropout": [0.832, 0.835], **SPREAD})
    assert judged("nb3.dropout.test_accuracy@25", far).ruling is Ruling.NOT_REPRODUCED
    assert (together.measured, together.runs) == ("0.8535 ± 0.0021", 2)


def test_many_runs_depend_little_on_the_other_arms() -> None:
    values = list(np.random.default_rng(5).normal(0.853, 0.003, 40))
    alone = judged("nb3.dropout.test_accuracy@25", narrow({"dropout": values})).interval
    together = judged(
        "nb3.dropout.test_accuracy@25", narrow({"dropout": values, **SPREAD})
    ).interval
    assert together == pytest.approx(alone, abs=0.0005)


def test_an_uninformative_interval_can_refute_but_not_confirm() -> None:
    """The published figures of the narrow MLP range from 0.768 to 0.881: an interval that is wider
    would confirm any of them."""
    wide = judged("nb3.dropout.test_accuracy@25", narrow({"dropout": [0.84, 0.86]}))
    assert wide.ruling is Ruling.UNDECIDED
    assert "wider (0.47) than the range of the published figures (0.11)" in wide.reason
    assert (
        judged("nb3.dropout.test_accuracy@25", narrow({"dropout": [0.3, 0.31]})).ruling
        is Ruling.NOT_REPRODUCED
    )
    # With a single published arm there is no range, and 20 points are too wide.
    arm = ("cyclical-learning-rate", "exp_range")
    for values, ruling in (
        ([0.85, 0.90, 0.95], Ruling.UNDECIDED),
        ([0.89, 0.895, 0.90, 0.905, 0.91], Ruling.REPRODUCED),
    ):
        assert (
            judged("nb2.clr.val_accuracy@5", {arm: runs(*arm, "test_accuracy", values, 5)}).ruling
            is ruling
        )


def test_a_spread_that_is_borrowed_confirms_nothing() -> None:
    """Two runs that nearly agree, and arms that vary ten times as much: the figure lies nine of the
    arm's own standard deviations from the mean, and inside the pooled interval."""
    arms = narrow({"dropout": [0.8557, 0.8562], **SPREAD})
    one = judged("nb3.dropout.test_accuracy@25", arms)
    assert one.interval is not None
    assert one.interval[0] < 0.853 < one.interval[1]
    assert one.ruling is Ruling.UNDECIDED
    assert "of the arm's own standard deviations wide each way" in one.reason


def test_variances_are_pooled_only_where_they_agree() -> None:
    """The p-value of agreement is that of scipy.stats.bartlett."""
    generator = np.random.default_rng(2)
    samples = [generator.normal(0, scale, 5) for scale in (1.0, 1.1, 0.9, 1.0)]
    variances, df = [sample.var(ddof=1) for sample in samples], [4] * 4
    assert pool._bartlett([0, 1, 2, 3], variances, df) == pytest.approx(
        stats.bartlett(*samples).pvalue
    )
    assert pool.agreeing(variances, df) == [0, 1, 2, 3]
    assert pool.agreeing([variances[0], 400.0, *variances[2:]], df) == [0, 2, 3]
    assert pool.agreeing([400.0, *variances[1:]], df) == [0]
    assert pool.agreeing([1e-6, *variances[1:]], df) == [0]
    # A quiet arm does not borrow the spread of noisy ones.
    quiet = narrow(
        {"dropout": [0.8530, 0.8531, 0.8529], "vanilla": [0.87, 0.89, 0.88], "bn": [0.86, 0.88]}
    )
    one = judged("nb3.dropout.test_accuracy@25", quiet)
    assert "pooled" not in one.reason


@pytest.mark.parametrize(
    ("metric", "values"), [("test_accuracy", [0.97, 0.999, 0.98]), ("test_loss", [0.01, 0.2, 0.5])]
)
def test_intervals_stay_within_the_possible_values(metric: str, values: list[float]) -> None:
    arm = ("regularization/fashion-mlp", "dropout")
    made = Made({arm: runs(*arm, metric, values)})
    low, high = pool.predict(made, made.of(*arm), metric).interval()
    assert 0 < low < high
    assert high < 1 or metric == "test_loss"


def test_the_figures_of_a_run_are_judged_together(monkeypatch: Any) -> None:
    """One figure far outside makes its run fail: the others are reproduced with a remark."""
    arm = ("regularization/fashion-mlp", "dropout")
    spread = np.array([-1, 0, 1, 0.5, -0.5])

    def epoch(x: float, loss: float) -> Epoch:
        accuracy = 0.853 + 0.003 * x
        return Epoch(1, 1, 1.0, 0.56 + 0.01 * x, test_accuracy=accuracy, test_loss=loss + 0.01 * x)

    def made(loss: float) -> Made:
        each = enumerate(spread.tolist())
        return Made({arm: [result(*arm, seed, [epoch(x, loss)] * 25) for seed, x in each]})

    def ruled(loss: float) -> dict[str, Judged]:
        monkeypatch.setattr("dlsys_bench.notebooks.rulings.Runs", lambda *_: made(loss))
        return {
            one.claim["id"]: one
            for one in CLAIM_SET.rulings_on("regularization/fashion-mlp", (), ENGINES)
        }

    far = ruled(0.9)
    assert far["nb3.dropout.test_loss@25"].ruling is Ruling.NOT_REPRODUCED
    assert "its run as a whole is not reproduced" in far["nb3.dropout.test_accuracy@25"].reason
    near = ruled(0.466)
    assert near["nb3.dropout.test_loss@25"].ruling is Ruling.REPRODUCED
    assert "as a whole" not in near["nb3.dropout.test_accuracy@25"].reason


def test_an_arm_with_a_much_larger_variance_is_not_pooled() -> None:
    one = judged(
        "nb3.bn+dropout.test_accuracy@25",
        narrow(
            {
                "vanilla": [0.880, 0.8804, 0.8802],
                "bn": [0.867, 0.8672, 0.8668],
                "dropout": [0.853, 0.8533, 0.8528],
                "bn+dropout": [0.70, 0.85],
            }
        ),
    )
    assert one.ruling is Ruling.UNDECIDED
    assert "pooled" not in one.reason


def test_two_runs_of_each_arm_are_compared_by_the_pooled_variance() -> None:
    made = narrow(SPREAD | {"dropout": [0.852, 0.855], "bn": [0.866, 0.868]})
    one = judged("nb3.bn>dropout", made)
    # One degree of freedom of the arm, and half of the five of the other three arms.
    assert "2 and 2 runs, variance pooled over 4 arms, d.f. 3.5" in one.reason
    assert one.ruling is Ruling.REPRODUCED
    alone = judged("nb3.bn>dropout", narrow({"dropout": [0.852, 0.855], "bn": [0.866, 0.868]}))
    expected = stats.ttest_ind([0.866, 0.868], [0.852, 0.855])
    x, y = (runs("a", "b", "test_accuracy", v) for v in ([0.866, 0.868], [0.852, 0.855]))
    plain = difference(x, y, "test_accuracy")
    assert plain.p == pytest.approx(expected.pvalue)
    assert plain.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert alone.runs == 2
    one_run = narrow({"dropout": [0.852], "bn": [0.866, 0.868]})
    assert judged("nb3.bn>dropout", one_run).ruling is Ruling.UNMEASURED


def test_contradicting_claims_state_the_other_ruling_and_the_conditions() -> None:
    ids = [{name for side in pair for name in side} for pair in CONTRADICTIONS]
    for claim in claims():
        for other in filter(None, claim.get("contradicts", "").split(", ")):
            assert any({claim["id"], other} <= names for names in ids), (claim["id"], other)
    rulings = {one.claim["id"]: one for one in rule()}
    for pair in CONTRADICTIONS:
        for here, there in (pair, pair[::-1]):
            for name, conditions in here.items():
                assert f"here: {conditions}" in rulings[name].reason
                assert all(
                    f"{other} is {rulings[other].ruling}" in rulings[name].reason for other in there
                )
    assert "by the protocol of nb4 itself -0.007" in rulings["nb4.hinge>perceptron"].reason
