"""What the commands that train share: the work there is, and how far it has come."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dlsys_bench.cli.terminal import say

if TYPE_CHECKING:
    from dlsys_bench.data import Dataset
    from dlsys_bench.engines.epochs import Epoch
    from dlsys_bench.runs.result import Result
    from dlsys_bench.studies.base import Case


def work_of(
    study: str,
    engine_names: tuple[str, ...],
    device: str,
    dataset: str | None,
    data_dir: str | None,
    tier: str,
) -> list[tuple[Case, Any, Dataset]]:
    """Every (case, engine, dataset) to be run. All that can be wrong is found here, before anything
    is trained."""
    from dlsys_bench.engines.registry import create
    from dlsys_bench.errors import NotApplicableError
    from dlsys_bench.runs.run import choose_dataset, fitted
    from dlsys_bench.studies.registry import find

    cases = find(study)
    engines = [create(name, device) for name in engine_names]
    chosen, said = [], set()
    for case in cases:
        data, note = choose_dataset(case, dataset, data_dir)
        if note and note not in said:
            say(note)
            said.add(note)
        chosen.append((case, data))
    work = [(case, engine, data) for engine in engines for case, data in chosen]
    fitting = []
    for item in work:
        try:
            fitted(*item, tier)
            fitting.append(item)
        except NotApplicableError as error:
            # A grid of batch sizes is run as far as the data go; what was asked for by name is not
            # passed over.
            if len(cases) == 1:
                raise
            say(f"left out: {item[0].name} on {item[2].name}: {error}")
    return fitting


def steps_of_run(case: Case, data: Dataset, tier: str) -> int:
    from dlsys_bench.data import training_count
    from dlsys_bench.engines.plan import Plan, steps_of

    if case.study.measure is not None:
        return 1
    recipe = case.arm.recipe(tier)
    return steps_of(
        training_count(len(data.x_train), recipe.validation_split, recipe.samples), recipe, Plan(0)
    )


class Advance:
    """Turns the epochs of one run after another into advances of the bar."""

    def __init__(self, what: str, advance: Callable[[str, int], None]) -> None:
        self.what, self.advance, self.done = what, advance, 0
        advance(what, 0)

    def __call__(self, epoch: Epoch) -> None:
        if epoch.epoch == 1:
            self.done = 0
        self.advance(self.what, epoch.steps - self.done)
        self.done = epoch.steps

    def end(self, result: Result) -> None:
        """A run that measures has no epochs: it counts as one step."""
        if result.figures:
            self.advance(self.what, 1)
