"""The pytest plugin: options, fixtures, markers, and a table of verdicts at the end of the session.

A test that takes `dlsys_case` runs once for each arm of its `dlsys_study` marker (default: all) on
each engine of `--dlsys-engine`; `dlsys_gate` trains the case and holds it to its band:

    @pytest.mark.dlsys_study("regularization/lenet5-tanh")
    def test_accuracy(dlsys_case, dlsys_gate):
        dlsys_gate(dlsys_case)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from dlsys_bench.engines.registry import DEVICES, NAMES
from dlsys_bench.errors import NotApplicableError, UserError

if TYPE_CHECKING:
    from dlsys_bench.data import Dataset
    from dlsys_bench.engines.base import Engine
    from dlsys_bench.runs.callables import Train
    from dlsys_bench.runs.result import Result
    from dlsys_bench.studies.base import Case
    from dlsys_bench.timing.benchmark import TrainBenchmark
    from dlsys_bench.verdicts.gate import Terms
    from dlsys_bench.verdicts.verdict import Verdict

PROPERTY = "dlsys_verdict"
JUDGED = pytest.StashKey[bool]()
CONFORMANCE = "dlsys_bench.conformance"


class EngineCase(NamedTuple):
    """One arm of one study on one engine."""

    case: Case
    engine: str

    def __str__(self) -> str:
        return f"{self.engine}:{self.case.name}"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("dlsys", "dlsys_bench: training engines held to their accuracy")
    group.addoption(
        "--dlsys-engine",
        action="append",
        metavar="NAME",
        help=f"engine to judge; may be repeated: {NAMES}, or all (every one installed). Default: all",
    )
    group.addoption("--dlsys-device", default="cpu", choices=DEVICES, help="Default: cpu")
    group.addoption(
        "--dlsys-dataset",
        metavar="NAME",
        help="mnist, fashion_mnist, digits, a .npz file or "
        "package.module:callable. Default: each study's own where it is at hand, else digits",
    )
    group.addoption(
        "--dlsys-data-dir",
        metavar="DIR",
        help="folder with the datasets' files. Default: DLSYS_BENCH_DATA, else the cache",
    )
    group.addoption(
        "--dlsys-tier", default="quick", choices=("quick", "full"), help="Default: quick"
    )
    group.addoption(
        "--dlsys-max-seeds",
        type=int,
        default=12,
        metavar="N",
        help="the most runs that a gate takes. Default: 12",
    )
    group.addoption(
        "--dlsys-alpha",
        type=float,
        default=1e-3,
        metavar="P",
        help="the chance that a healthy engine fails any gate of the session; shared over them. Default: 1e-3",
    )
    group.addoption(
        "--dlsys-beta",
        type=float,
        default=1e-2,
        metavar="P",
        help="the chance that a gate does not find the smallest shift. Default: 1e-2",
    )
    group.addoption(
        "--dlsys-inconclusive",
        default="skip",
        choices=("skip", "fail"),
        help="what INCONCLUSIVE is. Default: skip",
    )
    group.addoption("--dlsys-json", metavar="FILE", help="write the verdicts as JSON")


def pytest_load_initial_conftests(parser: pytest.Parser, args: list[str]) -> None:
    """`--engine` and `--seed`, only where the conformance checks themselves are run: elsewhere they
    may be others'."""
    if not any(arg.startswith(CONFORMANCE) for arg in args):
        return
    group = parser.getgroup("dlsys")
    group.addoption(
        "--engine", metavar="NAME", help="engine to check. Default: DLSYS_BENCH_ENGINE, else numpy"
    )
    group.addoption(
        "--seed", dest="conformance_seed", type=int, default=0, metavar="N", help="default: 0"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "dlsys_study(name): the study, group or arm whose cases `dlsys_case` goes through",
    )
    config.addinivalue_line(
        "markers",
        "gate: trains and judges; tests that take `dlsys_gate` or `accuracy_gate` have it (-m gate)",
    )
    if config.getoption("dlsys_max_seeds") < 1:
        raise pytest.UsageError(
            f"--dlsys-max-seeds is {config.getoption('dlsys_max_seeds')}; it takes a whole number from 1"
        )
    for name in ("alpha", "beta"):
        if not 0 < config.getoption(f"dlsys_{name}") < 1:
            value = config.getoption(f"dlsys_{name}")
            raise pytest.UsageError(f"--dlsys-{name} is {value}; it takes a chance between 0 and 1")
    path = config.getoption("dlsys_json")
    if path and not hasattr(config, "workerinput"):
        # Found out now, and what an earlier session left is not taken for this one's.
        try:
            Path(path).write_text("[]", encoding="utf-8")
        except OSError as error:
            raise pytest.UsageError(
                f"--dlsys-json: cannot write {path}: {error.strerror}"
            ) from None
    names = config.getoption("dlsys_engine") or []
    if names:
        from dlsys_bench.engines.registry import check_name

        try:
            for name in names:
                if name != "all":
                    check_name(name)
        except UserError as error:
            raise pytest.UsageError(str(error)) from None


