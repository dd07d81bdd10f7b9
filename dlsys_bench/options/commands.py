"""The table of commands: the function behind each, its arguments, and its help.

Nothing here imports a command: help, completion, and mistakes on the command line load only this
table and that of the options.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint

from dlsys_bench.entry_points import declared, leave_out
from dlsys_bench.options.baseline_commands import BASELINE
from dlsys_bench.options.bench_table import OPTIONS
from dlsys_bench.options.command import Argument, Command
from dlsys_bench.options.kinds import Choice, File, Integer, Text
from dlsys_bench.options.machine_commands import MACHINE
from dlsys_bench.options.option import PYTEST, Option
from dlsys_bench.options.table import DATASETS
from dlsys_bench.text import describe

GROUP = "dlsys_bench.commands"
"""The entry-point group: each entry point names a command and refers to its `Command`."""

LISTS = ("studies", "models", "engines", "datasets")
EXISTING = File(exists=True)


STUDY = Argument("study", Text(), optional=True)
"""A study. Without one, a command takes the default of the registered studies."""
SESSIONS = File(exists=True, folder=True)
PAIR = (Argument("a", SESSIONS), Argument("b", SESSIONS))
NAMES = Argument("names", Text(), many=True)

GROUPS = {
    "data": "Download the datasets, or verify them.",
    "baseline": "Accept an intended change of your own training, and show what was accepted.",
    "runs": "List, show, export, and import stored runs.",
    "bench": "Measure speed and compare measurements; see also pytest --benchmark-only.",
}

COMMANDS = (
    Command(
        "list",
        "dlsys_bench.cli.listing:list_command",
        (Argument("what", Choice((*LISTS, "all")), "all"),),
        "List the studies, models, engines, and datasets.",
    ),
    Command(
        "summary",
        "dlsys_bench.cli.listing:summary_command",
        (Argument("model", Text()),),
        """Show the layers, shapes, and parameters of MODEL.

        MODEL is a name (see `list models`), a .json file, or package.module:MODEL.
        """,
    ),
    *MACHINE,
    Command(
        "data fetch",
        "dlsys_bench.cli.data:fetch_command",
        (NAMES,),
        "Download NAMES (default: all) from public mirrors into the cache, verified by SHA-256.",
    ),
    Command(
        "data verify",
        "dlsys_bench.cli.data:verify_command",
        (NAMES,),
        """Compare the files of NAMES (default: all) with their SHA-256.

        Exit codes: 0 all are right, 2 a file is wrong or missing.
        """,
    ),
    Command(
        "look",
        "dlsys_bench.cli.look:look_command",
        (Argument("dataset", Text()),),
        f"""Show the class counts and sample images of DATASET.

        DATASET is {DATASETS}.
        """,
    ),
    Command(
        "run",
        "dlsys_bench.cli.run:run_command",
        (Argument("study", Text()),),
        """Train STUDY and store every run.

        STUDY is a study, a group, study/arm, "all", or package.module:STUDY.
        """,
    ),
    *BASELINE,
    Command(
        "inspect",
        "dlsys_bench.cli.inspect:inspect_command",
        (Argument("weights", File()),),
        """Show what a trained model classifies correctly and incorrectly in a test split.

        WEIGHTS is a .npz file that `run --weights` wrote.
        """,
    ),
    Command(
        "gate",
        "dlsys_bench.cli.gate:gate_command",
        (Argument("target", Text(), optional=True, metavar="STUDY"),),
        """Train STUDY until each arm passes or fails against its reference runs.

        STUDY is a study, a group, study/arm, "all", or package.module:STUDY (default:
        the group of the default study), or package.module:train: any training.

        Exit codes: 0 pass, 1 fail, 2 usage or environment, 3 inconclusive.
        """,
    ),
    Command(
        "power",
        "dlsys_bench.cli.power:power_command",
        (STUDY,),
        """Show the power and the cost of the gates of STUDY, from the reference runs.

        STUDY is as for `gate`, a package.module:train included. Nothing is trained.
        """,
    ),
    Command(
        "report",
        "dlsys_bench.cli.report:report_command",
        (Argument("runs", EXISTING, many=True),),
        """Write tables and curves of stored RUNS (default: reports/runs.db).

        Tables go to the terminal and to report.md, curves to PNG files.
        """,
    ),
    Command(
        "runs list",
        "dlsys_bench.cli.runs:list_command",
        (),
        "List the arms with the number of their runs, and the times of the first and the last.",
    ),
    Command(
        "runs show",
        "dlsys_bench.cli.runs:show_command",
        (Argument("number", Integer(1)),),
        "Print the run with this NUMBER (see `runs list --json`) as JSON.",
    ),
    Command(
        "runs export",
        "dlsys_bench.cli.runs:export_command",
        (Argument("output", File(), optional=True),),
        "Write runs to OUTPUT, a file of JSON lines, or to the terminal.",
    ),
    Command(
        "runs import",
        "dlsys_bench.cli.runs:import_command",
        (Argument("files", EXISTING, many=True, required=True),),
        """Add the runs of FILES, which are JSON lines or stores.

        A run that is in the store already is skipped.
        """,
    ),
    Command(
        "runs release",
        "dlsys_bench.cli.runs:release_command",
        (),
        """Release the runs that processes on other hosts have reserved.

        A command that was killed on another host leaves its runs reserved. If it is still running
        there, its runs are made twice. Reservations on this host are released without this command.
        """,
    ),
    Command(
        "compare",
        "dlsys_bench.cli.compare:compare_command",
        (Argument("a", Text()), Argument("b", Text())),
        """Compare runs A with runs B: before and after an upgrade, or two engines or devices.

        A and B are files of runs, each with an optional selection, as in
        runs.jsonl@engine=torch,tier=quick.

        An arm that both have by the same protocol is SAME (two one-sided tests inside the margin),
        DIFFERS (Holm over the table; Fisher's exact test for the number of runs that diverged), or
        UNDECIDED (with the number of additional runs that would decide).

        Exit codes: 0 none differs, 1 some differ, 2 usage or nothing to compare, 3 none differs but
        some are undecided.
        """,
    ),
    Command(
        "conform",
        "dlsys_bench.cli.conform:conform_command",
        (),
        """Check that an engine trains correctly.

        The checks climb a ladder of rungs, from shapes to the accuracy of trained networks, and
        stop at a rung that breaks. Each check runs in a process of its own, so an engine may hang
        or crash.

        Exit codes: 0 it conforms, 1 it does not, 2 usage or environment, 3 a check timed out and
        none failed.
        """,
    ),
    Command(
        "bench compare",
        "dlsys_bench.cli.bench:compare_command",
        PAIR,
        """Compare benchmarks A with B, files of pytest-benchmark (--benchmark-json=FILE).

        A and B may be folders that hold a file for each of several sessions of the same code. Each
        benchmark in all files has a row with the speedup of B and its 95% interval. It is SAME if
        the interval is within the margin, and FASTER or SLOWER if it is beyond the margin. It is
        AMBIGUOUS otherwise, and if other processes used more than 5% of the machine, if the GPU was
        slowed, by heat, by its power limit, or for another reason that its driver reports, or if A
        and B were made on different machines, with different versions, or with different settings.

        Exit codes: 0 none is slower, 1 some are, 2 usage or nothing to compare, 3 none is slower
        but some are ambiguous.
        """,
    ),
    Command(
        "bench sweep",
        "dlsys_bench.cli.sweep:sweep_command",
        (STUDY,),
        """Measure training speed on STUDY by batch size, threads, precision, and replicas.

        STUDY is one study or study/arm (default: the default study).

        Each point runs in its own process, which has to show that it trains. Points that cannot be
        measured are listed with the reason. Tables and a plot are written next to OUTPUT.

        Exit codes: 0 every point was measured, 2 usage, or some were not.
        """,
    ),
    Command(
        "bench time-to-accuracy",
        "dlsys_bench.cli.time_to_accuracy:time_to_accuracy_command",
        (STUDY,),
        """Measure the time that engines train STUDY until they reach its accuracy.

        STUDY is one study or study/arm (default: the default study).

        The target is the lower end of the band of the reference runs of the tier: 99% of healthy
        runs end at it or above. The accuracy is evaluated at the end of every epoch (with fewer
        than five epochs, after every tenth of the training), and the first time at the target
        counts. Each run is its own process; engines take turns, seed by seed. A run that never
        reaches the target, diverges, or fails is right-censored. A table and a plot are written
        next to OUTPUT.

        Exit codes: 0 every run reached it, 1 some did not, 2 usage, no reference runs, or a run
        ended in an error.
        """,
    ),
)


BUILT_IN = {command.name: command for command in COMMANDS}


@cache
def commands() -> dict[str, Command]:
    """The commands by name: those of the table, and those that installed packages add.

    An entry point that does not refer to a Command of its name, or whose name is used already, is
    left out with an EntryPointWarning.
    """
    found = dict(BUILT_IN)
    for name, point in added().items():
        try:
            command = point.load()
        except Exception as error:  # A foreign package may raise anything while it is imported.
            leave_out(point, describe(error))
            continue
        if not isinstance(command, Command):
            leave_out(point, "it does not refer to a Command")
        elif command.name != name:
            leave_out(point, f"its command has another name, {command.name!r}")
        elif (group := name.rpartition(" ")[0]) and group not in GROUPS:
            leave_out(point, f"there is no group {group!r}")
        else:
            found[name] = command
    return found


@cache
def added() -> dict[str, EntryPoint]:
    """The entry points of the commands that installed packages add, by name, none loaded."""
    return declared(GROUP, (*BUILT_IN, *GROUPS), lenient=True)


def options_of(name: str) -> list[Option]:
    """The options of a command, or of "pytest", in the order of their table.

    Those of pytest and of a command of the table are known without the installed packages.
    """
    own = [option for option in OPTIONS if name in option.commands]
    if name == PYTEST or name in BUILT_IN:
        return own
    command = commands().get(name)
    return own + list(command.options if command else ())
