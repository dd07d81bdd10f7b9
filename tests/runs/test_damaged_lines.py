"""Damaged and hostile files of runs: what is no run is named and set aside, and commands go on."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import pytest
from command_line import enter, invoke
from damaged_lines import Damaged, contents, damaged_lines, example
from hypothesis import given
from hypothesis import strategies as st
from results import changed, make_result

from dlsys_bench.engines.history import Epoch
from dlsys_bench.errors import StoreError, StoreWarning
from dlsys_bench.notebooks.rulings import Ruling, Runs, judge
from dlsys_bench.runs.calibration.reference import merge
from dlsys_bench.runs.key import CALLABLE, FIELDS
from dlsys_bench.runs.result import EPOCH, RUN, Result
from dlsys_bench.runs.store import Store, line_of, read, reference_path, write_text
from dlsys_bench.runs.store.rejected import SHOWN, Rejected, parse
from dlsys_bench.strict_json import dumps, loads
from dlsys_bench.studies.registry import find

DAMAGED = list(damaged_lines(example()))

SPLITS = ("running", "train", "test")
NAMES = frozenset({"a text", "a number in quotes", "markup"})
NUMBERS = frozenset({"a negative number", "a fraction"})
FRACTION = frozenset({"null", "a fraction"})
NOTHING = frozenset[str]()
ALLOWED = {
    "": frozenset({"an unknown name"}),
    **dict.fromkeys((*FIELDS, "convention", "provenance.time"), NAMES),
    "seed": frozenset({"a negative number"}),
    **dict.fromkeys(("seconds", "history[0].seconds"), frozenset({"a fraction"})),
    **dict.fromkeys(("status", "parameters", "replicas", "schema"), NOTHING),
    **dict.fromkeys(("history[0].epoch", "history[0].steps"), NOTHING),
    "history": frozenset({"a list"}),
    "history[0].running_loss": NUMBERS,
    **dict.fromkeys(("history[0].train_loss", "history[0].test_loss"), NUMBERS | {"null"}),
    **dict.fromkeys((f"history[0].{split}_accuracy" for split in SPLITS), FRACTION),
    **dict.fromkeys(
        ("recipe", "figures", "provenance"), frozenset({"an object", "a nested object"})
    ),
}
"""The changes that leave a line a run, by field. Texts, and the inside of objects, are free."""

OPTIONAL = set(RUN.optional) | {"provenance.time"}
OPTIONAL |= {f"history[0].{name}" for name in EPOCH.optional}

NOT_JSON = ("it is not JSON", "it is nested too deeply")


def parsed(one: Damaged) -> Result | Rejected:
    return parse(one.line.encode(), "line 1")


ACCEPTED = [one for one in DAMAGED if isinstance(parsed(one), Result)]


def test_the_tables_have_the_fields_of_the_records() -> None:
    key = {field.name for field in fields(Result) if field.name != "key"}
    assert set(RUN.table) == key | set(FIELDS)
    assert set(EPOCH.table) == {field.name for field in fields(Epoch)}


def test_every_change_of_a_field_is_rejected_by_name_or_allowed() -> None:
    wrong = []
    for one in DAMAGED:
        found, allowed = parsed(one), ALLOWED.get(one.field)
        if isinstance(found, Rejected):
            named = found.reason.startswith((one.field, *NOT_JSON))
            named = named or "is given twice" in found.reason
            expected = allowed is None or one.change not in allowed
            if not named or not expected or len(found.reason) > 300:
                wrong.append((*one[:2], found.reason))
        elif one.change == "missing":
            inside = one.field.rpartition(".")[0] not in ("", "history[0]")
            if one.field not in OPTIONAL and not inside:
                wrong.append((*one[:2], "accepted"))
        elif allowed is not None and one.change not in allowed:
            wrong.append((*one[:2], "accepted"))
    assert wrong == []
    assert len(DAMAGED) > 1000


def test_figures_of_a_training_are_numbers() -> None:
    run = make_result(1, engine=CALLABLE, figures={"accuracy": 0.5}, history=[])
    for one in damaged_lines(run):
        found = parsed(one)
        if one.field == "figures.accuracy" and isinstance(found, Result):
            assert one.change in ("a negative number", "a fraction", "missing")


def test_what_is_accepted_is_written_and_read_again() -> None:
    for one in ACCEPTED:
        run = parsed(one)
        assert isinstance(run, Result)
        line = line_of(run)
        json.loads(line, parse_constant=pytest.fail)
        assert parse(line.encode(), "line 1") == run


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from([*RUN.table, *EPOCH.table]) | st.text(max_size=3), inner, max_size=4
            )
        ),
    ),
    st.sampled_from(sorted(RUN.table)),
)
def test_any_value_in_any_field_is_a_run_or_is_rejected(value: Any, name: str) -> None:
    values = json.loads(line_of(example())) | {name: value}
    found = parse(json.dumps(values).encode(), "line 1")
    if isinstance(found, Rejected):
        assert found.reason.startswith(name)
    else:
        assert parse(line_of(found).encode(), "line 1") == found
    anything = parse(json.dumps(value).encode(), "line 1")
    assert isinstance(anything, Rejected)


@given(st.binary(max_size=60))
def test_any_bytes_are_rejected(content: bytes) -> None:
    assert isinstance(parse(content, "line 1"), Rejected)


@pytest.mark.parametrize("odd", sorted(contents(example())))
def test_odd_contents_keep_their_run(tmp_path: Path, odd: str) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_bytes(contents(example())[odd])
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        assert read(path) == [example()]
    lost = odd in ("NUL bytes at the end", "cut off", "not UTF-8")
    assert [str(one.message).count(f"{path}, line 2 is not a run") for one in found] == [1] * lost


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_other_encodings_are_named(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text(line_of(example()), encoding=encoding)
    with pytest.raises(StoreError, match=f"it is {encoding.upper()} text; save it as UTF-8"):
        read(path)


def test_a_file_of_other_contents_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_text("one\ntwo\nthree\n")
    with pytest.raises(StoreError, match="holds no runs: line 1 is not a run.*neither are 2 more"):
        read(path)
    with pytest.raises(StoreError, match="holds no runs"):
        merge(path, [example()])
    assert path.read_text() == "one\ntwo\nthree\n"
    # The first run was interrupted while it was written.
    path.write_text(line_of(example())[:50])
    with pytest.warns(StoreWarning, match="line 1 is not a run .* is cut off"):
        assert read(path) == []


def test_lines_are_reported_up_to_a_bound_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text("no run\n" * 50 + line_of(example()))
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        assert read(path) == [example()]
    assert len(found) == SHOWN + 1
    assert str(found[-1].message) == f"{path}: 50 of 51 were set aside, of which 5 are shown"


TRAINING = """
def train(seed):
    return {"accuracy": 0.9 + seed % 7 / 1000}
