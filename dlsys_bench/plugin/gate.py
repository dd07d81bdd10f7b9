"""The accuracy gate of a session: it trains, judges, and reports each verdict as a test result."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dlsys_bench.data import Dataset
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.registry import create
from dlsys_bench.errors import NotApplicableError, UserError
from dlsys_bench.plugin.cases import EngineCase
from dlsys_bench.plugin.fixtures import is_gate
from dlsys_bench.plugin.summary import PROPERTY
from dlsys_bench.provenance import cores
from dlsys_bench.runs.callables import Train, name_of, stored_figures
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.run import choose_dataset
from dlsys_bench.runs.store import read
from dlsys_bench.strict_json import dumps
from dlsys_bench.studies.base import Case, Metric
from dlsys_bench.text import printable
from dlsys_bench.verdicts.gate import Terms, gate, gate_training, share
from dlsys_bench.verdicts.verdict import Outcome, Verdict

SETTLED = pytest.StashKey["Settled"]()
Reference = str | Path | Sequence[float]


@dataclass
class Settled:
    """What a gate found in a test, for the reruns of the test (pytest-rerunfailures, pytest-retry).

    Each rerun has new fixtures, and so another request.
    """

    request: pytest.FixtureRequest
    verdict: Verdict | None = None


class Judge:
    """Trains and judges. Engines and datasets are created once per session.

    Each of the session's gates has an equal share of its false-alarm rate.
    """

    def __init__(self, config: pytest.Config, gates: int) -> None:
        self.config, self.gates = config, gates
        self.engines: dict[str, Engine] = {}
        self.datasets: dict[str, Dataset] = {}

    @property
    def terms(self) -> Terms:
        """The terms of each gate."""
        option = self.config.getoption
        alpha = share(self.gates, option("dlsys_alpha"))
        # The workers of pytest-xdist share the cores already.
        jobs = 1 if hasattr(self.config, "workerinput") else cores()
        return Terms(alpha, option("dlsys_beta"), option("dlsys_max_seeds"), jobs=jobs)

    def engine(self, name: str) -> Engine:
        """The engine of a name."""
        if name not in self.engines:
            self.engines[name] = create(name, self.config.getoption("dlsys_device"))
        return self.engines[name]

    def dataset(self, case: Case) -> Dataset:
        """The dataset of `--dlsys-dataset`, or that of the case."""
        if case.dataset not in self.datasets:
            option = self.config.getoption
            self.datasets[case.dataset], _ = choose_dataset(
                case, option("dlsys_dataset"), option("dlsys_data_dir")
            )
        return self.datasets[case.dataset]

    def judge(self, engine_case: EngineCase) -> Verdict:
        """Train a case until it passes or fails."""
        engine, tier = self.engine(engine_case.engine), self.config.getoption("dlsys_tier")
        case = engine_case.case.scaled(self.config.getoption("dlsys_scaling"))
        return gate(case, engine, self.dataset(case), tier=tier, terms=self.terms)

    def accuracy_gate(self, request: pytest.FixtureRequest) -> AccuracyGate:
        """The gate of one test, for any training."""
        return AccuracyGate(request, self)

    def settle(self, request: pytest.FixtureRequest, judge: Callable[[], Verdict]) -> Verdict:
        """Report a verdict as the result of a test.

        FAIL fails the test. Anything else but PASS skips it, unless `--dlsys-inconclusive fail`. A
        rerun of the test repeats the verdict: to judge again until one passes would void its rates.
        """
        stored = _stored_verdict(request)
        verdict = stored or _verdict_or_error(judge)
        if isinstance(verdict, NotApplicableError):
            pytest.skip(printable(f"left out: {verdict}"))
        if isinstance(verdict, UserError):
            pytest.fail(printable(verdict), pytrace=False)
        if stored is None:
            request.node.stash[SETTLED].verdict = verdict
            request.node.user_properties.append((PROPERTY, dumps(verdict.to_dict())))
            self.config.hook.pytest_dlsys_verdict(config=self.config, verdict=verdict)
        failing = {Outcome.FAIL}
        if self.config.getoption("dlsys_inconclusive") == "fail":
            failing.add(Outcome.INCONCLUSIVE)
        if verdict.outcome in failing:
            pytest.fail(printable(f"{verdict.outcome}: {verdict.message()}"), pytrace=False)
        if verdict.outcome is not Outcome.PASS:
            pytest.skip(printable(f"{verdict.outcome}: {verdict.reason}"))
        return verdict


def _verdict_or_error(judge: Callable[[], Verdict]) -> Verdict | UserError:
    """Return the verdict, or the error that prevented it.

    pytest prints every exception that was being handled when a test ended, so that the test has to
    end after the error was handled.
    """
    try:
        return judge()
    except UserError as error:
        return error


def _stored_verdict(request: pytest.FixtureRequest) -> Verdict | None:
    """Return the verdict that a rerun of the test repeats, None in its first run.

    Fails the test unless it has a share of the false-alarm rate that it has not used. The rate was
    shared before the first test: one share for each test that takes a gate.
    """
    if not is_gate(request.node):
        pytest.fail(
            "a gate has to be an argument of the test: the false-alarm rate is shared over those",
            pytrace=False,
        )
    before: Settled | None = request.node.stash.get(SETTLED, None)
    if before is None:
        request.node.stash[SETTLED] = Settled(request)
        return None
    again = before.request.fixturename == request.fixturename and before.request is not request
    if not again:
        pytest.fail(
            "a gate judges once per test; parametrize the test, or write another", pytrace=False
        )
    before.request = request
    return before.verdict


def _smallest_shift(former: dict[str, float | None], smallest_shift: float | None) -> float | None:
    """Return the smallest shift, under its former name `smallest_drop` as well."""
    if unknown := set(former) - {"smallest_drop"}:
        raise TypeError(f"accuracy_gate() got an unexpected keyword argument {unknown.pop()!r}")
    if not former:
        return smallest_shift
    warnings.warn(
        "accuracy_gate: smallest_drop is named smallest_shift", DeprecationWarning, stacklevel=3
    )
    return former["smallest_drop"]


class AccuracyGate:
    """`accuracy_gate(train, reference, smallest_shift=0.005)`.

    `train(seed)` returns the metric, or several by name.
    """

    def __init__(self, request: pytest.FixtureRequest, judge: Judge) -> None:
        self.request, self.judge = request, judge

    def __call__(
        self,
        train: Train,
        reference: Reference,
        smallest_shift: float | None = None,
        *,
        metric: str | Metric | None = None,
        side: str = "both",
        max_seeds: int | None = None,
        first_seed: int | None = None,
        **former: float | None,
    ) -> Verdict:
        """Train with one seed after another until the metric passes or fails; then fail the test.

        `reference` is a file of reference runs (`dlsys-bench calibrate package.module:train
        --output FILE`), in the folder of the test or in the root folder, or the values themselves.
        `smallest_shift` is the shift to detect, in the metric's units (default: the smallest that
        can be detected); its former name `smallest_drop` is deprecated. With `side` "drop" or
        "rise", only shifts in that direction fail. `metric` names the one to judge. Seeds count
        from `first_seed` (default: 10000); no reference run may have one of them.
        """
        smallest_shift = _smallest_shift(former, smallest_shift)
        given = {"max_seeds": max_seeds, "first_seed": first_seed}
        changes = {name: value for name, value in given.items() if value is not None}
        terms = replace(self.judge.terms, smallest_shift=smallest_shift, side=side, **changes)

        def judge() -> Verdict:
            stored, source = self._reference_runs(train, reference, metric)
            verdict = gate_training(train, stored, metric=metric, terms=terms, source=source)
            if isinstance(reference, str | Path):
                return verdict
            # The values are nowhere but in the test.
            return replace(verdict, replay=shlex.join(["pytest", self.request.node.nodeid]))

        return self.judge.settle(self.request, judge)

    def _reference_runs(
        self, train: Train, reference: Reference, metric: str | Metric | None
    ) -> tuple[list[Result], str]:
        """The reference runs, and the name of their source."""
        if not isinstance(reference, str | Path):
            return stored_figures(reference, metric), "the values given"
        folders = dict.fromkeys((self.request.path.parent, self.request.config.rootpath))
        paths = [folder / reference for folder in folders if (folder / reference).exists()]
        command = f"dlsys-bench calibrate {name_of(train)} --seeds 20 --output {reference}"
        if not paths:
            where = " or ".join(map(str, folders))
            raise UserError(f"no runs in {reference}, from {where}: {command}")
        runs = read(paths[0])
        if not runs:
            raise UserError(f"{paths[0]} holds no runs: {command}")
        return _runs_of(name_of(train), runs, f"{paths[0]} holds runs of", command), str(paths[0])


def _runs_of(name: str, runs: list[Result], holds: str, command: str) -> list[Result]:
    """The runs of a training; all of them if they are of one training under another name.

    The module of a training may have another name here than where the training was calibrated. Runs
    of several trainings do not come from one distribution: they raise a UserError.
    """
    found = [run for run in runs if run.key.study == name]
    names = list(dict.fromkeys(run.key.study for run in runs))
    if not found and len(names) > 1:
        raise UserError(f"{holds} {', '.join(names)}, none of {name}: {command}")
    return found or runs
