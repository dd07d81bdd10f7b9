"""The evidence of many sessions: fair bets, their power, and the file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import islice, product
from math import exp, inf, log, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from dlsys_bench.cli import cli
from dlsys_bench.errors import UserError
from dlsys_bench.runs.key import Key
from dlsys_bench.verdicts.betting import EITHER, WORSE, Alternative, capital, ranks_of, starts
from dlsys_bench.verdicts.evidence import (
    ALARM,
    EvidenceVerdict,
    JudgedArm,
    accumulate,
)
from dlsys_bench.verdicts.evidence_file import read_evidence
from dlsys_bench.verdicts.evidence_session import ROTATED, EvidenceSession, lines_of
from dlsys_bench.verdicts.judged_runs import JudgedRuns

REFERENCE = tuple(np.round(np.random.default_rng(3).normal(0.9, 0.01, 20), 6).tolist())
HEALTHY = np.round(np.random.default_rng(4).normal(0.9, 0.01, 400), 6).tolist()


def judged(
    number: int,
    values: Sequence[float] | None = None,
    arm: str = "arm",
    reference: Sequence[float] = REFERENCE,
    higher_is_better: bool = True,
    one_sided: bool = False,
) -> JudgedArm:
    """Return two runs of session `number`."""
    new = HEALTHY[2 * number : 2 * number + 2] if values is None else values
    runs = JudgedRuns.of(reference, new, higher_is_better, one_sided)
    seeds = range(2 * number, 2 * number + len(new))
    return Key("study", arm, "digits", "quick", "numpy", "cpu"), "accuracy", seeds, runs


@pytest.mark.parametrize("alternatives", [EITHER, WORSE])
def test_the_mean_capital_over_all_ranks_is_one(alternatives: tuple[Alternative, ...]) -> None:
    """Enumerated: three runs after two reference runs have 3 * 4 * 5 equally likely ranks."""
    ranks = product(range(1, 4), range(1, 5), range(1, 6))
    ends = [exp(capital(np.array(each), 2, alternatives).logs[-1]) for each in ranks]
    assert np.mean(ends) == pytest.approx(1.0, abs=1e-9)


def test_a_later_start_is_fair_too() -> None:
    """After ten runs, the bets on a change at the tenth are fair given the ranks before."""
    (_, _), (second, weight), *_ = islice(starts(), 3)
    assert (second, weight) == (10, 1 / 6)
    before = np.arange(2, 12)
    known = exp(capital(before, 2, EITHER).logs[-1])
    ends = [exp(capital(np.append(before, rank), 2, EITHER).logs[-1]) for rank in range(1, 14)]
    assert np.mean(ends) == pytest.approx(known, rel=1e-9)
    assert sum(weight for _, weight in islice(starts(), 999)) == pytest.approx(0.999)


@pytest.mark.parametrize("one", EITHER + WORSE, ids=lambda one: one.name)
def test_quantiles_of_an_alternative(one: Alternative) -> None:
    """They mix with those of the reference runs to all runs, and increase from 0 to 1."""
    fraction, share = np.linspace(0, 1, 41), np.array(0.3)
    changed = one.quantiles(share, fraction)
    assert (changed[0], changed[-1]) == (0.0, 1.0)
    assert (np.diff(changed) >= 0).all()
    reference = (fraction - share * changed) / (1 - share)
    assert (np.diff(reference) >= -1e-9).all()
    assert reference == pytest.approx(np.clip(reference, 0, 1), abs=1e-9)
    if one.collapsed:
        assert one.quantiles(share, share * one.collapsed) == pytest.approx(one.collapsed)


def test_ranks_among_equal_figures_are_uniform() -> None:
    """All runs equal: the rank is uniform, and without ties it does not depend on the draw."""
    draws = (np.arange(1000) + 0.5) / 1000
    ranks = [int(ranks_of([0.5] * 4, [0.5], [draw])[0]) for draw in draws]
    assert np.bincount(ranks, minlength=6).tolist() == [0, 200, 200, 200, 200, 200]
    assert {int(ranks_of([1.0, 3.0], [2.0], [draw])[0]) for draw in draws} == {2}
    assert ranks_of([1.0, 2.0], [0.0, -inf, 3.0], [0.9] * 3).tolist() == [1, 1, 5]


def first_alarm(values: list[float], reference: list[float]) -> float:
    """Return the number of runs after which the evidence reaches ALARM; infinite if never."""
    draws = np.random.default_rng(0).random(len(values)).tolist()
    logs = capital(ranks_of(reference, values, draws), len(reference), EITHER).logs
    above = np.flatnonzero(logs >= log(ALARM))
    return float(above[0] + 1) if len(above) else inf


CHANGES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "healthy": lambda g, n: g.normal(0, 1, n),
    "drop": lambda g, n: g.normal(-1, 1, n),
    "collapses": lambda g, n: np.where(g.random(n) < 0.25, -20, g.normal(0, 1, n)),
    "spread": lambda g, n: g.normal(0, 4, n),
}


@pytest.mark.parametrize(
    ("change", "most"), [("healthy", 0), ("drop", 60), ("collapses", 90), ("spread", 40)]
)
def test_changes_after_fifty_commits_are_found(change: str, most: int) -> None:
    """The median number of runs after the change, over 9 files of 20 reference runs.

    The simulation in reports/gates/evidence.md has 40 (drop), 56 (collapses) and 18 (spread).
    """
    generator, found = np.random.default_rng(11), []
    for _ in range(9):
        after = CHANGES[change](generator, 120)
        x = np.concatenate([generator.normal(0, 1, 120), after]).tolist()
        found.append(first_alarm(x[20:], x[:20]) - 100)
    assert np.median(found) == inf if change == "healthy" else 0 < np.median(found) <= most


def test_the_evidence_of_sessions_accumulates(tmp_path: Path) -> None:
    path = tmp_path / "evidence.jsonl"
    (first,) = accumulate(path, "c0", [judged(0)])
    assert (first.runs, first.commits, first.alarm, first.remark) == (2, 1, False, "")
    for number in range(1, 20):
        (verdict,) = accumulate(path, f"c{number}", [judged(number)])
    assert (verdict.runs, verdict.commits, verdict.alarm) == (40, 20, False)
    numbers = range(20, 60)
    for number in numbers:
        low = [value - 0.02 for value in HEALTHY[2 * number : 2 * number + 2]]
        (verdict,) = accumulate(path, f"c{number}", [judged(number, low)])
        if verdict.alarm:
            break
    assert number < 40
    assert "worse by" in verdict.message()
    assert "since about commit c" in verdict.message()
    # It remains a failure, whatever follows.
    for number in range(60, 63):
        (verdict,) = accumulate(path, f"c{number}", [judged(number, [0.95, 0.95])])
    assert verdict.alarm
    assert verdict.highest > verdict.evidence
    assert lines_of([verdict])[0].startswith("FAIL: study/arm on digits, numpy, accuracy: evidence")
    json.dumps(verdict.to_dict())


def test_a_commit_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "evidence.jsonl"
    (one,) = accumulate(path, "c0", [judged(0)])
    (again,) = accumulate(path, "c0", [judged(1)])
    assert (again.runs, again.evidence) == (one.runs, one.evidence)
    assert "commit c0 was counted before" in again.remark
    # An arm that the first attempt did not reach does count.
    _, other = accumulate(path, "c0", [judged(1), judged(0, arm="other")])
    assert (other.runs, other.remark) == (2, "")


def test_fixed_seeds_are_a_single_draw(tmp_path: Path) -> None:
    """Low figures of the same seeds at 12 commits are no evidence, however low."""
    path = tmp_path / "evidence.jsonl"
    (one,) = accumulate(path, "c0", [judged(0, [0.5, 0.5])])
    for commit in range(1, 12):
        (verdict,) = accumulate(path, f"c{commit}", [judged(0, [0.5, 0.5])])
    assert (verdict.evidence, verdict.commits, verdict.runs) == (one.evidence, 1, 2)
    assert "with the same figures: fixed seeds repeat one draw" in verdict.remark
    (changed,) = accumulate(path, "c12", [judged(0, [0.5, 0.4])])
    assert changed.evidence == one.evidence
    assert "with the same figures" not in changed.remark
    assert "not counted" in changed.remark


def test_arms_share_the_rate(tmp_path: Path) -> None:
    path = tmp_path / "evidence.jsonl"
    (alone,) = accumulate(tmp_path / "alone.jsonl", "c0", [judged(0)])
    several = accumulate(path, "c0", [judged(0, arm=f"arm {n}") for n in range(5)])
    assert [one.evidence for one in several] == pytest.approx([alone.evidence - log(5)] * 5)
    (sixth,) = accumulate(path, "c1", [judged(0, arm="sixth")])
    assert sixth.evidence == pytest.approx(alone.evidence - log(6))
    assert [arm.arms for arm in read_evidence(path)] == [5] * 5 + [6]


def test_new_reference_runs_begin_again(tmp_path: Path) -> None:
    path = tmp_path / "evidence.jsonl"
    accumulate(path, "c0", [judged(0)])
    (again,) = accumulate(path, "c1", [judged(1, reference=REFERENCE[:10])])
    assert (again.commits, again.runs) == (1, 2)
    assert "its reference runs or its side have changed" in again.remark
    (side,) = accumulate(path, "c2", [judged(2, reference=REFERENCE[:10], one_sided=True)])
    assert side.runs == 2


def test_the_file_keeps_what_it_was_given(tmp_path: Path) -> None:
    """Diverged runs and lower-is-better metrics included; a second reading gives the same."""
    path = tmp_path / "evidence.jsonl"
    loss = judged(0, [0.25, inf], arm="loss", higher_is_better=False)
    accumulate(path, "c0", [judged(0, [nan, -inf]), loss])
    accuracy, loss_again = read_evidence(path)
    assert accuracy.sessions[0].values == (-inf, -inf)
    assert loss_again.sessions[0].values == (-0.25, -inf)
    assert loss_again.reference == tuple(-value for value in REFERENCE)
    assert JudgedRuns.from_dict(judged(0, [nan])[3].to_dict()) == judged(0, [nan])[3]
    before = path.read_bytes()
    accumulate(path, "c0", [])
    assert before.splitlines()[1:] == path.read_bytes().splitlines()[1:]
    head = json.loads(before.splitlines()[0])
    assert head["provenance"]["versions"]["numpy"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: "", "it is not JSON"),
        (lambda text: text[: len(text) // 2], "it is not JSON|missing"),
        (lambda text: text.replace('"schema":1', '"schema":9'), "schema is 9"),
        (lambda text: text.replace('"seeds":[0,1]', '"seeds":[0]'), "lists of different lengths"),
        (lambda text: text.replace('"seeds":[0,1]', '"seeds":[0,0]'), "a seed twice"),
        (lambda text: text.replace('"draws":[', '"draws":[7,'), "draws"),
        (lambda text: text.replace('"arms":1', '"arms":"x"'), "arms is 'x'"),
        (lambda text: text + text.splitlines()[1] + "\n", "an arm is there twice"),
        (lambda text: "\ufffd" + text, "it is not JSON"),
    ],
)
def test_damaged_files_are_refused_and_kept(tmp_path: Path, damage: Any, message: str) -> None:
    path = tmp_path / "evidence.jsonl"
    accumulate(path, "c0", [judged(0)])
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(UserError, match=f"(?s)not a valid file of evidence.*({message}).*delete"):
        accumulate(path, "c1", [judged(1)])
    assert path.read_bytes() == before


def test_the_seeds_of_sessions_are_disjoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "evidence.jsonl"
    assert EvidenceSession(None).first_seed(10_000, 12) == 10_000
    assert EvidenceSession(None, 7).first_seed(10_000, 12) == 10_000 + ROTATED + 84
    assert EvidenceSession(path).first_seed(10_000, 12) == 10_000 + ROTATED
    accumulate(path, "c0", [judged(0)])
    assert EvidenceSession(path).first_seed(10_000, 12) == 10_000 + ROTATED + 12
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="evidence counts commits"):
        EvidenceSession(path).check()
    EvidenceSession(path, commit="c1").check()


def test_lines_name_alarms_and_remarks_and_the_highest_of_the_others() -> None:
    verdicts = [EvidenceVerdict(f"arm {n}", 1, 2, n, n) for n in range(4)]
    remark = EvidenceVerdict("odd", 1, 2, -1.0, -1.0, remark="so")
    lines = lines_of([*verdicts, remark])
    assert [line.split(":")[1] for line in lines] == [" odd", " arm 3"]
    assert lines[1].endswith("2 runs of 1 commit (the highest of 4)")
    assert lines_of([]) == []


def test_gate_adds_evidence_and_fails_on_an_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every gate passes a shift of one standard deviation; the evidence does not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "of_evidence.py").write_text(
        "import random\n"
        "def train(seed):\n"
        "    return random.Random(seed).gauss(0.9 if seed < 100 else 0.88, 0.01)\n",
        encoding="utf-8",
    )
    made = CliRunner().invoke(
        cli, ["calibrate", "of_evidence:train", "--output", "stored.jsonl", "--workers", "1"]
    )
    assert made.exit_code == 0, made.output
    codes, gate = [], ["gate", "of_evidence:train", "--reference", "stored.jsonl"]
    terms = ["--output", "new.jsonl", "--smallest-shift", "0.05", "--json"]
    for number in range(12):
        evidence = ["--evidence", "evidence.jsonl", "--commit", f"c{number}"]
        result = CliRunner().invoke(cli, [*gate, *terms, *evidence])
        codes.append(result.exit_code)
        if codes[-1] == 1:
            break
    assert codes[0] != 1
    assert codes[-1] == 1
    printed = json.loads(result.stdout)
    assert printed["outcome"] == "FAIL"
    assert printed["verdicts"][0]["outcome"] != "FAIL"
    assert printed["evidence"][0]["alarm"]
    assert "FAIL: of_evidence:train, metric: evidence" in result.stderr
    (tmp_path / "evidence.jsonl").write_text("broken", encoding="utf-8")
    refused = CliRunner().invoke(cli, [*gate, "--evidence", "evidence.jsonl", "--commit", "c"])
    assert refused.exit_code == 2
    assert "not a valid file of evidence" in refused.stderr
