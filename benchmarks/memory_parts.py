"""How well the parts of a training step's memory, each counted apart, add up to the peak that was measured.

    python benchmarks/memory_parts.py [--model minilm-l6] [--methods lora,adapter,prefix,full] [--batch-size 16]
                                      [--max-length 48] [--dtype bfloat16] [--device cuda]

Goal on CUDA: within 10 % of the allocator's peak in the same step. On a CPU there is no such counter: what is measured is
the resident set above the loaded model, which also holds the allocator's slack and the libraries' own buffers (those of
oneDNN's kernels, code that is read on first use), so the parts are a lower bound there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from peftbench.records.store import Store

KINDS = ("weights", "gradients", "optimizer", "activations", "other")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="minilm-l6")
    parser.add_argument("--methods", default="lora,adapter,prefix,full")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-length", type=int, default=48)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--task", default="rotten-tomatoes")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as store:
        command = [sys.executable, "-m", "peftbench", "run", "--seeds", "1", "--steps", "2", "--no-baselines"]
        command += ["--latency-grid", "none", "--store", store]
        for option, value in vars(asked).items():
            command += [f"--{option.replace('_', '-')}", str(value)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        records = [stored.record for stored in Store(Path(store)).all()]
    base_bytes = {
        record.run.method: 4 * (record.parameters["model"] or 0) for record in records if record.parameters
    }
    profiles = [record for record in records if record.profile]
    print(f"| {asked.model}, {asked.batch_size} items of at most {asked.max_length} tokens | "
          + " | ".join(f"{kind} MB" for kind in KINDS) + " | counted MB | measured MB | counted / measured |")  # fmt: skip
    print("|---|" + "---|" * (len(KINDS) + 3))
    for record in profiles:
        assert record.profile is not None
        found, peak = record.profile["memory_by_kind"], record.memory["train"]
        counted = sum(found[f"{kind}_bytes"] for kind in KINDS)
        measured = found["allocator_peak_bytes"]
        if measured is None:
            counted, measured = counted - base_bytes[record.run.method], peak["peak_above_model_bytes"]
        cells = [*(found[f"{kind}_bytes"] / 1e6 for kind in KINDS), counted / 1e6, measured / 1e6]
        print(
            f"| {record.run.method} | {' | '.join(f'{cell:,.0f}' for cell in cells)} | {counted / measured:.2f} |"
        )
    on_gpu = profiles[0].run.device == "cuda"
    kind = (
        "allocated by torch in the same step" if on_gpu else "resident above the loaded model, as are counted"
    )
    print(f"\nMeasured: {kind}; compute type {profiles[0].run.dtype}.")


if __name__ == "__main__":
    main()
