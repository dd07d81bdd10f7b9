"""The work of the commands that train: its selection, and its progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dlsys_bench.cli.terminal import say
from dlsys_bench.data import Dataset, Scaling, training_count
from dlsys_bench.engines.base import Engine
from dlsys_bench.engines.history import Epoch
from dlsys_bench.engines.plan import Plan, count_steps
from dlsys_bench.engines.registry import create
from dlsys_bench.errors import MissingDatasetError, NotApplicableError, UserError
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.run import choose_dataset, resolve
from dlsys_bench.studies.base import Case
from dlsys_bench.studies.registry import find


@dataclass(frozen=True)
class WorkOptions:
    """The options that select engines and data."""

    engines: tuple[str, ...]
    device: str
    dataset: str | None
    data_dir: str | None
    tier: str
    scaling: Scaling | None


@dataclass(frozen=True)
class TermsOptions:
    """The options that state what a gate has to detect, and what it may cost."""

    alpha: float
    beta: float
    max_seeds: int
    side: str


class Work(NamedTuple):
    """One arm on one engine, on one dataset."""

    case: Case
    engine: Engine
    data: Dataset


def work_of(study: str, options: WorkOptions) -> list[Work]:
    """Select everything to run.

    Raises UserError for every mistake in the options, before anything is trained.
    """
    cases = [case.scaled(options.scaling) for case in find(study)]
    engines = [create(name, options.device) for name in options.engines]
    datasets = _datasets(cases, options)
    selected = [
        work
        for engine in engines
        for case in cases
        if case.dataset in datasets
        if _applies(
            work := Work(case, engine, datasets[case.dataset]), options.tier, only=len(cases) == 1
        )
    ]
    if not selected:
        raise UserError(f"none of the {len(cases)} arms of {study!r} can be trained: see above")
    for line in _remarks(selected, options.tier):
        say(line)
    return selected


def _remarks(selected: Sequence[Work], tier: str) -> list[str]:
    """Return a line for each remark of an engine, with the arms that it is about."""
    found: dict[tuple[str, str], list[str]] = {}
    for case, engine, _ in selected:
        recipe = case.arm.recipes.get(tier)
        if recipe is not None and (remark := engine.remark(case.arm.model, recipe)):
            found.setdefault((engine.label, remark), []).append(case.name)
    return [f"{name}: {remark} ({', '.join(arms)})" for (name, remark), arms in found.items()]


def _datasets(cases: Sequence[Case], options: WorkOptions) -> dict[str, Dataset]:
    """Load the dataset of each case, with one remark for those that fall back to another.

    One of several that is not found and not replaced is left out with a remark.
    """
    # Cases with the same dataset share it in memory, and so share its prepared splits.
    chosen, notes = dict[str, Dataset](), dict[str, None]()
    by_dataset = {case.dataset: case for case in cases}
    for name, case in by_dataset.items():
        try:
            chosen[name], note = choose_dataset(case, options.dataset, options.data_dir)
        except MissingDatasetError as error:
            if len(by_dataset) == 1:
                raise
            note = f"left out: the arms on {name}: {error}"
        if note:
            notes[note] = None
    for note in notes:
        say(note)
    return chosen


def _applies(work: Work, tier: str, only: bool) -> bool:
    """Return True if an arm can be trained on its data.

    Raises UserError if it cannot. In a group, an arm that does not apply is left out with a remark:
    a grid of batch sizes is run as far as the data allow. An arm requested by name is an error.
    """
    try:
        resolve(*work, tier)
    except NotApplicableError as error:
        if only:
            raise
        say(f"left out: {work.case.name} on {work.data.name}: {error}")
        return False
    return True


def steps_of_run(case: Case, data: Dataset, tier: str) -> int:
    """The number of updates in a run; 1 for a run that measures."""
    if case.study.measure is not None:
        return 1
    recipe = case.arm.recipe(tier)
    samples = training_count(len(data.x_train), recipe.validation_split, recipe.samples)
    return count_steps(samples, recipe, Plan(0))


class Advance:
    """Advances the progress bar by the updates of a run's epochs."""

    def __init__(self, description: str, advance: Callable[[str, int], None]) -> None:
        self.description, self.advance, self.done = description, advance, 0
        advance(description, 0)

    def __call__(self, epoch: Epoch) -> None:
        """Advance to the end of an epoch."""
        if epoch.epoch == 1:
            self.done = 0
        self.advance(self.description, epoch.steps - self.done)
        self.done = epoch.steps

    def end(self, result: Result) -> None:
        """Advance by one step at the end of a run that measures, which has no epochs."""
        if result.figures:
            self.advance(self.description, 1)
