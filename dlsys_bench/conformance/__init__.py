"""Conformance checks that put any training engine on a ladder.

An engine climbs the ladder rung by rung, from the shapes of its results to the distribution of the
accuracies it reaches. Each check compares the engine with an oracle that defines the expected
values (`oracle`), on examples that shrink to the smallest that shows a mistake (`strategies`).
"""

from dlsys_bench.extras import require

require("conformance")
