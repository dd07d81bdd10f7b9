"""The jobs of a calibration. A job names the parts of a run, so that it is small to send; the
worker loads them."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlsys_bench.data import Dataset, Scaling, load
from dlsys_bench.engines.registry import create
from dlsys_bench.errors import TrainingError, UserError
from dlsys_bench.runs.callables import find_train, train_once
from dlsys_bench.runs.dependencies import TRAINING, data_files, dependencies_of, protocol_of
from dlsys_bench.runs.key import CALLABLE, Key
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.run import run
from dlsys_bench.studies.registry import find
from dlsys_bench.text import describe, one_line, place_of, printable

if TYPE_CHECKING:
    from dlsys_bench.studies.base import Case


@dataclass(frozen=True)
class Job:
    """One run to be trained.

    `target` names the arm or the callable, and `engine` the engine as the user wrote it, None for a
    callable. `folder` is the working folder in which both names were found, `data_dir` the folder
    of the datasets, and `scaling` that of the data, None for the recipe's own.
    """

    key: Key
    target: str
    engine: str | None = None
    folder: str = ""
    data_dir: str | None = None
    scaling: Scaling | None = None

    @property
    def seed(self) -> int:
        """The seed of the run."""
        assert self.key.seed is not None
        return self.key.seed

    @property
    def name(self) -> str:
        """The name of the run in messages."""
        return f"{self.key.label}, seed {self.key.seed}"


@dataclass(frozen=True)
class Failure:
    """A run whose training raised an error, with the error in one line and its traceback.

    `place` is the line of code that raised it.
    """

    job: Job
    error: str
    trace: str = ""
    place: str = ""

    @property
    def kind(self) -> tuple[str, str]:
        """The type of the error and its place: in two failures of one kind, both are the same."""
        return self.error.partition(":")[0], self.place

    def to_dict(self) -> dict[str, Any]:
        """Return the failure as JSON values."""
        return self.job.key.to_dict() | {"error": self.error, "trace": self.trace}


def jobs_of_study(
    work: Iterable[tuple[Case, Any, Dataset]],
    tier: str,
    seeds: Iterable[int],
    data_dir: str | None = None,
) -> list[Job]:
    """Return a job for every arm and seed.

    All arms with the first seed come first, so that an interrupted calibration holds every arm with
    the same seeds.
    """
    work = list(work)
    folder = os.getcwd()  # noqa: PTH109
    return [
        Job(
            Key.of(case, engine, data, tier, seed),
            case.target,
            engine.origin,
            folder,
            data_dir,
            case.scaling,
        )
        for seed in seeds
        for case, engine, data in work
    ]


def jobs_of_training(target: str, seeds: Iterable[int]) -> list[Job]:
    """Return a job for each seed of a callable. Its protocol is that of its code, its packages and
    its environment now, so that runs of a changed training are not mixed with the others."""
    folder, protocol = os.getcwd(), protocol_of(target)  # noqa: PTH109
    return [
        Job(Key(target, engine=CALLABLE, seed=seed, protocol=protocol), target, None, folder)
        for seed in seeds
    ]


def train(job: Job) -> Result | Failure:
    """Train a run, in a worker. An error of the training is returned as a Failure, because it may
    not be possible to pickle it."""
    try:
        if job.folder and job.folder not in sys.path:
            sys.path.insert(0, job.folder)
        if job.engine is None:
            return _train_callable(job)
        dataset = _dataset(job.key.dataset, job.folder, job.data_dir)
        return run(
            _case(job.target).scaled(job.scaling),
            _engine(job.engine, job.key.device),
            dataset,
            tier=job.key.tier,
            seed=job.seed,
        )
    except (Exception, SystemExit) as raised:
        # The message of a TrainingError names the engine, which is the same in every run.
        own = isinstance(raised, TrainingError) and raised.__cause__
        error = own or raised
        # A UserError states the mistake and its correction; its type and traceback add nothing.
        stated = isinstance(error, UserError)
        return Failure(
            job,
            one_line(error if stated else describe(error)),
            "" if stated else printable("".join(traceback.format_exception(error))),
            place_of(traceback.extract_tb(error.__traceback__)[-1]),
        )


def _train_callable(job: Job) -> Result:
    """Train a run of a callable, and record what it depends on in its provenance."""
    callable_of_seed = find_train(job.target)
    before = dependencies_of(job.target)
    with data_files() as files:
        result = train_once(callable_of_seed, job.seed, job.target)
    training = before | {"files": files}
    return replace(result, key=job.key, provenance=result.provenance | {TRAINING: training})


# A worker trains many runs, and loads their common parts once.
_engine = cache(create)


@cache
def _case(target: str) -> Case:
    (case,) = find(target)
    return case


@cache
def _dataset(name: str, folder: str, data_dir: str | None) -> Dataset:
    """Return the dataset of a job on this machine. A file is looked up in the folder of the
    command; the folder of the datasets is ignored if this machine does not have it."""
    beside = Path(folder, name).expanduser()
    here = data_dir if data_dir and Path(data_dir).is_dir() else None
    return replace(load(str(beside) if beside.is_file() else name, here), name=name)
