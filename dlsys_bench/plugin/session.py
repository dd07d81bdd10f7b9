"""What a session of pytest finds over all of its verdicts, from those in its test reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from dlsys_bench.data import is_available
from dlsys_bench.runs.key import Key
from dlsys_bench.studies.registry import studies
from dlsys_bench.verdicts.gate import overall
from dlsys_bench.verdicts.session import judge_sessions
from dlsys_bench.verdicts.stratum import Stratum
from dlsys_bench.verdicts.verdict import Outcome

NAMES = ("study", "arm", "dataset", "tier", "engine", "device")


def decides_nothing(verdicts: Sequence[Mapping[str, Any]]) -> bool:
    """Return True if no arm was judged, or one is INCONCLUSIVE and none has failed."""
    return overall(Outcome(each["outcome"]) for each in verdicts) is Outcome.INCONCLUSIVE


def judge(verdicts: Sequence[Mapping[str, Any]], config: pytest.Config) -> list[dict[str, Any]]:
    """Return the session verdict of each engine that was judged on several arms, as JSON values."""
    strata = [
        (Key(**{name: each[name] for name in NAMES}), Stratum.from_dict(each["stratum"]))
        for each in verdicts
        if each["stratum"]
    ]
    alpha, beta = config.getoption("dlsys_alpha"), config.getoption("dlsys_beta")
    return [found.to_dict() for found in judge_sessions(strata, alpha, beta)]


def missing_datasets(used: Mapping[str, str], data_dir: str | None) -> list[str]:
    """Return the datasets of studies that are not available, where another was used in their place.

    `used` maps the names of studies to the datasets that they were trained on.
    """
    known = studies()
    wanted = dict.fromkeys(
        known[study].dataset
        for study, dataset in used.items()
        if study in known and known[study].dataset != dataset
    )
    return [name for name in wanted if not is_available(name, data_dir)]
