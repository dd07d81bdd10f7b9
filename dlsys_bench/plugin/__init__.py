"""The pytest plugin: options, fixtures, hooks, and a table of verdicts at the end of the session.

A test that takes `dlsys_case` runs once for each arm of its `dlsys_study` marker (default: all) on
each engine of `--dlsys-engine`; `dlsys_gate` trains the case and compares it with its band:

    @pytest.mark.dlsys_study("regularization/lenet5-tanh")
    def test_accuracy(dlsys_case, dlsys_gate):
        dlsys_gate(dlsys_case)

`hookspec` declares the hooks that a conftest.py may implement. Modules that need numpy are imported
when a test takes one of the fixtures: pytest starts without them.
"""

from dlsys_bench.plugin.cases import EngineCase, pytest_generate_tests
from dlsys_bench.plugin.fixtures import (
    accuracy_gate,
    dlsys_gate,
    dlsys_judge,
    pytest_itemcollected,
    train_benchmark,
)
from dlsys_bench.plugin.options import (
    pytest_addhooks,
    pytest_addoption,
    pytest_configure,
    pytest_unconfigure,
)
from dlsys_bench.plugin.summary import (
    pytest_report_collectionfinish,
    pytest_sessionfinish,
    pytest_terminal_summary,
)

__all__ = [
    "EngineCase",
    "accuracy_gate",
    "dlsys_gate",
    "dlsys_judge",
    "pytest_addhooks",
    "pytest_addoption",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_itemcollected",
    "pytest_report_collectionfinish",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "pytest_unconfigure",
    "train_benchmark",
]
