"""Every figure that the five notebooks publish, as data: one record each, with its source.

`source` is the notebook (nb0 ... nb4), `study` and `arm` what it is of, `metric` and `value` the
figure, `kind` how it can be judged, and `sound: false` with a `caveat` where the figure cannot bear
what is said of it. The training accuracy and loss are what Keras prints: `running_accuracy` and
`running_loss` of a history here.
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
