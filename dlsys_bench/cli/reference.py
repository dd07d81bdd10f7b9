"""The reference runs of a user's own training, for the commands that judge by them."""

from __future__ import annotations

from pathlib import Path

from dlsys_bench.attributes import load_attribute, split_target
from dlsys_bench.errors import UserError
from dlsys_bench.runs.callables import find_train, runs_named
from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store import read, reference_path
from dlsys_bench.studies.base import Study


def is_training(target: str) -> bool:
    """Return True for a callable, False for a study. Raises UserError for neither."""
    module, name, _ = split_target(target)
    if not name or isinstance(load_attribute(f"{module}:{name}", "study or training"), Study):
        return False
    find_train(target)
    return True


def reference_of_training(target: str, given: Path | None = None) -> Path:
    """Return the file of the reference runs: the given one, or that which `calibrate` writes.

    Raises UserError if there is no file.
    """
    path = given or reference_path(target)
    if not path.exists():
        raise UserError(
            f"no reference runs of {target}: `dlsys-bench calibrate {target} --seeds 20` writes "
            f"{path}; --reference names another file"
        )
    return path


def runs_of_training(target: str, path: Path) -> list[Result]:
    """Return the reference runs of a training in a file. Raises UserError if there are none."""
    found = runs_named(read(path), target)
    if not found or split_target(found[0].key.study)[1] != split_target(target)[1]:
        raise UserError(
            f"{path} has no runs of {target}: `dlsys-bench calibrate {target} --seeds 20` "
            "creates them"
        )
    return found
