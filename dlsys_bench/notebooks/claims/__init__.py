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

CLAIMS = "dlsys_bench.notebooks.rulings.tables:appendix"
"""The appendix of a study whose figures the notebooks publish."""


@cache
def claims() -> tuple[dict[str, Any], ...]:
    """Every record, in the order of the file."""
    return tuple(
        json.loads(
            (files("dlsys_bench.notebooks.claims") / "claims.json").read_text(encoding="utf-8")
        )
    )
