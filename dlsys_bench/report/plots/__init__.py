"""Plots of results, one file per kind."""

from dlsys_bench.extras import require

require("report", "matplotlib")
