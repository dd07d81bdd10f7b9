"""Statements about arms: exact tests, their error rate, and sets of claims of any package."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke
from results import changed, make_result
from scipy import stats

from dlsys_bench.errors import UserError
from dlsys_bench.report.sections import appendices
from dlsys_bench.runs.result import Result
from dlsys_bench.spec.layers import Dense
from dlsys_bench.spec.model import Model
from dlsys_bench.spec.recipe import Recipe
from dlsys_bench.studies import registry
from dlsys_bench.studies.base import Arm, Metric, Study
from dlsys_bench.verdicts.claims.claim_set import claim_sets, load_claim_set
from dlsys_bench.verdicts.claims.ruling import Judged, Ruling
from dlsys_bench.verdicts.claims.statements import (
    ERROR,
    Counted,
    Greater,
    Majority,
    Printed,
    statement_set,
)
from dlsys_bench.verdicts.claims.stored_runs import StoredRuns

ABOUT: dict[str, Any] = {"study": "s", "source": "Smith 2024, table 2", "text": "it holds"}
MOST = Majority(id="most", arm="a", holds=lambda run: run.figures["x"] > 0, **ABOUT)
MORE = Greater(id="more", greater="a", lesser="b", metric="x", **ABOUT)
LATER = Greater(id="later", greater="a", lesser="b", metric="x", missing=math.inf, **ABOUT)


class Made(StoredRuns):
    """Runs with a figure "x" by arm, whose seeds count from 0; None is a run without it, and "nan"
    one that diverged."""

    def __init__(self, figures: Mapping[str, Sequence[float | str | None]]) -> None:
        super().__init__()
        self.figures = figures

    def of(self, study: str, arm: str, tier: str = "full", dataset: str = "") -> list[Result]:
        assert (study, tier) == ("s", "quick")
        return [
            make_result(
                seed,
                arm=arm,
                figures={} if isinstance(x, str) else {"x": x},
                status="diverged" if isinstance(x, str) else "finished",
            )
            for seed, x in enumerate(self.figures.get(arm, ()))
        ]


def judged(
    statement: Counted, level: float = 0.05, **figures: Sequence[float | str | None]
) -> Judged:
    return statement.judge(Made(figures), level)


@pytest.mark.parametrize("level", [0.05, 0.05 / 13])
@pytest.mark.parametrize("count", [5, 12, 20])
def test_a_ruling_errs_at_most_as_often_as_stated(count: int, level: float) -> None:
    """Over all numbers of runs that agree, where it holds in half of all runs or in fewer."""
    rulings = [
        judged(MOST, level, a=[1.0] * agree + [-1.0] * (count - agree)).ruling
        for agree in range(count + 1)
    ]
    numbers = range(count + 1)
    for share in (0.5, 0.45, 0.2):
        for wrong, probability in ((Ruling.REPRODUCED, share), (Ruling.NOT_REPRODUCED, 1 - share)):
            rate = sum(
                stats.binom.pmf(agree, count, probability)
                for agree in numbers
                if rulings[agree] is wrong
            )
            assert rate <= level
    # The test is the most powerful one: one run fewer would exceed the level.
    first = rulings.index(Ruling.REPRODUCED) if Ruling.REPRODUCED in rulings else count + 1
    assert stats.binom.sf(first - 2, count, 0.5) > level
    assert rulings == [
        {Ruling.REPRODUCED: Ruling.NOT_REPRODUCED, Ruling.NOT_REPRODUCED: Ruling.REPRODUCED}.get(
            each, each
        )
        for each in rulings[::-1]
    ]


def test_pairs_are_those_of_equal_seeds() -> None:
    one = judged(MORE, a=[2.0, 3.0, 4.0, 5.0, 6.0, 9.0], b=[1.0, 2.0, 3.0, 4.0, 5.0])
    assert (one.ruling, one.runs) == (Ruling.REPRODUCED, 5)
    assert one.p == pytest.approx(2**-5)
    assert one.measured == "a 4, b 3"
    swapped = judged(MORE, b=[2.0, 3.0, 4.0, 5.0, 6.0], a=[1.0, 2.0, 3.0, 4.0, 5.0])
    assert swapped.ruling is Ruling.NOT_REPRODUCED


def test_equal_figures_agree_with_neither_side() -> None:
    one = judged(MORE, a=[1.0] * 20, b=[1.0] * 20)
    assert one.ruling is Ruling.UNDECIDED
    assert "0 of 20 agree (interval of this share), 0 contradict" in one.reason
    # Four of nine agree and none contradicts: leaving ties out would decide at 1 / 16.
    some = judged(MORE, 0.07, a=[2.0] * 4 + [1.0] * 5, b=[1.0] * 9)
    assert some.ruling is Ruling.UNDECIDED


@pytest.mark.parametrize(
    ("statement", "ruling"), [(LATER, Ruling.REPRODUCED), (MORE, Ruling.UNDECIDED)]
)
def test_an_event_that_did_not_occur_is_later_than_one_that_did(
    statement: Counted, ruling: Ruling
) -> None:
    assert judged(statement, a=[None] * 5, b=[1.0] * 5).ruling is ruling
    assert judged(statement, a=[None] * 5, b=[None] * 5).ruling is Ruling.UNDECIDED


def test_runs_that_diverged_confirm_nothing() -> None:
    assert judged(MOST, a=["nan"] * 5).ruling is Ruling.NOT_REPRODUCED
    assert judged(LATER, a=["nan"] * 5, b=[1.0] * 5).ruling is Ruling.UNDECIDED
    assert judged(LATER, a=[1.0] * 5, b=["nan"] * 5).ruling is Ruling.UNDECIDED


def test_a_seed_counts_once_on_several_devices() -> None:
    class OnTwoDevices(Made):
        def of(self, study: str, arm: str, tier: str = "full", dataset: str = "") -> list[Result]:
            cpu = super().of(study, arm, tier, dataset)
            return [*cpu, *(changed(run, device="cuda", figures={"x": -1.0}) for run in cpu)]

    one = MOST.judge(OnTwoDevices({"a": [1.0] * 5}), 0.05)
    assert (one.ruling, one.runs) == (Ruling.REPRODUCED, 5)


def test_too_few_runs_are_undecided_and_none_are_unmeasured() -> None:
    few = judged(MOST, 0.01, a=[1.0] * 6)
    assert few.ruling is Ruling.UNDECIDED
    assert "at least 7 decide" in few.reason
    assert judged(MOST, 0.01, a=[1.0] * 7).ruling is Ruling.REPRODUCED
    none = Majority(id="m", arm="a", holds=bool, dataset="digits", **ABOUT)
    one = none.judge(Made({}), 0.01)
    assert one.ruling is Ruling.UNMEASURED
    assert "dlsys-bench run s --dataset digits --tier quick --reference --seeds 7" in one.reason


@pytest.mark.parametrize(
    ("count", "ruling"), [(271_999, "reproduced"), (275_001, "not reproduced")]
)
def test_a_count_is_rounded_as_it_is_printed(count: int, ruling: str) -> None:
    one = Printed(id="p", count=lambda: count, value=0.27, unit=1e6, digits=2, **ABOUT)
    assert one.judge(Made({}), 0.05).ruling == ruling


def test_runs_with_other_figures_are_not_testable(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made({"a": [None]})
    monkeypatch.setattr("dlsys_bench.verdicts.claims.statements.StoredRuns", lambda *_: made)
    (one,) = statement_set("ours", (MOST,)).rule((), ("numpy",))
    assert one.ruling is Ruling.NOT_TESTABLE
    assert "figures that cannot be tested: TypeError" in one.reason


def test_the_statements_of_a_set_share_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = []

    def judge(self: Counted, runs: StoredRuns, level: float) -> Judged:
        levels.append(level)
        return Judged(self.claim, Ruling.UNDECIDED, "no runs")

    monkeypatch.setattr(Counted, "judge", judge)
    exact = Printed(id="p", count=lambda: 1, value=1, **ABOUT)
    rulings = statement_set("ours", (MOST, MORE, exact)).rule((), ("numpy",))
    assert levels == [ERROR / 2, ERROR / 2]
    assert rulings[0].reason == "Smith 2024, table 2; no runs"
    with pytest.raises(ValueError, match="ids of statements"):
        statement_set("ours", (MOST, MOST))


SOURCE = """
from dlsys_bench.verdicts.claims.statements import Greater, statement_set
CLAIMS = statement_set("the foreign package", [
    Greater(id="smith-2024.deep", study="foreign", source="Smith 2024, table 2",
            text="Deep is better", greater="deep", lesser="flat", metric="x"),
])
OTHER = ()
"""


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Study]:
    """A study of a foreign package with claims, and runs that decide them."""
    (tmp_path / "foreign_claims.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    recipes = {"quick": Recipe()}
    arms = tuple(Arm(name, Model(name, (4,), (Dense(2),)), recipes) for name in ("deep", "flat"))
    study = Study(
        "foreign",
        "A study",
        "ours",
        "digits",
        arms,
        Metric("x", higher_is_better=True),
        measure=lambda _: {},
        claims="foreign_claims:CLAIMS",
    )
    known = {**registry.studies(), "foreign": study}
    registry.studies.cache_clear()
    monkeypatch.setattr(registry, "collect", lambda *_: known)
    yield study
    registry.studies.cache_clear()


def runs(study: Study) -> list[Result]:
    return [
        make_result(
            seed,
            study=study.name,
            arm=arm.name,
            dataset="digits",
            tier="quick",
            engine="numpy",
            protocol=arm.protocol("quick"),
            figures={"x": float(arm.name == "deep") + seed},
        )
        for arm in study.arms
        for seed in range(6)
    ]


def test_the_claims_of_a_foreign_study_are_ruled_on(foreign: Study, tmp_path: Path) -> None:
    (tables,) = appendices(["foreign"], runs(foreign)).values()
    assert [row[0] for row in tables[0].rows] == ["smith-2024.deep"]
    assert tables[0].rows[0][-2] == "reproduced"
    (tmp_path / "runs.jsonl").write_text(
        "".join(f"{json.dumps(run.to_dict())}\n" for run in runs(foreign))
    )
    (one,) = json.loads(invoke("claims", "foreign", "--runs", "runs.jsonl", "--json").stdout)
    assert (one["ruling"], one["runs"]) == ("reproduced", 6)
    assert "1 claim of the foreign package" in invoke("claims", "foreign", "--published").stdout


def test_claims_that_are_no_set_are_named(foreign: Study) -> None:
    assert [one.title for one in claim_sets("foreign")] == ["the foreign package"]
    assert {"the foreign package", "the notebooks"} <= {one.title for one in claim_sets()}
    with pytest.raises(UserError, match="'foreign_claims:OTHER' are a tuple, not a ClaimSet"):
        load_claim_set("foreign_claims:OTHER")
