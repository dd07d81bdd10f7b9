"""Files of reference runs, and the runs in them."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files
from pathlib import Path

REFERENCE = Path("reports/reference")
"""The folder of the user's own reference runs, in the working directory."""


LONGEST = 200
"""The number of bytes of the longest name that `file_name` returns; file systems allow 255."""


def file_name(*parts: object) -> str:
    """Join parts to a name that is valid on every file system."""
    name = re.sub(r"[^\w+-]+", ".", ".".join(map(str, parts)))
    if len(name.encode()) <= LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{name.encode()[: LONGEST - 17].decode(errors='ignore')}.{digest}"


def reference_path(study: str, dataset: str = "", tier: str = "", folder: Path = REFERENCE) -> Path:
    """Return the file of the reference runs of a study in a folder, or of a user's own training,
    which has neither dataset nor tier."""
    return folder / f"{file_name(*filter(None, (study, dataset, tier)))}.jsonl"


def find_reference(study: str, dataset: str, tier: str) -> Path:
    """Return the user's own file if there is one, else that of the package.

    In a checkout of the repository the package's files are beside the package.
    """
    inside = Path(str(files("dlsys_bench"))) / "reference"
    beside = Path(__file__).parents[3] / REFERENCE
    paths = [reference_path(study, dataset, tier, folder) for folder in (REFERENCE, inside, beside)]
    return next((path for path in paths if path.exists()), paths[0])
