"""Where reference runs are, and what is found there."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from dlsys_bench.runs.result import Result
from dlsys_bench.runs.store.text import read_text


def file_name(*parts: object) -> str:
    """Parts as one name that every file system takes."""
    return re.sub(r"[^\w+-]+", ".", ".".join(map(str, parts)))


REFERENCE = Path("reports/reference")
"""Where reference runs are written, and looked for first: in the folder that a person works in."""


def reference_path(study: str, dataset: str, tier: str, folder: Path = REFERENCE) -> Path:
    """The file of a study's reference runs."""
    return folder / f"{file_name(study, dataset, tier)}.jsonl"


def find_reference(study: str, dataset: str, tier: str) -> Path:
    """The file to read: the person's own, else the package's, which in a checkout lies beside
    it."""
    inside = Path(str(files("dlsys_bench"))) / "reference"
    beside = Path(__file__).parents[3] / REFERENCE
    paths = [reference_path(study, dataset, tier, folder) for folder in (REFERENCE, inside, beside)]
    return next((path for path in paths if path.exists()), paths[0])


def reference_runs(path: Path, arm: str, protocol: str) -> list[Result]:
    """The runs of an arm in a file by this protocol, none if there are none: runs of another make
    no band."""
    return [
        run
        for run in (read_text(path) if path.exists() else [])
        if (run.key.arm, run.key.protocol) == (arm, protocol)
    ]