"""

COMMANDS: dict[str, int] = {
    "report damaged.jsonl --json": 0,
    "report damaged.jsonl damaged.db --output out": 0,
    "runs list --store damaged.db": 0,
    "runs list --store damaged.db --json --every": 0,
    "runs show 2 --store damaged.db": 0,
    "runs export --store damaged.db": 0,
    "runs export exported.jsonl --store damaged.db": 0,
    "runs import damaged.jsonl damaged.db --store new.db": 0,
    "compare damaged.jsonl@study=study damaged.jsonl@study=other": 2,
    "compare damaged.jsonl other.jsonl --json": 0,
    "gate damaged_training:train --reference damaged.jsonl --metric accuracy --max-seeds 6": 0,
    "gate damaged_training:train --reference damaged.jsonl --metric accuracy --json": 0,
    "power regularization/lenet5-tanh --dataset digits --json": 0,
    "run perceptron/nb2/hinge --output damaged.jsonl --seeds 1 --resume": 0,
    "claims perceptron --runs damaged.jsonl --json": 0,
}
"""Every command that reads runs, with its exit code."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all accepted lines, all rejected ones, and reference runs, in each kind of
    file."""
    enter(tmp_path, monkeypatch)
    (tmp_path / "damaged_training.py").write_text(TRAINING)
    case = find("regularization/lenet5-tanh")[0]
    key = {"study": case.study.name, "arm": case.arm.name, "dataset": "digits", "tier": "quick"}
    key["protocol"] = case.arm.protocol("quick")
    training = {"study": "damaged_training:train", "engine": CALLABLE, "history": []}
    good = [changed(example(), seed=seed, figures={}, **key) for seed in range(10)]
    good += [
        changed(example(), seed=seed, figures={"accuracy": 0.9 + seed / 1000}, **training)
        for seed in range(10)
    ]
    lines = [one.line for one in DAMAGED if one.change != "deep lists"]
    path = tmp_path / "damaged.jsonl"
    write_text(path, good)
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)
    reference = reference_path(case.study.name, "digits", "quick")
    reference.parent.mkdir(parents=True)
    reference.write_bytes(path.read_bytes())
    write_text(tmp_path / "other.jsonl", [changed(run, dtype="float64") for run in good])
    with Store(tmp_path / "damaged.db") as store:
        store.add_all(good)
        with store._transaction() as connection:
            for number, line in enumerate(lines):
                columns = (*example().key.to_tuple()[:-1], f"p{number}")
                values = (None, *columns, 1, "finished", "2026-11-21T02:47:42+00:00", line)
                marks = ", ".join("?" * len(values))
                connection.execute(f"INSERT INTO runs VALUES ({marks})", values)
    return tmp_path


SLOW = ("report damaged.jsonl damaged.db --output out", "claims perceptron")


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, marks=[pytest.mark.slow] * command.startswith(SLOW))
        for command in COMMANDS
    ],
)
@pytest.mark.filterwarnings("default::dlsys_bench.errors.StoreWarning")
def test_commands_go_on_with_the_runs_of_damaged_files(folder: Path, command: str) -> None:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        done = invoke(*command.split(), code=COMMANDS[command])
    said = Counter("set aside" in str(one.message) for one in found)
    assert said[True] > SHOWN or command.startswith("runs show")
    if "--json" in command:
        for text in done.stdout.splitlines() if "runs list" in command else [done.stdout]:
            loads(text)
            json.loads(text, parse_constant=pytest.fail)
    assert "\x1b[31m" not in done.stdout + done.stderr


def test_import_writes_what_it_rejects_next_to_the_file(folder: Path) -> None:
    with pytest.warns(StoreWarning):
        invoke("runs", "import", "damaged.jsonl", "--store", "new.db")
    lines = (folder / "damaged.jsonl").read_bytes().split(b"\n")
    rejected = (folder / "damaged.jsonl.rejected").read_bytes().split(b"\n")
    assert set(rejected) < set(lines)
    assert len(rejected) - 1 == len(DAMAGED) - len(ACCEPTED) - sum(
        one.change == "deep lists" for one in DAMAGED
    )


def test_json_has_no_numbers_that_are_not_finite() -> None:
    nan, inf = float("nan"), float("inf")
    assert dumps({"a": [nan, -inf, (1.5, inf)], "b": {"c": nan}}) == (
        '{"a": [null, null, [1.5, null]], "b": {"c": null}}'
    )
    epoch = Epoch(1, 10, 0.5, 1.0, 0.5, train_loss=nan, test_loss=inf)
    lost = make_result(1, status="diverged", history=[epoch])
    line = json.dumps(lost.to_dict())
    assert "NaN" in line
    # Earlier versions wrote it so.
    run = parse(line.encode(), "line 1")
    assert isinstance(run, Result)
    assert run.history == [Epoch(1, 10, 0.5, 1.0, 0.5)]
    assert isinstance(parse(line.replace("diverged", "finished").encode(), ""), Rejected)


def test_writers_of_json_use_one_function() -> None:
    package = Path(loads.__code__.co_filename).parent
    users = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "json.dumps(" in path.read_text()
    }
    # Digests, the arguments of worker processes, and the function itself.
    assert users <= {
        "strict_json.py",
        "conformance/elsewhere.py",
        "conformance/process.py",
        "conformance/worker.py",
        "runs/checkpoint.py",
        "runs/dependencies.py",
        "spec/convention.py",
        "timing/benchmark_file.py",
        "timing/points.py",
        "cli/data.py",
    }


def test_figures_of_another_structure_do_not_prevent_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(tmp_path, monkeypatch)
    (case,) = find("perceptron/nb2/hinge")
    key = {"study": "perceptron", "arm": case.arm.name, "dataset": "half-plane", "tier": "full"}
    key["protocol"] = case.arm.protocol("full")
    odd = [
        changed(make_result(seed, history=[]), figures={"counts": [None], "draws": "x"}, **key)
        for seed in range(3)
    ]
    marked = changed(example(), study="[/x] $\\frac{ <b> | `")
    write_text(tmp_path / "odd.jsonl", [*odd, marked])
    with pytest.warns(StoreWarning, match="plot of perceptron on half-plane, full: .* is left out"):
        written = invoke("report", "odd.jsonl", "--output", "out").stdout
    assert str(Path("out", "report.md")) in written
    assert "## [/x]" in (tmp_path / "out" / "report.md").read_text()
    claim = {"id": "x", "kind": "exact", "study": "perceptron"}
    judged = judge(claim, cast(Runs, None))
    assert judged.ruling is Ruling.NOT_TESTABLE
    assert "figures that cannot be tested: " in judged.reason
