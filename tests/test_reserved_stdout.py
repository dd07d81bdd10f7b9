"""Under --json, stdout holds the JSON alone; everything else that is written to it is on stderr."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import enter

from dlsys_bench.cli import cli
from dlsys_bench.cli.terminal import emit, stdout_reserved
from dlsys_bench.report import display

LOUD = """
import ctypes, os, subprocess
import numpy as np

print("on import")

def train(seed):
    print("from python")
    os.write(1, b"from a descriptor\\n")
    subprocess.run(["echo", "from a child"], check=True)
    ctypes.CDLL(None).printf(b"from a library\\n")
    return 0.9 + 0.004 * np.random.default_rng(seed).standard_normal()
"""
NOISE = ("on import", "from python", "from a descriptor", "from a child", "from a library")


def test_what_a_training_prints_is_not_in_the_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    enter(tmp_path, monkeypatch)
    Path("loud.py").write_text(LOUD)
    lines = [
        json.dumps(
            {"study": "loud:train", "engine": "callable", "seed": seed, "seconds": 1.0}
            | {"convention": "", "recipe": {}, "history": [], "status": "finished"}
            | {"arm": "", "dataset": "", "tier": "", "device": "cpu", "protocol": "x"}
            | {"dtype": "", "figures": {"metric": 0.9 + 0.001 * seed}}
        )
        for seed in range(20)
    ]
    Path("runs.jsonl").write_text("\n".join(lines) + "\n")
    arguments = ["gate", "loud:train", "--reference", "runs.jsonl", "--json", "--output", "o.jsonl"]
    with pytest.raises(SystemExit):
        cli.main(arguments, standalone_mode=False)
    captured = capfd.readouterr()
    assert json.loads(captured.out)["verdicts"][0]["study"] == "loud:train"
    for text in NOISE:
        assert text in captured.err
    print("stdout is as before")
    assert "stdout is as before" in capfd.readouterr().out


def test_the_descriptor_itself_is_reserved() -> None:
    script = (
        "import ctypes, os\n"
        "from dlsys_bench.cli.terminal import emit, stdout_reserved\n"
        "with stdout_reserved():\n"
        "    print('python'); ctypes.CDLL(None).puts(b'library'); emit('{}')\n"
        "print('after')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "{}\nafter\n"
    assert {"python", "library"} == set(done.stderr.split())


def test_results_are_printed_as_usual_where_stdout_is_not_reserved(
    capsys: pytest.CaptureFixture[str],
) -> None:
    emit("a")
    with stdout_reserved():
        print("noise")
        emit("b")
    emit("c")
    assert capsys.readouterr() == ("a\nb\nc\n", "noise\n")


def test_progress_prints_lines_where_stderr_is_not_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(display, "SILENCE", 0.001)
    with display.progress(4, "runs") as advance:
        advance("m:train, seed 3: metric 0.97", 1)
        printed = _first_line(capsys)
    assert printed.startswith("1 of 4 runs after 0 s, about 0 s left; m:train, seed 3: metric 0.97")
    capsys.readouterr()  # Further lines may have been printed before the end.
    monkeypatch.setattr(display, "SILENCE", 60.0)
    with display.progress(4, "runs"):
        pass
    assert capsys.readouterr().err == ""


def _first_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The first line with a description that is printed within about ten seconds."""
    for _ in range(10_000):
        time.sleep(0.001)
        lines = capsys.readouterr().err.splitlines()
        if lines and ";" in lines[-1]:
            return lines[-1]
    return ""


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (99, "99 s"), (150, "2 min"), (9000, "2.5 h")]
)
def test_a_duration_is_in_the_fitting_unit(seconds: float, text: str) -> None:
    assert display.duration(seconds) == text
