"""Checks that any engine can be put through.

An engine climbs a ladder of rungs, from shapes to the distribution of what it reaches; every check
on them compares it with an oracle that defines what is right (`oracle`), on examples that shrink
(`strategies`).
"""

from dlsys_bench.extras import require

require("conformance")
