"""Whether a preset learning rate stands beside a cliff: how many of eight seeds fail at it, and half a decade above.

    python benchmarks/cliffs.py STORE [--methods prefix,lora] [--steps 120 --batch-size 8]

Trains at the quick budget, or at another number of steps and items, on `newsgroups` and `reuters-r8`, scored on validation; the test
splits are not read. A seed fails as in every table (it ends above .9 of the loss of the best constant answer, or scores no better), or where it diverges. No seed may fail at the
preset; where more than one of eight fails half a decade above, on either task, the preset is to be half a decade lower. What the store
holds is not done again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from on_validation import trials

from peftbench import defaults
from peftbench.comparison.request import Comparison
from peftbench.records.failed_seeds import failed_seeds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("--methods", default="prefix")
    parser.add_argument("--tasks", default="newsgroups,reuters-r8")
    parser.add_argument("--model", default=defaults.MODEL)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch-size", type=int)
    asked = parser.parse_args()
    tasks = asked.tasks.split(",")
    print(f"| method | rate | {' | '.join(f'{task}: failed of {asked.seeds}' for task in tasks)} |")
    print("|---" * (2 + len(tasks)) + "|")
    for method in asked.methods.split(","):
        for half_decade in (0, 1):
            cells = []
            for task in tasks:
                comparison = Comparison(
                    methods=(method,), models=(asked.model,), tasks=(task,), baselines=False, seeds=asked.seeds,
                    steps=asked.steps, batch_size=asked.batch_size, profile=False, latency_grid=(),
                )  # fmt: skip
                records = [result.record for result in trials(comparison, asked.store, half_decade)]
                diverged = sum(record.status != "ok" for record in records)
                cells.append(str(diverged + len(failed_seeds(records))))
            said = f"{records[0].run.learning_rate:g}{'' if half_decade else ' (preset)'}"
            print(f"| {method} | {said} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