def _left_out(config: pytest.Config) -> list[str]:
    """What is not judged here, with the command that brings it."""
    from dlsys_bench.data import datasets, is_available
    from dlsys_bench.engines.registry import engines, unavailable

    lines = [reason for name in engines() if (reason := unavailable(name))]
    away = [
        name for name in datasets() if not is_available(name, config.getoption("dlsys_data_dir"))
    ]
    if away:
        lines.append(f"{', '.join(away)}: dlsys-bench data fetch, or --dlsys-data-dir DIR")
    return [f"left out: {line}" for line in lines]


def _engine_names(config: pytest.Config) -> list[str]:
    from dlsys_bench.engines.registry import available, engines, one_of_each

    asked = config.getoption("dlsys_engine") or ["all"]
    if "all" not in asked:
        return list(asked)
    device = config.getoption("dlsys_device")
    return one_of_each(name for name in available() if device in engines()[name].devices)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "dlsys_case" not in metafunc.fixturenames:
        return
    from dlsys_bench.studies.registry import find

    marker = metafunc.definition.get_closest_marker("dlsys_study")
    try:
        cases = [case for name in (marker.args if marker else ("all",)) for case in find(name)]
    except UserError as error:
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: {error}") from None
    pairs = [
        EngineCase(case, engine) for engine in _engine_names(metafunc.config) for case in cases
    ]
    metafunc.parametrize("dlsys_case", pairs, ids=str)


def _asks(item: pytest.Item) -> bool:
    """Whether a test may train and judge."""
    return "dlsys_judge" in getattr(item, "fixturenames", ())


def pytest_itemcollected(item: pytest.Item) -> None:
    if _asks(item):
        item.add_marker("gate")


def pytest_report_collectionfinish(
    config: pytest.Config, items: Sequence[pytest.Item]
) -> list[str]:
    """The session's error budget, shared out before anything is trained."""
    gates = sum(map(_asks, items))
    if not gates:
        return []
    alpha, beta, most = (
        config.getoption(f"dlsys_{name}") for name in ("alpha", "beta", "max_seeds")
    )
    return [
        f"dlsys_bench: {gates} gate{'s' * (gates != 1)}; healthy training fails any with a chance of {alpha:g} "
        f"({alpha / gates:.1e} each); one misses its smallest shift with {beta:g}; at most {most} seeds each"
    ]


