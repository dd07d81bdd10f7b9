"""The commands that make reference runs."""

from __future__ import annotations

from dlsys_bench.options.command import Argument, Command
from dlsys_bench.options.kinds import Folder, Text

BASELINE = (
    Command(
        "calibrate",
        "dlsys_bench.cli.calibrate:calibrate_command",
        (Argument("target", Text()),),
        """Train TARGET with many seeds in parallel and write its file of reference runs.

        TARGET is a study, a group, study/arm, "all", package.module:STUDY, or package.module:train:
        any training, as a callable that takes a seed. Several commands that run at once share the
        work; for a training of your own, each needs --resume.

        Exit codes: 0 every run is there, 2 usage, environment, a run ended in an error, or seeds
        without effect.
        """,
    ),
    Command(
        "baseline accept",
        "dlsys_bench.cli.baseline:accept_command",
        (Argument("target", Text()),),
        """Train TARGET anew and replace its reference runs, because a change is intended.

        TARGET is package.module:train, or a file with the reference runs of one training. The old
        runs are shown against the new, with the difference and its 95% interval. The file records
        who accepted the change, when, at which commit, with which versions, and why.

        Exit codes: 0 the file has the new runs, 2 usage, environment, a run ended in an error, or
        seeds without effect; the file is unchanged then.
        """,
    ),
    Command(
        "baseline log",
        "dlsys_bench.cli.baseline:log_command",
        (Argument("target", Text()),),
        "Show what was accepted for TARGET (see `baseline accept`), the oldest first.",
    ),
    Command(
        "new",
        "dlsys_bench.cli.new:new_command",
        (Argument("folder", Folder(), default="."),),
        """Write a training, its test, and a CI workflow to start from, into FOLDER.

        No file is overwritten.
        """,
    ),
)
