"""The history of figures: over commits, from stored runs and from pytest-benchmark."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from command_line import enter, invoke
from results import make_result

from dlsys_bench.engines.history import Epoch
from dlsys_bench.runs.store.text import write_text
from dlsys_bench.verdicts.change_points import ChangePoint

HOSTILE = "=HYPERLINK(1)<script>"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    enter(tmp_path, monkeypatch)
    return tmp_path


def write_runs(step: float, **key: Any) -> None:
    """Write two runs at each of 24 commits; the accuracy changes at the thirteenth."""
    runs = []
    for commit in range(24):
        provenance = {"time": f"2026-01-{commit + 1:02}", "commit": f"c{commit:02}"}
        for seed in (2 * commit, 2 * commit + 1):
            accuracy = 0.9 + 0.0001 * ((7 * seed) % 11) + step * (commit >= 12)
            history = [Epoch(1, 10, 0.1, 1.0, test_accuracy=accuracy)]
            runs.append(make_result(seed, history=history, provenance=provenance, **key))
    # The order of a file is not that of the commits.
    write_text(Path("runs.jsonl"), runs[::-1])


def write_sessions(slower: float, name: str = "test_step") -> list[str]:
    """Write a session of pytest-benchmark for each of 20 commits, and return their names."""
    paths = []
    for commit in range(20):
        seconds = [
            (0.1 + 0.001 * ((3 * commit + n) % 5)) * (slower if commit >= 10 else 1)
            for n in range(5)
        ]
        content = {
            "benchmarks": [{"fullname": name, "stats": {"data": seconds}}],
            "datetime": f"2026-01-{commit + 1:02}T00:00:00",
            "commit_info": {"id": f"{commit:040}"},
            "machine_info": {},
        }
        paths.append(f"{19 - commit}.json")
        Path(paths[-1]).write_text(json.dumps(content))
    return paths


def test_a_change_of_stored_runs_is_found_at_its_commit() -> None:
    write_runs(-0.05)
    ended = invoke("history", "runs.jsonl", code=1)
    assert "CHANGED" in ended.stdout
    (series,) = json.loads(invoke("history", "runs.jsonl", "--json", code=1).stdout)
    (change,) = series["changes"]
    assert series["moments"][change["position"]]["commit"] == "c12"
    assert change["after"] - change["before"] == pytest.approx(-0.05, abs=0.002)


def test_without_a_change_the_exit_code_is_0() -> None:
    write_runs(0.0)
    assert "SAME" in invoke("history", "runs.jsonl").stdout


def test_sessions_of_pytest_benchmark_are_imported() -> None:
    paths = write_sessions(1.5)
    (series,) = json.loads(invoke("history", *paths, "--json", code=1).stdout)
    assert series["unit"] == "s"
    assert len(series["moments"]) == 20
    assert [change["position"] for change in series["changes"]] == [10]
    assert invoke("history", *write_sessions(1.0)).code == 0


def test_figures_are_exported() -> None:
    write_runs(-0.05, study=HOSTILE)
    outputs = ("--csv", "h.csv", "--export", "h.json", "--html", "h.html")
    invoke("history", "runs.jsonl", *outputs, code=1)
    rows = list(csv.DictReader(Path("h.csv").read_text().splitlines()))
    assert len(rows) == 48
    assert [row["commit"] for row in rows if row["change"]] == ["c12", "c12"]
    assert not any(text.startswith("=") for row in rows for text in row.values())
    (newest,) = json.loads(Path("h.json").read_text())
    assert set(newest) == {"name", "unit", "value", "range", "extra"}
    assert newest["value"] == pytest.approx(0.85, abs=0.01)
    page = Path("h.html").read_text()
    assert "&lt;script&gt;" in page
    assert page.count("<script>") == 1


def test_the_false_alarm_rate_is_shared_over_the_series(monkeypatch: pytest.MonkeyPatch) -> None:
    levels: list[float] = []

    def keep(values: list[float], alpha: float) -> list[ChangePoint]:
        levels.append(alpha)
        return []

    monkeypatch.setattr("dlsys_bench.verdicts.history.change_points", keep)
    write_runs(0.0)
    invoke("history", "runs.jsonl", *write_sessions(1.0), "--alpha", "0.02")
    assert levels == [0.01, 0.01]


def test_a_damaged_session_is_left_out_with_a_line(recwarn: pytest.WarningsRecorder) -> None:
    paths = write_sessions(1.5)
    Path("cut.json").write_text(Path(paths[0]).read_text()[:100])
    (series,) = json.loads(invoke("history", "cut.json", *paths, "--json", code=1).stdout)
    assert len(series["moments"]) == 20
    (warning,) = recwarn.list
    assert "left out: cut.json is not a file of pytest-benchmark" in str(warning.message)


def test_runs_without_a_commit_are_shown_by_their_time() -> None:
    run = make_result(0, provenance={"time": "2026-01-02T03:04:05+00:00"})
    write_text(Path("own.jsonl"), [run])
    assert "2026-01-02T03:04 " in invoke("history", "own.jsonl").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("runs.jsonl", "--metric", "none"), "no metric 'none'"),
        (("other.json",), "other.json is not a file of pytest-benchmark"),
        (("runs.jsonl", "--csv", "none/h.csv"), "cannot write none/h.csv"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], message: str) -> None:
    write_runs(0.0)
    Path("other.json").write_text("[]")
    assert message in invoke("history", *arguments, code=2).stderr
