"""The gate: early decisions, invalid arguments, and the output for CI."""

from __future__ import annotations

import shlex
import threading
from dataclasses import replace
from functools import partial
from math import inf, isnan, nan
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from results import changed, make_result

from dlsys_bench.data import load
from dlsys_bench.engines.registry import create
from dlsys_bench.errors import UserError
from dlsys_bench.report import github
from dlsys_bench.report.junit import junit
from dlsys_bench.report.tables import power_table, verdict_table
from dlsys_bench.runs.callables import train_once
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.run import run
from dlsys_bench.runs.store import append, reference_path
from dlsys_bench.spec.layers import Dense, Flatten
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.optimizers import SGD
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies.base import EPOCH_METRICS, Arm, Case, Metric, Study, Superseded
from dlsys_bench.verdicts.gate import EXIT_CODES, Terms, gate, gate_for, overall, share, value_of
from dlsys_bench.verdicts.power import power
from dlsys_bench.verdicts.training_gate import gate_training
from dlsys_bench.verdicts.verdict import Outcome, Verdict

MODEL = Model("small", (28, 28, 1), (Flatten(), Dense(10)))
RECIPE = Recipe(SGD(0.1), batch_size=64, epochs=1, steps=10)
DIGITS, NUMPY = load("digits"), create("numpy")


