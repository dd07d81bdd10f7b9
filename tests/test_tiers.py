"""The tiers of the test suite: what runs by default, with --slow and with --slow-share."""

from __future__ import annotations

import pytest
from tiers import Share

TESTS = """
import pytest

def test_fast():
    pass

@pytest.mark.slow
@pytest.mark.parametrize("number", range(40))
def test_slow(number):
    pass
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini("[pytest]\nmarkers = slow: slow")
    pytester.makepyfile(test_both=TESTS)
    return pytester


def run(suite: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return suite.runpytest_inprocess("-p", "tiers", "-p", "no:xdist", *arguments)


def test_the_default_run_leaves_slow_tests_out_and_says_so(suite: pytest.Pytester) -> None:
    result = run(suite)
    result.assert_outcomes(passed=1, deselected=40)
    result.stdout.fnmatch_lines(["tiers: fast; *", "slow tests left out: 40 (--slow runs them)"])


def test_slow_runs_everything(suite: pytest.Pytester) -> None:
    run(suite, "--slow").assert_outcomes(passed=41)
    run(suite, "--slow", "-m", "slow").assert_outcomes(passed=40, deselected=1)


def test_a_slow_test_that_is_named_runs(suite: pytest.Pytester) -> None:
    run(suite, "test_both.py::test_slow[3]").assert_outcomes(passed=1)


def test_a_share_is_repeated_by_the_command_that_the_header_prints(
    suite: pytest.Pytester,
) -> None:
    result = run(suite, "-v", "--slow-share", "4@abc")
    result.stdout.fnmatch_lines(["*repeat it by --slow-share 4@abc"])
    outcomes = result.parseoutcomes()
    assert 1 < outcomes["passed"] < 41
    assert run(suite, "--slow-share", "4@abc").parseoutcomes() == outcomes


def test_a_test_that_takes_minutes_is_in_no_share(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nmarkers = slow: slow")
    pytester.makepyfile(TESTS.replace("mark.slow", "mark.slow(in_share=False)"))
    run(pytester, "--slow-share", "2@abc").assert_outcomes(passed=1, deselected=40)
    run(pytester, "--slow").assert_outcomes(passed=41)


def test_shares_of_different_commits_differ_and_cover_all_tests() -> None:
    node_ids = [f"tests/test_both.py::test_slow[{number}]" for number in range(40)]
    shares = [Share(4, str(commit)) for commit in range(60)]
    selected = [{node_id for node_id in node_ids if share.selects(node_id)} for share in shares]
    assert set.union(*selected) == set(node_ids)
    assert len({frozenset(nodes) for nodes in selected}) > 50
    assert sum(map(len, selected)) / len(shares) == pytest.approx(len(node_ids) / 4, rel=0.15)


def test_the_commit_selects_the_tests_of_a_rotating_group(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nmarkers =\n  slow: slow\n  rotates: rotates")
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", range(40))
        @pytest.mark.rotates("numbers", 3)
        def test_number(number):
            pass
        """
    )
    run(pytester).assert_outcomes(passed=3, deselected=37)
    run(pytester, "--slow", "-m", "slow").assert_outcomes(passed=40)
    shown = [run(pytester, "-v", f"--slow-share=1000@{commit}").outlines for commit in "abca"]
    passed = [{line for line in lines if "PASSED" in line} for lines in shown]
    assert {line.split()[0] for line in passed[0]} == {line.split()[0] for line in passed[3]}
    assert len({frozenset(line.split()[0] for line in lines) for lines in passed}) == 3


@pytest.mark.parametrize("commit", "abc")
def test_the_budget_of_a_group_is_spent_and_not_exceeded(
    pytester: pytest.Pytester, commit: str
) -> None:
    pytester.makeini("[pytest]\nmarkers =\n  slow: slow\n  rotates: rotates")
    pytester.makepyfile(
        """
        import pytest

        def marked(cost):
            return pytest.param(cost, marks=pytest.mark.rotates("costs", 8, cost=cost))

        @pytest.mark.parametrize("cost", [marked(cost) for cost in [1, 5, 9] * 12])
        def test_cost(cost):
            print("COST", cost)
        """
    )
    shown = run(pytester, "-s", "-v", f"--slow-share=1000@{commit}").outlines
    costs = [int(line.rpartition(" ")[2]) for line in shown if "COST" in line]
    assert sum(costs) == 8
    assert set(costs) <= {1, 5}


@pytest.mark.parametrize("text", ["0", "x", "-2", "@abc"])
def test_a_share_that_is_no_number_is_refused(suite: pytest.Pytester, text: str) -> None:
    result = run(suite, f"--slow-share={text}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--slow-share is * expected an integer of at least 1*"])
