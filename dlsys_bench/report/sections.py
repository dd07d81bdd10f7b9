"""The parts that reports in Markdown and in HTML have in common."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar, cast

from dlsys_bench.attributes import load_attribute
from dlsys_bench.errors import StoreWarning, UserError, count_of
from dlsys_bench.report.all_arms import arms_table
from dlsys_bench.report.claims import tables_of_studies
from dlsys_bench.report.plots.table import DEFAULT
from dlsys_bench.report.table import Table
from dlsys_bench.report.tables import power_table
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.run import choose_dataset
from dlsys_bench.studies.base import Case, Study
from dlsys_bench.studies.registry import studies
from dlsys_bench.text import describe, one_line
from dlsys_bench.verdicts.all_arms import compare_all_engines
from dlsys_bench.verdicts.budget import ALPHA
from dlsys_bench.verdicts.design import BETA
from dlsys_bench.verdicts.gate import Terms, share
from dlsys_bench.verdicts.power import power

Appendix = Callable[[Sequence[Result]], Mapping[str, Sequence[Table]]]
"""Given all the runs of a report, returns the tables that follow those of each study, by its
name."""

T = TypeVar("T")


def place_of(run: Result) -> tuple[str, str]:
    """Return the dataset and the tier of the part of a report that shows a run.

    Arms that run on the datasets they are meant for belong in one picture.
    """
    known = studies().get(run.key.study)
    at_home = known is not None and run.key.dataset in {
        arm.dataset for arm in known.arms if arm.name == run.key.arm
    }
    return known.dataset if known is not None and at_home else run.key.dataset, run.key.tier


def draws(plot: str, runs: Sequence[Result]) -> bool:
    """Return True if a plot has something to draw. Curves need epochs, which a user's own training
    and a study that measures have not."""
    return any(run.history or (run.figures and plot != DEFAULT) for run in runs)


def powers(study: Study, results: Sequence[Result]) -> list[Table]:
    """The power of a study's gates on each dataset and tier of its runs, from the reference runs;
    nothing for a dataset that is not available."""
    found = []
    for dataset, tier in dict.fromkeys((run.key.dataset, run.key.tier) for run in results):
        terms = Terms(share(len(study.arms)))
        cases = [Case(study, arm) for arm in study.arms if (arm.dataset or dataset) == dataset]
        try:
            # A dataset of many megabytes is read once for all arms.
            data = [choose_dataset(case, dataset, None)[0] for case in cases[:1]]
            known = [power(case, data[0], tier, terms) for case in cases]
        except UserError:
            continue
        if any(one.stored for one in known):
            title = (
                f"Power of the gates on {dataset}, {tier}: alpha {ALPHA:g} over "
                f"{count_of(len(study.arms), 'arm')}, beta {BETA:g}"
            )
            found.append(power_table(known, title))
    return found


def appendices(names: Sequence[str], results: Sequence[Result]) -> Mapping[str, Sequence[Table]]:
    """The tables that the studies add, and those of their claims, by study.

    Each callable is called once, and each set of claims is ruled on once.
    """
    known = [studies()[name] for name in names if name in studies()]
    added = [
        made(f"the appendix {target}", partial(_appendix(target), results))
        for target in dict.fromkeys(study.appendix for study in known if study.appendix)
    ]
    ruled = [
        made(f"the claims {target}", partial(tables_of_studies, target, results))
        for target in dict.fromkeys(study.claims for study in known if study.claims)
    ]
    found: dict[str, list[Table]] = {}
    for by_study in filter(None, [*added, *ruled]):
        for study, tables in by_study.items():
            found.setdefault(study, []).extend(tables)
    return found


def _appendix(target: str) -> Appendix:
    return cast(Appendix, load_attribute(target, "appendix"))


def engines_table(results: Sequence[Result]) -> Table | None:
    """The table of engines that share several arms; None if there are none."""
    found = compare_all_engines(results)
    return arms_table(found) if found else None


def made(what: str, make: Callable[[], T]) -> T | None:
    """Return what a function makes of stored runs; None, with a warning, if it fails.

    The figures of a study have the structure that the study gave them. A file may hold others, and
    what depends on them must not prevent the rest of the report.
    """
    try:
        return make()
    except UserError:
        raise
    except Exception as error:
        warnings.warn(
            f"{what} is left out: {one_line(describe(error))}", StoreWarning, stacklevel=2
        )
        return None
