"""The pytest plugin: options, fixtures, markers, and a table of verdicts at the end of the session.

A test that takes `dlsys_case` runs once for each arm of its `dlsys_study` marker (default: all) on each engine of
`--dlsys-engine`; `dlsys_gate` trains the case and holds it to its band:

    @pytest.mark.dlsys_study("regularization/lenet5-tanh")
    def test_accuracy(dlsys_case, dlsys_gate):
        dlsys_gate(dlsys_case)
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from dlsys_bench.errors import NotApplicableError, UserError

if TYPE_CHECKING:
    from dlsys_bench.data import Dataset
    from dlsys_bench.engines import Engine
    from dlsys_bench.studies import Case
    from dlsys_bench.verdict.bands import Verdict

PROPERTY = "dlsys_verdict"


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
        help="engine to judge; may be repeated: numpy, "
        "torch, keras, keras-jax, package.module:Class, or all (every one installed). Default: all",
    )
    group.addoption("--dlsys-device", default="cpu", choices=("cpu", "cuda"), help="Default: cpu")
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
    group.addoption("--dlsys-tier", default="quick", choices=("quick", "full"), help="Default: quick")
    group.addoption("--dlsys-seeds", type=int, default=1, metavar="N", help="runs of each arm. Default: 1")  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "dlsys_study(name): the study, group or arm whose cases `dlsys_case` goes through"
    )
    config.addinivalue_line("markers", "gate: trains an arm and holds it to its accuracy band")
    if config.getoption("dlsys_seeds") < 1:
        raise pytest.UsageError(f"--dlsys-seeds is {config.getoption('dlsys_seeds')}; it takes a whole number from 1")
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
    from dlsys_bench.data import DATASETS, at_hand
    from dlsys_bench.engines.registry import BUILT_IN, unavailable

    lines = [reason for name in BUILT_IN if (reason := unavailable(name))]
    away = [name for name in DATASETS if not at_hand(name, config.getoption("dlsys_data_dir"))]
    if away:
        lines.append(f"{', '.join(away)}: dlsys-bench data fetch, or --dlsys-data-dir DIR")
    return [f"left out: {line}" for line in lines]


def _engine_names(config: pytest.Config) -> list[str]:
    from dlsys_bench.engines.registry import BUILT_IN, unavailable

    asked = config.getoption("dlsys_engine") or ["all"]
    if "all" not in asked:
        return list(asked)
    # Keras runs on one backend in a process; the first that is there stands for both.
    device = config.getoption("dlsys_device")
    names = [name for name, entry in BUILT_IN.items() if unavailable(name) is None and device in entry.devices]
    return [name for name in names if not (name == "keras-jax" and "keras" in names)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "dlsys_case" not in metafunc.fixturenames:
        return
    from dlsys_bench.studies import find

    marker = metafunc.definition.get_closest_marker("dlsys_study")
    try:
        cases = [case for name in (marker.args if marker else ("all",)) for case in find(name)]
    except UserError as error:
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: {error}") from None
    pairs = [EngineCase(case, engine) for engine in _engine_names(metafunc.config) for case in cases]
    metafunc.parametrize("dlsys_case", pairs, ids=str)


class Judge:
    """Trains cases and judges them; engines and datasets are made once a session."""

    def __init__(self, config: pytest.Config, gates: int) -> None:
        self.config, self.gates = config, gates
        self.engines: dict[str, Engine] = {}
        self.datasets: dict[str, Dataset] = {}

    def engine(self, name: str) -> Engine:
        from dlsys_bench.engines import create

        if name not in self.engines:
            self.engines[name] = create(name, self.config.getoption("dlsys_device"))
        return self.engines[name]

    def dataset(self, case: Case) -> Dataset:
        from dlsys_bench.run import choose_dataset

        own = case.dataset
        if own not in self.datasets:
            asked, folder = (self.config.getoption(f"dlsys_{name}") for name in ("dataset", "data_dir"))
            self.datasets[own], _ = choose_dataset(case, asked, folder)
        return self.datasets[own]

    def judge(self, engine_case: EngineCase) -> Verdict:
        """Train and judge, within this gate's share of the session's false-alarm budget."""
        from dlsys_bench.verdict.gate import gate, share

        return gate(
            engine_case.case, self.engine(engine_case.engine), self.dataset(engine_case.case),
            tier=self.config.getoption("dlsys_tier"), seeds=self.config.getoption("dlsys_seeds"),
            alpha=share(self.gates),
        )  # fmt: skip


@pytest.fixture(scope="session")
def dlsys_judge(request: pytest.FixtureRequest) -> Judge:
    """What trains and judges for the session. The budget is shared over every collected test that may ask it."""
    asking = [item for item in request.session.items if "dlsys_gate" in getattr(item, "fixturenames", ())]
    return Judge(request.config, len(asking))


@pytest.fixture
def dlsys_gate(request: pytest.FixtureRequest, dlsys_judge: Judge) -> Callable[[EngineCase], Verdict]:
    """A call that trains a case and fails the test outside its band; what cannot be judged is skipped, saying so."""
    from dlsys_bench.verdict.bands import Outcome

    def check(engine_case: EngineCase) -> Verdict:
        try:
            verdict = dlsys_judge.judge(engine_case)
        except NotApplicableError as error:
            pytest.skip(f"left out: {error}")
        except UserError as error:
            pytest.fail(str(error), pytrace=False)
        request.node.user_properties.append((PROPERTY, json.dumps(verdict.to_dict())))
        if verdict.outcome is Outcome.FAIL:
            pytest.fail(verdict.message(), pytrace=False)
        if verdict.outcome is not Outcome.PASS:
            pytest.skip(f"{verdict.outcome}: {verdict.reason}")
        return verdict

    return check


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Every verdict, gathered from the reports so that it works under xdist too, and what was left out."""
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
    terminalreporter.section("dlsys_bench verdicts")
    rows = [("arm", "dataset", "engine", "accuracy", "band", "verdict")]
    for verdict in sorted(found, key=lambda v: (v["engine"], v["study"])):
        band, measured = verdict["band"], verdict["measured"]
        rows.append((
            f"{verdict['study']}/{verdict['arm']}", verdict["dataset"], verdict["engine"],
            "-" if measured is None else f"{measured:.4f}",
            f"[{band['low']:.4f}, {band['high']:.4f}]" if band else "-", verdict["outcome"],
        ))  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        terminalreporter.line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for line in _left_out(config):
        terminalreporter.line(line)
