"""The user's own training: a callable of a seed that returns its metric or metrics.

Its runs are stored and judged like those of a study.
"""

from __future__ import annotations

import inspect
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dlsys_bench.attributes import load_attribute, split_target
from dlsys_bench.errors import UserError, type_of
from dlsys_bench.provenance import commit_of, provenance
from dlsys_bench.runs.key import CALLABLE, Key
from dlsys_bench.runs.module_files import is_installed
from dlsys_bench.runs.result import LARGEST_FIGURE, Result
from dlsys_bench.studies.base import Metric
from dlsys_bench.text import one_line

Train = Callable[[int], float | Mapping[str, float]]

METRIC = "metric"
"""The name of the figure of a training that returns one number."""


def find_train(target: str) -> Train:
    """Return the training that "package.module:train" names. Raises UserError if there is none."""
    train = load_attribute(target, "training")
    if not callable(train):
        raise UserError(f"training {target!r} is {type_of(train)}; expected a callable of a seed")
    return train


def name_of(train: Train) -> str:
    """Return the name by which a training can be found again, "package.module:train"."""
    name = getattr(train, "__qualname__", type(train).__qualname__)
    return f"{getattr(train, '__module__', '?')}:{name}"


def target_of(train: Train, folder: Path) -> str:
    """Return the name by which a command in a folder finds a training: with its module, or with its
    file where the module is not found from that folder."""
    module, _, name = name_of(train).partition(":")
    path = Path(getattr(sys.modules.get(module), "__file__", None) or "")
    if not path.is_file() or is_installed(path):
        return name_of(train)
    root = path.parents[module.count(".") + (path.name == "__init__.py")]
    if root.resolve() == folder.resolve():
        return name_of(train)
    shown = path.relative_to(folder) if path.is_relative_to(folder) else path
    return f"{shown}:{name}"


def runs_named(runs: Sequence[Result], target: str) -> list[Result]:
    """Return the runs of a training in a file of reference runs; none if that is ambiguous.

    The module of the training may have another name than where it was calibrated, such as in
    another folder.
    """
    names = list(dict.fromkeys(run.key.study for run in runs))
    attribute = split_target(target)[1]
    of_attribute = [name for name in names if split_target(name)[1] == attribute]
    choices = ([target] if target in names else [], of_attribute, names)
    found = next((choice[0] for choice in choices if len(choice) == 1), None)
    return [run for run in runs if run.key.study == found]


def train_once(train: Train, seed: int, name: str | None = None) -> Result:
    """Call `train(seed)` once, which returns a number or numbers by name, and return its result.

    A run with a non-finite number, or one beyond LARGEST_FIGURE, has diverged. Raises UserError if
    anything else is returned; errors of the training itself pass through.
    """
    started = time.perf_counter()
    returned = train(seed)
    seconds = time.perf_counter() - started
    name = name or name_of(train)
    figures = _figures(returned, name)
    # A comparison with nan is false.
    lost = [key for key, value in figures.items() if not abs(value) <= LARGEST_FIGURE]
    return Result(
        key=Key(name, engine=CALLABLE, seed=seed),
        convention="",
        recipe={},
        history=[],
        seconds=seconds,
        status="diverged" if lost else "finished",
        reason=f"{lost[0]} became {figures[lost[0]]}" if lost else None,
        figures={} if lost else figures,
        provenance=provenance() | {"commit": commit_of(_folder_of(train))},
    )


def _folder_of(train: Train) -> Path:
    """The folder of the code of a training, in whose repository its commit is looked up."""
    code = getattr(inspect.unwrap(train), "__code__", None)
    module = inspect.getmodule(type(train) if code is None else train)
    file = getattr(code, "co_filename", None) or getattr(module, "__file__", None)
    return Path(file).parent if file and Path(file).is_file() else Path.cwd()


def _figures(returned: object, name: str) -> dict[str, float]:
    """Convert the returned value to floats by name; scalars of numpy and frameworks are numbers."""
    if isinstance(returned, Mapping):
        values: dict[Any, Any] = dict(returned)
    else:
        values = {METRIC: returned}
    if not values:
        raise UserError(f"training {name!r} returned an empty mapping; {ACCEPTED}")
    figures = {str(key): _number(value) for key, value in values.items()}
    for key, value in values.items():
        if figures[str(key)] is None:
            entry = f" as {str(key)!r}" if isinstance(returned, Mapping) else ""
            raise UserError(
                f"training {name!r} returned {type_of(value)}{entry}, {_short(value)}; {ACCEPTED}: "
                f"{_advice(value)}"
            )
    return {key: number for key, number in figures.items() if number is not None}


ACCEPTED = "it has to return a number, or a mapping of names to numbers"


def _number(value: Any) -> float | None:
    """Return a scalar of Python, numpy or a framework as a float; None for anything else."""
    size = getattr(value, "size", None)
    if isinstance(value, str | bytes | Sequence) or (isinstance(size, int) and size != 1):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        return None


def _advice(value: Any) -> str:
    """Say how a value that is not a number becomes one."""
    if value is None:
        return "end it with `return`, followed by the metric"
    if isinstance(value, str | bytes):
        return "return float(...) of it"
    if isinstance(value, Mapping):
        return "name its values on the first level, as in `return {'val_loss': ...}`"
    if isinstance(value, Sequence) and all(_number(item) is not None for item in value):
        names = ", ".join(f"'{name}': values[{n}]" for n, name in enumerate(("loss", "accuracy")))
        return (
            f"name the values, as in `return {{{names}}}` (Keras: "
            "`model.evaluate(..., return_dict=True)`), or return the last one, `values[-1]`"
        )
    if hasattr(value, "shape"):
        return f"reduce its shape {tuple(value.shape)} to one number, as in `return values.mean()`"
    return "convert it by float(...)"


def _short(value: Any) -> str:
    shown = one_line(repr(value))
    return shown if len(shown) < 80 else shown[:77] + "..."


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
