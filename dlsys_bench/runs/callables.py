"""Anyone's training: a callable of a seed that returns what it reached, kept as a run like any
other."""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dlsys_bench.attributes import load_attribute
from dlsys_bench.errors import UserError
from dlsys_bench.provenance import provenance
from dlsys_bench.runs.key import Key
from dlsys_bench.runs.result import Result

Train = Callable[[int], float | Mapping[str, float]]

METRIC = "metric"
"""What the figure is called of a training that returns one number."""

ENGINE = "callable"


def find_train(target: str) -> Train:
    """The training that "package.module:train" names. Errors: UserError."""
    train = load_attribute(target, "training")
    if not callable(train):
        raise UserError(
            f"training {target!r} is {type(train).__name__}; it takes a callable of a seed"
        )
    return train


def protocol_of(target: str) -> str:
    """A digest of what "package.module:train" is now: the source of its module, and the versions of
    what is under it. Where there is no source, of the versions alone."""
    module = sys.modules.get(target.partition(":")[0])
    source = Path(module.__file__).read_bytes() if module is not None and module.__file__ else b""
    versions = json.dumps(provenance()["versions"], sort_keys=True).encode()
    return hashlib.sha256(source + versions).hexdigest()[:16]


def name_of(train: Train) -> str:
    """What finds a training again, "package.module:train", as far as Python knows."""
    return f"{getattr(train, '__module__', '?')}:{getattr(train, '__qualname__', type(train).__qualname__)}"


def train_once(train: Train, seed: int, name: str | None = None) -> Result:
    """One run: `train(seed)`, which returns a number, or numbers by name.

    A number that is not finite is a run that diverged. Errors: UserError where it returns anything
    else; what the training raises is its own.
    """
    started = time.perf_counter()
    returned = train(seed)
    seconds = time.perf_counter() - started
    name = name or name_of(train)
    figures = _figures(returned, name)
    lost = [key for key, value in figures.items() if not math.isfinite(value)]
    return Result(
        key=Key(name, engine=ENGINE, seed=seed),
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
    """What a training returned, as floats by name; numpy's and the frameworks' scalars are numbers
    too."""
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


def stored_figures(values: Sequence[float], metric: str | None = None) -> list[Result]:
    """Figures that one has, as the stored runs of a training; their seeds are not known. `metric`
    names the figure, of a training that returns several."""
    try:
        return [
            Result(
                key=Key(engine=ENGINE, seed=-1 - place),
                convention="",
                recipe={},
                history=[],
                seconds=0.0,
                figures={metric or METRIC: float(value)},
            )
            for place, value in enumerate(values)
        ]
    except (TypeError, ValueError) as error:
        raise UserError(
            f"stored figures are {values!r:.80}; they have to be numbers, or a file of runs"
        ) from error
