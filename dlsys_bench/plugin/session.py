"""The verdict over all arms of a session of pytest, from the verdicts in its test reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from dlsys_bench.runs.key import Key
from dlsys_bench.verdicts.session import judge_sessions
from dlsys_bench.verdicts.stratum import Stratum

NAMES = ("study", "arm", "dataset", "tier", "engine", "device")


def judge(verdicts: Sequence[Mapping[str, Any]], config: pytest.Config) -> list[dict[str, Any]]:
    """Return the session verdict of each engine that was judged on several arms, as JSON values."""
    strata = [
        (Key(**{name: each[name] for name in NAMES}), Stratum.from_dict(each["stratum"]))
        for each in verdicts
        if each["stratum"]
    ]
    alpha, beta = config.getoption("dlsys_alpha"), config.getoption("dlsys_beta")
    return [found.to_dict() for found in judge_sessions(strata, alpha, beta)]
