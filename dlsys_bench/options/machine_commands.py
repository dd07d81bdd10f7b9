"""The commands about this machine and about earlier results."""

from __future__ import annotations

from dlsys_bench.options.command import Command

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
)
