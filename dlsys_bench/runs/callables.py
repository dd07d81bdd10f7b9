"""The user's own training: a callable of a seed that returns its metric or metrics.

Its runs are stored and judged like those of a study.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dlsys_bench.attributes import load_attribute
from dlsys_bench.errors import UserError, type_of
from dlsys_bench.provenance import provenance
from dlsys_bench.runs.key import CALLABLE, Key
from dlsys_bench.runs.result import Result
from dlsys_bench.studies.base import Metric

Train = Callable[[int], float | Mapping[str, float]]

METRIC = "metric"
"""The name of the figure of a training that returns one number."""


def find_train(target: str) -> Train:
    """Return the training that "package.module:train" names. Raises UserError if there is none."""
    train = load_attribute(target, "training")
    if not callable(train):
        raise UserError(f"training {target!r} is {type_of(train)}; it takes a callable of a seed")
    return train


def name_of(train: Train) -> str:
    """Return the name by which a training can be found again, "package.module:train"."""
    name = getattr(train, "__qualname__", type(train).__qualname__)
    return f"{getattr(train, '__module__', '?')}:{name}"


def train_once(train: Train, seed: int, name: str | None = None) -> Result:
    """Call `train(seed)` once, which returns a number or numbers by name, and return its result.

    A run with a non-finite number has diverged. Raises UserError if anything else is returned;
    errors of the training itself pass through.
    """
    started = time.perf_counter()
    returned = train(seed)
    seconds = time.perf_counter() - started
    name = name or name_of(train)
    figures = _figures(returned, name)
    lost = [key for key, value in figures.items() if not math.isfinite(value)]
    return Result(
        key=Key(name, engine=CALLABLE, seed=seed),
        convention="",
        recipe={},
        history=[],
        seconds=seconds,
        status="diverged" if lost else "finished",
        reason=f"{lost[0]} became {figures[lost[0]]}" if lost else None,
        figures={} if lost else figures,
        provenance=provenance(),
    )


def _figures(returned: object, name: str) -> dict[str, float]:
    """Convert the returned value to floats by name; scalars of numpy and frameworks are numbers."""
    values: dict[object, Any] = (
        dict(returned) if isinstance(returned, Mapping) else {METRIC: returned}
    )
    try:
        figures = {
            str(key): float(value) for key, value in values.items() if not isinstance(value, str)
        }
    except (TypeError, ValueError):
        figures = {}
    if not figures or len(figures) < len(values):
        shown = repr(returned)
        raise UserError(
            f"training {name!r} returned {shown if len(shown) < 80 else shown[:77] + '...'}; "
            "it has to return a number, or a mapping of names to numbers"
        )
    return figures


def stored_figures(values: Sequence[float], metric: str | Metric | None = None) -> list[Result]:
    """Return known figures as reference runs, whose seeds are unknown and therefore negative.

    `metric` names the figure, if the training returns several. Raises UserError if a figure is not
    a number.
    """
    try:
        if any(math.isnan(value) for value in values):
            raise ValueError
        return [
            Result(
                key=Key(engine=CALLABLE, seed=-1 - place),
                convention="",
                recipe={},
                history=[],
                seconds=0.0,
                figures={str(metric or METRIC): float(value)},
            )
            for place, value in enumerate(values)
        ]
    except (TypeError, ValueError) as error:
        raise UserError(
            f"reference figures are {values!r:.80}; they have to be numbers, or a file of runs"
        ) from error
