"""A run that is to be made, by names alone: small to send, and made of its parts where it is
trained."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlsys_bench.data import Dataset, load
from dlsys_bench.engines.registry import create
from dlsys_bench.runs.callables import ENGINE, find_train, protocol_of, train_once
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.run import run
from dlsys_bench.studies.registry import find

if TYPE_CHECKING:
    from dlsys_bench.studies.base import Case


@dataclass(frozen=True)
class Job:
    """One run. `target` finds the arm or the training again, `engine` is the name it was asked for
    by (none of a training), `folder` is where both were found, `data_dir` where the datasets' files
    are."""

    key: Key
    target: str
    engine: str | None = None
    folder: str = ""
    data_dir: str | None = None

    @property
    def seed(self) -> int:
        """The seed of the run."""
        assert self.key.seed is not None
        return self.key.seed

    @property
    def name(self) -> str:
        """What a person calls it."""
        where = f"/{self.key.arm} on {self.key.dataset}, {self.key.engine}" if self.engine else ""
        return f"{self.key.study}{where}, seed {self.key.seed}"


@dataclass(frozen=True)
class Failure:
    """A run that ended in an error of its own: which, the error in one line, and where it came
    from."""

    job: Job
    error: str
    trace: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The failure as JSON values."""
        return self.job.key.to_dict() | {"error": self.error, "trace": self.trace}


def jobs_of_study(
    work: Iterable[tuple[Case, Any, Dataset]],
    tier: str,
    seeds: Iterable[int],
    data_dir: str | None = None,
) -> list[Job]:
    """A run of each arm with the first seed, then with the second: what is interrupted has whole
    rows."""
    work = list(work)
    folder = os.getcwd()  # noqa: PTH109
    return [
        Job(
            Key.of(case, engine, data, tier, seed),
            case.target,
            engine.origin,
            folder,
            data_dir,
        )
        for seed in seeds
        for case, engine, data in work
    ]


def jobs_of_training(target: str, seeds: Iterable[int]) -> list[Job]:
    """A run of anyone's training with each seed, of the training as it is now: changed, or on
    another stack, it is another."""
    folder, protocol = os.getcwd(), protocol_of(target)  # noqa: PTH109
    return [
        Job(Key(target, engine=ENGINE, seed=seed, protocol=protocol), target, None, folder)
        for seed in seeds
    ]


def train(job: Job) -> Result | Failure:
    """Make the run, in a worker. A training's own error is an answer: it may not be one that can be
    sent."""
    try:
        if job.folder and job.folder not in sys.path:
            sys.path.insert(0, job.folder)
        if job.engine is None:
            return replace(
                train_once(find_train(job.target), job.seed, job.target),
                key=job.key,
            )
        dataset = _dataset(job.key.dataset, job.folder, job.data_dir)
        return run(
            _case(job.target),
            _engine(job.engine, job.key.device),
            dataset,
            tier=job.key.tier,
            seed=job.seed,
        )
    except (Exception, SystemExit) as error:
        said = " ".join(str(error).split())
        return Failure(
            job,
            f"{type(error).__name__}: {said}" if said else type(error).__name__,
            traceback.format_exc(),
        )


# A worker makes many runs: what they have in common it finds once.
_engine = cache(create)


@cache
def _case(target: str) -> Case:
    (case,) = find(target)
    return case


@cache
def _dataset(name: str, folder: str, data_dir: str | None) -> Dataset:
    """The dataset that the command means, on this machine: files by their place, a folder only
    where there is one."""
    beside = Path(folder, name).expanduser()
    here = data_dir if data_dir and Path(data_dir).is_dir() else None
    return replace(load(str(beside) if beside.is_file() else name, here), name=name)


def keys(jobs: Sequence[Job]) -> set[Key]:
    """Return the keys of the runs that the jobs make."""
    return {job.key for job in jobs}
