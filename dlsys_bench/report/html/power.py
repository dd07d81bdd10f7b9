"""The section about the power of gates."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from dlsys_bench.report.html.page import Section, Sheet
from dlsys_bench.report.html.strips import Strip, axis, draw, scale_of
from dlsys_bench.report.tables import POWER_COLUMNS
from dlsys_bench.verdicts.bands import Band
from dlsys_bench.verdicts.power import Power

DRAWN = "healthy runs and MDE"
OMITTED = ("tier", ">alpha")
"""The columns that are the same for all gates."""

BAND = 0.02
"""The probability that a healthy run lies outside of the band that is drawn."""


def power_sections(powers: Sequence[Power]) -> list[Section]:
    """Return a section with a row for each gate."""
    strips = [_strip(one) for one in powers]
    scale = scale_of(strips)
    shown = {head: cell for head, cell in POWER_COLUMNS.items() if head not in OMITTED}
    rows = []
    for one, strip in zip(powers, strips, strict=True):
        *cells, remark = (cell(one) for cell in shown.values())
        rows.append((*cells, draw(strip, scale), remark))
    *heads, remarks = shown
    text = (
        "The band holds 98% of healthy runs, under a normal distribution of the reference runs; "
        "the line extends by the MDE from their mean. A training whose every run is worse by the "
        "MDE passes its gate with a probability of at most beta. The seeds are those that a gate "
        "takes if nothing has changed, and `fixed` those of a test that is not sequential.",
    )
    columns = (*heads, DRAWN, remarks)
    return [Section("Gates", text, [Sheet("Gates", columns, rows, axis(scale), DRAWN)])]


def _strip(one: Power) -> Strip:
    if one.mean is None or one.std is None or one.unjudged:
        return Strip(f"{one.key.name}: not judged")
    effect, ends = (
        one.smallest_shift,
        (one.mean - one.smallest_shift, one.mean + one.smallest_shift),
    )
    return Strip(
        f"{one.key.name}: mean {one.mean:.4g}, MDE {effect:.3g}",
        interval=ends if isfinite(effect) else None,
        band=Band(one.mean, one.std, one.stored, "").interval(BAND),
    )