class Judge:
    """Trains cases and judges them; engines and datasets are made once a session. Each of the
    session's gates has an equal part of its false-alarm budget."""

    def __init__(self, config: pytest.Config, gates: int) -> None:
        self.config, self.gates = config, gates
        self.engines: dict[str, Engine] = {}
        self.datasets: dict[str, Dataset] = {}

    @property
    def terms(self) -> Terms:
        from dlsys_bench.provenance import cores
        from dlsys_bench.verdicts.gate import Terms, share

        option = self.config.getoption
        alpha = share(self.gates, option("dlsys_alpha"))
        # Under xdist the cores are shared out already.
        jobs = 1 if hasattr(self.config, "workerinput") else cores()
        return Terms(alpha, option("dlsys_beta"), option("dlsys_max_seeds"), jobs=jobs)

    def engine(self, name: str) -> Engine:
        from dlsys_bench.engines.registry import create

        if name not in self.engines:
            self.engines[name] = create(name, self.config.getoption("dlsys_device"))
        return self.engines[name]

    def dataset(self, case: Case) -> Dataset:
        from dlsys_bench.runs.run import choose_dataset

        own = case.dataset
        if own not in self.datasets:
            asked, folder = (
                self.config.getoption(f"dlsys_{name}") for name in ("dataset", "data_dir")
            )
            self.datasets[own], _ = choose_dataset(case, asked, folder)
        return self.datasets[own]

    def judge(self, engine_case: EngineCase) -> Verdict:
        """Train and judge."""
        from dlsys_bench.verdicts.gate import gate

        case, engine = engine_case.case, self.engine(engine_case.engine)
        return gate(
            case,
            engine,
            self.dataset(case),
            tier=self.config.getoption("dlsys_tier"),
            terms=self.terms,
        )


@pytest.fixture(scope="session")
def dlsys_judge(request: pytest.FixtureRequest) -> Judge:
    """What trains and judges for the session. The budget is shared over every collected test that
    may ask it."""
    return Judge(request.config, sum(map(_asks, request.session.items)))


def _settle(request: pytest.FixtureRequest, judge: Callable[[], Verdict]) -> Verdict:
    """Report a verdict: FAIL fails the test, what is neither PASS nor FAIL skips it, unless that is
    to fail too."""
    from dlsys_bench.verdicts.verdict import Outcome

    # The budget was shared out before: one part a test, to tests that were known to ask.
    if not _asks(request.node):
        pytest.fail(
            "a gate is taken as an argument of the test: the budget is shared over those",
            pytrace=False,
        )
    if request.node.stash.get(JUDGED, False):
        pytest.fail("a gate judges once a test; parametrise it, or write another", pytrace=False)
    request.node.stash[JUDGED] = True
    try:
        verdict = judge()
    except NotApplicableError as error:
        pytest.skip(f"left out: {error}")
    except UserError as error:
        pytest.fail(str(error), pytrace=False)
    request.node.user_properties.append((PROPERTY, json.dumps(verdict.to_dict())))
    strict = request.config.getoption("dlsys_inconclusive") == "fail"
    if verdict.outcome is Outcome.FAIL or (verdict.outcome is Outcome.INCONCLUSIVE and strict):
        pytest.fail(f"{verdict.outcome}: {verdict.message()}", pytrace=False)
    if verdict.outcome is not Outcome.PASS:
        pytest.skip(f"{verdict.outcome}: {verdict.reason}")
    return verdict


@pytest.fixture
def dlsys_gate(
    request: pytest.FixtureRequest, dlsys_judge: Judge
) -> Callable[[EngineCase], Verdict]:
    """A call that trains a case and fails the test outside its band; what cannot be judged is
    skipped, saying so."""
    return lambda engine_case: _settle(request, lambda: dlsys_judge.judge(engine_case))


@pytest.fixture
def accuracy_gate(request: pytest.FixtureRequest, dlsys_judge: Judge) -> AccuracyGate:
    """A call that trains anything and holds it to its stored runs: see AccuracyGate."""
    return AccuracyGate(request, dlsys_judge.terms)


@pytest.fixture
def train_benchmark(benchmark: Any) -> TrainBenchmark:
    """A call that times a training step and fails unless it trains: see TrainBenchmark."""
    from dlsys_bench.timing.benchmark import TrainBenchmark

    return TrainBenchmark(benchmark)


