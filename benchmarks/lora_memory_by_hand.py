"""What LoRA's step holds here against a hand-written loop: weights, gradients, states, activations and the rest, every tensor counted.

    python benchmarks/lora_memory_by_hand.py [--model smollm2-135m-instruct-q4] [--batch-size 4] [--length 64]

Same model in bfloat16, same batch, same loss: the loop by hand is two plain products beside a frozen layer and the logits of supervised
positions alone (`benchmarks/gpu/subjects.py`). Goal: the sum at the peak here is at most 1.05 of that by hand.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from gpu.checkpoints import texts
from gpu.subjects import Here, by_hand, ground

from peftbench.measure.breakdown import MemoryByKind, memory_by_kind

KINDS = ("weights", "gradients", "optimizer", "activations", "other")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2-135m-instruct-q4")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--length", type=int, default=64)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        task = texts(asked.length, 40, 4, Path(work))
        on, runs = ground(
            ("lora",), asked.model, task, (asked.batch_size, asked.length), 2, weights="bfloat16"
        )
        (run,) = runs.values()
    found: dict[str, MemoryByKind] = {}
    here = Here(on, run, own_weights=False, steps=4)
    here.step()  # the optimizer's state comes with the first
    optimizer = getattr(here.stepper.optimizer, "optimizer", here.stepper.optimizer)
    found["here"] = memory_by_kind(here.step, here.model, optimizer, on.device)
    del here, optimizer
    loop = by_hand(on)
    loop.step()
    found["by hand"] = memory_by_kind(loop.step, loop.model, loop.optimizer, on.device)
    print(f"{asked.model}, {asked.batch_size} texts of {asked.length} tokens, weights and compute bfloat16\n")
    print(f"| | {' | '.join(f'{kind} MB' for kind in KINDS)} | sum MB | over by hand | during |")
    print("|---" * (len(KINDS) + 4) + "|")
    for name, its in found.items():
        sizes = [getattr(its, f"{kind}_bytes") / 1e6 for kind in KINDS]
        ratio = its.total_bytes / found["by hand"].total_bytes
        print(
            f"| {name} | {' | '.join(f'{size:.1f}' for size in sizes)} | {sum(sizes):.1f} | {ratio:.3f} | {its.operator} |"
        )


if __name__ == "__main__":
    main()
