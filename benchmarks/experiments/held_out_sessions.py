"""Healthy sessions of stored runs: those of some seeds are judged by those of the others.

`damaged_sessions.py` counts their verdicts. The seeds are the same in all arms of a session, as in
one that trains, so that arms which depend on each other by their seeds do so here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dlsys_bench.runs.key import Key
from dlsys_bench.runs.store import read
from dlsys_bench.studies.registry import studies
from dlsys_bench.verdicts.budget import ALPHA
from dlsys_bench.verdicts.candidate import value_of
from dlsys_bench.verdicts.judged_runs import JudgedRuns
from dlsys_bench.verdicts.session import SessionVerdict, judge_sessions
from dlsys_bench.verdicts.stratum import Stratum
from dlsys_bench.verdicts.terms import DEFAULT

REFERENCE = Path(__file__).parents[2] / "reports" / "reference"
SESSIONS, ARMS_OF_SESSION, JUDGED, FEWEST, SEED = 200, 20, 2, 12, 20261129
IMAGES = ("mnist", "fashion_mnist")


def stored_figures() -> dict[Key, dict[int, float]]:
    """Return the judged figure of each stored run of tier quick, by arm and seed."""
    found: dict[Key, dict[int, float]] = {}
    for path in sorted(REFERENCE.glob("*.quick.jsonl")):
        for one in read(path):
            metric, key = studies()[one.key.study].metric, one.key
            value = value_of(one, metric, DEFAULT.for_metric(metric).side)
            arm = Key(key.study, key.arm, key.dataset, key.tier, "numpy", protocol=key.protocol)
            found.setdefault(arm, {})[one.seed] = value
    return {arm: figures for arm, figures in found.items() if len(figures) >= FEWEST}


def resampled() -> list[SessionVerdict]:
    """Judge held-out reference runs: those of the same seeds in all arms."""
    arms, generator = stored_figures(), np.random.default_rng(SEED)
    verdicts = list[SessionVerdict]()
    kinds = (
        [key for key in arms if key.dataset != "digits"],
        [key for key in arms if key.dataset not in IMAGES],
    )
    for session in range(SESSIONS):
        keys = kinds[session % 2]
        seeds = set(generator.choice(FEWEST, JUDGED, replace=False).tolist())
        places = generator.choice(len(keys), ARMS_OF_SESSION, replace=False)
        chosen = [keys[place] for place in places]
        strata = [(key, stratum_of(key, arms[key], seeds)) for key in chosen]
        verdicts += judge_sessions(strata, ALPHA, 0.01)
    return verdicts


def stratum_of(key: Key, figures: dict[int, float], seeds: set[int]) -> Stratum:
    """Return the runs of some seeds among those of the others."""
    order = [*(seed for seed in figures if seed not in seeds), *sorted(seeds)]
    values, count = [figures[seed] for seed in order], len(seeds)
    better = studies()[key.study].metric.higher_is_better
    runs = JudgedRuns.of(values[:-count], values[-count:], better, one_sided=True)
    return Stratum.of(runs, order)
