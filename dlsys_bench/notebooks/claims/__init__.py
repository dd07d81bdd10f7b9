"""Every figure and statement that the five notebooks publish, as one record each.

`source` is the notebook (nb0 ... nb4), `study` and `arm` are what the claim is about, `metric` and
`value` are the figure, and `kind` selects the rule that judges it. `sound: false` with a `caveat`
marks a figure that does not support the claim. The training accuracy and loss are those that Keras
prints; in a history they are called `running_accuracy` and `running_loss`.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from dlsys_bench.studies.base import Published

CLAIMS = "dlsys_bench.notebooks.rulings:CLAIM_SET"
"""The claims of a study whose figures the notebooks publish."""

PUBLISHED = "dlsys_bench.notebooks.claims:published_figures"
"""The callable that returns the figures of a study that the notebooks publish."""

CATEGORIES = {
    "counts": ("exact",),
    "measurements": ("band", "trajectory", "bound", "speed", "unrecoverable"),
    "statements": ("ordering", "equivalence", "argmin", "monotone", "qualitative"),
}
"""The kinds of claims in each category."""

SPLITS = {"train": "running", "val": "validation"}
"""The names of splits in a history, by those of the notebooks."""


@cache
def claims() -> tuple[dict[str, Any], ...]:
    """Every record, in the order of the file, with its category."""
    text = (files("dlsys_bench.notebooks.claims") / "claims.json").read_text(encoding="utf-8")
    category = {kind: name for name, kinds in CATEGORIES.items() for kind in kinds}
    return tuple({**claim, "category": category[claim["kind"]]} for claim in json.loads(text))


def published_figures(study: str) -> list[Published]:
    """The figures of each arm of a study at the end of its training."""
    last: dict[tuple[str, str], dict[str, Any]] = {}
    for claim in claims():
        if claim["kind"] == "band" and claim["study"] == study and claim.get("arm"):
            place = claim["arm"], claim["metric"]
            if place not in last or claim.get("epoch", 0) >= last[place].get("epoch", 0):
                last[place] = claim
    return [
        Published(arm, _metric(metric), float(claim["value"]), claim["id"])
        for (arm, metric), claim in last.items()
    ]


def _metric(name: str) -> str:
    split, _, figure = name.partition("_")
    return f"{SPLITS.get(split, split)}_{figure}"
