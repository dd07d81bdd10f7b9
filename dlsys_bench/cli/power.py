"""Show the power of gates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dlsys_bench.cli.page import check_page, write
from dlsys_bench.cli.reference import is_training, reference_of_training, runs_of_training
from dlsys_bench.cli.terminal import emit
from dlsys_bench.cli.training import TermsOptions, WorkOptions, work_of
from dlsys_bench.data import Scaling
from dlsys_bench.errors import count_of
from dlsys_bench.options.command import receives
from dlsys_bench.report.display import PAGE, progress, show_or_write
from dlsys_bench.report.html.power import power_sections
from dlsys_bench.report.tables import power_table
from dlsys_bench.strict_json import dumps
from dlsys_bench.studies.registry import default_target
from dlsys_bench.verdicts.gate import Terms, share
from dlsys_bench.verdicts.power import Power, power, power_of_training


@dataclass(frozen=True)
class PowerOptions(TermsOptions):
    """The argument and the options of `power`."""

    study: str | None
    dataset: str | None
    data_dir: str | None
    tier: str
    scaling: Scaling | None
    reference: Path | None
    metric: str | None
    smallest_shift: float | None
    output: Path | None
    json: bool
    html: Path | None

    def terms(self, alpha: float) -> Terms:
        """The terms of each gate, with its share of the false-alarm rate."""
        return Terms(alpha, self.beta, self.max_seeds, self.smallest_shift, self.side)


@receives(PowerOptions)
def power_command(options: PowerOptions) -> None:
    """Print the power and the cost of each gate."""
    check_page(options.html)
    selected = WorkOptions(
        ("numpy",), "cpu", options.dataset, options.data_dir, options.tier, options.scaling
    )
    study = options.study or default_target(group=True)
    if options.reference is not None or is_training(study):
        powers = [_power_of_training(study, options)]
    else:
        work = work_of(study, selected)
        terms = options.terms(share(len(work), options.alpha))
        powers = []
        with progress(len(work), "gates") as advance:
            for case, _, data in work:
                powers.append(power(case, data, options.tier, terms))
                advance(case.arm.name, 1)
    if options.html is not None:
        levels = (
            f"Alpha {options.alpha:g} over {count_of(len(powers), 'gate')}, "
            f"{powers[0].alpha:.1e} each; beta {options.beta:g}; "
            f"at most {count_of(options.max_seeds, 'seed')}; tier {options.tier}."
        )
        sections = power_sections(powers)
        write(options.html, f"Power of the gates of {study}", "power", (levels,), sections)
    if options.json:
        emit(dumps([one.to_dict() for one in powers], indent=1))
        return
    title = (
        f"Gates of {study}: alpha {options.alpha:g} over {len(powers)}, "
        f"beta {options.beta:g}, at most {count_of(options.max_seeds, 'seed')}"
    )
    show_or_write(power_table(powers, title), output=options.output, width=PAGE)


def _power_of_training(target: str, options: PowerOptions) -> Power:
    """The power of the gate of a user's own training."""
    path = reference_of_training(target, options.reference)
    runs, terms = runs_of_training(target, path), options.terms(options.alpha)
    return power_of_training(target, runs, options.metric, terms, str(path))
