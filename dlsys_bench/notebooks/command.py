"""The declaration of `dlsys-bench claims`; nothing heavy is imported before it runs."""

from __future__ import annotations

from dlsys_bench.options.command import Argument, Command
from dlsys_bench.options.kinds import File, Flag, Many, Text
from dlsys_bench.options.option import Option

OWN = ("claims",)

claims_command = Command(
    "claims",
    "dlsys_bench.cli.claims:claims_command",
    (Argument("study", Text(), optional=True),),
    """Rule on the published claims about STUDY, a study or a group, or about all.

    Each row has what is published, what is measured here with its interval, and the ruling with its
    reason.
    """,
    (
        Option(
            "runs",
            OWN,
            "File of runs to rule on with the stored ones; repeatable.",
            Many(File(exists=True), "runs"),
            (),
        ),
        Option(
            "engine",
            OWN,
            "Engine whose runs are ruled on; repeatable. Of several, one run of each seed counts.",
            Many(Text("NAME"), "engines"),
            ("numpy", "numba"),
        ),
        Option(
            "published", OWN, "List the published claims without ruling on them.", Flag(), False
        ),
        Option("output", OWN, "Write the table to this file as Markdown.", File()),
        Option("json", OWN, "Print JSON.", Flag(), False),
    ),
)
