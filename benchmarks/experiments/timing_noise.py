"""Whether a busy machine makes the ratios lie: the same engine against itself, beside a load that
comes and goes.

python reports/speed/noise.py 60      # noise.jsonl: one line a comparison; every FASTER or SLOWER
in it is false
"""

from __future__ import annotations

import json
import multiprocessing
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from dlsys_bench.provenance import provenance
from dlsys_bench.timing.load import BUSY, BackgroundLoad
from dlsys_bench.timing.ratio import Speed, interleave, paired_ratio, unpaired_ratio

HERE = Path(__file__).parent
RUNS = HERE / "noise.jsonl"
ROUNDS = 13
LOADS = {"quiet": 0, "one core": 1, "every core": 2}


def burn(seed: int) -> None:
    """Products of matrices in bursts: a tenth of a second to two, and as long a rest."""
    import numpy as np

    draw, a = random.Random(seed), np.ones((512, 512), "float32")
    while True:
        until = time.perf_counter() + draw.uniform(0.1, 2.0)
        while time.perf_counter() < until:
            a @ a
        time.sleep(draw.uniform(0.1, 2.0))


def epochs() -> dict[str, Any]:
    from dlsys_bench.engines.registry import create
    from dlsys_bench.timing.paced import LENET5, Paced

    work = LENET5[0]._replace(steps=5)
    return {side: Paced(create("numpy"), work, work.samples(), 10_000) for side in "ab"}


def main(trials: int) -> None:
    sides = epochs()
    interleave(sides, 3)
    for trial in range(trials):
        for load, count in LOADS.items():
            burners = [
                multiprocessing.get_context("spawn").Process(
                    target=burn, args=(97 * trial + n,), daemon=True
                )
                for n in range(count)
            ]
            for burner in burners:
                burner.start()
            if burners:
                time.sleep(1.0)
            in_turn = interleave(sides, ROUNDS)
            with BackgroundLoad() as background:
                one, other = (interleave({side: sides[side]}, ROUNDS)[side] for side in "ab")
            for burner in burners:
                burner.kill()
            found = {
                "in turn": paired_ratio(in_turn["a"], in_turn["b"]),
                "one after the other": unpaired_ratio(one, other),
            }
            # As `bench compare` does where a benchmark tells of others.
            busy = {"in turn": False, "one after the other": (background.fraction or 0.0) > BUSY}
            with RUNS.open("a") as file:
                for how, ratio in found.items():
                    line = {
                        "load": load,
                        "how": how,
                        "low": ratio.low,
                        "middle": ratio.median,
                        "high": ratio.high,
                        "said": str(Speed.AMBIGUOUS if busy[how] else ratio.speed),
                        "others": background.fraction,
                        "seconds": in_turn if how == "in turn" else [one, other],
                    }
                    file.write(json.dumps(line | {"provenance": provenance()}) + "\n")


def told() -> str:
    lines = [json.loads(line) for line in RUNS.read_text().splitlines()]
    text = "| load | measured | comparisons | AMBIGUOUS | false FASTER or SLOWER | median width of the interval |\n"
    text += "|---|---|--:|--:|--:|--:|\n"
    for load in LOADS:
        for how in ("in turn", "one after the other"):
            mine = [line for line in lines if (line["load"], line["how"]) == (load, how)]
            said = Counter(line["said"] for line in mine)
            widths = sorted(line["high"] - line["low"] for line in mine)
            false = len(mine) - said["AMBIGUOUS"]
            row = load, how, len(mine), said["AMBIGUOUS"], false, f"{widths[len(widths) // 2]:.2f}"
            text += "| " + " | ".join(map(str, row)) + " |\n"
    return text


def misled() -> str:
    """How many would be false if nobody looked at what others take."""
    lines = [json.loads(line) for line in RUNS.read_text().splitlines()]
    mine = [
        line for line in lines if line["how"] == "one after the other" and line["load"] != "quiet"
    ]
    return f"{sum(line['low'] > 1 or line['high'] < 1 for line in mine)} of the {len(mine)} beside a load"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(int(sys.argv[1]))
    print(told())
