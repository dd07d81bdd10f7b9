"""Divide the test suite into a fast tier, which runs by default, and a slow tier.

Tests of the slow tier carry the marker `slow`. `--slow` runs both tiers, `-m slow --slow` only the
slow one. `--slow-share N` adds to the fast tier the N-th part of the slow tier that the current
commit selects; `--slow-share N@COMMIT` repeats the selection of an earlier commit. Tests that take
minutes each carry `slow(in_share=False)`, and only `--slow` runs them. A slow test that is named by
its node id always runs.

Tests with the marker `rotates(group, budget)` are in the slow tier, and the fast tier runs some of
each group as well: the commit orders them, and selects each whose `cost` (default: 1) the rest of
the budget covers. With the default cost, the budget is thus the number of tests.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
LEFT_OUT = pytest.StashKey[int]()


def rank(commit: str, node_id: str) -> int:
    """Hash a node id together with a commit, alike on every machine."""
    digest = hashlib.sha256(f"{commit} {node_id}".encode()).digest()
    return int.from_bytes(digest[:8])


class Share(NamedTuple):
    """One part out of `parts`, selected by a commit."""

    parts: int
    commit: str

    @classmethod
    def parse(cls, text: str) -> Share:
        """Read "N" or "N@COMMIT"."""
        parts, _, commit = text.partition("@")
        if not parts.isdecimal() or int(parts) < 1:
            raise pytest.UsageError(
                f"--slow-share is {text!r}; expected an integer of at least 1, or N@COMMIT"
            )
        return cls(int(parts), commit or current_commit())

    def selects(self, node_id: str) -> bool:
        return rank(self.commit, node_id) % self.parts == 0

    def __str__(self) -> str:
        return f"{self.parts}@{self.commit}"


@cache
def current_commit() -> str:
    """Return the abbreviated hash of the checked-out commit, or "none" outside a repository."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True
        )
    except OSError:
        return "none"
    return done.stdout.strip() or "none"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("tiers", "tiers of this project's own tests")
    group.addoption("--slow", action="store_true", help="run the slow tests as well")
    group.addoption(
        "--slow-share",
        metavar="N[@COMMIT]",
        help="run one N-th of the slow tests as well; the commit (default: HEAD) selects which",
    )


def share_of(config: pytest.Config) -> Share | None:
    """Return the share of the slow tier that runs: everything with `--slow`, None by default."""
    if config.getoption("slow"):
        return Share(1, "all")
    text = config.getoption("slow_share")
    return Share.parse(text) if text else None


def pytest_configure(config: pytest.Config) -> None:
    share = share_of(config)  # A malformed option is an error before anything is collected.
    if share is not None and not hasattr(config, "workerinput"):
        # The workers of pytest-xdist copy the options: all of them then use the same commit.
        config.option.slow_share = str(share)


def pytest_report_header(config: pytest.Config) -> str:
    share = share_of(config)
    if share is None:
        return "tiers: fast; slow tests are left out, --slow runs them as well"
    if share.parts == 1:
        return "tiers: fast and slow"
    return f"tiers: fast, and 1/{share.parts} of the slow tests; repeat it by --slow-share {share}"


def deselect(config: pytest.Config, items: list[pytest.Item], out: Iterable[pytest.Item]) -> int:
    """Deselect tests, and return their number."""
    identities = {id(item) for item in out}
    deselected = [item for item in items if id(item) in identities]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if id(item) not in identities]
    return len(deselected)


def leave_out(config: pytest.Config, items: list[pytest.Item], out: Iterable[pytest.Item]) -> None:
    """Deselect tests and count them among those that a larger tier would run."""
    config.stash[LEFT_OUT] = config.stash.get(LEFT_OUT, 0) + deselect(config, items, out)


def rotated_out(items: list[pytest.Item], commit: str) -> Iterator[pytest.Item]:
    """Yield the tests of each rotating group that the commit does not select."""
    groups: dict[tuple[str, float], list[tuple[pytest.Item, float]]] = defaultdict(list)
    for item in items:
        if marker := item.get_closest_marker("rotates"):
            groups[marker.args].append((item, marker.kwargs.get("cost", 1)))
    for (_, budget), found in groups.items():
        for item, cost in sorted(found, key=lambda one: rank(commit, one[0].nodeid)):
            if cost > budget:
                yield item
            else:
                budget -= cost


def selects(share: Share | None, item: pytest.Item, marker: pytest.Mark) -> bool:
    """Return whether a share of the slow tier contains a test with this marker `slow`."""
    if share is None or (share.parts > 1 and not marker.kwargs.get("in_share", True)):
        return False
    return share.selects(item.nodeid)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    share = share_of(config)
    if share is not None and share.parts == 1:
        rotating = [item for item in items if item.get_closest_marker("rotates")]
    else:
        rotating = list(rotated_out(items, share.commit if share else current_commit()))
    for item in rotating:
        item.add_marker("slow")
    named = [argument.removeprefix("./") for argument in config.args if "::" in argument]
    leave_out(
        config,
        items,
        [
            item
            for item in items
            if (marker := item.get_closest_marker("slow"))
            and not selects(share, item, marker)
            and not any(item.nodeid.startswith(name) for name in named)
        ],
    )


def pytest_sessionfinish(session: pytest.Session) -> None:
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["slow_left_out"] = session.config.stash.get(LEFT_OUT, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    count = getattr(node, "workeroutput", {}).get("slow_left_out", 0)
    # Every worker collects everything and leaves the same tests out.
    node.config.stash[LEFT_OUT] = max(count, node.config.stash.get(LEFT_OUT, 0))


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    count = config.stash.get(LEFT_OUT, 0)
    return [f"slow tests left out: {count} (--slow runs them)"] if count else []


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    # With pytest-xdist only the workers collect, so their count is known at the end.
    if config.stash.get(LEFT_OUT, 0) and config.pluginmanager.hasplugin("dsession"):
        terminalreporter.write_line(pytest_report_collectionfinish(config)[0])
