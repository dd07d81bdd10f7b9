"""The accuracy gate of a session: it trains, judges, and reports each verdict as a test result."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import count

import pytest

from dlsys_bench.data import Dataset
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.registry import create
from dlsys_bench.errors import NotApplicableError, UserError
from dlsys_bench.plugin.cases import EngineCase
from dlsys_bench.plugin.evidence import session_of
from dlsys_bench.plugin.fixtures import is_gate
from dlsys_bench.plugin.progress import progress_of_test
from dlsys_bench.plugin.summary import PROPERTY
from dlsys_bench.provenance import cores
from dlsys_bench.runs.run import FIRST_SEED, OnEpoch, choose_dataset
from dlsys_bench.strict_json import dumps
from dlsys_bench.studies.base import Case
from dlsys_bench.text import printable
from dlsys_bench.verdicts.gate import Terms, gate, share
from dlsys_bench.verdicts.verdict import Outcome, Verdict

SETTLED = pytest.StashKey["Settled"]()


@dataclass
class Settled:
    """What a gate found in a test, for the reruns of the test (pytest-rerunfailures, pytest-retry).

    Each rerun has new fixtures, and so another request.
    """

    request: pytest.FixtureRequest
    verdicts: list[Verdict] | None = None


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
        beta, most = option("dlsys_beta"), option("dlsys_max_seeds")
        together = self.gates > 1
        return Terms(alpha, beta, most, first_seed=self.first_seed, jobs=jobs, together=together)

    @cached_property
    def first_seed(self) -> int:
        """The first seed of the session, which has seeds of its own if evidence accumulates."""
        session = session_of(self.config)
        return session.first_seed(FIRST_SEED, self.config.getoption("dlsys_max_seeds"))

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

    def judge(self, engine_case: EngineCase, on_epoch: OnEpoch | None = None) -> Verdict:
        """Train a case until it passes or fails."""
        engine, tier = self.engine(engine_case.engine), self.config.getoption("dlsys_tier")
        case = engine_case.case.scaled(self.config.getoption("dlsys_scaling"))
        data, terms = self.dataset(case), self.terms
        return gate(case, engine, data, tier=tier, terms=terms, on_epoch=on_epoch)

    def judge_in_test(self, engine_case: EngineCase, request: pytest.FixtureRequest) -> Verdict:
        """Judge a case, and show the progress of the test."""
        started = count()
        with progress_of_test(request, self.terms.max_seeds, "seeds at most") as advance:

            def on_epoch(epoch: Epoch) -> None:
                # Where a seed starts, the one before it has ended.
                ended = epoch.epoch == 1 and next(started) > 0
                advance(f"epoch {epoch.epoch}", int(ended))

            return self.judge(engine_case, on_epoch)

    def settle(
        self, request: pytest.FixtureRequest, judge: Callable[[], list[Verdict]]
    ) -> list[Verdict]:
        """Report the verdicts, one for each judged metric, as the result of a test.

        FAIL fails the test, and so does INCONCLUSIVE unless `--dlsys-inconclusive skip`. UNJUDGED
        skips it. A rerun of the test repeats the verdicts: to judge again until one passes would
        void its rates.
        """
        stored = _stored_verdicts(request)
        verdicts = stored or _verdicts_or_error(judge)
        if isinstance(verdicts, NotApplicableError):
            pytest.skip(printable(f"left out: {verdicts}"))
        if isinstance(verdicts, UserError):
            pytest.fail(printable(verdicts), pytrace=False)
        if stored is None:
            self._report(request, verdicts)
        failing = {Outcome.FAIL}
        if self.config.getoption("dlsys_inconclusive") == "fail":
            failing.add(Outcome.INCONCLUSIVE)
        if failed := [verdict for verdict in verdicts if verdict.outcome in failing]:
            width = self.config.get_terminal_writer().fullwidth
            pytest.fail(_lines(one.message(width) for one in failed), pytrace=False)
        if others := [verdict for verdict in verdicts if verdict.outcome is not Outcome.PASS]:
            pytest.skip(_lines(f"{one.outcome}: {one.reason}" for one in others))
        return verdicts

    def _report(self, request: pytest.FixtureRequest, verdicts: list[Verdict]) -> None:
        """Keep new verdicts for reruns, for the summary and for the hooks."""
        request.node.stash[SETTLED].verdicts = verdicts
        for verdict in verdicts:
            found = verdict.to_dict() | {"test": request.node.nodeid}
            request.node.user_properties.append((PROPERTY, dumps(found)))
            self.config.hook.pytest_dlsys_verdict(config=self.config, verdict=verdict)


def _lines(texts: Iterable[str]) -> str:
    return printable("\n".join(texts))


def _verdicts_or_error(judge: Callable[[], list[Verdict]]) -> list[Verdict] | UserError:
    """Return the verdicts, or the error that prevented them.

    pytest prints every exception that was being handled when a test ended, so that the test has to
    end after the error was handled.
    """
    try:
        return judge()
    except UserError as error:
        return error


def _stored_verdicts(request: pytest.FixtureRequest) -> list[Verdict] | None:
    """Return the verdicts that a rerun of the test repeats, None in its first run.

    Fails the test unless it has a share of the false-alarm rate that it has not used. The rate was
    shared before the first test: one share for each test that takes a gate.
    """
    if not is_gate(request.node):
        pytest.fail(
            "request a gate as an argument of the test: the false-alarm rate is divided among the "
            "collected tests that have one",
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
    return before.verdicts