class AccuracyGate:
    """`accuracy_gate(train, reference, smallest_drop=0.005)`: train(seed) -> metric, or metrics by
    name."""

    def __init__(self, request: pytest.FixtureRequest, terms: Terms) -> None:
        self.request, self.terms = request, terms

    def __call__(
        self,
        train: Train,
        reference: str | Path | Sequence[float],
        smallest_drop: float | None = None,
        *,
        metric: str | None = None,
        side: str = "both",
        max_seeds: int | None = None,
        first_seed: int | None = None,
    ) -> Verdict:
        """Train with seed after seed until the figures are like the stored ones, or are not, and
        fail the test then.

        `reference` is a file of runs (`dlsys-bench calibrate package.module:train --output FILE`),
        in the test's own folder or the root, or the figures themselves. `smallest_drop` is the
        shift that has to be found, in the metric's units: default, the smallest that can be. `side`
        "drop" or "rise" fails a shift that way only. `metric` names the one that is judged. Seeds
        count from `first_seed` (10000), of which no stored run may be.
        """
        from dlsys_bench.verdicts.gate import gate_training

        given = {"max_seeds": max_seeds, "first_seed": first_seed}
        changes = {name: value for name, value in given.items() if value is not None}
        terms = replace(self.terms, smallest_shift=smallest_drop, side=side, **changes)

        def judge() -> Verdict:
            stored, source = self._stored(train, reference, metric)
            return gate_training(train, stored, metric=metric, terms=terms, source=source)

        return _settle(self.request, judge)

    def _stored(
        self, train: Train, reference: str | Path | Sequence[float], metric: str | None
    ) -> tuple[list[Result], str]:
        """The stored runs, and what they are called."""
        from dlsys_bench.runs.callables import name_of, stored_figures
        from dlsys_bench.runs.store import read

        if not isinstance(reference, str | Path):
            return stored_figures(reference, metric), "the figures given"
        folders = (self.request.path.parent, self.request.config.rootpath)
        path = next(
            (folder / reference for folder in folders if (folder / reference).exists()), None
        )
        how = f"dlsys-bench calibrate {name_of(train)} --seeds 20 --output {reference}"
        if path is None:
            raise UserError(f"no runs in {reference}, from {' or '.join(map(str, folders))}: {how}")
        runs = read(path)
        if not runs:
            raise UserError(f"{path} holds no runs: {how}")
        # A training may be named otherwise from here than where it was calibrated; but runs of
        # several are not one law.
        mine = [run for run in runs if run.key.study == name_of(train)]
        others = list(dict.fromkeys(run.key.study for run in runs))
        if not mine and len(others) > 1:
            raise UserError(
                f"{path} holds runs of {', '.join(others)}, none of {name_of(train)}: {how}"
            )
        return mine or runs, str(path)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Every verdict, gathered from the reports so that it works under xdist too, and what was left
    out."""
    found = [
        json.loads(value)
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == PROPERTY
    ]
    if not found:
        return
    found.sort(key=lambda verdict: (verdict["engine"], verdict["study"]))
    terminalreporter.section("dlsys_bench verdicts")
    rows = [("arm", "dataset", "engine", "seeds", "measured", "stored", "MDE", "verdict")]
    for verdict in found:
        band, measured, sees = verdict["band"], verdict["measured"], verdict["smallest_shift"]
        rows.append(
            (
                "/".join(filter(None, (verdict["study"], verdict["arm"]))),
                verdict["dataset"] or "-",
                verdict["engine"],
                str(len(verdict["seeds"])),
                "-" if measured is None else f"{measured:.4f}",
                f"{band['mean']:.4f} ± {band['spread']:.4f} ({band['n']})" if band else "-",
                "-" if sees is None else f"{sees:.4f}",
                verdict["outcome"],
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    for line in [*lines, *_left_out(config)]:
        terminalreporter.line(line)
    _for_ci(terminalreporter, config, found, lines)


def _for_ci(
    terminalreporter: Any, config: pytest.Config, found: list[dict[str, Any]], lines: list[str]
) -> None:
    """The verdicts as JSON where it is asked for; annotations and the summary on GitHub."""
    from dlsys_bench.report import github

    if path := config.getoption("dlsys_json"):
        Path(path).write_text(json.dumps(found, indent=1), encoding="utf-8")
    if github.running():
        for line in github.workflow_commands(found):
            terminalreporter.line(line)
        github.summarise("\n".join(["### dlsys_bench verdicts", "", "```text", *lines, "```"]))
