"""The commands about this machine and about earlier results."""

from __future__ import annotations

from dlsys_bench.options.command import Argument, Command
from dlsys_bench.options.kinds import File

MACHINE = (
    Command(
        "doctor",
        "dlsys_bench.cli.doctor:doctor_command",
        (),
        """Examine this machine: packages, GPU, threads, disks, datasets, engines, and extras.

        Each problem has the command that corrects it. Nothing is changed.

        Exit codes: 0 nothing is wrong, 1 something is, 2 usage. Optional parts that are not
        installed are listed, and are not wrong.
        """,
    ),
    Command(
        "history",
        "dlsys_bench.cli.history:history_command",
        (Argument("files", File(exists=True), many=True, required=True),),
        """Show the history of the metrics in FILES over commits, and where they changed.

        FILES are stored runs, or sessions of pytest-benchmark (--benchmark-json=FILE). A series has
        one point per commit, the median of its values. A change is found by a permutation test on
        ranks: with a probability of at most alpha, any series without a change is listed as
        changed, for one analysis of its history and whatever the distribution of its values.

        Exit codes: 0 nothing changed, 1 something did, 2 usage or no values.
        """,
    ),
)