def case(rate: float = 0.1, **options: object) -> Case:
    recipes = {"quick": replace(RECIPE, optimizer=SGD(rate))}
    arm = Arm("only", MODEL, recipes, **options)  # type: ignore[arg-type]
    return Case(Study("mine", "mine", "mine", "digits", (arm,)), arm)


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Store twenty reference runs of the case in a new folder, and return the file."""
    monkeypatch.chdir(tmp_path)
    path = reference_path("mine", "digits", "quick")
    for seed in range(20):
        append(path, run(case(), NUMPY, DIGITS, seed=seed))
    return path


def judged(**options: object) -> Verdict:
    made: dict[str, object] = {"tier": "quick"} | options
    return gate(case(), NUMPY, DIGITS, **made)  # type: ignore[arg-type]


@pytest.mark.usefixtures("stored")
def test_verdict_contains_error_rates_and_replay_command() -> None:
    kept: list[Result] = []
    found = judged(on_result=kept.append, terms=Terms(alpha=1e-4, first_seed=500))
    assert found.outcome is Outcome.PASS
    assert found.seeds == tuple(run.seed for run in kept) == tuple(range(500, 500 + len(kept)))
    assert found.band is not None
    assert found.band.n == 20
    assert found.measured == pytest.approx(np.mean([run.metric("test_accuracy") for run in kept]))
    assert found.replay == (
        "dlsys-bench gate mine/only --engine numpy --device cpu --dataset digits --tier quick "
        "--max-seeds 12 --first-seed 500 --alpha 0.0001 --beta 0.01"
    )
    assert found.to_dict()["alpha"] == 1e-4
    assert found.seconds > 0
    row = dict(zip(verdict_table([found]).columns, verdict_table([found]).rows[0], strict=True))
    assert (row["verdict"], row[">runs"], row[">seeds"]) == ("PASS", "20", str(len(kept)))


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(("together", "seeds"), [(False, 1), (True, 2)])
def test_a_gate_that_cannot_decide_trains_two_seeds_among_others(
    together: bool, seeds: int
) -> None:
    """The verdict over all arms needs them."""
    found = judged(terms=Terms(alpha=1e-12, together=together))
    assert found.outcome is Outcome.INCONCLUSIVE
    assert len(found.seeds) == seeds
    assert found.stratum is not None
    assert found.stratum.new == seeds


@pytest.mark.usefixtures("stored")
def test_parallel_runs_have_the_same_values() -> None:
    assert judged(terms=Terms(jobs=3)).values == judged().values


def test_user_training_runs_one_at_a_time() -> None:
    """It often seeds the whole process, so that threads would share the seed."""
    running = []

    def train(seed: int) -> float:
        running.append(threading.active_count())
        return 0.9 + 1e-3 * (37 * seed % 101 % 7)

    stored = [
        train_once(lambda seed: 0.9 + 1e-3 * (37 * seed % 101 % 7), seed, "t") for seed in range(20)
    ]
    found = gate_training(train, stored, terms=Terms(jobs=2, smallest_shift=0.1), name="t")
    assert (found.outcome, found.seeds) == (Outcome.PASS, (10_000, 10_001))
    assert set(running) == {threading.active_count()}


def test_diverged_runs_count_as_infinitely_bad() -> None:
    lost = train_once(lambda seed: nan, 0, "t")
    f1, loss = Metric("f1", higher_is_better=True), Metric("loss", higher_is_better=False)
    assert (value_of(lost, f1), value_of(lost, loss)) == (-inf, inf)
    assert (value_of(lost, loss, "drop"), value_of(lost, f1, "rise")) == (-inf, inf)
    assert isnan(value_of(lost, Metric("score", higher_is_better=None)))
    stored = [
        train_once(lambda seed: 0.9 + 1e-4 * (37 * seed % 101 % 7), seed, "t") for seed in range(20)
    ]
    for side in ("both", "drop"):
        assert (
            gate_training(lambda seed: nan, stored, terms=Terms(side=side), name="t").outcome
            is Outcome.FAIL
        )


@pytest.mark.parametrize("level", [0.5, 5.0])  # an accuracy that fell, a loss that rose
def test_diverged_runs_do_not_cancel_runs_on_the_other_side(level: float) -> None:
    stored = [
        train_once(lambda seed: 0.9 + 1e-4 * (37 * seed % 101 % 7), seed, "t") for seed in range(20)
    ]
    worse = gate_training(lambda seed: nan if seed % 2 else level, stored, name="t")
    assert worse.outcome is Outcome.FAIL


def test_a_study_states_the_direction_of_its_metric() -> None:
    study: Any = partial(Study, "mine", "mine", "mine", "digits", (case().arm,))
    assert study(metric="test_loss").metric is EPOCH_METRICS["test_loss"]
    with pytest.raises(UserError, match="metric is 'test_los' .*; expected one of running_loss"):
        study(metric="test_los")
    with pytest.raises(UserError, match="measures 'beta' itself, so it has to state its direction"):
        study(metric="beta", measure=lambda _: {})


@pytest.mark.usefixtures("stored")
def test_a_gate_evaluates_only_the_judged_figure_unless_runs_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []
    predict = type(NUMPY).predict

    def counted(self: object, net: object, x: object) -> object:
        calls.append(len(x))  # type: ignore[arg-type]
        return predict(self, net, x)  # type: ignore[arg-type]

    monkeypatch.setattr(type(NUMPY), "predict", counted)
    lean = judged()
    assert calls == [len(DIGITS.x_test)] * len(lean.seeds)
    kept: list[Result] = []
    assert judged(on_result=kept.append).values == lean.values
    assert None not in (kept[0].history[0].train_loss, kept[0].history[0].test_loss)
    assert len(calls) == 3 * len(lean.seeds)


def test_reference_runs_without_the_figure_are_left_out() -> None:
    before = [train_once(lambda seed: {"accuracy": 0.9}, seed, "t") for seed in range(10)]
    since = [
        train_once(lambda seed: {"accuracy": 0.9, "f1": 0.8 + 1e-3 * seed}, 10 + seed, "t")
        for seed in range(10)
    ]
    found = gate_training(
        lambda seed: {"f1": 0.1, "accuracy": 0.9}, before + since, metric="f1", name="t"
    )
    assert found.outcome is Outcome.FAIL
    assert "10 without f1 left out" in found.reason


def test_seeds_of_reference_runs_are_inconclusive(stored: Path) -> None:
    found = judged(terms=Terms(first_seed=10))
    assert (found.outcome, found.values) == (Outcome.INCONCLUSIVE, ())
    assert "seed 10 is also the seed of a reference run" in found.reason
    # The same seed on another engine is a different run.
    lines = [changed(run(case(), NUMPY, DIGITS, seed=seed), engine="torch") for seed in range(20)]
    stored.unlink()
    for line in lines:
        append(stored, line)
    assert judged(terms=Terms(first_seed=10)).outcome is not Outcome.FAIL


def test_seeds_of_an_engine_with_equal_random_numbers_are_inconclusive(stored: Path) -> None:
    runs = [run(case(), NUMPY, DIGITS, seed=seed) for seed in range(20)]
    stored.unlink()
    for one in runs:
        append(stored, changed(one, engine="numba" if one.seed >= 5 else "numpy"))
    found = judged(terms=Terms(first_seed=10))
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "seed 10 is also the seed of a reference run" in found.reason
    # The band names both engines.
    healthy = judged()
    assert healthy.outcome is Outcome.PASS
    assert healthy.band is not None
    assert healthy.band.n == 20
    assert healthy.band.source == "reference/mine.digits.quick.jsonl (5 of numpy, 15 of numba)"
    # Runs of one seed by both are one draw, and by torch another.
    append(stored, changed(runs[0], engine="numba"))
    append(stored, changed(runs[1], engine="torch"))
    assert (gate_for(case(), DIGITS, "quick")[0].band or healthy.band).n == 21


def test_runs_of_a_superseded_protocol_are_not_reference_runs(stored: Path) -> None:
    corrected = case(0.2)
    past = Superseded("rate 0.1", "the learning rate was 0.1", case().study.arms)
    with_past = corrected._replace(study=replace(corrected.study, superseded=(past,)))
    found = gate(with_past, NUMPY, DIGITS, tier="quick")
    assert found.outcome is Outcome.INCONCLUSIVE
    assert (
        "0 reference runs in reference/mine.digits.quick.jsonl (which has 20 by a superseded "
        "protocol, rate 0.1: the learning rate was 0.1), a gate needs 3"
    ) in found.reason
    before = with_past.study.superseded_by(case().arm.protocol("quick"))
    assert before is past
    assert with_past.study.superseded_by(corrected.arm.protocol("quick")) is None


@pytest.mark.usefixtures("stored")
def test_bounds_and_unjudged_arms_are_decided_by_the_first_run() -> None:
    unjudged = gate(case(unjudged={"quick": "at chance"}), NUMPY, DIGITS, tier="quick")
    assert (unjudged.outcome, len(unjudged.values)) == (Outcome.UNJUDGED, 1)
    assert unjudged.reason.endswith("(1 seed): at chance")
    within = gate(case(bound=1.0), NUMPY, DIGITS, tier="quick", terms=Terms(first_seed=0))
    assert (within.outcome, len(within.values)) == (Outcome.PASS, 1)
    above = gate(case(bound=0.01), NUMPY, DIGITS, tier="quick")
    assert above.outcome is Outcome.FAIL
    assert "is above the rounding bound 0.01" in above.reason


def test_divergence_of_an_arm_that_may_diverge_is_unjudged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wild = case(1e38, may_diverge=True)
    found = gate(wild, NUMPY, DIGITS, tier="quick")
    assert found.outcome is Outcome.UNJUDGED
    assert "the loss became" in found.reason
    for seed in range(20):
        append(reference_path("mine", "digits", "quick"), run(wild, NUMPY, DIGITS, seed=seed))
    # An arm that may not diverge has too few finished reference runs for a gate.
    assert gate(case(1e38), NUMPY, DIGITS, tier="quick").outcome is Outcome.INCONCLUSIVE


def test_value_of_a_diverged_run_is_infinite() -> None:
    lost = make_result(status="diverged")
    assert value_of(lost, EPOCH_METRICS["test_accuracy"]) == -inf
    assert value_of(lost, EPOCH_METRICS["test_loss"]) == inf


def training(seed: int) -> dict[str, float]:
    generator = np.random.default_rng(seed)
    return {"accuracy": 0.9 + 0.004 * generator.normal(), "loss": 0.3 + 0.01 * generator.normal()}


STORED = [train_once(training, seed, "training") for seed in range(20)]


def test_user_training_is_judged_by_the_named_metric() -> None:
    found = gate_training(
        training, STORED, metric="loss", source="file.jsonl", name="mine:training"
    )
    assert (found.outcome, found.metric, found.key.study) == (Outcome.PASS, "loss", "mine:training")
    assert found.replay.startswith(
        "dlsys-bench gate mine:training --reference file.jsonl --metric loss --max-seeds 12"
    )
    worse = gate_training(
        lambda seed: {"accuracy": 0.87, "loss": 0.3}, STORED, metric="accuracy", name="t"
    )
    assert worse.outcome is Outcome.FAIL
    with pytest.raises(
        UserError, match=r"choose one with --metric accuracy \(in pytest: metric='accuracy'\)"
    ):
        gate_training(training, STORED)
    with pytest.raises(
        UserError,
        match=r"no metric 'acuracy' \(did you mean \"accuracy\"\?\); it has accuracy, loss",
    ):
        gate_training(training, STORED, metric="acuracy")
    with pytest.raises(
        UserError,
        match=r"training 't' returned no 'loss', which the reference has; it returned acc",
    ):
        gate_training(lambda seed: {"acc": 0.9}, STORED, metric="loss", name="t")
    loss = Metric("loss", higher_is_better=False)
    with pytest.raises(
        UserError, match="lower loss is better, so side 'drop' would never fail a worse run"
    ):
        gate_training(training, STORED, metric=loss, terms=Terms(side="drop"))


def test_training_that_returns_nan_fails() -> None:
    found = gate_training(lambda seed: {"accuracy": nan}, STORED, metric="accuracy", name="t")
    assert (found.outcome, found.measured) == (Outcome.FAIL, None)
    assert "seed 10000: accuracy became nan" in found.reason
    assert found.to_dict()["values"] == [None] * len(found.seeds)


@pytest.mark.usefixtures("stored")
def test_power_is_computed_from_the_reference_runs() -> None:
    found = power(case(), DIGITS, "quick", Terms(alpha=1e-3))
    assert found.healthy is not None
    assert found.std is not None
    assert found.stored == 20
    assert found.smallest_shift == pytest.approx(2.91 * found.std, rel=0.01)
    assert found.minutes == pytest.approx(found.healthy.mean_seeds * (found.seconds or 0) / 60)
    half = power(case(), DIGITS, "quick", Terms(smallest_shift=found.smallest_shift * 1.5))
    assert half.healthy is not None
    assert half.healthy.mean_seeds < found.healthy.mean_seeds
    assert (half.fixed_seeds or 0) < (found.fixed_seeds or 0)
    few = power(case(), DIGITS, "quick", Terms(alpha=1e-30))
    assert (few.healthy, few.smallest_shift, few.minutes) == (None, inf, None)
    assert few.to_dict()["smallest_shift"] is None
    assert power(case(unjudged={"quick": "at chance"}), DIGITS, "quick").unjudged == "at chance"
    rows = power_table([found, few]).rows
    assert rows[1][-1] == "no power: too few reference runs"


def verdict(outcome: str, **changes: object) -> dict[str, object]:
    made: dict[str, object] = {
        "study": "s",
        "arm": "a",
        "engine": "torch",
        "dataset": "digits",
        "tier": "quick",
        "outcome": outcome,
        "reason": 'lower, by "5%" & more\nor so',
        "replay": "dlsys-bench gate s/a",
        "seconds": 1.5,
    }
    return made | changes


def test_junit_xml_contains_each_verdict() -> None:
    found = [
        verdict("PASS"),
        verdict("FAIL"),
        verdict("INCONCLUSIVE"),
        verdict("UNJUDGED", arm="", dataset=""),
    ]
    suite = ElementTree.fromstring(junit(found).split("\n", 1)[1])
    counts = [suite.get(name) for name in ("tests", "failures", "skipped", "errors", "time")]
    assert counts == ["4", "1", "1", "1", "6.000"]
    cases = list(suite)
    assert [one.get("name") for one in cases] == ["s/a", "s/a", "s/a", "s"]
    assert cases[0].get("classname") == "dlsys_bench.torch.digits.quick"
    assert [one[0].tag for one in cases] == ["system-out", "failure", "error", "skipped"]
    assert "replay: dlsys-bench gate s/a" in (cases[1][0].text or "")
    strict = ElementTree.fromstring(junit(found, "failure").split("\n", 1)[1])
    assert (strict.get("failures"), strict.get("skipped")) == ("2", "1")
    lax = ElementTree.fromstring(junit(found, "").split("\n", 1)[1])
    assert (lax.get("failures"), lax.get("skipped")) == ("1", "1")


def test_github_commands_report_all_but_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = github.workflow_commands(
        [verdict("PASS"), verdict("FAIL"), verdict("INCONCLUSIVE"), verdict("UNJUDGED")]
    )
    assert lines == [
        '::error title=torch/s/a::lower, by "5%25" & more%0Aor so%0Areplay: dlsys-bench gate s/a',
        '::warning title=torch/s/a::lower, by "5%25" & more%0Aor so%0Areplay: dlsys-bench gate s/a',
    ]
    (title,) = github.workflow_commands([verdict("FAIL", arm="a,b:c")])
    assert title.startswith("::error title=torch/s/a%2Cb%3Ac::")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    github.summarise("nowhere to go")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    github.summarise("one")
    github.summarise("two")
    assert (tmp_path / "summary.md").read_text() == "one\ntwo\n"


def test_alpha_is_shared_and_exit_codes_are_documented() -> None:
    assert share(20, 1e-3) == pytest.approx(0.75 * 5e-5)
    assert share(1, 1e-3) == 1e-3
    assert share(0) == 1e-3
    assert EXIT_CODES == {Outcome.PASS: 0, Outcome.FAIL: 1, Outcome.INCONCLUSIVE: 3}
    assert overall([Outcome.PASS, Outcome.INCONCLUSIVE, Outcome.FAIL]) is Outcome.FAIL
    assert overall([Outcome.PASS, Outcome.INCONCLUSIVE]) is Outcome.INCONCLUSIVE
    assert overall([Outcome.PASS]) is Outcome.PASS
    assert overall([]) is Outcome.INCONCLUSIVE
    assert overall([Outcome.PASS, Outcome.UNJUDGED]) is Outcome.PASS
    assert overall([Outcome.UNJUDGED]) is Outcome.INCONCLUSIVE


def test_a_replay_line_has_the_shortest_numbers() -> None:
    terms = Terms(alpha=0.75 * 1e-3 / 5, beta=0.01, smallest_shift=0.1 + 0.2)
    assert repr(terms.alpha) == "0.00015000000000000001"
    line = shlex.join(terms.arguments())
    assert "--alpha 0.00015 --beta 0.01 --smallest-shift 0.3" in line
